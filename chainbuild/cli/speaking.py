"""How commands that are no runs tell what happens on the way: messages on stderr, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chainbuild.events import Event, Message
from chainbuild.session import Session, Settings, open_session


def say(event: Event) -> None:
    """Tell a message."""
    if isinstance(event, Message):
        from chainbuild.ui import stderr
        from chainbuild.wording import visible_lines

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
