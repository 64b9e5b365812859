"""Read strings from the constant data of a program or library: library names, absolute paths, called functions.

A string is the bytes between two NULs, as compilers store one. A name or path in the data does not prove that it is
ever opened, so both are only reported, and kept on request. Not recognised are strings that a program composes at run
time, those that a compiler spreads over instructions, and those of languages that do not end strings with a NUL (Go,
Rust).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from chainbuild.minimize.elf import Elf
from chainbuild.minimize.root import open_file

LONGEST = 1024
"""The longest string that is recognised, in bytes."""
_NAME = re.compile(rb"(?:/[\w.+-]+)*/?[A-Za-z][\w.+-]{2,120}\.so(?:\.[0-9]{1,8}){0,4}")
_PATH = re.compile(rb"(?:/+[\w.+@,~=-]+){2,32}/*")
_TEXT_PATH = re.compile(rb"(?<![\w./${}~%*-])(?:/[\w.+@~=-]+){2,32}(?![\w.+@~=*?%{$-])")
_HASH = re.compile(r"(?:-[0-9a-f]{8})+$")
_CHUNK = 4 << 20
_MOST_BYTES = 1 << 30
_MOST_NAMES = 4096
_MOST_STRINGS = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """Names and paths of libraries, and other absolute paths, each sorted."""

    libraries: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def constants_of(host: str, elf: Elf) -> Constants:
    """Return the strings in the data segments of the file `host` of this machine.

    Leaves out libraries that `elf` needs anyway or is itself, and the folders that the loader searches for them. Reads
    at most the first GiB and skips holes; the result is empty if the file cannot be read.
    """
    libraries: set[bytes] = set()
    paths: set[bytes] = set()
    for data in _pieces(host, elf):
        if len(libraries) < _MOST_NAMES:
            _find_libraries(data, libraries)
        if len(paths) < _MOST_NAMES:
            _find_paths(data, paths)
    own = {
        _plain(name)
        for name in (
            *elf.needed,
            elf.soname or "",
            elf.interpreter or "",
            *(need.library for need in elf.version_needs),
        )
    }
    names = (os.fsdecode(name) for name in libraries)
    searched = {*f"{elf.rpath or ''}:{elf.runpath or ''}".split(":"), elf.interpreter, elf.soname}
    return Constants(
        libraries=tuple(sorted(name for name in names if _plain(name) not in own)),
        paths=tuple(sorted(path for path in map(os.fsdecode, paths) if path not in searched)),
    )


def read_from(host: str, elf: Elf, pattern: bytes) -> tuple[str, ...]:
    """Return the matches of the first group of the regular expression `pattern` in the same data, unique and in order."""
    matches: dict[bytes, None] = {}
    searching = re.compile(pattern)
    for data in _pieces(host, elf):
        for match in searching.finditer(data):
            if len(matches) < _MOST_NAMES:
                matches[match[1]] = None
    return tuple(map(os.fsdecode, matches))


def calls(host: str, elf: Elf, functions: Collection[str]) -> frozenset[str]:
    """Return those of `functions` that are in the table of dynamic names, that is, called or defined."""
    start, end = elf.names_at
    if end <= start or not functions:
        return frozenset()
    try:
        descriptor = open_file(host)
    except OSError:
        return frozenset()
    try:
        names = os.pread(descriptor, min(end - start, _MOST_STRINGS), start)
    except OSError:
        return frozenset()
    finally:
        os.close(descriptor)
    return frozenset(name for name in functions if b"\0" + name.encode() + b"\0" in names)


def paths_in_text(text: bytes) -> tuple[str, ...]:
    """Return the absolute paths in a script or a configuration file, sorted; ignores lines that are comments.

    For a pattern the path is its folder (`/etc/x` for `/etc/x/*.conf`).
    """
    paths: set[bytes] = set()
    for number, line in enumerate(text.splitlines()):
        if not line.lstrip().startswith((b"#", b";", b"//")) or (number == 0 and line.startswith(b"#!")):
            for match in _TEXT_PATH.finditer(line[:65536]):
                if len(paths) < _MOST_NAMES:
                    paths.add(match[0])
    return tuple(sorted(map(os.fsdecode, paths)))


def _pieces(host: str, elf: Elf) -> Iterator[bytes]:
    """Yield the data of a file in pieces that overlap by the longest string and begin and end with a NUL."""
    try:
        descriptor = open_file(host)
    except OSError:
        return
    try:
        size = os.fstat(descriptor).st_size
        budget = _MOST_BYTES
        for start, length in elf.data_at:
            at, end, kept = start, min(start + length, size, start + budget), b"\0"
            budget -= max(0, end - at)
            while at < end:
                reached = _data_from(descriptor, at, end)
                if reached > at:
                    at, kept = reached, b"\0"
                    continue
                data = os.pread(descriptor, min(_CHUNK, end - at), at)
                if not data:
                    break
                at += len(data)
                whole = kept + data
                yield whole + b"\0" if at >= end else whole
                kept = whole[-LONGEST:]
    except OSError:
        return
    finally:
        os.close(descriptor)


def _data_from(descriptor: int, at: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, at, os.SEEK_DATA), size)
    except OSError as error:
        return size if error.errno == 6 else at  # ENXIO: only a hole remains


def _find_libraries(data: bytes, names: set[bytes]) -> None:
    at = data.find(b".so")
    while at >= 0:
        start = data.rfind(b"\0", max(0, at - 256), at) + 1
        end = data.find(b"\0", at, at + 48)
        if start and end >= 0 and _NAME.fullmatch(data, start, end):
            names.add(data[start:end])
        at = data.find(b".so", max(at + 3, end))


def _find_paths(data: bytes, paths: set[bytes]) -> None:
    at = data.find(b"\0/")
    while at >= 0:
        end = data.find(b"\0", at + 1, at + 1 + LONGEST)
        if end > at + 4:
            for part in re.split(rb"[:;]", data[at + 1 : end]):
                if _PATH.fullmatch(part):
                    paths.add(part)
        at = data.find(b"\0/", max(at + 2, end))


def _plain(name: str) -> str:
    """Return the original name of a library that a wheel bundles as `libx-0a1b2c3d.so.1.2`; its data keeps the old name."""
    return _HASH.sub("", name.partition(".so")[0]) + ".so"
