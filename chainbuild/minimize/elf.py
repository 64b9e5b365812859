"""Read from an ELF file what the dynamic loader reads, and nothing else (see `elf_file`).

A malformed file gives an `ElfProblem`; nothing here raises because of a file's content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from chainbuild.minimize.elf_file import (
    DT_VERDEF,
    ET_EXEC,
    PT_INTERP,
    PT_LOAD,
    Dynamic,
    FileWindow,
    LyingFileError,
    Names,
    Segment,
    each_defined_version,
    each_need,
    read_dynamic,
    read_header,
)
from chainbuild.minimize.root import FileTree, Node, open_file

MAGIC = b"\x7fELF"
EM_386, EM_PPC64, EM_S390, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV, EM_LOONGARCH = 3, 21, 22, 40, 62, 183, 243, 258

DF_1_NODEFLIB = 0x800
DF_1_PIE = 0x08000000

_PF_X, _PF_W = 1, 2
_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH, _DT_FLAGS_1 = 1, 14, 15, 29, 0x6FFFFFFB
_VER_FLG_WEAK = 2

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


def read_elf(descriptor: int) -> Elf | ElfProblem | None:
    """Read the ELF file open at `descriptor`; return None if it is not an ELF file."""
    try:
        size = os.fstat(descriptor).st_size
        window = FileWindow(descriptor, size)
        if size < len(MAGIC) or window.read(0, 4) != MAGIC:
            return None
        return _read(window)
    except LyingFileError as error:
        return ElfProblem(message=str(error))
    except OSError as error:
        return ElfProblem(message=f"it cannot be read: {error.strerror}")


def _read(window: FileWindow) -> Elf:
    header = read_header(window)
    elf = Elf(
        bits=64 if header.wide else 32,
        little=header.little,
        machine=header.machine,
        kind=header.kind,
        flags=header.flags,
        data_at=_data(header.segments),
    )
    if (interpreter := header.segment(PT_INTERP)) is not None:
        elf = replace(elf, interpreter=window.string(interpreter.offset, interpreter.offset + interpreter.length))
    dynamic = read_dynamic(window, header)
    return elf if dynamic is None else _with_dynamic(elf, dynamic)


def _data(segments: Iterable[Segment]) -> tuple[tuple[int, int], ...]:
    """Return the segments that may hold strings.

    Linkers that separate code give read-only data a segment of its own; others mix the two.
    """
    loads = [segment for segment in segments if segment.kind == PT_LOAD and segment.length]
    apart = any(segment.flags & (_PF_X | _PF_W) == 0 for segment in loads)
    ranges: dict[tuple[int, int], None] = {}
    for segment in loads[:_MAX_DATA]:
        if not (apart and segment.flags & _PF_X):
            ranges[segment.offset, segment.length] = None
    return tuple(ranges)


def _with_dynamic(elf: Elf, dynamic: Dynamic) -> Elf:
    single, entries, names = dynamic.single, dynamic.entries, dynamic.names
    if names is None:
        if any(tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH) for tag, _ in entries):
            raise LyingFileError("it names libraries but has no table of names")
        names = Names(dynamic.window, dynamic.order, 0, 0)

    def optional(tag: int) -> str | None:
        return names.at(single[tag]) if tag in single else None

    return replace(
        elf,
        dynamic=True,
        needed=tuple(names.at(value) for tag, value in entries if tag == _DT_NEEDED),
        soname=optional(_DT_SONAME),
        rpath=optional(_DT_RPATH),
        runpath=optional(_DT_RUNPATH),
        flags_1=single.get(_DT_FLAGS_1, 0),
        version_needs=_version_needs(dynamic, names),
        versions=_versions(dynamic, names),
        names_at=(names.start, names.end),
    )


def _version_needs(dynamic: Dynamic, names: Names) -> tuple[VersionNeed, ...]:
    return tuple(
        VersionNeed(
            library=library,
            versions=tuple(name for _, _, name in versions),
            weak=tuple(name for flags, _, name in versions if flags & _VER_FLG_WEAK),
        )
        for library, versions in each_need(dynamic, names)
    )


def _versions(dynamic: Dynamic, names: Names) -> tuple[str, ...] | None:
    return tuple(name for _, name in each_defined_version(dynamic, names)) if DT_VERDEF in dynamic.single else None


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
