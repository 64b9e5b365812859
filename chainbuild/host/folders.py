"""Temporary folders that are removed after a crash, and safe writing to a tree's `.chainbuild` folder.

The next process removes temporary folders that a killed process left behind.

A tree may come with its own `.chainbuild`, with symbolic links where chainbuild writes logs, journals and reports. None of
them is followed: a file is written inside the tree or not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "chainbuild-scratch-"
# A folder has this name until its creator holds the lock, so that it is not taken for an abandoned one.
_UNBORN: Final = ".chainbuild-scratch-"
_UNBORN_SECONDS: Final = 60.0


@contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """Create an empty folder for the duration of the `with` block; first remove those of killed processes.

    It is in `place`, or in the default temporary folder. The creator holds a kernel lock (flock) on it: a folder without a
    lock belonged to a process that has died.
    """
    import tempfile

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
    """Remove a tree, including folders without permissions (from an unpacked image, for example)."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        for path, folders, _ in os.walk(folder):
            for below in (Path(path, name) for name in folders):
                # Do not follow links: their targets are not ours.
                with suppress(OSError):
                    if not below.is_symlink():
                        below.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def is_scratch(path: Path) -> bool:
    """Return whether a path is in a temporary folder of a process, which removes it."""
    return any(part.startswith(_PREFIX) for part in path.parts)


def sweep(place: Path) -> None:
    """Remove the scratch folders of this user's dead processes. Folders that cannot be removed are left."""
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
    with _replacing(path) as file:
        file.write(content)


def copy_whole(source: Path, path: Path) -> None:
    """Copy the content of a file to a path as `write_whole` writes it. Errors: `OSError`."""
    with _replacing(path) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` at the end of the `with` block, unless that raises."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        # An existing file or link of that name is an error.
        with aside.open("xb") as file:
            yield file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


OWN_FOLDER: Final = ".chainbuild"


def make_own_folder(root: Path, *names: str, mode: int = 0o777) -> Path:
    """Create a folder below `.chainbuild/` of a tree and return it; `mode` applies to the last one only.

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
        if index == 1:
            hide_from_git(folder)
    return folder


def hide_from_git(folder: Path) -> None:
    """Write a `.gitignore` into a folder with chainbuild's own data, unless it has one or cannot be written to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError), os.fdopen(os.open(folder / ".gitignore", flags, 0o666), "w") as file:
        file.write("# Written by chainbuild: nothing in this folder belongs into a repository.\n*\n")


def open_own_file(path: Path, *, append: bool = False, newline: str | None = None) -> IO[str]:
    """Open a text file for line-buffered writing; it is created or must be a regular file.

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
