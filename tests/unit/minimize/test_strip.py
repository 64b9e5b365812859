"""What stripping removes, and which files it leaves unchanged."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chainbuild.minimize.elf import Elf, read_elf
from chainbuild.minimize.strip import strip_file
from tests.support.elf_builder import REL, library, program, with_sections

PLAIN = program("liba.so.1", "libc.so.6", runpath="$ORIGIN/../lib")


def stripped(tmp_path, data: bytes) -> bytes | None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    done = strip_file(str(source), str(target))
    assert done == target.exists()
    return target.read_bytes() if done else None


def sections(data: bytes) -> dict[bytes, bytes]:
    (table,), (count, names_at) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<HH", data, 60)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * index) for index in range(count)]
    pool = data[rows[names_at][4] :]
    return {pool[row[0] : pool.index(b"\0", row[0])]: data[row[4] : row[4] + row[5]] for row in rows[1:]}


def test_mapped_parts_are_unchanged_and_rest_is_removed(tmp_path):
    before = with_sections(PLAIN)
    after = stripped(tmp_path, before)
    assert after is not None
    assert len(after) < len(before) - 5000
    assert after[64 : len(PLAIN)] == PLAIN[64:]
    assert after[:40] == before[:40]
    assert sections(after) == {
        b".all": PLAIN[64:],
        b".comment": b"made by hand",
        b".shstrtab": b"\0.all\0.comment\0.shstrtab\0",
    }
    for name in ("source", "target"):
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        elf = read_elf(descriptor)
        os.close(descriptor)
        assert isinstance(elf, Elf)
        assert elf.needed == ("liba.so.1", "libc.so.6")


def test_stripped_file_is_unchanged_by_stripping(tmp_path):
    after = stripped(tmp_path, with_sections(PLAIN))
    assert after is not None
    assert stripped(tmp_path, after) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        PLAIN,
        with_sections(PLAIN, tail=b"an archive that the program reads of itself"),
        with_sections(library("a.so", kind=REL)),
        with_sections(PLAIN)[:-100],
        with_sections(PLAIN).replace(b".symtab\0", b".symtab\1"),
    ],
)
def test_file_with_unusual_layout_is_unchanged(tmp_path, data):
    assert stripped(tmp_path, data) is None or data.count(b".symtab\1")


def test_file_with_mapped_part_at_end_is_unchanged(tmp_path):
    moved = bytearray(with_sections(PLAIN))
    struct.pack_into("<QQQQ", moved, 64 + 8, len(moved) - 64, 0x10000, 0, 64)  # a segment at the end of the file
    assert stripped(tmp_path, bytes(moved)) is None


def test_file_with_section_past_its_end_is_unchanged(tmp_path):
    """Copying such a section used to fail the whole stage with "it was truncated while it was read"."""
    lying = bytearray(with_sections(PLAIN))
    (table,) = struct.unpack_from("<Q", lying, 40)
    comment = next(index for index in range(9) if struct.unpack_from("<Q", lying, table + 64 * index + 32) == (12,))
    struct.pack_into("<Q", lying, table + 64 * comment + 24, len(lying) - 4)
    assert stripped(tmp_path, bytes(lying)) is None


@settings(max_examples=400, deadline=None)
@example(changes=[(5929, 24)], header=[], cut=0)
@given(
    changes=st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 255)), max_size=12),
    header=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 4000),
)
def test_inconsistent_headers_never_raise(tmp_path_factory, changes, header, cut):
    folder = tmp_path_factory.mktemp("s")
    data = bytearray(with_sections(PLAIN))
    for at, value in (*changes, *header):
        data[at % len(data)] = value
    data = data[: len(data) - cut]
    after = stripped(folder, bytes(data))
    if after is not None:
        assert len(after) < len(data)
        assert after[:40] == bytes(data[:40])
