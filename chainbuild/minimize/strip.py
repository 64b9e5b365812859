"""Remove debug information and symbol tables from ELF programs and libraries of any machine, without external tools.

Mapped parts are copied byte for byte and keep their offsets; only the section table's fields in the ELF header, and
everything after the mapped parts, change. Left unchanged are objects and archives, files whose sections or segments are
not laid out as linkers do, and files with other data after the ELF part (self-extracting programs, AppImages). A
stripped file that a loader would read differently from the original is discarded.
"""

# Paths here are strings of this machine, which may contain bytes that are not valid text
# ruff: noqa: PTH108

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from chainbuild.minimize.elf import MAGIC, read_elf
from chainbuild.minimize.elf_file import ET_DYN, ET_EXEC
from chainbuild.minimize.root import open_file

_SHT_NULL, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL, _SHT_GROUP = 0, 2, 3, 4, 8, 9, 17
_SHT_SYMTAB_SHNDX = 18
_SHF_ALLOC, _SHF_INFO_LINK = 2, 0x40
_DEBUG_NAMES = (b".debug", b".zdebug", b".gnu.debuglto_", b".gnu_debugaltlink", b".stab", b".line", b".gdb_index")
_MAX_SECTIONS = 0xFF00
_MAX_TABLE = 16 << 20
_CHUNK = 1 << 20


class _LeaveItError(Exception):
    """Internal to this module: why a file stays unchanged."""


@dataclass(slots=True)
class _Section:
    """A section header; `index` is its number in the original."""

    index: int
    name: bytes
    fields: list[int]  # sh_name, type, flags, addr, offset, size, link, info, addralign, entsize

    @property
    def kind(self) -> int:
        return self.fields[1]

    @property
    def mapped(self) -> bool:
        return bool(self.fields[2] & _SHF_ALLOC)

    @property
    def end(self) -> int:
        return self.fields[4] + (0 if self.kind in (_SHT_NOBITS, _SHT_NULL) else self.fields[5])


@dataclass(frozen=True, slots=True)
class StripPlan:
    """How to create the stripped file: parts copied from the original, and bytes written over the result afterwards.

    `parts` are (source offset, target offset, length); `size` is the size of the result.
    """

    parts: tuple[tuple[int, int, int], ...]
    patches: tuple[tuple[int, bytes], ...]
    size: int


def strip_file(source: str, target: str) -> bool:
    """Write `source` stripped to the new file `target` with mode 600; return False, and write nothing, if it stays unchanged.

    Errors: OSError if reading or writing fails.
    """
    reading = open_file(source)
    try:
        plan = plan_for(reading)
        if plan is None:
            return False
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for source_at, target_at, length in plan.parts:
                _copy(reading, writing, source_at, target_at, length)
            for target_at, data in plan.patches:
                os.pwrite(writing, data, target_at)
            os.ftruncate(writing, plan.size)
            good = read_elf(writing) == read_elf(reading)
        finally:
            os.close(writing)
        if not good:
            os.unlink(target)
        return good
    finally:
        os.close(reading)


def plan_for(descriptor: int) -> StripPlan | None:
    """Return how to strip the file open at `descriptor`; None if it has nothing to remove or stays unchanged."""
    try:
        return _plan(descriptor)
    except (_LeaveItError, struct.error):
        return None


def _plan(descriptor: int) -> StripPlan | None:
    status = os.fstat(descriptor)
    head = os.pread(descriptor, 64, 0)
    if not stat.S_ISREG(status.st_mode) or len(head) < 64 or head[:4] != MAGIC:
        return None
    if head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    layout = struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"))
    kind, _, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = layout.unpack_from(head, 16)
    if kind not in (ET_EXEC, ET_DYN) or not 1 < shnum < _MAX_SECTIONS or not 0 < shstrndx < shnum:
        return None
    section = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    if shentsize != section.size:
        return None
    rows = [list(row) for row in section.iter_unpack(_read(descriptor, shoff, shentsize * shnum))]
    names = _read(descriptor, rows[shstrndx][4], min(rows[shstrndx][5], _MAX_TABLE))
    sections = [_Section(index, _name(names, row[0]), row) for index, row in enumerate(rows)]
    reach = max([entry.end for entry in sections] + [shoff + shentsize * shnum])
    if reach < status.st_size:
        raise _LeaveItError("it has other data after the ELF part")
    if reach > status.st_size:
        raise _LeaveItError("it ends before the parts that its headers name")
    mapped_end = _mapped_end(descriptor, order, wide, (phoff, phentsize, phnum), sections, layout.size + 16)
    kept = _remaining(sections, shstrndx)
    if len(kept) == len(sections):
        return None
    parts, table = _arrange(kept, mapped_end, shstrndx)
    if table[0] + len(kept) * section.size + len(table[1]) >= status.st_size:
        return None  # nothing is saved: mapped parts follow the removable ones
    return _create_plan(parts, table, kept, (section, layout, head, shstrndx))


def _mapped_end(
    descriptor: int, order: str, wide: bool, table: tuple[int, int, int], sections: list[_Section], header: int
) -> int:
    """Return the first byte after everything in program headers and mapped sections."""
    phoff, phentsize, phnum = table
    entry = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if phentsize != entry.size or not phnum:
        raise _LeaveItError("its program headers are invalid")
    end = max(header, phoff + phentsize * phnum)
    for row in entry.iter_unpack(_read(descriptor, phoff, phentsize * phnum)):
        offset, length = (row[2], row[5]) if wide else (row[1], row[4])
        if length:
            end = max(end, offset + length)
    end = max([end] + [section.end for section in sections if section.mapped])
    if end > os.fstat(descriptor).st_size:
        raise _LeaveItError("it ends before the parts that its headers name")
    return end


def _remaining(sections: list[_Section], names_at: int) -> list[_Section]:
    """Return the sections that stay; removed ones must follow every mapped one, whose numbers symbols refer to."""
    removed = {
        entry.index
        for entry in sections
        if not entry.mapped
        and entry.index != names_at
        and (entry.kind in (_SHT_SYMTAB, _SHT_SYMTAB_SHNDX) or entry.name.startswith(_DEBUG_NAMES))
    }
    tables = {entry.fields[6] for entry in sections if entry.index in removed and entry.kind == _SHT_SYMTAB}
    still = {entry.fields[6] for entry in sections if entry.index not in removed}
    for index in tables - still - {names_at}:
        if index < len(sections) and sections[index].kind == _SHT_STRTAB and not sections[index].mapped:
            removed.add(index)
    removed |= {  # relocations of removed sections
        entry.index
        for entry in sections
        if not entry.mapped and entry.kind in (_SHT_REL, _SHT_RELA) and removed & {entry.fields[6], entry.fields[7]}
    }
    kept = [entry for entry in sections if entry.index not in removed]
    if removed and min(removed) < max([entry.index for entry in sections if entry.mapped], default=0):
        raise _LeaveItError("its sections are in an unusual order")
    if any(entry.kind == _SHT_GROUP for entry in kept) or any(entry.fields[6] in removed for entry in kept):
        raise _LeaveItError("a remaining section refers to a removed one")
    return kept


def _arrange(
    kept: list[_Section], mapped_end: int, names_at: int
) -> tuple[list[tuple[int, int, int]], tuple[int, bytes]]:
    """Place unmapped sections after the mapped parts; return the parts, and the offset and content of the names' table."""
    parts = [(0, 0, mapped_end)]
    at = mapped_end
    for entry in kept:
        if entry.mapped or entry.index == names_at or entry.kind in (_SHT_NULL, _SHT_NOBITS) or entry.end <= mapped_end:
            continue
        if entry.fields[4] < mapped_end:
            raise _LeaveItError("a section is partly mapped")
        align = entry.fields[8] or 1
        if align & (align - 1) or align > 4096:
            raise _LeaveItError("its alignment is invalid")
        at = -(-at // align) * align
        parts.append((entry.fields[4], at, entry.fields[5]))
        entry.fields[4] = at
        at += entry.fields[5]
    pool = bytearray(b"\0")
    for entry in kept:
        entry.fields[0] = 0
        if entry.name:
            entry.fields[0] = len(pool)
            pool += entry.name + b"\0"
    names = next(entry for entry in kept if entry.index == names_at)
    if names.mapped:
        raise _LeaveItError("the names of its sections are mapped")
    names.fields[4], names.fields[5] = at, len(pool)
    return parts, (at, bytes(pool))


def _create_plan(
    parts: list[tuple[int, int, int]],
    table: tuple[int, bytes],
    kept: list[_Section],
    formats: tuple[struct.Struct, struct.Struct, bytes, int],
) -> StripPlan:
    section, layout, head, names_at = formats
    number = {entry.index: position for position, entry in enumerate(kept)}
    for entry in kept:
        if entry.fields[6]:
            entry.fields[6] = _new_number(number, entry.fields[6])
        if entry.fields[7] and (entry.fields[2] & _SHF_INFO_LINK or entry.kind in (_SHT_REL, _SHT_RELA)):
            entry.fields[7] = _new_number(number, entry.fields[7])
    at = -(-(table[0] + len(table[1])) // 8) * 8
    rows = b"".join(section.pack(*entry.fields) for entry in kept)
    fields = list(layout.unpack_from(head, 16))
    fields[5], fields[11], fields[12] = at, len(kept), number[names_at]
    patches = ((table[0], table[1]), (at, rows), (16, layout.pack(*fields)))
    return StripPlan(parts=tuple(parts), patches=patches, size=at + len(rows))


def _new_number(number: dict[int, int], index: int) -> int:
    if index not in number:
        raise _LeaveItError("a remaining section refers to a removed one")
    return number[index]


def _name(names: bytes, at: int) -> bytes:
    end = names.find(b"\0", at)
    if at >= len(names) or end < 0:
        raise _LeaveItError("a section has no name")
    return names[at:end]


def _read(descriptor: int, offset: int, length: int) -> bytes:
    if length > _MAX_TABLE or offset > os.fstat(descriptor).st_size:
        raise _LeaveItError("a table is too large")
    data = os.pread(descriptor, length, offset)
    if len(data) != length:
        raise _LeaveItError("it ends before the parts that its headers name")
    return data


def _copy(reading: int, writing: int, source_at: int, target_at: int, length: int) -> None:
    while length:
        data = os.pread(reading, min(_CHUNK, length), source_at)
        if not data:
            raise OSError(5, "it was truncated while it was read")
        written = 0
        while written < len(data):
            written += os.pwrite(writing, data[written:], target_at + written)
        source_at, target_at, length = source_at + len(data), target_at + len(data), length - len(data)
