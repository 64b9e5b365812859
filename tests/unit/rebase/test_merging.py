"""Three-way merges of databases that the base and the step both write to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.rebase.merging import MergeConflictError, merge_for, merged_entries, named_lines, paragraphs
from tests.unit.comparison.layers import dpkg

ENTRIES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([b"1", b"2", b"3"]))


def merged(path: str, old: bytes, new: bytes, mine: bytes) -> bytes:
    merge = merge_for(path)
    assert merge is not None
    return merge(old, new, mine)


def test_package_of_step_is_added_to_the_status_of_the_new_base() -> None:
    old, new = dpkg(libssl3="3.0.15"), dpkg(libssl3="3.0.17")
    result = merged("/var/lib/dpkg/status", old, new, dpkg(libssl3="3.0.15", curl="7"))
    assert paragraphs(result, b"Package") == paragraphs(dpkg(libssl3="3.0.17", curl="7"), b"Package")
    assert result.endswith(b"\n\n")


def test_package_that_both_changed_is_a_conflict() -> None:
    with pytest.raises(MergeConflictError, match="package libssl3"):
        merged("/var/lib/dpkg/status", dpkg(libssl3="1"), dpkg(libssl3="3"), dpkg(libssl3="2"))


def test_package_that_step_removed_stays_removed() -> None:
    result = merged("/var/lib/dpkg/status", dpkg(a="1", b="1"), dpkg(a="2", b="1"), dpkg(a="1"))
    assert list(paragraphs(result, b"Package")) == ["a"]


def test_users_of_both_sides_are_kept() -> None:
    old = b"root:x:0:0::/root:/bin/sh\n"
    result = merged("/etc/passwd", old, old + b"base:x:1:1::/:\n", old + b"mine:x:2:2::/:\n")
    assert list(named_lines(result)) == ["root", "base", "mine"]


def test_change_of_the_same_user_is_a_conflict() -> None:
    with pytest.raises(MergeConflictError, match="entry root"):
        merged("/etc/shadow", b"root:*:1\n", b"root:*:2\n", b"root:*:3\n")


def test_diversions_are_merged_as_groups_of_three_lines() -> None:
    old = b"/a\n/a.real\n:\n"
    result = merged("/var/lib/dpkg/diversions", old, old + b"/b\n/b.real\n:\n", old + b"/c\n/c.real\n:\n")
    assert result == old + b"/b\n/b.real\n:\n/c\n/c.real\n:\n"


def test_shells_are_merged_by_line() -> None:
    assert merged("/etc/shells", b"/bin/sh\n", b"/bin/sh\n/bin/dash\n", b"/bin/sh\n/bin/zsh\n").endswith(
        b"dash\n/bin/zsh\n"
    )


def test_other_files_cannot_be_merged() -> None:
    assert merge_for("/etc/motd") is None


@given(ENTRIES, ENTRIES, ENTRIES)
def test_merge_has_each_change_of_either_side_or_a_conflict(
    old: dict[str, bytes], new: dict[str, bytes], mine: dict[str, bytes]
) -> None:
    names = {*old, *new, *mine}
    if any(len({old.get(name), new.get(name), mine.get(name)}) == 3 for name in names):
        with pytest.raises(MergeConflictError):
            merged_entries(old, new, mine)
        return
    result = merged_entries(old, new, mine)
    for name in names:
        expected = new.get(name) if mine.get(name) == old.get(name) else mine.get(name)
        assert result.get(name) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_losing_text(data: bytes) -> None:
    assert b"".join(named_lines(data).values()) == data.replace(b"\n", b"")
    paragraphs(data, b"Package", b"Architecture")
