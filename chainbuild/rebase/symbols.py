"""Read the dynamic symbols of an ELF file: what it imports and exports, with versions.

Layouts are those of the System V gABI (symbol table, hash table), and of the GNU hash table and GNU symbol versioning (LSB
core specification). Everything is located through program headers, as the dynamic loader does it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_HASH: Final = 4
_STRTAB: Final = 5
_SYMTAB: Final = 6
_STRSZ: Final = 10
_GNU_HASH: Final = 0x6FFFFEF5
_VERSYM: Final = 0x6FFFFFF0
_VERDEF: Final = 0x6FFFFFFC
_VERDEFNUM: Final = 0x6FFFFFFD
_VERNEED: Final = 0x6FFFFFFE
_VERNEEDNUM: Final = 0x6FFFFFFF
# The tags whose values are addresses of tables: the symbol table ends at the next of them, at the latest.
_ADDRESSES: Final = (3, _HASH, _STRTAB, 7, 12, 13, 17, 23, 25, 26, _GNU_HASH, _VERSYM, _VERDEF, _VERNEED)
_WEAK: Final = 2
_GLOBAL: Final = 1
_UNIQUE: Final = 10
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
    try:
        return _File(data).symbols()
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise SymbolsError(f"its dynamic symbols are damaged: {error}") from error


class _File:
    """An ELF file in memory: its byte order and class, its segments, and its dynamic section."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise SymbolsError("not an ELF file")
        self.data = data
        self.wide = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"
        self._loads: list[tuple[int, int, int]] = []
        """Address, length and offset of each loaded segment."""
        self.dynamic: dict[int, int] = {}
        header = struct.unpack_from(self.order + ("HHIQQQIHHHHHH" if self.wide else "HHIIIIIHHHHHH"), data, 16)
        table, size, count = header[4], header[8], header[9]
        where: tuple[int, int] | None = None
        for number in range(count):
            kind, offset, address, length = self._segment(table + number * size)
            if kind == _PT_LOAD:
                self._loads.append((address, length, offset))
            elif kind == _PT_DYNAMIC:
                where = (offset, length)
        if where is not None:
            self._read_dynamic(*where)

    def symbols(self) -> Symbols:
        if _SYMTAB not in self.dynamic or _STRTAB not in self.dynamic:
            return Symbols()
        versions = self._versions()
        versym = self._offset(self.dynamic[_VERSYM]) if _VERSYM in self.dynamic else None
        imports: set[Symbol] = set()
        exports: set[str] = set()
        for number, (name, bind, defined) in enumerate(self._table()):
            if not name or bind not in (_GLOBAL, _WEAK, _UNIQUE):
                continue
            index = 0
            if versym is not None:
                (index,) = struct.unpack_from(self.order + "H", self.data, versym + 2 * number)
            version = versions.get(index & 0x7FFF, "")
            if defined:
                exports.add(name)
                if version:
                    exports.add(f"{name}@{version}")
            elif bind != _WEAK:
                imports.add(Symbol(name, version))
        return Symbols(
            imports=frozenset(imports), exports=frozenset(exports), versioned=bool(self.dynamic.get(_VERDEF))
        )

    def _segment(self, at: int) -> tuple[int, int, int, int]:
        if self.wide:
            kind, _, offset, address, _, length, _, _ = struct.unpack_from(self.order + "IIQQQQQQ", self.data, at)
        else:
            kind, offset, address, _, length, _, _, _ = struct.unpack_from(self.order + "IIIIIIII", self.data, at)
        return kind, offset, address, length

    def _read_dynamic(self, offset: int, length: int) -> None:
        layout = struct.Struct(self.order + ("qQ" if self.wide else "iI"))
        end = offset + length - length % layout.size
        for tag, value in layout.iter_unpack(self.data[offset:end]):
            if tag == 0:
                return
            self.dynamic.setdefault(tag, value)

    def _offset(self, address: int) -> int:
        for start, length, offset in self._loads:
            if start <= address < start + length:
                return offset + address - start
        raise SymbolsError(f"its address 0x{address:x} is in none of its segments")

    def _count(self) -> int:
        """Return the number of symbols: from a hash table, or else as many as fit before the next table."""
        if _HASH in self.dynamic:
            # 64-bit s390 and Alpha have entries of 8 bytes, and are not distinguished here: their count is 0.
            _, count = struct.unpack_from(self.order + "II", self.data, self._offset(self.dynamic[_HASH]))
            if count:
                return int(count)
        if _GNU_HASH in self.dynamic and (count := self._count_of_gnu_hash(self._offset(self.dynamic[_GNU_HASH]))):
            return count
        start = self.dynamic[_SYMTAB]
        following = [self.dynamic[tag] for tag in _ADDRESSES if self.dynamic.get(tag, 0) > start]
        if not following:
            raise SymbolsError("its number of dynamic symbols is unknown")
        return (min(following) - start) // (24 if self.wide else 16)

    def _count_of_gnu_hash(self, at: int) -> int:
        """Return the number of symbols by a GNU hash table; 0 if it lists none, because it leaves out imported ones."""
        buckets, first, words, _ = struct.unpack_from(self.order + "IIII", self.data, at)
        start = at + 16 + words * (8 if self.wide else 4)
        last = max(struct.unpack_from(f"{self.order}{buckets}I", self.data, start), default=0)
        if last < first:
            return 0
        chain = start + 4 * buckets
        while True:
            (value,) = struct.unpack_from(self.order + "I", self.data, chain + 4 * (last - first))
            last += 1
            if value & 1:
                return int(last)

    def _table(self) -> Iterator[tuple[str, int, bool]]:
        """Yield the name and the binding of each symbol, and whether it is defined."""
        count = self._count()
        if count > _MOST:
            raise SymbolsError(f"it has {count:,} dynamic symbols")
        layout = struct.Struct(self.order + ("IBBHQQ" if self.wide else "IIIBBH"))
        start = self._offset(self.dynamic[_SYMTAB])
        names = self._offset(self.dynamic[_STRTAB])
        end = names + self.dynamic.get(_STRSZ, len(self.data) - names)
        table = self.data[start : start + count * layout.size]
        if len(table) < count * layout.size:
            raise SymbolsError("its symbol table is cut off")
        for fields in layout.iter_unpack(table):
            name, info, section = (fields[0], fields[1], fields[3]) if self.wide else (fields[0], fields[3], fields[5])
            yield self._text(names + name, end), info >> 4, section != 0

    def _text(self, at: int, end: int) -> str:
        stop = self.data.find(b"\0", at, end)
        if stop < 0:
            raise SymbolsError("a name in it is not terminated")
        return self.data[at:stop].decode("utf-8", "surrogateescape")

    def _versions(self) -> Mapping[int, str]:
        """Return the names of the versions that the file defines or needs, by their index."""
        names = self._offset(self.dynamic[_STRTAB])
        end = names + self.dynamic.get(_STRSZ, len(self.data) - names)
        versions: dict[int, str] = {}
        if _VERDEF in self.dynamic:
            at = self._offset(self.dynamic[_VERDEF])
            for _ in range(min(self.dynamic.get(_VERDEFNUM, 0), 1 << 16)):
                _, flags, index, _, _, first, following = struct.unpack_from(self.order + "HHHHIII", self.data, at)
                (name,) = struct.unpack_from(self.order + "I", self.data, at + first)
                if not flags & 1:  # the first one is the file's own name
                    versions[index] = self._text(names + name, end)
                at += following
        if _VERNEED in self.dynamic:
            at = self._offset(self.dynamic[_VERNEED])
            for _ in range(min(self.dynamic.get(_VERNEEDNUM, 0), 1 << 16)):
                _, count, _, first, following = struct.unpack_from(self.order + "HHIII", self.data, at)
                inner = at + first
                for _ in range(count):
                    _, _, index, name, step = struct.unpack_from(self.order + "IHHII", self.data, inner)
                    versions[index & 0x7FFF] = self._text(names + name, end)
                    inner += step
                at += following
        return versions
