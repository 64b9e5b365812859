"""Relations between packages: versions, alternatives, virtual packages, conflicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.rebase.alpine import broken_apk_relations
from chainbuild.rebase.packages import broken_relations, read_database
from tests.support.rebases import BASE, proven


def status(*packages: str) -> bytes:
    head = "Status: install ok installed\n"
    own = "Architecture: amd64\n"
    return "\n".join(f"{text}\n{head}{'' if 'Architecture:' in text else own}" for text in packages).encode()


def broken(*packages: str) -> frozenset[str]:
    return broken_relations(read_database(status(*packages)))


def test_exact_version_of_another_package_is_broken() -> None:
    dev = "Package: libssl-dev\nVersion: 3.0.15\nDepends: libssl3 (= 3.0.15)"
    assert broken(dev, "Package: libssl3\nVersion: 3.0.15") == frozenset()
    assert broken(dev, "Package: libssl3\nVersion: 3.0.17") == {"libssl-dev: Depends: libssl3 (= 3.0.15)"}


def test_alternatives_and_virtual_packages_hold() -> None:
    assert (
        broken("Package: a\nVersion: 1\nDepends: none | mta, b (>> 1)", "Package: b\nVersion: 2\nProvides: mta")
        == frozenset()
    )


def test_conflict_with_an_installed_package_is_broken() -> None:
    packages = ("Package: a\nVersion: 1\nConflicts: a, mta\nProvides: mta\nBreaks: b (<< 2)", "Package: b\nVersion: 1")
    assert broken(*packages) == {"a: Breaks: b (<< 2)"}


def test_package_that_is_not_installed_does_not_count() -> None:
    text = b"Package: a\nStatus: deinstall ok config-files\nDepends: none\n"
    assert read_database(text).packages == {}


def test_package_of_another_architecture_has_its_own_relations() -> None:
    dev = "Package: libx-dev\nVersion: 1\nMulti-Arch: same\nDepends: libx (= 1)"
    foreign = "Package: libx\nVersion: {}\nArchitecture: i386\nMulti-Arch: same\nDepends: libx-data (= 1), libc6"
    libc = "Package: libc6\nVersion: 2\nArchitecture: i386"
    assert broken(dev, "Package: libx\nVersion: 1", foreign.format(1), libc) == {"libx: Depends: libx-data (= 1)"}
    assert broken(dev, "Package: libx\nVersion: 2", foreign.format(1), libc) == {
        "libx-dev: Depends: libx (= 1)",
        "libx: Depends: libx-data (= 1)",
        "libx: Multi-Arch: same, with the versions 1 and 2",
    }


@pytest.mark.parametrize(
    ("need", "holds"),
    [
        ("libc6", False),
        ("libc6:i386", True),
        ("tool", True),
        ("libc6:any", True),
        ("data", True),
    ],
)
def test_dependency_is_satisfied_by_a_package_of_a_fitting_architecture(need: str, holds: bool) -> None:
    packages = (
        f"Package: a\nVersion: 1\nDepends: {need}",
        "Package: libc6\nVersion: 2\nArchitecture: i386\nMulti-Arch: same",
        "Package: tool\nVersion: 2\nArchitecture: i386\nMulti-Arch: foreign",
        "Package: data\nVersion: 2\nArchitecture: all",
    )
    assert (broken(*packages) == frozenset()) is holds


def apk(*packages: str) -> frozenset[str]:
    return broken_apk_relations("\n\n".join(packages).encode())


@pytest.mark.parametrize(
    ("need", "holds"),
    [
        ("musl", True),
        ("musl=1.2.4-r2", True),
        ("musl=1.2.4-r1", False),
        ("musl>=1.2.4", True),
        ("musl<1.2", False),
        ("musl~1.2", True),
        ("musl~1.3", False),
        ("so:libc.musl-x86_64.so.1", True),
        ("so:libz.so.1", False),
        ("/bin/sh", True),
        ("!zlib", True),
        ("!musl", False),
        ("!musl<1.2", True),
        ("=", False),
    ],
)
def test_relation_of_alpine_holds_or_is_broken(need: str, holds: bool) -> None:
    broken = apk(f"P:a\nV:1-r0\nD:{need}", "P:musl\nV:1.2.4-r2\np:so:libc.musl-x86_64.so.1=1 /bin/sh")
    assert broken == (frozenset() if holds else {f"a: {need}"})


def test_package_that_needs_an_exact_version_of_alpine_is_a_conflict() -> None:
    def installed(version: str, more: str = "") -> bytes:
        return f"P:musl\nV:{version}\n\n{more}".encode()

    path = "/lib/apk/db/installed"
    step = {path: installed("1.2.4-r2", "P:musl-dev\nV:1.2.4-r2\nD:musl=1.2.4-r2\n\n")}
    old, new = ({**BASE, path: installed(version)} for version in ("1.2.4-r2", "1.2.4-r3"))
    conflict = f"{path}: a package's relation no longer holds: musl-dev: musl=1.2.4-r2"
    assert proven(step, new, old).conflicts == (conflict,)


@given(st.binary(max_size=300))
def test_any_database_of_alpine_is_read(data: bytes) -> None:
    broken_apk_relations(data)


@given(st.binary(max_size=300))
def test_any_status_is_read(data: bytes) -> None:
    broken_relations(read_database(data))
