"""Read the parts of an ELF file that a dynamic loader locates: headers, segments, the dynamic section, symbol versions.

Layouts are those of the System V gABI (ELF header, program headers, dynamic section) and of the GNU symbol versioning
sections (`.gnu.version_r`, `.gnu.version_d`; LSB core specification). Everything is located through program headers,
never through section headers, as the loader does. The amount read from one file is limited.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
PT_LOAD, _PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_STRTAB, _DT_STRSZ = 5, 10
DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_VER_FLG_BASE = 1

_PAGE = 4096
_MAX_BYTES = 16 << 20
_MAX_STRING = 64 << 10
_MAX_DYNAMIC = 1 << 20
_MAX_VERSIONS = 1 << 16


class LyingFileError(Exception):
    """The file's content is inconsistent. Only readers of parts of a file raise it."""


class FileWindow:
    """Reads of a file by offset, page by page, each page once, within a budget."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._pages: dict[int, bytes] = {}
        self.size = size

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) * _PAGE >= _MAX_BYTES:
                raise LyingFileError("its headers are spread over too much of the file")
            page = os.pread(self._descriptor, _PAGE, number * _PAGE)
            self._pages[number] = page
        return page

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise LyingFileError(f"it ends at byte {self.size}, but its headers refer to byte {offset + length}")
        first, start = divmod(offset, _PAGE)
        if start + length <= _PAGE:
            data = self._page(first)[start : start + length]
        else:
            last = (offset + length - 1) // _PAGE
            joined = b"".join(self._page(number) for number in range(first, last + 1))
            data = joined[start : start + length]
        if len(data) != length:
            raise LyingFileError("it was truncated while it was read")
        return data

    def string(self, offset: int, end: int) -> str:
        """Return the string that starts at `offset` and ends with a NUL before `end`."""
        end = min(end, self.size, offset + _MAX_STRING)
        parts: list[bytes] = []
        while offset < end:
            number, start = divmod(offset, _PAGE)
            page = self._page(number)[start : start + end - offset]
            stop = page.find(b"\0")
            if stop >= 0:
                parts.append(page[:stop])
                return os.fsdecode(b"".join(parts))
            if not page:
                break
            parts.append(page)
            offset += len(page)
        raise LyingFileError("a name in it is not terminated")


@dataclass(frozen=True, slots=True)
class Names:
    """The table of names of the dynamic section: file, byte order, start and end."""

    window: FileWindow
    order: str
    start: int
    end: int

    def at(self, index: int) -> str:
        """Return the name at an offset in the table."""
        return self.window.string(self.start + index, self.end)


@dataclass(frozen=True, slots=True)
class Segment:
    """An entry of the program headers: where a part of the file is loaded."""

    kind: int
    offset: int
    address: int
    length: int
    flags: int


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The dynamic section of a file: its entries, and what locates the tables that they refer to."""

    window: FileWindow
    order: str
    wide: bool
    segments: tuple[Segment, ...]
    entries: list[tuple[int, int]]

    @property
    def single(self) -> dict[int, int]:
        """The values by tag; of a repeated tag the first one."""
        return dict(reversed(self.entries))

    @property
    def names(self) -> Names | None:
        """The table of names; None if there is none. Errors: `LyingFileError`."""
        single = self.single
        if DT_STRTAB not in single:
            return None
        start = self.offset(single[DT_STRTAB])
        return Names(self.window, self.order, start, start + single.get(_DT_STRSZ, self.window.size))

    def offset(self, address: int) -> int:
        """Return the file offset of the byte that is loaded at `address` (gABI, program loading)."""
        for segment in self.segments:
            if segment.kind == PT_LOAD and segment.address <= address < segment.address + segment.length:
                return segment.offset + address - segment.address
        raise LyingFileError(f"its address 0x{address:x} is in none of its segments")


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The ELF header, and the program headers of a file that a loader takes."""

    wide: bool
    little: bool
    machine: int
    kind: int
    flags: int
    segments: tuple[Segment, ...] = ()

    @property
    def order(self) -> str:
        """The byte order, as `struct` writes it."""
        return "<" if self.little else ">"

    def segment(self, kind: int) -> Segment | None:
        """Return the first segment of a kind that has content."""
        return next((segment for segment in self.segments if segment.kind == kind and segment.length), None)


def read_header(window: FileWindow) -> Header:
    """Read the headers of an ELF file. Errors: `LyingFileError`, also if its class or byte order is unknown."""
    ident = window.read(0, 16)
    if ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise LyingFileError(f"its class {ident[4]} or byte order {ident[5]} is unknown")
    wide, little = ident[4] == 2, ident[5] == 1
    order = "<" if little else ">"
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    kind, machine, _, _, table, _, flags, _, entry_size, count, _, _, _ = struct.unpack(
        layout, window.read(16, struct.calcsize(layout))
    )
    header = Header(wide=wide, little=little, machine=machine, kind=kind, flags=flags)
    if kind not in (ET_EXEC, ET_DYN) or not count:
        return header
    entry = order + ("IIQQQQQQ" if wide else "IIIIIIII")
    return replace(header, segments=tuple(_segments(window, entry, table, entry_size * count, entry_size)))


def read_dynamic(window: FileWindow, header: Header) -> Dynamic | None:
    """Read the dynamic section of a file; None if it has none. Errors: `LyingFileError`."""
    section = header.segment(_PT_DYNAMIC)
    if section is None:
        return None
    return Dynamic(window, header.order, header.wide, header.segments, _dynamic_entries(window, header, section))


def _segments(window: FileWindow, layout: str, table: int, length: int, entry_size: int) -> list[Segment]:
    entry = struct.Struct(layout)
    if entry_size != entry.size:
        raise LyingFileError(f"its program headers are {entry_size} bytes each, not {entry.size}")
    segments = []
    for fields in entry.iter_unpack(window.read(table, length)):
        if "Q" in layout:
            kind, flags, offset, address, _, size, _, _ = fields
        else:
            kind, offset, address, _, size, _, flags, _ = fields
        if kind in (PT_LOAD, _PT_DYNAMIC, PT_INTERP):
            segments.append(Segment(kind, offset, address, size, flags))
    return segments


def _dynamic_entries(window: FileWindow, header: Header, section: Segment) -> list[tuple[int, int]]:
    layout = struct.Struct(header.order + ("qQ" if header.wide else "iI"))
    length = min(section.length, _MAX_DYNAMIC)
    length -= length % layout.size
    entries = []
    for tag, value in layout.iter_unpack(window.read(section.offset, length)):
        if tag == 0:
            break
        entries.append((tag, value))
    return entries


def each_need(dynamic: Dynamic, names: Names) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Yield each library of which a file needs versions, with these: flags, index in the table of versions, and name.

    Errors: `LyingFileError`.
    """
    single = dynamic.single
    if _DT_VERNEED not in single:
        return
    at = dynamic.offset(single[_DT_VERNEED])
    outer, inner = struct.Struct(names.order + "HHIII"), struct.Struct(names.order + "IHHII")
    budget = _MAX_VERSIONS
    for _ in range(min(single.get(_DT_VERNEEDNUM, 0), _MAX_VERSIONS)):
        _, entries, file, first, following = outer.unpack(names.window.read(at, outer.size))
        versions: list[tuple[int, int, str]] = []
        auxiliary = at + first
        for _ in range(entries):
            budget -= 1
            if budget < 0:
                raise LyingFileError("it needs too many symbol versions")
            _, flags, index, text, step = inner.unpack(names.window.read(auxiliary, inner.size))
            versions.append((flags, index, names.at(text)))
            if not step:
                break
            auxiliary += step
        yield names.at(file), versions
        if not following:
            break
        at += following


def each_defined_version(dynamic: Dynamic, names: Names) -> Iterator[tuple[int, str]]:
    """Yield the versions that a file defines, but for its own name: index in the table of versions, and name.

    Errors: `LyingFileError`.
    """
    single = dynamic.single
    if DT_VERDEF not in single:
        return
    at = dynamic.offset(single[DT_VERDEF])
    outer, inner = struct.Struct(names.order + "HHHHIII"), struct.Struct(names.order + "II")
    for _ in range(min(single.get(_DT_VERDEFNUM, 0), _MAX_VERSIONS)):
        _, flags, index, entries, _, first, following = outer.unpack(names.window.read(at, outer.size))
        if entries and not flags & _VER_FLG_BASE:
            text, _ = inner.unpack(names.window.read(at + first, inner.size))
            yield index, names.at(text)
        if not following:
            break
        at += following
