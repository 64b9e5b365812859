"""Output of commands that are not runs: messages on stderr, and the files and folders that they write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.errors import WrongUseError
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.host.folders import copy_whole, write_whole

if TYPE_CHECKING:
    from chainbuild.ui import Printer


def messages(*, json: bool = False) -> Printer:
    """Return the printer of a command's messages. It prints nothing with `--json`: stdout has only the document."""
    from chainbuild.ui import Printer

    return Printer(quiet=json)


def print_lines(*lines: str) -> None:
    """Write lines of a result to stdout. The caller escapes foreign names in them (`text.escaped`)."""
    from chainbuild.ui import stdout

    stdout().write(lines)


@contextmanager
def open_quietly(settings: Settings, *, json: bool) -> Iterator[Session]:
    """Open a session for a command that builds nothing."""
    with open_session(settings, messages(json=json).emit) as session:
        yield session


def make_folder(folder: Path) -> None:
    """Create the folder of `-o DIR`. Errors: `WrongUseError` if it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUseError(
            f"cannot create {folder}: {error.strerror}", hint="Choose another folder with -o DIR."
        ) from error


def own_folder(root: Path, *names: str) -> Path:
    """Create a folder below `.chainbuild/` of a tree. Errors: `WrongUseError` if it cannot be created."""
    from chainbuild.host.folders import make_own_folder

    try:
        return make_own_folder(root, *names)
    except OSError as error:
        raise WrongUseError(f"cannot create a folder in .chainbuild/: {error.strerror}", hint="Use -o DIR.") from error


def write_result(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Errors: `WrongUseError` if it cannot be written."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise WrongUseError(f"cannot write {path}: {error.strerror}", hint="Choose another path.") from error


def copy_result(path: Path, source: Path) -> None:
    """Copy a file to the path that the user named, whole or not at all. Errors: `WrongUseError` if it cannot be written."""
    try:
        copy_whole(source, path)
    except OSError as error:
        raise WrongUseError(f"cannot write {path}: {error.strerror}", hint="Choose another path.") from error
