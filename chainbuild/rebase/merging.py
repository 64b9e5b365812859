"""Three-way merges of files that several packages or users write to: by paragraph, by name, by line. No I/O.

Each merge gets the bytes of the old base, the new base and the step, and returns those of the result. An entry that the base
and the step changed in different ways is a conflict.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from chainbuild.patterns import regex
from chainbuild.rebase.entries import Entries, merged_entries
from chainbuild.rebase.scripts_tar import merge_scripts

Merge = Callable[[bytes, bytes, bytes], bytes]


_BLANK: Final = regex(rb"\n[ \t]*\n+")


def paragraphs(data: bytes, *keys: bytes) -> Entries:
    """Return the paragraphs of a control file (deb-control(5); apk's `installed` has the same form), by the values of fields.

    A repeated paragraph gets a name of its own, so that nothing is lost.
    """
    entries: dict[str, bytes] = {}
    for text in _BLANK.split(data.strip(b"\n")):
        if not text.strip():
            continue
        fields = dict(
            line.split(b":", 1) for line in text.split(b"\n") if b":" in line and line[:1] not in (b" ", b"\t")
        )
        name = " ".join(fields[key].strip().decode("utf-8", "surrogateescape") for key in keys if key in fields)
        while name in entries:
            name += "+"
        entries[name] = text
    return entries


def _merge_paragraphs(*keys: bytes) -> Merge:
    def merge(old: bytes, new: bytes, mine: bytes) -> bytes:
        def describe(name: str) -> str:
            return f"package {name.partition(' ')[0]}" if keys[0] in (b"Package", b"P") else name

        before, after, own = (paragraphs(data, *keys) for data in (old, new, mine))
        entries = merged_entries(before, after, own, describe)
        return b"".join(text.strip(b"\n") + b"\n\n" for text in entries.values())

    return merge


def named_lines(data: bytes) -> Entries:
    """Return the lines of a file such as passwd(5) by their first field; other lines by their text."""
    entries: dict[str, bytes] = {}
    for line in data.split(b"\n"):
        if line:
            name = line.partition(b":")[0].decode("utf-8", "surrogateescape")
            while name in entries:
                name += "+"
            entries[name] = line
    return entries


def _merge_named_lines(old: bytes, new: bytes, mine: bytes) -> bytes:
    entries = merged_entries(named_lines(old), named_lines(new), named_lines(mine), lambda name: f"entry {name}")
    return b"".join(line + b"\n" for line in entries.values())


def _merge_groups_of_lines(count: int) -> Merge:
    """Merge a file of records of some lines each, which are unordered and have no key (dpkg's `diversions` has three)."""

    def records(data: bytes) -> Entries:
        lines = data.split(b"\n")[: -1 if data.endswith(b"\n") else None]
        groups = [b"\n".join(lines[at : at + count]) for at in range(0, len(lines), count)]
        return {group.decode("utf-8", "surrogateescape"): group for group in groups if group}

    def merge(old: bytes, new: bytes, mine: bytes) -> bytes:
        return b"".join(line + b"\n" for line in merged_entries(records(old), records(new), records(mine)).values())

    return merge


_RULES: Final[tuple[tuple[re.Pattern[str], Merge], ...]] = (
    (regex(r"/var/lib/dpkg/status"), _merge_paragraphs(b"Package", b"Architecture")),
    (regex(r"/var/lib/apt/extended_states"), _merge_paragraphs(b"Package", b"Architecture")),
    (regex(r"/var/cache/debconf/[^/]*\.dat"), _merge_paragraphs(b"Name")),
    (regex(r"/(usr/)?lib/apk/db/installed"), _merge_paragraphs(b"P")),
    (regex(r"/(usr/)?lib/apk/db/scripts\.tar(\.gz)?"), merge_scripts),
    (regex(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)"), _merge_named_lines),
    (regex(r"/var/lib/dpkg/diversions"), _merge_groups_of_lines(3)),
    (
        regex(
            r"/etc/shells|/etc/apk/world|/(usr/)?lib/apk/db/triggers|/var/lib/dpkg/(statoverride|triggers/(File|Unincorp))"
        ),
        _merge_groups_of_lines(1),
    ),
)


def merge_for(path: str) -> Merge | None:
    """Return the merge of the file at a path; None if the file is not one of those that can be merged."""
    return next((merge for pattern, merge in _RULES if pattern.fullmatch(path)), None)
