"""Minimal ELF files, built byte by byte: enough for a dynamic loader to read, but not to run."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

AMD64, ARM64, I386, ARM = 62, 183, 3, 40
REL, EXEC, DYN, CORE = 1, 2, 3, 4
PIE = 0x08000000
BASE = 0x10000
"""Address of the only segment. It differs from the file offset, so that readers have to translate."""

LOADER = "/lib64/ld-linux-x86-64.so.2"


def build_elf(
    *,
    bits: int = 64,
    little: bool = True,
    machine: int = AMD64,
    kind: int = DYN,
    flags: int = 0,
    needed: Sequence[str] = (),
    soname: str | None = None,
    rpath: str | None = None,
    runpath: str | None = None,
    interpreter: str | None = None,
    needs: Mapping[str, Sequence[str]] | None = None,
    weak: Sequence[str] = (),
    defines: Sequence[str] | None = None,
    flags_1: int = 0,
    calls: Sequence[str] = (),
    imports: Sequence[str] = (),
    exports: Sequence[str] = (),
    tail: bytes = b"",
) -> bytes:
    order = "<" if little else ">"
    wide = bits == 64
    header_size, segment_size = (64, 56) if wide else (52, 32)
    segments = 3 if interpreter is not None else 2
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        at = len(strings)
        strings.extend(os.fsencode(value) + b"\0")
        return at

    for function in calls:
        text(function)
    entries = [(1, text(name)) for name in needed]
    for tag, value in ((14, soname), (15, rpath), (29, runpath)):
        if value is not None:
            entries.append((tag, text(value)))
    verneed = b"".join(_verneeds(order, needs or {}, weak, text))
    verdef = b"".join(_verdefs(order, defines, text)) if defines is not None else b""
    symbols, hashes, versions = (
        _symbols(order, wide, imports, exports, defines, text) if imports or exports else (b"",) * 3
    )
    body = header_size + segments * segment_size
    program = os.fsencode(interpreter) + b"\0" if interpreter is not None else b""
    at_strings = body + len(program)
    at_needs = (at_strings + len(strings) + 7) // 8 * 8
    at_defines = at_needs + len(verneed)
    at_symbols = (at_defines + len(verdef) + 7) // 8 * 8
    at_hashes, at_versions = at_symbols + len(symbols), at_symbols + len(symbols) + len(hashes)
    at_dynamic = (at_versions + len(versions) + 7) // 8 * 8
    if symbols:
        entries += [(6, BASE + at_symbols), (4, BASE + at_hashes), (0x6FFFFFF0, BASE + at_versions)]
    entries += [(5, BASE + at_strings), (10, len(strings))]
    if flags_1:
        entries.append((0x6FFFFFFB, flags_1))
    if needs:
        entries += [(0x6FFFFFFE, BASE + at_needs), (0x6FFFFFFF, len(needs))]
    if defines is not None:
        entries += [(0x6FFFFFFC, BASE + at_defines), (0x6FFFFFFD, len(defines) + 1)]
    entries.append((0, 0))
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), tag, value) for tag, value in entries)
    size = at_dynamic + len(dynamic) + len(tail)
    table = [(1, 0, size), (2, at_dynamic, len(dynamic))]
    if interpreter is not None:
        table.append((3, body, len(program)))
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if little else 2, 1)) + bytes(9)
    head = struct.pack(
        order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"),
        kind,
        machine,
        1,
        0,
        header_size,
        0,
        flags,
        header_size,
        segment_size,
        segments,
        0,
        0,
        0,
    )
    data = bytearray(ident + head)
    for what, offset, length in table:
        if wide:
            data += struct.pack(order + "IIQQQQQQ", what, 4, offset, BASE + offset, 0, length, length, 8)
        else:
            data += struct.pack(order + "IIIIIIII", what, offset, BASE + offset, 0, length, length, 4, 4)
    data += program + strings
    data += bytes(at_needs - len(data)) + verneed + verdef
    data += bytes(at_symbols - len(data)) + symbols + hashes + versions
    data += bytes(at_dynamic - len(data)) + dynamic
    return bytes(data) + tail


def _verneeds(order, needs, weak, text):
    left = len(needs)
    for library, versions in needs.items():
        left -= 1
        size = 16 + 16 * len(versions)
        yield struct.pack(order + "HHIII", 1, len(versions), text(library), 16, size if left else 0)
        for index, version in enumerate(versions):
            last = index == len(versions) - 1
            yield struct.pack(order + "IHHII", 0, 2 if version in weak else 0, 2, text(version), 0 if last else 16)


def _symbols(order, wide, imports, exports, defines, text):
    """Return the symbol table, a hash table that only counts it, and the versions: `name@VERSION` has that version."""
    rows = [(0, 0, 0, 0)]
    for name in (*imports, *exports):
        plain, _, version = name.partition("@")
        index = 1
        if version:
            index = (defines or ()).index(version) + 2 if name in exports else 2
        bind = 2 if plain.startswith("weak_") else 1
        rows.append((text(plain), bind << 4, 1 if name in exports else 0, index))
    layout = order + ("IBBHQQ" if wide else "IIIBBH")
    table = b"".join(
        struct.pack(layout, name, info, 0, section, 0, 0) if wide else struct.pack(layout, name, 0, 0, info, 0, section)
        for name, info, section, _ in rows
    )
    hashes = struct.pack(order + "II", 0, len(rows))
    return table, hashes, b"".join(struct.pack(order + "H", index) for *_, index in rows)


def _verdefs(order, defines, text):
    for index, version in enumerate(("the base", *defines)):
        last = index == len(defines)
        yield struct.pack(order + "HHHHIII", 1, 0 if index else 1, index + 1, 1, 0, 20, 0 if last else 28)
        yield struct.pack(order + "II", text(version), 0)


def library(soname: str, *needed: str, **more) -> bytes:
    return build_elf(soname=soname, needed=needed, **more)


def program(*needed: str, **more) -> bytes:
    more.setdefault("interpreter", LOADER)
    return build_elf(needed=needed, flags_1=PIE, **more)


LIBC = library("libc.so.6", defines=("GLIBC_2.2.5", "GLIBC_2.36"), interpreter=LOADER)
LD_SO = library("ld-linux-x86-64.so.2", defines=("GLIBC_2.2.5",))
GLIBC = {
    "/lib64/ld-linux-x86-64.so.2": LD_SO,
    "/lib/x86_64-linux-gnu/libc.so.6": LIBC,
    "/etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
    "/etc/ld.so.conf.d/libc.conf": b"# libc default configuration\n/usr/local/lib\n",
    "/etc/ld.so.conf.d/x86_64-linux-gnu.conf": b"/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n",
}
"""A root file system with a C library and nothing else."""


def plant(folder: Path, tree: Mapping[str, bytes | str | None]) -> str:
    """Create ``tree`` in ``folder``: bytes are a file, text is a link target, None is a folder."""
    for path, what in tree.items():
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            target.mkdir(exist_ok=True)
        elif isinstance(what, bytes):
            target.write_bytes(what)
        else:
            target.symlink_to(what)
    folder.mkdir(exist_ok=True)
    return str(folder)


def with_sections(elf: bytes, *, debug: int = 5000, stay: bytes = b"made by hand", tail: bytes = b"") -> bytes:
    """Return ``elf`` (64 bits, little-endian) with sections in linker order: a mapped one, then ``.comment``, then
    ``.symtab`` with ``.strtab``, ``debug`` bytes of ``.debug_info`` and the names; ``tail`` follows the table."""
    rows = [(b"", 0, 0, 0, b"", 0, 0), (b".all", 1, 2, 64, elf[64:], 0, 1)]
    rows.append((b".comment", 1, 0, 0, stay, 0, 1))
    rows.append((b".symtab", 2, 0, 0, bytes(240), 4, 8))
    rows.append((b".strtab", 3, 0, 0, b"\0some_function\0", 0, 1))
    rows.append((b".debug_info", 1, 0, 0, b"D" * debug, 0, 1))
    rows.append((b".rela.debug_info", 4, 0, 0, b"R" * 24, 3, 8))
    names = b"\0" + b"".join(row[0] + b"\0" for row in rows[1:]) + b".shstrtab\0"
    rows.append((b".shstrtab", 3, 0, 0, names, 0, 1))
    data = bytearray(elf)
    table = b""
    for name, kind, flags, at, content, link, align in rows:
        where = at
        if kind and not flags & 2:
            data += bytes(-len(data) % align)
            where = len(data)
            data += content
        info = 5 if kind == 4 else 0
        at_name = names.index(b"\0" + name + b"\0") + 1 if name else 0
        table += struct.pack("<IIQQQQIIQQ", at_name, kind, flags, 0, where, len(content), link, info, align, 0)
    data += bytes(-len(data) % 8)
    head = struct.pack("<Q", len(data))
    data += table + tail
    data[40:48] = head
    data[58:64] = struct.pack("<HHH", 64, len(rows), len(rows) - 1)
    return bytes(data)
