"""Parsing and comparing versions, which are numbers separated by dots."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.layouts.science.manifests import State, Version, is_version, version_of_build

versions = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))


def test_versions_compare_as_numbers() -> None:
    assert Version("2.10") > Version("2.9")
    assert Version("10") > Version("9.9.9")
    assert Version("2.0.1") > Version("2")
    assert Version("2").numbers == Version("2.0").numbers == Version("2.0.0").numbers


@given(st.lists(versions))
def test_versions_have_a_total_order(texts: list[str]) -> None:
    once = sorted(map(Version, texts))
    assert [one.numbers for one in once] == sorted(Version(text).numbers for text in texts)
    assert all(not later < earlier for earlier, later in pairwise(once))


@pytest.mark.parametrize("text", ["", ".", "1.", ".1", "1..2", "v1", "1-2", "1.0a", "latest", "1\n"])
def test_invalid_version_is_rejected(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(ValueError):
        Version(text)


def test_build_tag_has_version_count_and_commit() -> None:
    state = State(count=32, commit="f90dbd6")
    assert state.name(Version("2.4")) == "2.4-32-f90dbd6"
    assert State(count=32, commit="f90dbd6", dirty=True).name("2.4") == "2.4-32-f90dbd6-dirty"
    assert version_of_build("2.4-32-f90dbd6") == version_of_build("2.4-32-f90dbd6-dirty") == "2.4"
    assert version_of_build("2.4") is None
    assert version_of_build("2.4-rc-1") is None
