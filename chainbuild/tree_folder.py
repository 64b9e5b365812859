"""`.chainbuild/` of a tree: what a run writes there, written so that a tree cannot lead it elsewhere.

A tree may bring a `.chainbuild` of its own, with symbolic links where chainbuild writes logs, journals and reports. No
folder and no file of it is followed: what is written ends in the tree, or is not written.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

OWN_FOLDER: Final = ".chainbuild"


def make_own_folder(root: Path, *names: str, mode: int = 0o777) -> Path:
    """Create a folder below `.chainbuild/` of a tree and return it; `mode` is for the last one only.

    Errors: `OSError`, also if one of the folders is a symbolic link.
    """
    folder = root
    parts = (OWN_FOLDER, *names)
    for index, name in enumerate(parts, 1):
        folder /= name
        with suppress(FileExistsError):
            folder.mkdir(mode=mode if index == len(parts) else 0o777)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            what = "a symbolic link, which is not followed" if folder.is_symlink() else "not a folder"
            raise OSError(errno.ENOTDIR, f"{folder} is {what}")
    return folder


def open_own_file(path: Path, *, append: bool = False, newline: str | None = None) -> IO[str]:
    """Open a text file for writing, a line at a time. It is created, or it is a regular file.

    Errors: `OSError`, also if it is a symbolic link or a FIFO.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags | (os.O_APPEND if append else os.O_TRUNC), 0o666)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, f"{path} is not a regular file")
        return os.fdopen(
            handle, "a" if append else "w", 1, encoding="utf-8", errors="backslashreplace", newline=newline
        )
    except BaseException:
        os.close(handle)
        raise


def read_own_file(path: Path, limit: int) -> bytes:
    """Return a regular file's content. Errors: `OSError`, also if it is anything else or longer than `limit` bytes."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{path} is not a regular file")
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"{path} is longer than {limit} bytes")
        return file.read()
