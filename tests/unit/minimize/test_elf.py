from __future__ import annotations

import os
import struct
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.minimize.elf import Elf, ElfProblem, ElfReader, VersionNeed, read_elf
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import CORE, EXEC, PIE, REL, build_elf, plant

WHOLE = build_elf(
    needed=("liba.so.1", "libb.so"),
    soname="libwhole.so.3",
    rpath="$ORIGIN/..",
    runpath="/opt/lib:$ORIGIN",
    interpreter="/lib64/ld.so",
    needs={"liba.so.1": ("A_1", "A_2"), "libc.so.6": ("GLIBC_2.2.5",)},
    weak=("A_2",),
    defines=("W_1", "W_2"),
    flags_1=PIE,
)


def read(data: bytes):
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        stream.flush()
        return read_elf(stream.fileno())


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_built_file_is_read(bits, little):
    elf = read(
        build_elf(
            bits=bits,
            little=little,
            machine=40,
            flags=0x5000400,
            needed=("liba.so.1", "libb.so"),
            soname="libwhole.so.3",
            rpath="$ORIGIN/..",
            runpath="/opt/lib:$ORIGIN",
            interpreter="/lib64/ld.so",
            needs={"liba.so.1": ("A_1", "A_2"), "libc.so.6": ("GLIBC_2.2.5",)},
            weak=("A_2",),
            defines=("W_1", "W_2"),
            flags_1=PIE,
        )
    )
    assert elf == Elf(
        bits=bits,
        little=little,
        machine=40,
        kind=3,
        flags=0x5000400,
        interpreter="/lib64/ld.so",
        dynamic=True,
        needed=("liba.so.1", "libb.so"),
        soname="libwhole.so.3",
        rpath="$ORIGIN/..",
        runpath="/opt/lib:$ORIGIN",
        flags_1=PIE,
        version_needs=(
            VersionNeed(library="liba.so.1", versions=("A_1", "A_2"), weak=("A_2",)),
            VersionNeed(library="libc.so.6", versions=("GLIBC_2.2.5",)),
        ),
        versions=("W_1", "W_2"),
    )


def test_library_without_version_section_differs_from_empty_section():
    assert read(build_elf()).versions is None
    assert read(build_elf(defines=())).versions == ()


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"#!/bin/sh\n", b"\0" * 5000])
def test_non_elf_file_is_none(data):
    assert read(data) is None


@pytest.mark.parametrize("kind", [REL, CORE])
def test_objects_and_cores_are_not_analysed(kind):
    assert read(build_elf(kind=kind, needed=("liba.so",))).needed == ()


@pytest.mark.parametrize(
    ("more", "is_program"),
    [
        ({"kind": EXEC}, True),
        ({"interpreter": "/lib/ld.so"}, True),
        ({"interpreter": "/lib/ld.so", "soname": "libc.so.6"}, False),
        ({"interpreter": "/lib/ld.so", "soname": "odd", "flags_1": PIE}, True),
        ({"soname": "liba.so"}, False),
        ({}, False),
    ],
)
def test_programs_are_distinguished_from_libraries(more, is_program):
    assert read(build_elf(**more)).executable is is_program


def _patched(at: int, layout: str, value: int) -> bytes:
    data = bytearray(WHOLE)
    struct.pack_into(layout, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (WHOLE[:40], "it ends at byte 40"),
        (WHOLE[:100], "it ends at byte 100"),
        (WHOLE[:-20], "it ends at byte"),
        (_patched(4, "B", 9), "its class 9"),
        (_patched(5, "B", 0), "byte order 0"),
        (_patched(32, "<Q", 1 << 60), "refer to byte"),
        (_patched(54, "<H", 4), "4 bytes each"),
        (_patched(56, "<H", 65535), "refer to byte"),
        (_patched(64 + 56 + 8, "<Q", 1 << 63), "refer to byte"),
        (_patched(64 + 16, "<Q", 1 << 40), "in none of its segments"),
    ],
)
def test_inconsistent_file_gives_problem(data, says):
    problem = read(data)
    assert isinstance(problem, ElfProblem)
    assert says in problem.message


@settings(max_examples=400, deadline=None)
@given(cut=st.integers(0, len(WHOLE)))
def test_truncated_file_never_raises(cut):
    assert isinstance(read(WHOLE[:cut]), Elf | ElfProblem | None)


@settings(max_examples=800, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(4, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=12),
    bits=st.sampled_from([1, 2]),
)
def test_mutated_file_never_raises(changes, bits):
    data = bytearray(WHOLE)
    data[4] = bits
    for at, value in changes:
        data[at] = value
    assert isinstance(read(bytes(data)), Elf | ElfProblem)


@settings(max_examples=200, deadline=None)
@given(rest=st.binary(max_size=400))
def test_garbage_after_magic_never_raises(rest):
    assert isinstance(read(b"\x7fELF" + rest), Elf | ElfProblem)


def test_version_loop_ends():
    data = build_elf(needs={"liba.so": ("A",) * 3, "libb.so": ("B",)})
    at = data.index(struct.pack("<HHI", 1, 3, 9)[:4])
    looped = bytearray(data)
    struct.pack_into("<I", looped, at + 12, 0xFFFFFFF0)
    assert isinstance(read(bytes(looped)), Elf | ElfProblem)


def test_non_text_name_is_preserved():
    name = os.fsdecode(b"lib\xff\n.so")
    assert read(build_elf(needed=(name,))).needed == (name,)


def test_reader_caches_results_and_rejects_non_files(tmp_path):
    root = RootFileSystem(plant(tmp_path / "root", {"/a": WHOLE, "/link": "a", "/text": b"hello"}))
    os.mkfifo(tmp_path / "root" / "pipe")
    reader = ElfReader()
    assert isinstance(reader.read(root, "/a"), Elf)
    (tmp_path / "root" / "a").write_bytes(b"gone")
    assert isinstance(reader.read(root, "/a"), Elf)
    assert [reader.read(root, path) for path in ("/link", "/text", "/pipe", "/none")] == [None] * 4
