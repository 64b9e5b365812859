"""Temporary folders that outlive no process, and the folder `.chainbuild` of a tree.

Folders for what lasts no longer than its maker: whatever ends a process, the next one sweeps up after it.

`.chainbuild/` of a tree: what a run writes there, written so that a tree cannot lead it elsewhere.

A tree may bring a `.chainbuild` of its own, with symbolic links where chainbuild writes logs, journals and reports. No
folder and no file of it is followed: what is written ends in the tree, or is not written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "chainbuild-scratch-"
# A folder has this name until its maker holds its lock, so that nobody takes it for a dead one's in between.
_UNBORN: Final = ".chainbuild-scratch-"
_UNBORN_SECONDS: Final = 60.0


@contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """An empty folder, gone after the `with`; what killed processes left of their own is removed first.

    It is in `place`, or where temporary files are. The maker holds a kernel lock (flock) on it: a folder without one is
    a dead process's.
    """
    place = place or Path(tempfile.gettempdir())
    sweep(place)
    unborn = Path(tempfile.mkdtemp(prefix=_UNBORN, dir=place))
    handle = os.open(unborn, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    folder = unborn
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = unborn.rename(place / unborn.name.replace(_UNBORN, _PREFIX))
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a tree, also the folders in it that allow nothing (of an image that was being unpacked, say)."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        for path, folders, _ in os.walk(folder):
            for below in (Path(path, name) for name in folders):
                # Never through a link: what it leads to is not ours.
                with suppress(OSError):
                    if not below.is_symlink():
                        below.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove the scratch folders of dead processes of this user. What cannot be removed stays."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)
            finally:
                os.close(handle)
    for folder in place.glob(f"{_UNBORN}*"):
        with suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _UNBORN_SECONDS:
                folder.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; a symbolic link in its place is replaced, not followed. Errors: `OSError`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        # A file of that name that is there already, or a link, is an error.
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


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
