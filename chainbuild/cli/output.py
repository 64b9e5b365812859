"""What commands print that are not runs: messages on stderr, and files that they write.

How commands that are no runs tell what happens on the way: messages on stderr, nothing else.

Files and folders that a command is asked to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainbuild.errors import WrongUseError
from chainbuild.events import Event, Message
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.host.folders import write_whole


def say(event: Event) -> None:
    """Tell a message."""
    if isinstance(event, Message):
        from chainbuild.text import visible_lines
        from chainbuild.ui import stderr

        level = "" if event.level == "info" else f"{event.level}: "
        first, *rest = visible_lines(event.text)
        stderr().write([f"{level}{first}", *rest])


def print_lines(*lines: str) -> None:
    """Write lines of a result to stdout. Names from elsewhere in them are escaped by the caller (`wording.escaped`)."""
    from chainbuild.ui import stdout

    stdout().write(lines)


def say_nothing(_event: Event) -> None:
    """For `--json`: stdout has the document, and stderr nothing."""


@contextmanager
def open_quietly(settings: Settings, *, json: bool) -> Iterator[Session]:
    """A session for a command that only looks."""
    with open_session(settings, say_nothing if json else say) as session:
        yield session


def make_folder(folder: Path) -> None:
    """Make the folder of `-o DIR`. Errors: `WrongUseError` where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUseError(f"{folder} cannot be made: {error.strerror}", hint="Name another with -o DIR.") from error


def own_folder(root: Path, *names: str) -> Path:
    """Make a folder below `.chainbuild/` of a tree. Errors: `WrongUseError` if it cannot be made there."""
    from chainbuild.host.folders import make_own_folder

    try:
        return make_own_folder(root, *names)
    except OSError as error:
        raise WrongUseError(f"cannot create a folder in .chainbuild/: {error.strerror}", hint="Use -o DIR.") from error


def write_result(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Errors: `WrongUseError` where the place does not take it."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise WrongUseError(f"{path} cannot be written: {error.strerror}", hint="Name another place.") from error
