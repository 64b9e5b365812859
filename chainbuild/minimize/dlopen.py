"""Libraries that a program names in its constant data: what it may open at run time (dlopen(3)).

A name is what a compiler lays down for a string: bytes between two NULs that read like a library's file name. That a
name is there does not say that it is ever opened, so it is told, and only kept on request.
"""

from __future__ import annotations

import os
import re

from chainbuild.minimize.elf import Elf
from chainbuild.minimize.root import open_file

_NAME = re.compile(rb"(?:/[\w.+-]+)*/?[A-Za-z][\w.+-]{2,120}\.so(?:\.[0-9]{1,8}){0,4}")
_HASH = re.compile(r"(?:-[0-9a-f]{8})+$")
_CHUNK = 4 << 20
_OVERLAP = 512
_MOST_BYTES = 1 << 30
_MOST_NAMES = 4096


def names_in(host: str, elf: Elf) -> tuple[str, ...]:
    """The library names and paths in the file ``host``, sorted, without those that ``elf`` needs or is anyway.

    Looks at no more than the first GiB, and not at holes; empty when the file cannot be read.
    """
    found: set[bytes] = set()
    try:
        descriptor = open_file(host)
    except OSError:
        return ()
    try:
        size = min(os.fstat(descriptor).st_size, _MOST_BYTES)
        at, kept = 0, b""
        while at < size and len(found) < _MOST_NAMES:
            start = _data_from(descriptor, at, size)
            if start > at:
                at, kept = start, b""
                continue
            data = os.pread(descriptor, min(_CHUNK, size - at), at)
            if not data:
                break
            at += len(data)
            _look(kept + data, found)
            kept = data[-_OVERLAP:]
    except OSError:
        pass
    finally:
        os.close(descriptor)
    own = {_plain(name) for name in (*elf.needed, elf.soname or "", *(need.library for need in elf.version_needs))}
    return tuple(sorted(name for name in map(os.fsdecode, found) if _plain(name) not in own))


def _plain(name: str) -> str:
    """``libx-0a1b2c3d.so.1.2`` as the library was called before a wheel took it in: old names stay behind there."""
    return _HASH.sub("", name.partition(".so")[0]) + ".so"


def _data_from(descriptor: int, at: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, at, os.SEEK_DATA), size)
    except OSError as error:
        return size if error.errno == 6 else at  # ENXIO: nothing but a hole is left


def _look(data: bytes, found: set[bytes]) -> None:
    at = data.find(b".so")
    while at >= 0:
        start = data.rfind(b"\0", max(0, at - 256), at) + 1
        end = data.find(b"\0", at, at + 48)
        if start and end >= 0 and _NAME.fullmatch(data, start, end):
            found.add(data[start:end])
        at = data.find(b".so", max(at + 3, end))
