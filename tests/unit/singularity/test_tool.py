"""The arguments of Apptainer, and its output."""

from __future__ import annotations

import csv
import io
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.references import Platform
from chainbuild.singularity.helper import Identity, bind, helper_tag
from chainbuild.singularity.tool import Conversion, _reason, _way_out, build_words, words_of

OWN = Platform.of_this_machine()
OTHER = Platform.parse("aarch64" if OWN.name == "amd64" else "amd64")


def conversion(platform: Platform) -> Conversion:
    return Conversion(
        image="team/tool:v1",
        layout="team_tool_v1",
        layouts=Path("/l"),
        temporary=Path("/t"),
        output=Path("/o/x.sif"),
        platform=platform,
    )


def test_arch_flag_is_set_only_for_another_platform() -> None:
    assert build_words(conversion(OWN), "/o/x.sif") == (
        "build",
        "--disable-cache",
        "--force",
        "/o/x.sif",
        "oci:team_tool_v1",
    )
    assert ("--arch", OTHER.architecture) == build_words(conversion(OTHER), "/o/x.sif")[3:5]


@pytest.mark.parametrize(
    ("line", "doing"),
    [
        ("INFO:    Extracting OCI image...", "Extracting OCI image"),
        ("INFO:    Build complete: /output/x.sif", ""),
        ("INFO:    Architecture not recognized, use native", ""),
        ("WARNING: passwd file doesn't exist...", ""),
        ("anything...", ""),
    ],
)
def test_progress_has_only_activity_lines(line: str, doing: str) -> None:
    assert words_of(line) == doing


@given(line=st.text(max_size=60))
def test_arbitrary_progress_line_never_raises(line: str) -> None:
    assert words_of(line) in line


def test_failure_has_reason_and_hint() -> None:
    tail = deque(["INFO:    Starting build...", "FATAL:   While performing build: no space left on device", "exit"])
    assert _reason(tail, 255) == "While performing build: no space left on device"
    assert "APPTAINER_TMPDIR" in _way_out(tail)
    assert _reason(deque(), 7) == "it exited with code 7"
    elsewhere = deque(["docker: Error response from daemon: invalid mount config: bind source path does not exist: /x"])
    assert "cannot access this machine's folders" in _way_out(elsewhere)


def test_container_has_minimal_privileges() -> None:
    user, root, rootless = Identity(user=7, group=8), Identity(user=0, group=0), Identity(user=7, group=8, mapped=True)
    for one in (user, root, rootless):
        assert one.flags[:4] == ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        assert "--privileged" not in one.flags
    assert user.flags[-2:] == ("--user", "7:8")
    assert "--cap-add" not in user.flags
    # The root of a rootless engine is the user; other users would map to nobody on this machine.
    assert rootless.flags == root.flags
    assert "SYS_ADMIN" not in root.flags


@given(path=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_mount_of_any_path_is_a_csv_line(path: str) -> None:
    (fields,) = csv.reader(io.StringIO(bind(Path("/x") / path, "/y", readonly=True)))
    assert fields == ["type=bind", f"source={Path('/x') / path}", "target=/y", "readonly"]


def test_helper_tag_is_machine_data_of_its_platform() -> None:
    assert helper_tag(OWN).startswith("k1-helper-")
    assert helper_tag(OWN) == helper_tag(OWN) != helper_tag(OTHER)
