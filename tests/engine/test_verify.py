"""`chainbuild verify`: the proof for any image of any platform, without emulation and without a build."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from tests.support.elf_builder import AMD64, ARM64, GLIBC, library, program

from .conftest import OTHER, OWN, Done, Lay, Place, docker, join, push_files

pytestmark = pytest.mark.timeout(600)

MACHINES = {"amd64": AMD64, "aarch64": ARM64}
LOADERS = {"amd64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
TRIPLETS = {"amd64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


def root_of(platform: str, *, whole: bool) -> dict[str, bytes]:
    """Return a root with a program, its library and a C library; unless `whole`, library and symbol are missing."""
    machine, loader, triplet = MACHINES[platform], LOADERS[platform], TRIPLETS[platform]
    libc = library("libc.so.6", defines=("GLIBC_2.17", "GLIBC_2.36"), interpreter=loader, machine=machine)
    version = "GLIBC_2.36" if whole else "GLIBC_2.99"
    files = {
        loader: library(loader.rpartition("/")[2], defines=("GLIBC_2.17",), machine=machine),
        f"/lib/{triplet}/libc.so.6": libc,
        "/etc/ld.so.conf": GLIBC["/etc/ld.so.conf"],
        "/etc/ld.so.conf.d/all.conf": f"/lib/{triplet}\n".encode(),
        "/usr/local/bin/tool": program(
            "libtool.so.1", "libc.so.6", interpreter=loader, machine=machine, needs={"libc.so.6": [version]}
        ),
    }
    if whole:
        files[f"/lib/{triplet}/libtool.so.1"] = library("libtool.so.1", "libc.so.6", machine=machine)
    return files


@pytest.fixture
def place(lay: Lay) -> Iterator[Place]:
    place = lay()
    yield place
    docker("image", "rm", "--force", f"{place.repo}-local:1")


def verify(place: Place, image: str, *flags: str) -> Done:
    return place.run("verify", image, "--registry", place.host, *flags)


def pushed(place: Place, roots: Mapping[str, dict[str, bytes]]) -> str:
    name = f"{place.host}/{place.repo}"
    for platform, files in roots.items():
        push_files(f"{name}:{platform}", files, platform)
    join(f"{name}:both", tuple(roots))
    return f"{name}:both"


def test_verify_passes_complete_image_and_fails_incomplete_image(place: Place) -> None:
    name = pushed(place, {OWN: root_of(OWN, whole=True), OTHER: root_of(OTHER, whole=False)})
    good = verify(place, name)
    assert good.code == 0, good.told()
    assert f"{name} for {OWN}: " in good.out
    assert "have all that they need" in good.out
    bad = verify(place, name, "--platform", OTHER)
    assert bad.code == 5, bad.told()
    assert "/usr/local/bin/tool" in bad.out
    assert "libtool.so.1" in bad.out
    assert "GLIBC_2.99" in bad.out
    as_json = verify(place, name, "--platform", OTHER, "--json")
    assert as_json.code == 5
    document = json.loads(as_json.out)
    assert document["schema"] == "chainbuild.proof/1"
    assert document["platform"] == OTHER
    assert len(document["errors"]) >= 2
    assert document["checked"] >= 3
    assert list(place.temporary.iterdir()) == []


def test_verify_checks_image_found_only_in_the_local_store(place: Place) -> None:
    files = pushed(place, {OWN: root_of(OWN, whole=True)})
    local = f"{place.repo}-local:1"
    assert docker("pull", "--quiet", files).returncode == 0
    assert docker("tag", files, local).returncode == 0
    done = verify(place, local)
    assert done.code == 0, done.told()


def test_verify_rejects_missing_image_and_invalid_name(place: Place) -> None:
    missing = verify(place, f"{place.host}/{place.repo}:none")
    assert missing.code == 4, missing.told()
    wrong = verify(place, "Not A Name")
    assert wrong.code == 2, wrong.told()
    assert "Not A Name" in wrong.err
    wrong = verify(place, place.base, "--platform", "amd46")
    assert wrong.code == 2, wrong.told()
    assert "Perhaps you meant 'amd64'" in wrong.err
