"""Determine where the loaders of a root file system search: `ld.so.conf`, built-in folders, musl's path, `ld.so.cache`.

`/etc/ld.so.cache` is read, built from a tree as `ldconfig` does, and written. Its format is glibc's "new" one
(`glibc-ld.so.cache1.1`; sysdeps/generic/dl-cache.h), which every glibc since 2.2 reads: a header of 48 bytes, entries
of 24, the strings, and an extension that lists the glibc-hwcaps folders.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from dataclasses import dataclass

from chainbuild.minimize.abi import Abi, abi_of
from chainbuild.minimize.elf import EM_386, EM_AARCH64, EM_ARM, EM_X86_64, Elf, ElfReader
from chainbuild.minimize.root import FileTree, join, parent

LD_SO_CONF = "/etc/ld.so.conf"
_MAX_DEPTH = 16
_BUILT_IN = re.compile(rb"(?:/[A-Za-z0-9_./+-]{1,200}/\x00){2,8}")
_MUSL_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")


def configured_folders(tree: FileTree, conf: str = LD_SO_CONF) -> tuple[str, ...]:
    """Return the folders that `ldconfig` takes from `conf` and the files it includes, in order (ldconfig(8)).

    The text is as written in the files; folders may be missing or duplicate.
    """
    folders: list[str] = []
    _parse(tree, conf, folders, set(), 0)
    return tuple(folders)


def _parse(tree: FileTree, conf: str, folders: list[str], seen: set[str], depth: int) -> None:
    where = tree.resolve(conf)
    content = None if where is None or where in seen or depth > _MAX_DEPTH else tree.read(where)
    if where is None or content is None:
        return
    seen.add(where)
    for raw in content.decode("utf-8", "surrogateescape").split("\n"):
        line = raw.partition("#")[0].strip()
        words = line.split()
        if not words:
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                full = pattern if pattern.startswith("/") else join(parent(conf), pattern)
                for included in tree.glob(full):
                    _parse(tree, included, folders, seen, depth + 1)
        elif words[0] != "hwcap" and line.startswith("/"):
            folders.append(line.partition("=")[0].rstrip())


def built_in_folders(tree: FileTree, loader: str, abi: Abi) -> tuple[str, ...]:
    """Return the folders that glibc's loader at `loader` searches last, read from the loader's own bytes.

    The list is compiled into it as a run of strings that end in a slash (`system_dirs` in elf/dl-load.c). If it cannot
    be recognised, the usual folders of the interface are returned.
    """
    content = tree.read(loader)
    for match in _BUILT_IN.finditer(content or b""):
        folders = [part.decode("ascii").rstrip("/") for part in match[0].split(b"\0") if part]
        if any(folder.startswith("/usr/lib") for folder in folders):
            return tuple(folders)
    usual = [f"/lib/{abi.triplet}", f"/usr/lib/{abi.triplet}"] if abi.triplet else []
    if abi.bits == 64:
        usual += ["/lib64", "/usr/lib64"]
    return (*usual, "/lib", "/usr/lib")


def ldconfig_built_in(tree: FileTree, loader_folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders that `ldconfig` adds after those of its configuration."""
    wide = tuple(folder for folder in loader_folders if folder.endswith("/lib64") and tree.is_folder(folder))
    return (*wide, "/lib", "/usr/lib")


def musl_folders(tree: FileTree, abi: Abi) -> tuple[str, ...]:
    """Return musl's search path: `/etc/ld-musl-ARCH.path` (newlines or colons), or the built-in one."""
    content = tree.read(musl_path_file(abi))
    if content is None:
        return _MUSL_DEFAULT
    return tuple(part for part in re.split("[\n:]", content.decode("utf-8", "surrogateescape")) if part)


def musl_path_file(abi: Abi) -> str:
    """Return the path of the file from which musl's loader reads its search path."""
    return f"/etc/ld-musl-{abi.musl}.path"


LD_SO_CACHE = "/etc/ld.so.cache"
HWCAPS = "glibc-hwcaps"

_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_MAGIC = b"ld.so-1.7.0"
_HEADER, _ENTRY = 48, 24
_EXTENSION_MAGIC, _TAG_GENERATOR, _TAG_HWCAPS = 0xEAA42174, 0, 1
_HWCAP_EXTENSION = 1 << 62
_LITTLE, _BIG = 2, 3
_MAX_CACHE = 64 << 20
_GENERATOR = b"chainbuild minimize"


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheEntry:
    """A line of `ldconfig -p`: a library name, its flags, its path, and its glibc-hwcaps folder, if any."""

    name: str
    flags: int
    path: str
    hwcaps: str = ""


def read_cache(tree: FileTree) -> tuple[CacheEntry, ...] | None:
    """Return the entries of the tree's cache in file order; None if there is none that glibc would accept."""
    content = tree.read(LD_SO_CACHE, _MAX_CACHE)
    if content is None:
        return None
    try:
        return parse_cache(content)
    except (struct.error, ValueError, IndexError):
        return None


def parse_cache(content: bytes) -> tuple[CacheEntry, ...] | None:
    """Return the entries of a cache file; None if it has another format. Errors: ValueError if it is damaged."""
    start = 0
    if content.startswith(_OLD_MAGIC):
        # The compatible format: an old header (11 bytes padded to 12, a count), 12 bytes per entry, aligned to 8.
        start = (16 + 12 * _count(content, "<", 12) + 7) // 8 * 8
        if not content.startswith(_MAGIC, start):
            start = (16 + 12 * _count(content, ">", 12) + 7) // 8 * 8
    if not content.startswith(_MAGIC, start):
        return None
    data = content[start:]
    order = ">" if data[28] & 3 == _BIG else "<"
    count = _count(data, order, 20)
    if data[28] & 3 == 0 and _HEADER + count * _ENTRY > len(data):
        order, count = ">", _count(data, ">", 20)
    if _HEADER + count * _ENTRY > len(data):
        raise ValueError("it has more entries than fit into the file")
    (extension,) = struct.unpack_from(order + "I", data, 32)
    hwcaps = _hwcaps_names(data, order, extension) if extension else []
    entries = []
    for flags, key, value, _, hwcap in struct.iter_unpack(order + "iIIIQ", data[_HEADER : _HEADER + count * _ENTRY]):
        folder = ""
        if hwcap & _HWCAP_EXTENSION:
            folder = hwcaps[hwcap & 0xFFFFFFFF]
        entries.append(CacheEntry(name=_text(data, key), flags=flags, path=_text(data, value), hwcaps=folder))
    return tuple(entries)


def _count(content: bytes, order: str, at: int) -> int:
    (count,) = struct.unpack_from(order + "I", content, at)
    return int(count)


def _text(data: bytes, at: int) -> str:
    end = data.index(b"\0", at)
    return os.fsdecode(data[at:end])


def _hwcaps_names(data: bytes, order: str, at: int) -> list[str]:
    magic, count = struct.unpack_from(order + "II", data, at)
    if magic != _EXTENSION_MAGIC:
        return []
    for index in range(min(count, 64)):
        tag, _, offset, size = struct.unpack_from(order + "IIII", data, at + 8 + 16 * index)
        if tag == _TAG_HWCAPS:
            words = struct.unpack_from(f"{order}{size // 4}I", data, offset)
            return [_text(data, word) for word in words]
    return []


def build_cache(tree: FileTree, reader: ElfReader, abi: Abi, loader_folders: tuple[str, ...]) -> tuple[CacheEntry, ...]:
    """Return the entries that the `ldconfig` of `abi` would write for `tree`, in file order.

    Unlike `ldconfig` this creates no links: a library whose file name differs from its SONAME is listed only under
    names that exist.
    """
    entries: list[CacheEntry] = []
    seen: set[str] = set()
    rows = _Source(tree, reader, abi)
    for folder in (*configured_folders(tree), *ldconfig_built_in(tree, loader_folders)):
        plain = "/" + "/".join(part for part in folder.split("/") if part)
        where = tree.resolve(plain)
        if where is None or where in seen or not tree.is_folder(where):
            continue
        seen.add(where)
        entries.extend(_folder_entries(rows, plain, where, ""))
        for level in tree.names(join(where, HWCAPS)):
            below = tree.resolve(join(join(where, HWCAPS), level))
            if below is not None and tree.is_folder(below):
                entries.extend(_folder_entries(rows, join(join(plain, HWCAPS), level), below, level))
    return tuple(sorted(entries, key=functools.cmp_to_key(_compare)))


@dataclass(frozen=True, slots=True)
class _Source:
    tree: FileTree
    reader: ElfReader
    abi: Abi

    def flags(self, target: str) -> tuple[Elf, int] | None:
        """Return the library at `target` and its flags; None if `ldconfig` skips it."""
        elf = self.reader.read(self.tree, target)
        if not isinstance(elf, Elf) or not _same_ldconfig(elf, self.abi):
            return None
        flags = cache_flags(elf)
        return (elf, flags) if flags else None


def _folder_entries(source: _Source, plain: str, where: str, hwcaps: str) -> list[CacheEntry]:
    """Return the entries of a folder; for each name a file wins over a link and a higher version over a lower one."""
    tree = source.tree
    best: dict[str, tuple[bool, str, int]] = {}
    for name in tree.names(where):
        if not _is_library_name(name):
            continue
        node = tree.entry(join(where, name))
        target = tree.resolve(join(where, name))
        library = source.flags(target) if node is not None and target is not None else None
        if node is None or library is None:
            continue
        elf, flags = library
        soname = elf.soname or name
        link = node.kind == "link" and (name == soname or (name.endswith(".so") and soname.startswith(name)))
        if link:
            soname = name
        current = best.get(soname)
        if current is None or (not link and current[0]) or (link == current[0] and compare_names(current[1], name) < 0):
            best[soname] = (link, name, flags)
    entries = []
    for soname, (_, name, flags) in best.items():
        file = name if hwcaps else soname
        if file != name and tree.resolve(join(where, file)) is None:
            continue
        entries.append(CacheEntry(name=soname, flags=flags, path=join(plain, file), hwcaps=hwcaps))
    return entries


def _is_library_name(name: str) -> bool:
    if name.endswith("-gdb.py") or ".#prelink#" in name:
        return False
    if name.startswith(("lib", "ld-")) and ".so" in name:
        return True
    return name.startswith(("ld.so.", "ld64.so."))


def cache_flags(elf: Elf) -> int:
    """Return the flags that the machine's `ldconfig` gives to a library; 0 if it skips it."""
    if not elf.dynamic:
        return 0
    abi = abi_of(elf)
    if elf.machine == EM_ARM and not elf.flags & 0x600:
        return 0x0003
    return abi.cache_flags


def _same_ldconfig(elf: Elf, abi: Abi) -> bool:
    """Return whether the `ldconfig` of an image of `abi` lists `elf` (x86 and ARM list their 32-bit libraries too)."""
    family = {EM_386: EM_X86_64, EM_ARM: EM_AARCH64}
    return family.get(elf.machine, elf.machine) == family.get(abi.machine, abi.machine)


def compare_names(first: str, second: str) -> int:
    """Compare library names in glibc's order (`_dl_cache_libcmp`): runs of digits compare as numbers."""
    a, b = os.fsencode(first), os.fsencode(second)
    i = j = 0
    while i < len(a):
        if a[i : i + 1].isdigit():
            if not b[j : j + 1].isdigit():
                return 1
            end_a, end_b = i, j
            while a[end_a : end_a + 1].isdigit():
                end_a += 1
            while b[end_b : end_b + 1].isdigit():
                end_b += 1
            number_a, number_b = int(a[i:end_a]), int(b[j:end_b])
            if number_a != number_b:
                return 1 if number_a > number_b else -1
            i, j = end_a, end_b
        elif b[j : j + 1].isdigit():
            return -1
        elif a[i : i + 1] != b[j : j + 1]:
            return 1 if a[i : i + 1] > b[j : j + 1] else -1
        else:
            i, j = i + 1, j + 1
    return -1 if j < len(b) else 0


def _compare(first: CacheEntry, second: CacheEntry) -> int:
    """Compare entries in file order, on which the loader's binary search relies: names, then flags, both descending."""
    order = compare_names(second.name, first.name)
    if order:
        return order
    if first.flags != second.flags:
        return second.flags - first.flags
    if bool(first.hwcaps) != bool(second.hwcaps):
        return -1 if first.hwcaps else 1
    return (first.hwcaps > second.hwcaps) - (first.hwcaps < second.hwcaps)


def encode_cache(entries: tuple[CacheEntry, ...], *, little: bool) -> bytes:
    """Encode `entries`, which are in the order of `build_cache`, as a cache file."""
    order = "<" if little else ">"
    levels = sorted({entry.hwcaps for entry in entries if entry.hwcaps})
    strings: dict[bytes, int] = {}
    at = _HEADER + _ENTRY * len(entries)
    size = 0

    def offset(text: str) -> int:
        nonlocal size
        raw = os.fsencode(text)
        if raw not in strings:
            strings[raw] = at + size
            size += len(raw) + 1
        return strings[raw]

    rows: list[bytes] = []
    for entry in entries:
        hwcap = _HWCAP_EXTENSION | levels.index(entry.hwcaps) if entry.hwcaps else 0
        rows.append(struct.pack(order + "iIIIQ", entry.flags, offset(entry.name), offset(entry.path), 0, hwcap))
    level_offsets = [offset(level) for level in levels]
    pool = b"".join(raw + b"\0" for raw in strings)
    padding = -(at + len(pool)) % 4
    extension_at = at + len(pool) + padding
    header = _MAGIC + struct.pack(
        order + "IIB3xI12x", len(entries), len(pool), _LITTLE if little else _BIG, extension_at
    )
    return header + b"".join(rows) + pool + b"\0" * padding + _extension(order, extension_at, level_offsets)


def _extension(order: str, at: int, levels: list[int]) -> bytes:
    """Encode the extension section: the folders' names (aligned to 4, so they come first) and the generator."""
    words = struct.pack(f"{order}{len(levels)}I", *levels)
    count = 2 if levels else 1
    body = at + 8 + 16 * count
    rows = [struct.pack(order + "IIII", _TAG_GENERATOR, 0, body + len(words), len(_GENERATOR))]
    if levels:
        rows.append(struct.pack(order + "IIII", _TAG_HWCAPS, 0, body, len(words)))
    return struct.pack(order + "II", _EXTENSION_MAGIC, count) + b"".join(rows) + words + _GENERATOR
