"""Read the dynamic symbols of an ELF file: what it imports and exports, with versions.

Layouts are those of the System V gABI (symbol table, hash table), and of the GNU hash table and GNU symbol versioning (LSB
core specification). The rest of the file is read by `minimize.elf_file`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.minimize.elf import MAGIC
from chainbuild.minimize.elf_file import (
    DT_STRTAB,
    DT_VERDEF,
    Dynamic,
    FileWindow,
    LyingFileError,
    Names,
    each_defined_version,
    each_need,
    read_dynamic,
    read_header,
)

_HASH: Final = 4
_SYMTAB: Final = 6
_GNU_HASH: Final = 0x6FFFFEF5
_VERSYM: Final = 0x6FFFFFF0
_VERNEED: Final = 0x6FFFFFFE
# The tags whose values are addresses of tables: the symbol table ends at the next of them, at the latest.
_ADDRESSES: Final = (3, _HASH, DT_STRTAB, 7, 12, 13, 17, 23, 25, 26, _GNU_HASH, _VERSYM, DT_VERDEF, _VERNEED)
_WEAK: Final = 2
_GLOBAL: Final = 1
_UNIQUE: Final = 10
_INDEX: Final = 0x7FFF
"""The bits of an entry of the table of versions that are an index; the other one says that the version is hidden."""
_MOST: Final = 5_000_000
"""More symbols than any library has."""


class SymbolsError(ValueError):
    """The symbols of a file cannot be read."""


class Symbol(Struct, frozen=True, order=True):
    """An imported symbol: its name, and the version that it needs; empty if it needs none."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


class Symbols(Struct, frozen=True, kw_only=True):
    """The dynamic symbols of a file. Weak imports are left out: a program starts without them.

    `exports` has the name of every defined symbol, and also `name@version` if it has one; `versioned`: the file defines
    versions.
    """

    imports: frozenset[Symbol] = frozenset()
    exports: frozenset[str] = frozenset()
    versioned: bool = False

    def provides(self, symbol: Symbol) -> bool:
        """Return whether the dynamic loader takes a symbol from this file (`do_lookup_x` and `check_match` of glibc)."""
        if not symbol.version or not self.versioned:
            return symbol.name in self.exports
        return str(symbol) in self.exports


def provided(symbol: Symbol, files: Iterable[Symbols]) -> bool:
    """Return whether any of the files provides a symbol."""
    return any(file.provides(symbol) for file in files)


def read_symbols(data: bytes) -> Symbols:
    """Read the dynamic symbols of an ELF file's content. Errors: `SymbolsError` if it is damaged or no ELF file."""
    window = _Content(data)
    try:
        if window.read(0, len(MAGIC)) != MAGIC:
            raise SymbolsError("not an ELF file")
        dynamic = read_dynamic(window, read_header(window))
        names = dynamic.names if dynamic else None
        if dynamic is None or names is None or _SYMTAB not in dynamic.single:
            return Symbols()
        return _Table(dynamic, names).symbols()
    except (LyingFileError, struct.error, OverflowError) as error:
        raise SymbolsError(f"its dynamic symbols are damaged: {error}") from error


class _Content(FileWindow):
    """An ELF file in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1, len(data))
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise LyingFileError(f"it ends at byte {self.size}, but its tables refer to byte {offset + length}")
        return self._data[offset : offset + length]

    def string(self, offset: int, end: int) -> str:
        stop = self._data.find(b"\0", offset, end) if offset >= 0 else -1
        if stop < 0:
            raise LyingFileError("a name in it is not terminated")
        return self._data[offset:stop].decode("utf-8", "surrogateescape")


class _Table:
    """The table of dynamic symbols of a file."""

    def __init__(self, dynamic: Dynamic, names: Names) -> None:
        self._dynamic = dynamic
        self._single = dynamic.single
        self._names = names
        self._window, self._order, self._wide = dynamic.window, dynamic.order, dynamic.wide

    def symbols(self) -> Symbols:
        count = self._count()
        if count > _MOST:
            raise SymbolsError(f"it has {count:,} dynamic symbols")
        versions, indices = self._versions(), self._indices(count)
        imports: set[Symbol] = set()
        exports: set[str] = set()
        for number, (name, bind, defined) in enumerate(self._entries(count)):
            if not name or bind not in (_GLOBAL, _WEAK, _UNIQUE):
                continue
            version = versions.get(indices[number] & _INDEX, "") if indices else ""
            if defined:
                exports.add(name)
                if version:
                    exports.add(f"{name}@{version}")
            elif bind != _WEAK:
                imports.add(Symbol(name, version))
        return Symbols(
            imports=frozenset(imports), exports=frozenset(exports), versioned=bool(self._single.get(DT_VERDEF))
        )

    def _unpacked(self, layout: str, at: int) -> tuple[int, ...]:
        layout = self._order + layout
        return struct.unpack(layout, self._window.read(at, struct.calcsize(layout)))

    def _count(self) -> int:
        """Return the number of symbols: from a hash table, or else as many as fit before the next table."""
        if _HASH in self._single:
            # 64-bit s390 and Alpha have entries of 8 bytes, and are not distinguished here: their count is 0.
            _, count = self._unpacked("II", self._dynamic.offset(self._single[_HASH]))
            if count:
                return count
        if _GNU_HASH in self._single and (count := self._count_of_gnu_hash(self._single[_GNU_HASH])):
            return count
        start = self._single[_SYMTAB]
        following = [self._single[tag] for tag in _ADDRESSES if self._single.get(tag, 0) > start]
        if not following:
            raise SymbolsError("its number of dynamic symbols is unknown")
        return (min(following) - start) // (24 if self._wide else 16)

    def _count_of_gnu_hash(self, address: int) -> int:
        """Return the number of symbols by a GNU hash table; 0 if it lists none, because it leaves out imported ones."""
        at = self._dynamic.offset(address)
        buckets, first, words, _ = self._unpacked("IIII", at)
        start = at + 16 + words * (8 if self._wide else 4)
        last = max(self._unpacked(f"{buckets}I", start), default=0)
        if last < first:
            return 0
        chain = start + 4 * buckets
        while True:
            (value,) = self._unpacked("I", chain + 4 * (last - first))
            last += 1
            if value & 1:
                return last

    def _entries(self, count: int) -> Iterator[tuple[str, int, bool]]:
        """Yield the name and the binding of each symbol, and whether it is defined."""
        layout = struct.Struct(self._order + ("IBBHQQ" if self._wide else "IIIBBH"))
        table = self._window.read(self._dynamic.offset(self._single[_SYMTAB]), count * layout.size)
        for fields in layout.iter_unpack(table):
            name, info, section = (fields[0], fields[1], fields[3]) if self._wide else (fields[0], fields[3], fields[5])
            yield self._names.at(name), info >> 4, section != 0

    def _indices(self, count: int) -> tuple[int, ...]:
        """Return the entry of each symbol in the table of versions; none if there is no such table."""
        if _VERSYM not in self._single:
            return ()
        return self._unpacked(f"{count}H", self._dynamic.offset(self._single[_VERSYM]))

    def _versions(self) -> Mapping[int, str]:
        """Return the names of the versions that the file defines or needs, by their index."""
        versions = dict(each_defined_version(self._dynamic, self._names))
        for _, needed in each_need(self._dynamic, self._names):
            versions |= {index & _INDEX: name for _, index, name in needed}
        return versions
