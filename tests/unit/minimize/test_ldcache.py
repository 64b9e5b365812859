from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.minimize.abi import Abi
from chainbuild.minimize.elf import ElfReader
from chainbuild.minimize.ldcache import CacheEntry, build_cache, compare_names, encode_cache, parse_cache
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import ARM64, GLIBC, I386, library, plant

AMD64 = Abi(name="amd64", bits=64, little=True, machine=62)
BUILT_IN = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib")


def entry(name, path=None, flags=0x303, hwcaps=""):
    return CacheEntry(name=name, flags=flags, path=path or f"/lib/{name}", hwcaps=hwcaps)


ENTRIES = (
    entry("libb.so.10"),
    entry("libb.so.9", "/x/glibc-hwcaps/x86-64-v2/libb.so.9", hwcaps="x86-64-v2"),
    entry("libb.so.9", "/x/glibc-hwcaps/x86-64-v3/libb.so.9", hwcaps="x86-64-v3"),
    entry("libb.so.9"),
    entry("liba.so", flags=3),
)


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("entries", [(), ENTRIES[:1], ENTRIES])
def test_written_cache_is_read_back(entries, little):
    assert parse_cache(encode_cache(entries, little=little)) == entries


def test_header_matches_glibc():
    data = encode_cache((entry("liba.so"),), little=True)
    magic, count, strings, flags, extension = struct.unpack_from("<20sIIB3xI", data)
    assert (magic, count, strings, flags) == (b"glibc-ld.so.cache1.1", 1, len(b"liba.so\0/lib/liba.so\0"), 2)
    assert extension % 4 == 0
    assert struct.unpack_from("<II", data, extension) == (0xEAA42174, 1)


def test_old_format_before_new_format_is_skipped():
    old = b"ld.so-1.7.0\0" + struct.pack("<I", 2) + bytes(24)
    assert parse_cache(old + encode_cache(ENTRIES, little=True)) == ENTRIES


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_damaged_cache_is_rejected_or_read(data):
    raw = bytearray(encode_cache(ENTRIES, little=True))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(20, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        parse_cache(cut)
    except (ValueError, struct.error, IndexError):
        return


@pytest.mark.parametrize(
    ("first", "second", "sign"),
    [
        ("liba.so.9", "liba.so.10", -1),
        ("liba.so", "liba.so.1", -1),
        ("libb", "liba", 1),
        ("lib1", "liba", 1),
        ("liba", "lib1", -1),
        ("liba.so.01", "liba.so.1", 0),
        ("libz.so.1", "libz.so.1", 0),
    ],
)
def test_names_are_sorted_like_glibc(first, second, sign):
    assert compare_names(first, second) == sign


def test_tree_is_listed_like_ldconfig(tmp_path):
    two = library("libtwo.so.2")
    tree: dict[str, bytes | str | None] = {
        **GLIBC,
        "/usr/local/lib/libone.so.1": library("libone.so.1"),
        "/usr/local/lib/libone.so": "libone.so.1",
        "/usr/local/lib/libtwo.so.2.0": two,
        "/usr/local/lib/libtwo.so.2.1": two,
        "/usr/local/lib/libtwo.so.2": "libtwo.so.2.1",
        "/usr/local/lib/libthree.so.3.1": library("libthree.so.3"),
        "/usr/local/lib/libname.so": library("", machine=62),
        "/usr/local/lib/libscript.so": b"INPUT(-lone)",
        "/usr/local/lib/plugin.so": library("plugin.so"),
        "/usr/local/lib/libarm.so": library("libarm.so", machine=ARM64),
        "/usr/local/lib/lib32.so": library("lib32.so", bits=32, machine=I386),
        "/usr/local/lib/libdangling.so.1": "nothing",
        "/usr/local/lib/glibc-hwcaps/x86-64-v3/libone.so.1": library("libone.so.1"),
        "/usr/lib/libone.so.1": library("libone.so.1"),
    }
    root = RootFileSystem(plant(tmp_path / "r", tree))
    rows = [(one.name, one.path, one.flags, one.hwcaps) for one in build_cache(root, ElfReader(), AMD64, BUILT_IN)]
    local = "/usr/local/lib"
    assert rows == [
        ("lib32.so", f"{local}/lib32.so", 0x3, ""),
        ("libtwo.so.2", f"{local}/libtwo.so.2", 0x303, ""),
        ("libone.so.1", f"{local}/glibc-hwcaps/x86-64-v3/libone.so.1", 0x303, "x86-64-v3"),
        ("libone.so.1", f"{local}/libone.so.1", 0x303, ""),
        ("libone.so.1", "/usr/lib/libone.so.1", 0x303, ""),
        ("libone.so", f"{local}/libone.so", 0x303, ""),
        ("libname.so", f"{local}/libname.so", 0x303, ""),
        ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", 0x303, ""),
    ]
