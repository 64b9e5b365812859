"""Messages for people: the label, color and stream of each level, and what `--json` does with them. The only place.

| output | information, notes, warnings | errors (see `failures`) |
| --- | --- | --- |
| a run | lines on stderr, above the live view if there is one | lines on stderr |
| a run with `--json` | `message` events on stdout | one JSON object on stdout |
| another command | lines on stderr | lines on stderr |
| another command with `--json` | none | one JSON object on stdout |

`--plain` changes only the view of a run. Colors depend on the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chainbuild.events import Event, Level, Message, label
from chainbuild.text import visible_lines
from chainbuild.ui.styles import Style
from chainbuild.ui.terminal import Line, Span, Terminal, stderr

_STYLES: Final[Mapping[Level, Style]] = {"info": "", "note": "", "warning": "warn", "error": "bad"}
_INDENT: Final = "    "
_ERROR_INDENT: Final = "  "
"""The further lines of an error are aligned with its place, its findings and its log. Its hint is indented more."""


def message_lines(level: Level, text: str) -> list[Line]:
    """Return the lines of a message: the label and the first line, then the other lines, indented."""
    first, *rest = visible_lines(text)
    indent = _ERROR_INDENT if level == "error" else _INDENT
    head = (Span(first),) if level == "info" else (Span(label(level), _STYLES[level]), Span(first))
    return [head, *((Span(f"{indent}{line}"),) for line in rest)]


def hint_lines(hint: str) -> list[Line]:
    """Return the lines of the hint below an error; none if it is empty."""
    return [(Span(f"{_INDENT}{line}", "busy"),) for line in visible_lines(hint)] if hint else []


class Printer:
    """Prints messages on stderr (or `err`). `quiet`: print nothing, as with `--json`."""

    def __init__(self, *, quiet: bool = False, err: Terminal | None = None) -> None:
        self._quiet = quiet
        self._err = err

    def emit(self, event: Event) -> None:
        """Print the event if it is a message."""
        if isinstance(event, Message):
            self._print(event.level, event.text)

    def info(self, *texts: str) -> None:
        """Print messages without a label."""
        self._print("info", *texts)

    def note(self, *texts: str) -> None:
        """Print notes."""
        self._print("note", *texts)

    def warn(self, *texts: str) -> None:
        """Print warnings."""
        self._print("warning", *texts)

    def _print(self, level: Level, *texts: str) -> None:
        if texts and not self._quiet:
            (self._err or stderr()).write([line for text in texts for line in message_lines(level, text)])
