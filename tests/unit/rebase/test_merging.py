"""Three-way merges of databases that the base and the step both write to."""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.rebase.entries import MergeConflictError, merged_entries
from chainbuild.rebase.merging import merge_for, named_lines, paragraphs
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


SCRIPTS = "/lib/apk/db/scripts.tar"


def scripts(**contents: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_scripts_of_alpine_packages_are_merged_by_member(suffix: str) -> None:
    texts = scripts(a="1"), scripts(a_new="1", b="2"), scripts(a="1", c="3")
    data = [gzip.compress(text) if suffix else text for text in texts]
    with tarfile.open(fileobj=io.BytesIO(merged(f"{SCRIPTS}{suffix}", *data))) as archive:
        result = {member.name: (archive.extractfile(member) or io.BytesIO()).read() for member in archive}
        assert {member.mode for member in archive} == {0o755}
    assert result == {"a_new": b"1", "b": b"2", "c": b"3"}


def test_script_that_both_changed_and_damaged_scripts_are_conflicts() -> None:
    with pytest.raises(MergeConflictError, match=r"^a$"):
        merged(SCRIPTS, scripts(a="1"), scripts(a="2"), scripts(a="3"))
    for damaged in (b"no tar" * 200, gzip.compress(scripts(a="1"))[:40]):
        with pytest.raises(MergeConflictError, match="an archive that cannot be read"):
            merged(SCRIPTS, scripts(a="1"), scripts(a="2"), damaged)


@given(st.binary(max_size=1100))
def test_any_bytes_as_scripts_are_merged_or_a_conflict(data: bytes) -> None:
    with suppress(MergeConflictError):
        merged(SCRIPTS, data, scripts(a="1"), data)


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
