"""An entry of a build context: the properties that affect a build, and the digest of many entries."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from chainbuild.values import Compared

Kind = Literal["file", "dir", "symlink", "special"]
FileKey = tuple[int, int, int, int, int]
"""(dev, inode, size, mtime_ns, ctime_ns). Within a run, equal keys mean equal content."""

UNREADABLE: Final = "unreadable"
_SMALL: Final = 1 << 20
_LAYOUT: Final = "oci-layout://"


class ContextFile(Compared, frozen=True, kw_only=True):
    """An entry of a context.

    `path` is relative to the root (bytes that are not UTF-8 as `surrogateescape`), `mode` the permission bits with
    setuid, setgid and sticky, `digest` the sha256 of a file's content in hex, `target` the target of a symbolic link or
    the type of a special file, `attributes` the sha256 of the extended attributes, `""` if there are none. `changed` is
    the time of the last change in the file system (ctime, in nanoseconds), which does not count in comparisons.
    """

    path: str
    kind: Kind
    mode: int
    digest: str = ""
    target: str = ""
    attributes: str = ""
    changed: int = 0

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: not when it changed."""
        return self.path, self.kind, self.mode, self.digest, self.target, self.attributes


def sent_digest(root: Path, files: Iterable[tuple[str, ContextFile]]) -> str:
    """Return the sha256 (hex) of files by name, as they are in the file system now, with their ctimes."""
    rows = sorted([name, each.kind, each.mode, each.digest, each.target, each.changed] for name, each in files)
    return hashlib.sha256(json.dumps([os.fsdecode(root), rows], ensure_ascii=True).encode("ascii")).hexdigest()


def digest_of(files: Iterable[ContextFile]) -> str:
    """Return the sha256 (hex) of files in canonical form, in any order."""
    rows = sorted([each.path, each.kind, each.mode, each.digest, each.target, each.attributes] for each in files)
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode("ascii")).hexdigest()


class ContentDigests:
    """The digests of file contents that this run computed, for all contexts."""

    def __init__(self) -> None:
        self._cached: dict[FileKey, str] = {}

    def of(self, path: str, status: os.stat_result) -> str:
        """Return the sha256 of a file's content, in hex. Errors: `OSError`."""
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        cached = self._cached.get(key)
        if cached is None:
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - strings are faster
                if status.st_size > _SMALL:
                    cached = hashlib.file_digest(stream, "sha256").hexdigest()
                else:
                    cached = hashlib.sha256(stream.readall()).hexdigest()
            self._cached[key] = cached
        return cached


def special_kind(status: os.stat_result) -> str:
    """Return the type of a special file. BuildKit creates pipes and devices again, and turns a socket into an empty file."""
    kind = stat.filemode(status.st_mode)[0]
    if kind in "bc":
        return f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return kind


def attributes_of(path: str) -> str:
    """Return the sha256 of the extended attributes that BuildKit's content checksum includes; `""` if there are none."""
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
        return ""  # the file system does not support them
    return hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest() if rows else ""


def layout_digest(spec: str) -> str:
    """Return the digest of an `oci-layout://FOLDER[:TAG][@DIGEST]`, independent of its path; `spec` if it is unreadable."""
    if not spec.startswith(_LAYOUT):
        return spec
    place, _, digest = spec.removeprefix(_LAYOUT).partition("@")
    folder, _, tag = place.partition(":")
    if digest:
        return digest
    try:
        raw = (Path(folder) / "index.json").read_bytes()
    except OSError:
        return spec
    return f"sha256:{hashlib.sha256(raw).hexdigest()}:{tag or 'latest'}"
