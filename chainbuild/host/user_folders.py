"""chainbuild's own folders of the user, and private files in them.

The places follow the XDG Base Directory Specification 0.8: `$XDG_DATA_HOME/chainbuild` and so on. A relative value of
such a variable is ignored, as the specification requires. If `HOME` is not set, the account database gives the home
folder.

A *private* folder belongs to the user, is closed to all others (mode 0700), and is where no other user can replace
it. Its content was written by this user or by root.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainbuild.errors import NotReadyError

_NAME: Final = "chainbuild"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
LARGEST_PRIVATE_FILE: Final = 1 << 20
"""Bytes. Keys, logins and leases are far below that; more in such a file is damage."""


def home() -> Path:
    """Return the user's home folder.

    Errors: `NotReadyError` if `HOME` is not set and the account database does not know the user.
    """
    folder = os.environ.get("HOME", "")
    if folder.startswith("/"):
        return Path(folder)
    import pwd

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        raise NotReadyError(
            f"user {os.geteuid()} has no home folder: HOME is not set and there is no account of that number",
            hint="Set HOME to a folder that belongs to this user.",
        ) from None


def data_home() -> Path:
    """Return the folder for data that is kept: `$XDG_DATA_HOME/chainbuild` (default: ~/.local/share/chainbuild)."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def state_home() -> Path:
    """Return the folder for leases and logs: `$XDG_STATE_HOME/chainbuild` (default: ~/.local/state/chainbuild)."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Return the folder for data that can be recreated: `$XDG_CACHE_HOME/chainbuild` (default: ~/.cache/chainbuild)."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def config_home() -> Path:
    """Return the folder for settings: `$XDG_CONFIG_HOME/chainbuild` (default: ~/.config/chainbuild)."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def tree_file(kind: str, root: Path) -> Path:
    """Return the path of the user's file of that kind about a tree, in a folder of its kind below `state_home()`."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return state_home() / kind / f"{name}.json"


def private_folder(path: Path) -> Path:
    """Create the folder if it is missing, check that it is private, and return it.

    A folder of the user that others can read is closed to them. Missing parents are created with mode 0700.

    Errors: `NotReadyError` if the folder cannot be created, is a symbolic link or a file, belongs to another user, or
    can be changed or replaced by another user.
    """
    try:
        try:
            handle = _open_folder(path)
        except FileNotFoundError:
            # mkdir's `mode` is only for the last folder: each parent is created by itself.
            for folder in (*reversed(path.parents), path):
                if not folder.exists() or folder == path:
                    with suppress(FileExistsError):
                        folder.mkdir(mode=0o700)
            handle = _open_folder(path)
    except NotADirectoryError:
        # With O_DIRECTORY, Linux returns ENOTDIR for a symbolic link as well.
        kind = "a symbolic link" if path.is_symlink() else "not a folder"
        raise NotReadyError(f"{path} must be a folder but is {kind}", hint=f"Remove it: rm {path}") from None
    except OSError as error:
        for folder in (path, *path.parents):
            with suppress(OSError):
                # Report the nearest existing folder. Many folders rightly belong to root.
                number = folder.lstat().st_uid
                if number != 0 or folder == path or _NAME in folder.parts:
                    _check_owner(folder, number)
                break
        raise _failed("create the folder", path, error) from error
    try:
        _close_to_others(path, handle)
    finally:
        os.close(handle)
    _check_parents(path)
    return path


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that only the user can read (mode 0600): completely or, if interrupted, not at all.

    If `durable`, the data is on the disk when this returns. A symbolic link at `path` is replaced, not followed. The
    folder must be private (see `private_folder`).

    Errors: `NotReadyError`, for example if the disk is full.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(aside, flags, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        if durable:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise _failed("write", path, error) from error


def read_private(path: Path, limit: int = LARGEST_PRIVATE_FILE) -> bytes | None:
    """Return the content of a file that only the user can change; None if it does not exist.

    Never blocks: a FIFO or a device in its place is an error. `limit` is in bytes.

    Errors: `NotReadyError` if it is not a regular file, belongs to another user, can be written by others, is longer
    than the limit, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise NotReadyError(f"{path} must be a file but is a symbolic link", hint=f"Remove it: rm {path}") from None
        raise _failed("read", path, error) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise NotReadyError(f"{path} must be a regular file", hint=f"Remove it: rm {path}")
        if status.st_uid not in {os.geteuid(), 0} or status.st_mode & _WRITABLE_BY_OTHERS:
            raise NotReadyError(
                f"{path} can be changed by other users",
                hint=f"Check its content, then remove it or run: chmod 600 {path}",
            )
        if status.st_size > limit:
            raise NotReadyError(f"{path} is longer than {limit} bytes", hint=f"Remove it: rm {path}")
        data = b""
        while len(data) <= limit and (chunk := os.read(handle, 1 << 16)):
            data += chunk
    except OSError as error:
        raise _failed("read", path, error) from error
    finally:
        os.close(handle)
    return data


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return (Path(value) if value.startswith("/") else home() / default) / _NAME


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _close_to_others(path: Path, handle: int) -> None:
    status = os.fstat(handle)
    _check_owner(path, status.st_uid)
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise NotReadyError(
            f"{path} can be changed by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"Check its content, then run: chmod 700 {path}",
        )
    if status.st_mode & _OTHERS:
        try:
            os.fchmod(handle, 0o700)
        except OSError as error:
            raise _failed("close the folder to other users", path, error) from error


def _check_owner(path: Path, number: int) -> None:
    if number != os.geteuid():
        raise NotReadyError(
            f"{path} belongs to {user_name(number)}, not to {user_name(os.geteuid())}",
            hint=f"Run chainbuild as that user, set HOME to your own home folder, or run: sudo chown -R $(id -u) {path}",
        )


def _check_parents(path: Path) -> None:
    """Raise if all users can replace the folder or one of its parents."""
    for parent in Path(os.path.realpath(path)).parents:
        try:
            mode = parent.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise NotReadyError(
                f"{path} can be replaced by other users: all users can write to {parent}",
                hint=f"Run: chmod o-w {parent}",
            )


def user_name(number: int) -> str:
    """Return a user's name and number for people."""
    import pwd

    try:
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except KeyError:
        return f"uid {number}"


def _failed(doing: str, path: Path, error: OSError) -> NotReadyError:
    return NotReadyError(
        f"could not {doing}: {error.strerror or type(error).__name__}",
        where=str(path),
        hint="Check the free space and the permissions, or choose another folder with the XDG_*_HOME variables.",
    )
