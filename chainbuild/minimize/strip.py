"""Takes debug information and symbol tables out of ELF programs and libraries of any machine, without tools for it.

What a process maps is copied byte for byte and keeps its offset; only the ELF header's word about the section table,
and what lies behind everything that is mapped, is new. Left as they are: objects and archives, files whose sections
or segments do not lie as linkers lay them, and files with something of their own behind the ELF part (self-extracting
programs, AppImages). A stripped file that a loader would read otherwise than the original is thrown away.
"""

# Paths here are strings of this machine, which may hold bytes that are no text
# ruff: noqa: PTH108

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from chainbuild.minimize.elf import ET_DYN, ET_EXEC, MAGIC, read_elf
from chainbuild.minimize.root import open_file

_SHT_NULL, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL, _SHT_GROUP = 0, 2, 3, 4, 8, 9, 17
_SHT_SYMTAB_SHNDX = 18
_SHF_ALLOC, _SHF_INFO_LINK = 2, 0x40
_DEBUG_NAMES = (b".debug", b".zdebug", b".gnu.debuglto_", b".gnu_debugaltlink", b".stab", b".line", b".gdb_index")
_MAX_SECTIONS = 0xFF00
_MAX_TABLE = 16 << 20
_CHUNK = 1 << 20


class _LeaveItError(Exception):
    """Inside this module only: why a file stays as it is."""


@dataclass(slots=True)
class _Section:
    """One section header; ``index`` is its number in the original."""

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
    """How the stripped file is made: parts copied from the original, and bytes put over the result afterwards.

    ``parts`` are (offset there, offset here, length); ``size`` is the size of the result.
    """

    parts: tuple[tuple[int, int, int], ...]
    patches: tuple[tuple[int, bytes], ...]
    size: int


def strip_file(source: str, target: str) -> bool:
    """Writes ``source`` stripped to the new file ``target``, mode 600; False, and no file, where it stays as it is.

    OSError when reading or writing fails.
    """
    reading = open_file(source)
    try:
        plan = plan_for(reading)
        if plan is None:
            return False
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for there, here, length in plan.parts:
                _copy(reading, writing, there, here, length)
            for here, data in plan.patches:
                os.pwrite(writing, data, here)
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
    """How the file open at ``descriptor`` is stripped; None when it has nothing to give or stays as it is."""
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
    reach = max([one.end for one in sections] + [shoff + shentsize * shnum])
    if reach < status.st_size:
        raise _LeaveItError("something of its own lies behind it")
    if reach > status.st_size:
        raise _LeaveItError("it ends before what its headers name")
    mapped_end = _mapped_end(descriptor, order, wide, (phoff, phentsize, phnum), sections, layout.size + 16)
    kept = _kept(sections, shstrndx)
    if len(kept) == len(sections):
        return None
    parts, table = _arranged(kept, mapped_end, shstrndx)
    if table[0] + len(kept) * section.size + len(table[1]) >= status.st_size:
        return None  # nothing is won: what is mapped lies behind what could go
    return _finished(parts, table, kept, (section, layout, head, shstrndx))


def _mapped_end(
    descriptor: int, order: str, wide: bool, table: tuple[int, int, int], sections: list[_Section], header: int
) -> int:
    """The first byte behind everything that program headers name and that mapped sections hold."""
    phoff, phentsize, phnum = table
    entry = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if phentsize != entry.size or not phnum:
        raise _LeaveItError("its program headers are odd")
    end = max(header, phoff + phentsize * phnum)
    for row in entry.iter_unpack(_read(descriptor, phoff, phentsize * phnum)):
        offset, length = (row[2], row[5]) if wide else (row[1], row[4])
        if length:
            end = max(end, offset + length)
    end = max([end] + [one.end for one in sections if one.mapped])
    if end > os.fstat(descriptor).st_size:
        raise _LeaveItError("it ends before what its headers name")
    return end


def _kept(sections: list[_Section], names_at: int) -> list[_Section]:
    """The sections that stay; those that go must come behind every mapped one, whose numbers symbols hold."""
    gone = {
        one.index
        for one in sections
        if not one.mapped
        and one.index != names_at
        and (one.kind in (_SHT_SYMTAB, _SHT_SYMTAB_SHNDX) or one.name.startswith(_DEBUG_NAMES))
    }
    tables = {one.fields[6] for one in sections if one.index in gone and one.kind == _SHT_SYMTAB}
    still = {one.fields[6] for one in sections if one.index not in gone}
    for index in tables - still - {names_at}:
        if index < len(sections) and sections[index].kind == _SHT_STRTAB and not sections[index].mapped:
            gone.add(index)
    gone |= {  # what relocates, or is about, something that goes
        one.index
        for one in sections
        if not one.mapped and one.kind in (_SHT_REL, _SHT_RELA) and gone & {one.fields[6], one.fields[7]}
    }
    kept = [one for one in sections if one.index not in gone]
    if gone and min(gone) < max([one.index for one in sections if one.mapped], default=0):
        raise _LeaveItError("its sections are in no usual order")
    if any(one.kind == _SHT_GROUP for one in kept) or any(one.fields[6] in gone for one in kept):
        raise _LeaveItError("a section that would stay is about one that would go")
    return kept


def _arranged(
    kept: list[_Section], mapped_end: int, names_at: int
) -> tuple[list[tuple[int, int, int]], tuple[int, bytes]]:
    """Lays what is not mapped behind what is; gives the parts, and where the names' table begins and what it is."""
    parts = [(0, 0, mapped_end)]
    at = mapped_end
    for one in kept:
        if one.mapped or one.index == names_at or one.kind in (_SHT_NULL, _SHT_NOBITS) or one.end <= mapped_end:
            continue
        if one.fields[4] < mapped_end:
            raise _LeaveItError("a section is mapped in part")
        align = one.fields[8] or 1
        if align & (align - 1) or align > 4096:
            raise _LeaveItError("its alignment is odd")
        at = -(-at // align) * align
        parts.append((one.fields[4], at, one.fields[5]))
        one.fields[4] = at
        at += one.fields[5]
    pool = bytearray(b"\0")
    for one in kept:
        one.fields[0] = 0
        if one.name:
            one.fields[0] = len(pool)
            pool += one.name + b"\0"
    names = next(one for one in kept if one.index == names_at)
    if names.mapped:
        raise _LeaveItError("the names of its sections are mapped")
    names.fields[4], names.fields[5] = at, len(pool)
    return parts, (at, bytes(pool))


def _finished(
    parts: list[tuple[int, int, int]],
    table: tuple[int, bytes],
    kept: list[_Section],
    formats: tuple[struct.Struct, struct.Struct, bytes, int],
) -> StripPlan:
    section, layout, head, names_at = formats
    number = {one.index: position for position, one in enumerate(kept)}
    for one in kept:
        if one.fields[6]:
            one.fields[6] = _renumbered(number, one.fields[6])
        if one.fields[7] and (one.fields[2] & _SHF_INFO_LINK or one.kind in (_SHT_REL, _SHT_RELA)):
            one.fields[7] = _renumbered(number, one.fields[7])
    at = -(-(table[0] + len(table[1])) // 8) * 8
    rows = b"".join(section.pack(*one.fields) for one in kept)
    fields = list(layout.unpack_from(head, 16))
    fields[5], fields[11], fields[12] = at, len(kept), number[names_at]
    patches = ((table[0], table[1]), (at, rows), (16, layout.pack(*fields)))
    return StripPlan(parts=tuple(parts), patches=patches, size=at + len(rows))


def _renumbered(number: dict[int, int], index: int) -> int:
    if index not in number:
        raise _LeaveItError("a section that would stay is about one that would go")
    return number[index]


def _name(names: bytes, at: int) -> bytes:
    end = names.find(b"\0", at)
    if at >= len(names) or end < 0:
        raise _LeaveItError("a section has no name")
    return names[at:end]


def _read(descriptor: int, offset: int, length: int) -> bytes:
    if length > _MAX_TABLE or offset > os.fstat(descriptor).st_size:
        raise _LeaveItError("a table is larger than can be believed")
    data = os.pread(descriptor, length, offset)
    if len(data) != length:
        raise _LeaveItError("it ends before what its headers name")
    return data


def _copy(reading: int, writing: int, there: int, here: int, length: int) -> None:
    while length:
        data = os.pread(reading, min(_CHUNK, length), there)
        if not data:
            raise OSError(5, "it became shorter while it was read")
        done = 0
        while done < len(data):
            done += os.pwrite(writing, data[done:], here + done)
        there, here, length = there + len(data), here + len(data), length - len(data)
