"""One entry of a build context: what counts of it, and the digest over many."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Kind = Literal["file", "dir", "symlink", "special"]
FileKey = tuple[int, int, int, int, int]
"""(dev, inode, size, mtime_ns, ctime_ns): the same key, the same content, within one run."""

UNREADABLE: Final = "unreadable"
_SMALL: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextFile:
    """One entry of a context.

    `path` is relative to the root (bytes that are not UTF-8 as `surrogateescape`), `mode` the permission bits with
    setuid, setgid and sticky, `digest` the sha256 of a file's content in hex, `target` a symbolic link's text or what
    kind of special file it is, `attributes` the sha256 of the extended attributes, `""` where there are none.
    `changed` is the time of its last change in the file system (ctime) in nanoseconds, which is no part of what it is.
    """

    path: str
    kind: Kind
    mode: int
    digest: str = ""
    target: str = ""
    attributes: str = ""
    changed: int = field(default=0, compare=False)


def sent_digest(root: Path, files: Iterable[tuple[str, ContextFile]]) -> str:
    """The sha256 (hex) over files by name as they are in the file system now, with the times of their last changes."""
    rows = sorted([name, each.kind, each.mode, each.digest, each.target, each.changed] for name, each in files)
    return hashlib.sha256(json.dumps([os.fsdecode(root), rows], ensure_ascii=True).encode("ascii")).hexdigest()


def digest_of(files: Iterable[ContextFile]) -> str:
    """The sha256 (hex) over files in canonical form; their order does not matter."""
    rows = sorted([each.path, each.kind, each.mode, each.digest, each.target, each.attributes] for each in files)
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode("ascii")).hexdigest()


class ContentDigests:
    """The digests of file contents that this run has taken, for all contexts."""

    def __init__(self) -> None:
        self._known: dict[FileKey, str] = {}

    def of(self, path: str, found: os.stat_result) -> str:
        """The sha256 of a file's content, in hex. Errors: `OSError`."""
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(key)
        if known is None:
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - plain texts are faster
                if found.st_size > _SMALL:
                    known = hashlib.file_digest(stream, "sha256").hexdigest()
                else:
                    known = hashlib.sha256(stream.readall()).hexdigest()
            self._known[key] = known
        return known


def special_kind(found: os.stat_result) -> str:
    """What a special file is. BuildKit makes pipes and devices anew, and an empty file of a socket."""
    kind = stat.filemode(found.st_mode)[0]
    if kind in "bc":
        return f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return kind


def attributes_of(path: str) -> str:
    """The sha256 of the extended attributes that BuildKit's content checksum takes; `""` where there are none."""
    if not hasattr(os, "listxattr"):
        return ""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        rows = [
            [name, os.getxattr(path, name, follow_symlinks=False).hex()]
            for name in sorted(names)
            if name == "security.capability" or not name.startswith(("security.", "system."))
        ]
    except OSError:
        return ""  # a file system without them
    return hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest() if rows else ""
