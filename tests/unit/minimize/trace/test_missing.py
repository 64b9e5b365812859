"""The accesses of a test that count, and the missing ones among them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.trace.accesses import Access
from chainbuild.minimize.trace.missing import Comparer, Variables, is_noise
from tests.support.elf_builder import GLIBC, library, plant, program

LIB = "/usr/lib/x86_64-linux-gnu"
Files = Mapping[str, Any]


class Two:
    """A chain's image and a production image as folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted: set[str] = set()

    def missing(self, chain: Files, production: Files, *accesses: str | Access, **variables: str) -> dict[str, str]:
        there = Path(tempfile.mkdtemp(dir=self.folder))
        comparer = Comparer(
            RootFileSystem(plant(there / "chain", chain)),
            RootFileSystem(plant(there / "production", production)),
            Variables(**variables),
        )
        found = [one if isinstance(one, Access) else Access(path=one, kind="opened") for one in accesses]
        result = comparer.compare(found)
        self.counted = result.counted
        return {one.path: one.kind for one in result.missing}


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def executed(path: str) -> Access:
    return Access(path=path, kind="executed", program=path)


def test_opened_file_absent_in_production_is_missing(two: Two) -> None:
    chain = {"/usr/share/a/data": b"", "/usr/share/a/other": b""}
    assert two.missing(chain, {"/usr/share/a/other": b""}, "/usr/share/a/data", "/usr/share/a/other") == {
        "/usr/share/a/data": "opened"
    }
    assert two.counted == {"/usr/share/a/data", "/usr/share/a/other"}


def test_file_created_by_test_does_not_count(two: Two) -> None:
    assert two.missing({"/srv/x": b""}, {}, "/srv/made", "/srv/folder/made") == {}
    assert two.counted == set()


def test_path_is_resolved_by_links_of_each_image(two: Two) -> None:
    chain = {"/lib": "usr/lib", "/usr/lib/a": b"", "/bin/sh": "dash", "/bin/dash": b""}
    production = {"/lib/a": b"", "/bin/sh": "/usr/bin/busybox", "/usr/bin/busybox": b""}
    assert two.missing(chain, production, "/lib/a", executed("/bin/sh")) == {}


def test_link_broken_in_production_is_missing(two: Two) -> None:
    chain = {"/etc/localtime": "/usr/share/zoneinfo/UTC", "/usr/share/zoneinfo/UTC": b""}
    assert two.missing(chain, {"/etc/localtime": "/usr/share/zoneinfo/UTC"}, "/etc/localtime") == {
        "/etc/localtime": "opened"
    }


def test_path_through_link_of_test_counts_as_its_target(two: Two) -> None:
    access = Access(path="/tmp/link/data", kind="opened", real="/usr/share/a/data")
    assert two.missing({"/usr/share/a/data": b""}, {}, access) == {"/usr/share/a/data": "opened"}


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/maps",
        "/proc",
        "/sys/x",
        "/dev/null",
        "/tmp/x",
        "/var/tmp/x",
        "/run/x",
        "//run//./x",
        "/var/cache/fontconfig/x",
        "/root/.cache/x/y",
        "/etc/ld.so.cache",
        "/etc/ld.so.preload",
        "/etc/resolv.conf",
        "/etc/hosts",
    ],
)
def test_noise_never_counts(two: Two, path: str) -> None:
    assert is_noise(path)
    assert two.missing({path: b""} if path != "/proc" else {"/proc/x": b""}, {}, path) == {}


@pytest.mark.parametrize("path", ["/etc/passwd", "/runner", "/processes", "/usr/share/dev", "/etc/hosts.allow"])
def test_names_similar_to_noise_count(two: Two, path: str) -> None:
    assert two.missing({path: b""}, {}, path) == {path: "opened"}


def test_library_found_elsewhere_by_loader_is_not_missing(two: Two) -> None:
    chain = {**GLIBC, f"{LIB}/liba.so.1": "liba.so.1.2", f"{LIB}/liba.so.1.2": library("liba.so.1")}
    there = {**GLIBC, "/opt/lib/liba.so.1": library("liba.so.1")}
    assert two.missing(chain, there, f"{LIB}/liba.so.1", library_path="/opt/lib") == {}
    assert two.missing(chain, there, f"{LIB}/liba.so.1") == {f"{LIB}/liba.so.1": "opened"}


def test_plugin_without_soname_is_missing_at_its_path(two: Two) -> None:
    plugin = library("", "libc.so.6")
    chain = {**GLIBC, f"{LIB}/plugins/p.so": plugin}
    assert two.missing(chain, {**GLIBC, f"{LIB}/p.so": plugin}, f"{LIB}/plugins/p.so") == {
        f"{LIB}/plugins/p.so": "opened"
    }


def test_program_elsewhere_on_path_is_not_missing(two: Two) -> None:
    chain = {"/usr/local/bin/tool": program(), "/usr/libexec/helper": program()}
    production = {"/usr/bin/tool": program(), "/usr/bin/helper": program()}
    paths = (executed("/usr/local/bin/tool"), executed("/usr/libexec/helper"))
    assert two.missing(chain, production, *paths, search_path="/usr/local/bin:/usr/bin") == {
        "/usr/libexec/helper": "executed"
    }


def test_interpreter_of_executed_script_counts(two: Two) -> None:
    chain = {"/usr/bin/report": b"#!/usr/bin/perl -w\n", "/usr/bin/perl": program()}
    assert two.missing(chain, {"/usr/bin/report": b""}, executed("/usr/bin/report"), search_path="/none") == {
        "/usr/bin/perl": "executed"
    }


def test_compiled_python_module_counts_as_source(two: Two) -> None:
    here = "/usr/lib/python3/dist-packages"
    compiled = f"{here}/a/__pycache__/m.cpython-311.pyc"
    chain = {compiled: b"", f"{here}/a/m.py": b"", f"{here}/a/__pycache__/gone.cpython-311.pyc": b""}
    gone = f"{here}/a/__pycache__/gone.cpython-311.pyc"
    assert two.missing(chain, {}, compiled, gone) == {f"{here}/a/m.py": "opened"}
    assert two.missing(chain, {f"{here}/a/m.py": b""}, compiled) == {}
    assert two.missing(chain, {compiled: b""}, compiled) == {}


def test_listed_folder_counts_unless_empty_or_of_system(two: Two) -> None:
    chain = {"/usr/lib/app/plugins/p": b"", "/usr/lib/app/none": None, "/usr/share/a/b": b"", "/opt/x/y": b""}
    listed = ("/usr/lib/app/plugins", "/usr/lib/app/none", "/usr/share", "/opt", "/", LIB)
    assert two.missing(chain, {}, *listed) == {"/usr/lib/app/plugins": "listed"}


def test_entered_folder_counts(two: Two) -> None:
    chain = {"/srv/app/x": b"", "/usr/lib/y": b""}
    accesses = (Access(path="/srv/app", kind="entered"), Access(path="/usr/lib", kind="entered"))
    assert two.missing(chain, {}, *accesses) == {"/srv/app": "entered"}


def test_path_in_several_spellings_counts_once(two: Two) -> None:
    assert two.missing({"/srv/x": b""}, {}, "/srv//x", "/srv/./x", "/srv/x") == {"/srv/x": "opened"}
