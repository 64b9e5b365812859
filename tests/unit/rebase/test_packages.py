"""Relations between packages: versions, alternatives, virtual packages, conflicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.rebase.packages import broken_relations, read_database


def status(*packages: str) -> bytes:
    head = "Status: install ok installed\nArchitecture: amd64\n"
    return "\n".join(f"{package}\n{head}" for package in packages).encode()


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


@given(st.binary(max_size=300))
def test_any_status_is_read(data: bytes) -> None:
    broken_relations(read_database(data))
