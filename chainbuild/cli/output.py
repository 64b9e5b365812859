"""Output of commands that are not runs: messages on stderr, and the files and folders that they write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainbuild.errors import WrongUseError
from chainbuild.events import Event, Message
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.host.folders import write_whole


def say(event: Event) -> None:
    """Print a message event to stderr."""
    if isinstance(event, Message):
        from chainbuild.text import visible_lines
        from chainbuild.ui import stderr

        level = "" if event.level == "info" else f"{event.level}: "
        first, *rest = visible_lines(event.text)
        stderr().write([f"{level}{first}", *rest])


def print_lines(*lines: str) -> None:
    """Write lines of a result to stdout. The caller escapes foreign names in them (`text.escaped`)."""
    from chainbuild.ui import stdout

    stdout().write(lines)


def say_nothing(_event: Event) -> None:
    """Ignore an event. With `--json`, stdout has only the document and stderr nothing."""


@contextmanager
def open_quietly(settings: Settings, *, json: bool) -> Iterator[Session]:
    """Open a session for a command that builds nothing."""
    with open_session(settings, say_nothing if json else say) as session:
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
