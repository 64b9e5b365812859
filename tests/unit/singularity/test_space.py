"""The work folders of a conversion, and the disk space that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.singularity.space import Need, WorkFolders, check_space, find_places, needs

MB = 1 << 20


def test_apptainer_variables_override_singularity_variables(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("a", "s", "t", "ac", "sc")}
    for folder in folders.values():
        folder.mkdir()
    environ = {
        "APPTAINER_TMPDIR": str(folders["a"]),
        "SINGULARITY_TMPDIR": str(folders["s"]),
        "TMPDIR": str(folders["t"]),
        "APPTAINER_CACHEDIR": str(folders["ac"]),
        "SINGULARITY_CACHEDIR": str(folders["sc"]),
    }
    found = []
    for name in ("", "APPTAINER_TMPDIR", "SINGULARITY_TMPDIR"):
        environ.pop(name, None)
        found.append((find_places(environ).temporary.name, find_places(environ).temporary_variable))
    assert found == [("a", "APPTAINER_TMPDIR"), ("s", "SINGULARITY_TMPDIR"), ("t", "TMPDIR")]
    assert find_places(environ).cache == folders["ac"]
    del environ["APPTAINER_CACHEDIR"]
    assert find_places(environ).cache == folders["sc"]
    assert find_places({}).cache is None


def test_unusable_folders_are_reported_with_their_variables(tmp_path: Path) -> None:
    environ = {"SINGULARITY_TMPDIR": str(tmp_path / "typo"), "SINGULARITY_CACHEDIR": str(tmp_path / "other")}
    with pytest.raises(WrongUseError) as caught:
        find_places(environ)
    assert len(caught.value.problems) == 2
    assert "SINGULARITY_TMPDIR: " in str(caught.value)
    assert "SINGULARITY_CACHEDIR: " in str(caught.value)


def check(wanted: list[Need], free: dict[str, int], disks: dict[str, int]) -> None:
    check_space(wanted, free=lambda folder: free[folder.name], disk=lambda folder: disks[folder.name])


def test_space_is_summed_per_disk_and_every_full_disk_reported() -> None:
    wanted = [
        Need(folder=Path("/tmp"), size=60 * MB, what="unpacking", instead="TMPDIR"),
        Need(folder=Path("/out"), size=50 * MB, what="SIF files", instead="--folder"),
        Need(folder=Path("/cache"), size=10 * MB, what="layers", instead="APPTAINER_CACHEDIR"),
    ]
    check(wanted, {"tmp": 110 * MB, "out": 0, "cache": 10 * MB}, {"tmp": 1, "out": 1, "cache": 2})
    with pytest.raises(NotReadyError) as caught:
        check(wanted, {"tmp": 109 * MB, "out": 0, "cache": 9 * MB}, {"tmp": 1, "out": 1, "cache": 2})
    text = str(caught.value)
    assert text.count("not enough disk space") == 2
    assert "62.9 MB for unpacking in /tmp, 52.4 MB for SIF files in /out" in text
    assert "TMPDIR or --folder or APPTAINER_CACHEDIR" in text


def test_space_needs_largest_unpacked_image_and_all_files() -> None:
    places = WorkFolders(temporary=Path("/tmp"), cache=None)
    one, two = needs([100 * MB], places, Path("/out")), needs([100 * MB, 80 * MB], places, Path("/out"))
    by_what = [{need.what: need.size for need in some} for some in (one, two)]
    assert by_what[0]["unpacking"] == by_what[1]["unpacking"] > 300 * MB
    assert by_what[1]["layers"] == 180 * MB
    assert by_what[1]["SIF files"] > by_what[0]["SIF files"] >= 100 * MB
    assert needs([], places, Path("/out")) == ()
