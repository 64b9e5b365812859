"""Read from an ELF file what the dynamic loader reads, and nothing else.

Layouts are those of the System V gABI (ELF header, program headers, dynamic section) and of the GNU symbol versioning
sections (`.gnu.version_r`, `.gnu.version_d`; LSB core specification). Everything is located through program headers,
never through section headers, as the loader does. A malformed file gives an `ElfProblem`; nothing here raises because
of a file's content, and the amount read from one file is limited.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from chainbuild.minimize.root import FileTree, Node, open_file

MAGIC = b"\x7fELF"
ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
EM_386, EM_PPC64, EM_S390, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV, EM_LOONGARCH = 3, 21, 22, 40, 62, 183, 243, 258

DF_1_NODEFLIB = 0x800
DF_1_PIE = 0x08000000

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_PF_X, _PF_W = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_FLAGS_1, _DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = (
    0x6FFFFFFB,
    0x6FFFFFFC,
    0x6FFFFFFD,
    0x6FFFFFFE,
    0x6FFFFFFF,
)
_VER_FLG_BASE, _VER_FLG_WEAK = 1, 2

_PAGE = 4096
_MAX_BYTES = 16 << 20
_MAX_STRING = 64 << 10
_MAX_DYNAMIC = 1 << 20
_MAX_VERSIONS = 1 << 16
_MAX_DATA = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionNeed:
    """The versions that an object needs of the library it calls `library`; those in `weak` may be missing."""

    library: str
    versions: tuple[str, ...]
    weak: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Elf:
    """What an ELF file tells a dynamic loader."""

    bits: int
    little: bool
    machine: int
    kind: int
    flags: int
    interpreter: str | None = None
    dynamic: bool = False
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    flags_1: int = 0
    version_needs: tuple[VersionNeed, ...] = ()
    versions: tuple[str, ...] | None = None
    """The versions that it defines; None if it has no such section."""
    names_at: tuple[int, int] = field(default=(0, 0), compare=False)
    """Start and end of its table of dynamic names in the file, in bytes."""
    data_at: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Offset and length of the mapped parts of the file that may hold strings, in bytes."""

    @property
    def executable(self) -> bool:
        """Return whether it is a program, not a library (a library such as libc may have an interpreter too)."""
        if self.kind == ET_EXEC or self.flags_1 & DF_1_PIE:
            return True
        return self.interpreter is not None and self.soname is None


@dataclass(frozen=True, kw_only=True, slots=True)
class ElfProblem:
    """Why a file that begins as an ELF file cannot be read as one."""

    message: str


class _LyingFileError(Exception):
    """Internal to this module: the file's content is inconsistent."""


class _Window:
    """Reads of a file by offset, page by page, each page once, within a budget."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._pages: dict[int, bytes] = {}
        self.size = size

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) * _PAGE >= _MAX_BYTES:
                raise _LyingFileError("its headers are spread over too much of the file")
            page = os.pread(self._descriptor, _PAGE, number * _PAGE)
            self._pages[number] = page
        return page

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise _LyingFileError(f"it ends at byte {self.size}, but its headers refer to byte {offset + length}")
        first, start = divmod(offset, _PAGE)
        if start + length <= _PAGE:
            data = self._page(first)[start : start + length]
        else:
            last = (offset + length - 1) // _PAGE
            joined = b"".join(self._page(number) for number in range(first, last + 1))
            data = joined[start : start + length]
        if len(data) != length:
            raise _LyingFileError("it was truncated while it was read")
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
        raise _LyingFileError("a name in it is not terminated")


@dataclass(frozen=True, slots=True)
class _Names:
    """The table of names of the dynamic section: file, byte order, start and end."""

    window: _Window
    order: str
    start: int
    end: int

    def at(self, index: int) -> str:
        return self.window.string(self.start + index, self.end)


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    length: int
    flags: int


def read_elf(descriptor: int) -> Elf | ElfProblem | None:
    """Read the ELF file open at `descriptor`; return None if it is not an ELF file."""
    try:
        size = os.fstat(descriptor).st_size
        window = _Window(descriptor, size)
        if size < len(MAGIC) or window.read(0, 4) != MAGIC:
            return None
        return _read(window)
    except _LyingFileError as error:
        return ElfProblem(message=str(error))
    except OSError as error:
        return ElfProblem(message=f"it cannot be read: {error.strerror}")


def _read(window: _Window) -> Elf | ElfProblem:
    ident = window.read(0, 16)
    if ident[4] not in (1, 2) or ident[5] not in (1, 2):
        return ElfProblem(message=f"its class {ident[4]} or byte order {ident[5]} is unknown")
    wide, little = ident[4] == 2, ident[5] == 1
    order = "<" if little else ">"
    header = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    kind, machine, _, _, table, _, flags, _, entry_size, count, _, _, _ = struct.unpack(
        header, window.read(16, struct.calcsize(header))
    )
    elf = Elf(bits=64 if wide else 32, little=little, machine=machine, kind=kind, flags=flags)
    if kind not in (ET_EXEC, ET_DYN) or not count:
        return elf
    segments = _segments(window, order + ("IIQQQQQQ" if wide else "IIIIIIII"), table, entry_size * count, entry_size)
    interpreter = None
    dynamic = None
    for segment in segments:
        if segment.kind == _PT_INTERP and interpreter is None and segment.length:
            interpreter = window.string(segment.offset, segment.offset + segment.length)
        elif segment.kind == _PT_DYNAMIC and dynamic is None and segment.length:
            dynamic = segment
    elf = replace(elf, interpreter=interpreter, data_at=_data(segments))
    if dynamic is None:
        return elf
    return _with_dynamic(window, order, elf, segments, _dynamic_entries(window, order, wide, dynamic))


def _segments(window: _Window, layout: str, table: int, length: int, entry_size: int) -> list[_Segment]:
    entry = struct.Struct(layout)
    if entry_size != entry.size:
        raise _LyingFileError(f"its program headers are {entry_size} bytes each, not {entry.size}")
    segments = []
    for fields in entry.iter_unpack(window.read(table, length)):
        if "Q" in layout:
            kind, flags, offset, address, _, size, _, _ = fields
        else:
            kind, offset, address, _, size, _, flags, _ = fields
        if kind in (_PT_LOAD, _PT_DYNAMIC, _PT_INTERP):
            segments.append(_Segment(kind, offset, address, size, flags))
    return segments


def _data(segments: list[_Segment]) -> tuple[tuple[int, int], ...]:
    """Return the segments that may hold strings.

    Linkers that separate code give read-only data a segment of its own; others mix the two.
    """
    loads = [segment for segment in segments if segment.kind == _PT_LOAD and segment.length]
    apart = any(segment.flags & (_PF_X | _PF_W) == 0 for segment in loads)
    ranges: dict[tuple[int, int], None] = {}
    for segment in loads[:_MAX_DATA]:
        if not (apart and segment.flags & _PF_X):
            ranges[segment.offset, segment.length] = None
    return tuple(ranges)


def _with_dynamic(
    window: _Window, order: str, elf: Elf, segments: list[_Segment], entries: list[tuple[int, int]]
) -> Elf:
    single = dict(reversed(entries))
    start = end = 0
    if _DT_STRTAB in single:
        start = _offset(segments, single[_DT_STRTAB])
        end = start + single.get(_DT_STRSZ, window.size)
    elif any(tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH) for tag, _ in entries):
        raise _LyingFileError("it names libraries but has no table of names")
    names = _Names(window, order, start, end)

    def optional(tag: int) -> str | None:
        return names.at(single[tag]) if tag in single else None

    needs: tuple[VersionNeed, ...] = ()
    versions: tuple[str, ...] | None = None
    if _DT_VERNEED in single:
        needs = _version_needs(names, _offset(segments, single[_DT_VERNEED]), single.get(_DT_VERNEEDNUM, 0))
    if _DT_VERDEF in single:
        versions = _versions(names, _offset(segments, single[_DT_VERDEF]), single.get(_DT_VERDEFNUM, 0))
    return replace(
        elf,
        dynamic=True,
        needed=tuple(names.at(value) for tag, value in entries if tag == _DT_NEEDED),
        soname=optional(_DT_SONAME),
        rpath=optional(_DT_RPATH),
        runpath=optional(_DT_RUNPATH),
        flags_1=single.get(_DT_FLAGS_1, 0),
        version_needs=needs,
        versions=versions,
        names_at=(start, end),
    )


def _dynamic_entries(window: _Window, order: str, wide: bool, dynamic: _Segment) -> list[tuple[int, int]]:
    layout = struct.Struct(order + ("qQ" if wide else "iI"))
    length = min(dynamic.length, _MAX_DYNAMIC)
    length -= length % layout.size
    entries = []
    for tag, value in layout.iter_unpack(window.read(dynamic.offset, length)):
        if tag == 0:
            break
        entries.append((tag, value))
    return entries


def _offset(segments: list[_Segment], address: int) -> int:
    """Return the file offset of the byte that is loaded at `address` (gABI, program loading)."""
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.length:
            return segment.offset + address - segment.address
    raise _LyingFileError(f"its address 0x{address:x} is in none of its segments")


def _version_needs(names: _Names, at: int, count: int) -> tuple[VersionNeed, ...]:
    needs: list[VersionNeed] = []
    outer, inner = struct.Struct(names.order + "HHIII"), struct.Struct(names.order + "IHHII")
    budget = _MAX_VERSIONS
    for _ in range(min(count, _MAX_VERSIONS)):
        _, entries, file, first, following = outer.unpack(names.window.read(at, outer.size))
        versions: list[str] = []
        weak: list[str] = []
        auxiliary = at + first
        for _ in range(entries):
            budget -= 1
            if budget < 0:
                raise _LyingFileError("it needs too many symbol versions")
            _, flags, _, text, step = inner.unpack(names.window.read(auxiliary, inner.size))
            version = names.at(text)
            versions.append(version)
            if flags & _VER_FLG_WEAK:
                weak.append(version)
            if not step:
                break
            auxiliary += step
        needs.append(VersionNeed(library=names.at(file), versions=tuple(versions), weak=tuple(weak)))
        if not following:
            break
        at += following
    return tuple(needs)


def _versions(names: _Names, at: int, count: int) -> tuple[str, ...]:
    versions: list[str] = []
    outer, inner = struct.Struct(names.order + "HHHHIII"), struct.Struct(names.order + "II")
    for _ in range(min(count, _MAX_VERSIONS)):
        _, flags, _, entries, _, first, following = outer.unpack(names.window.read(at, outer.size))
        if entries and not flags & _VER_FLG_BASE:
            text, _ = inner.unpack(names.window.read(at + first, inner.size))
            versions.append(names.at(text))
        if not following:
            break
        at += following
    return tuple(versions)


class ElfReader:
    """Reads ELF files of trees and caches the results, by file of this machine."""

    def __init__(self) -> None:
        self._known: dict[str, Elf | ElfProblem | None] = {}

    def also_needs(self, node: Node, names: Iterable[str]) -> bool:
        """Add `names` to the needs of the library or program `node`; return whether any of them is new.

        For files that it opens by name at run time, which are found by the same rules.
        """
        elf = self.read_node(node)
        if not isinstance(elf, Elf):
            return False
        more = tuple(name for name in dict.fromkeys(names) if name not in elf.needed)
        self._known[node.host] = replace(elf, needed=elf.needed + more)
        return bool(more)

    def read(self, tree: FileTree, path: str) -> Elf | ElfProblem | None:
        """Read the file at `path`, which has no links; return None if it is missing or not an ELF file."""
        node = tree.entry(path)
        return None if node is None else self.read_node(node)

    def read_node(self, node: Node) -> Elf | ElfProblem | None:
        """Read the file of `node`; return None if it is not an ELF file."""
        if node.kind != "file" or not node.host or node.size < len(MAGIC):
            return None
        if node.host in self._known:
            return self._known[node.host]
        try:
            descriptor = open_file(node.host)
        except OSError as error:
            return ElfProblem(message=f"it cannot be opened: {error.strerror}")
        try:
            elf = read_elf(descriptor)
        finally:
            os.close(descriptor)
        if elf is not None:  # most files of a tree are not ELF files, and are rarely read twice
            self._known[node.host] = elf
        return elf
