"""A folder of a tree, read without following links, and with limits."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from chainbuild.patterns import regex

_CHUNK: Final = 1 << 20


_CLONE: Final = 0x40049409
"""ioctl_ficlone(2): a copy-on-write copy."""


class UntrustedFolder:
    """An open folder of the tree; paths below it cannot be redirected by links."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def open(cls, path: Path | str, at: int | None = None) -> UntrustedFolder | None:
        """Open a real folder; None if it is missing, a link or anything else."""
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            return cls(os.open(path, flags, dir_fd=at))
        except OSError:
            return None

    def close(self) -> None:
        os.close(self._handle)

    @contextmanager
    def below(self, *names: str) -> Iterator[UntrustedFolder | None]:
        """Open a folder some levels down."""
        opened: list[UntrustedFolder] = []
        try:
            folder: UntrustedFolder | None = self
            for name in names:
                folder = folder.child(name) if folder else None
                if folder:
                    opened.append(folder)
            yield folder
        finally:
            for folder in opened:
                folder.close()

    def child(self, name: str) -> UntrustedFolder | None:
        """Open a folder in this one; None as in `open`."""
        return UntrustedFolder.open(name, self._handle)

    def names(self) -> Iterator[str]:
        """Yield the names in the folder, as they come."""
        with os.scandir(self._handle) as entries:
            for entry in entries:
                yield entry.name

    def length(self, name: str) -> int | None:
        """Return the length of a regular file in bytes; None if it is none."""
        with suppress(OSError):
            status = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return status.st_size
        return None

    def link(self, name: str) -> str:
        """Return the digest (hexadecimal) in a file that holds one; nothing if it holds anything else."""
        handle = self._regular(name)
        if handle is None:
            return ""
        with os.fdopen(handle, "rb") as file:
            algorithm, _, digest = file.read(LINK_BYTES + 1).decode("ascii", "replace").partition(":")
        return digest if algorithm == "sha256" and HEX.fullmatch(digest) else ""

    def copy(self, name: str, target: Path) -> str:
        """Copy a regular file to a place of the user's own and return the SHA-256 of the copy. Errors: `OSError`."""
        handle = self._regular(name)
        if handle is None:
            return ""
        running = hashlib.sha256()
        with os.fdopen(handle, "rb") as file, target.open("x+b") as copy:
            try:
                fcntl.ioctl(copy.fileno(), _CLONE, file.fileno())
            except OSError:
                while chunk := file.read(_CHUNK):
                    running.update(chunk)
                    copy.write(chunk)
            else:
                # Hash the copy: the original may change in the meantime.
                while chunk := copy.read(_CHUNK):
                    running.update(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        return running.hexdigest()

    def _regular(self, name: str) -> int | None:
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._handle)
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        return None


LINK_BYTES: Final = 71


HEX: Final = regex(r"[0-9a-f]{64}")
