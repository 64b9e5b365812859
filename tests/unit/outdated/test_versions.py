"""The orders of Debian's and Alpine's versions. `dpkg` itself is asked in tests/engine/test_version_orders.py."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.distro.alpine_versions import alpine_key, alpine_parts, compare_alpine
from chainbuild.distro.debian_versions import debian_key

DEBIAN_ORDER = (
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-0.1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1.1",
    "1.0-2",
    "1.0-10",
    "1.0a",
    "1.0+dfsg-1",
    "1.0.1",
    "1.9",
    "1.10",
    "2.0~beta",
    "2.0",
    "1:0.1",
    "2:0.0~a",
)
"""Each is older than the next one."""

ALPINE_ORDER = (
    "0.9",
    "1.0_alpha",
    "1.0_alpha2",
    "1.0_beta1",
    "1.0_pre2",
    "1.0_rc1",
    "1.0_rc1-r3",
    "1.0",
    "1.0-r0",
    "1.0-r1",
    "1.0-r10",
    "1.0_git20240101",
    "1.0_p1",
    "1.0_p1-r0",
    "1.0_p2",
    "1.0a",
    "1.0b",
    "1.0.1",
    "1.05",
    "1.1",
    "1.9",
    "1.10",
    "20240101",
)
"""Each is older than the next one, by the rules of apk-tools."""

alpine_versions = st.from_regex(
    r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]{0,3}){0,2}(~[0-9a-f]{1,4})?(-r[0-9]{1,3})?",
    fullmatch=True,
)
debian_versions = st.from_regex(r"([0-9]:)?[0-9][0-9a-zA-Z.+~]{0,8}(-[0-9a-zA-Z.+~]{1,5})?", fullmatch=True)


@pytest.mark.parametrize(("older", "newer"), [*pairwise(DEBIAN_ORDER)])
def test_debian_order_of_neighbours(older: str, newer: str) -> None:
    assert debian_key(older) < debian_key(newer)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0-0"), ("0:1", "1"), ("1.", "1.0"), ("1.00", "1.0"), ("a0", "a"), ("1-0", "1")]
)
def test_debian_versions_that_are_equal(one: str, other: str) -> None:
    assert debian_key(one) == debian_key(other)


@pytest.mark.parametrize("text", ["", "1 2", "a:1", "-1", ":1", "1" * 1001, "1\n", "é"])
def test_debian_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a Debian version"):
        debian_key(text)


@given(st.text())
def test_debian_key_raises_only_value_error(text: str) -> None:
    with suppress(ValueError):
        debian_key(text)


@given(debian_versions, debian_versions, debian_versions)
def test_debian_order_of_three_is_transitive(first: str, second: str, third: str) -> None:
    ordered = sorted((first, second, third), key=debian_key)
    assert debian_key(ordered[0]) <= debian_key(ordered[1]) <= debian_key(ordered[2])
    assert debian_key(f"{first}~") < debian_key(first)


@pytest.mark.parametrize(("older", "newer"), [*pairwise(ALPINE_ORDER)])
def test_alpine_order_of_neighbours(older: str, newer: str) -> None:
    assert compare_alpine(older, newer) < 0 < compare_alpine(newer, older)


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1.2.3-r4", "1.2.3-r4", 0),
        ("1.2.3", "1.2.3-r0", -1),
        ("1.0_p", "1.0_p0", -1),
        ("1.0~ab", "1.0~ac", -1),
        ("1.010", "1.01", 1),
        ("1.02", "1.1", -1),
        ("010", "9", 1),
        ("1.0_rc1", "1.0_rc1_p1", -1),
        ("1.0_rc1_alpha", "1.0_rc1", -1),
    ],
)
def test_alpine_order_by_part(one: str, other: str, order: int) -> None:
    result = compare_alpine(one, other)
    assert (result > 0) - (result < 0) == order


@pytest.mark.parametrize(
    ("version", "pattern", "matches"),
    [("1.2.3-r4", "1.2", True), ("1.20", "1.2", False), ("1.2", "1.2.3", False), ("1.2_rc1", "1.2", True)],
)
def test_alpine_fuzzy_match_compares_the_parts_of_the_pattern(version: str, pattern: str, matches: bool) -> None:
    assert (compare_alpine(version, pattern, fuzzy=True) == 0) is matches


@pytest.mark.parametrize("text", ["", "a", "1.0bc", "1..0", "1.0_foo", "1.0-r", "1.0-r1_p1", "1-1", "1.0~", "1" * 1001])
def test_alpine_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an Alpine version"):
        alpine_parts(text)


@given(st.text())
def test_alpine_parts_raise_only_value_error(text: str) -> None:
    with suppress(ValueError):
        alpine_parts(text)


@given(alpine_versions, alpine_versions, alpine_versions)
def test_alpine_order_of_three_is_transitive(first: str, second: str, third: str) -> None:
    ordered = sorted((first, second, third), key=alpine_key)
    assert compare_alpine(ordered[0], ordered[2]) <= 0
    assert (compare_alpine(first, second) < 0) == (compare_alpine(second, first) > 0)
