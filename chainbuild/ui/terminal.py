"""A stream and what it can show: its width, whether it takes colours and more than ASCII; and safe writing.

Texts with styles are tuples of spans here, so that all that is shown can be laid out and tested without a terminal and
without rich.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TextIO

from msgspec import Struct

from chainbuild.text import inert

Style = Literal["", "bold", "dim", "good", "bad", "warn", "busy"]

ANSI: Final[Mapping[Style, str]] = {
    "": "",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "good": "\x1b[32m",
    "bad": "\x1b[1;31m",
    "warn": "\x1b[33m",
    "busy": "\x1b[36m",
}
_RESET: Final = "\x1b[0m"

# What our own words use beyond ASCII, and how it is written where the locale has nothing else.
_ASCII_FORMS: Final = str.maketrans(
    {
        "…": "...",
        "→": "->",
        "←": "<-",
        "✓": "+",
        "✗": "x",
        "↺": "=",
        "·": ".",
        "⊘": "-",
        "│": "|",
        "┌": "+",
        "└": "+",
        "─": "-",
        "▸": ">",
        "–": "-",
        "—": "-",
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "×": "x",
        "≥": ">=",
    }
)
# All control characters but those that lay a document out.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER: Final = "|/-\\"


class Span(Struct, frozen=True):
    """A piece of a line in one style. (By position: there are many of these in the layout.)"""

    text: str
    style: Style = ""


Line = tuple[Span, ...]


def plain_text(line: Line) -> str:
    """The text of a line without its styles."""
    return "".join(span.text for span in line)


def to_ascii(text: str) -> str:
    """The text where there is nothing but ASCII: our marks have a form of their own, anything else becomes `?`."""
    return text if text.isascii() else text.translate(_ASCII_FORMS).encode("ascii", "replace").decode("ascii")


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """A text stream with its abilities. Thread-safe; a reader that went away ends the output, not the run."""

    stream: TextIO
    is_terminal: bool = False
    colour: bool = False
    unicode: bool = True
    fixed_width: int | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    _gone: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def width(self) -> int | None:
        """Columns, or None where lines may be as long as they like (a pipe, a file)."""
        if self.fixed_width is not None or not self.is_terminal:
            return self.fixed_width
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except (OSError, ValueError):
            columns = shutil.get_terminal_size().columns
        return columns or 80

    def fit(self, text: str) -> str:
        """The text in letters that the stream can take."""
        if text.isascii():
            return text
        if not self.unicode:
            return to_ascii(text)
        encoding = self.stream.encoding or "utf-8"
        return text.encode(encoding, "replace").decode(encoding, "replace")

    def paint(self, line: Line) -> str:
        """The line as the stream takes it, with colours where it has them."""
        if not self.colour:
            return self.fit(inert(plain_text(line))).rstrip()
        painted = (f"{ANSI[s.style]}{inert(s.text)}{_RESET}" if s.style and s.text else inert(s.text) for s in line)
        return self.fit("".join(painted)).rstrip()

    def write(self, lines: Iterable[Line | str]) -> None:
        """Write whole lines and flush; the lines of one call stay together. A text may be several lines.

        Nothing in them can act on the terminal, wherever it comes from.
        """
        spans = (
            line
            for item in lines
            for line in ([(Span(text),) for text in item.split("\n")] if isinstance(item, str) else [item])
        )
        self.write_raw("".join(f"{self.paint(line)}\n" for line in spans))

    def write_document(self, text: str) -> None:
        """Write a document for programs (JSON, YAML, a Dockerfile) exactly.

        Only if the stream is a terminal, what could act on it is escaped as JSON and YAML escape it.
        """
        self.write_raw(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if self.is_terminal else text)

    def write_json(self, document: Mapping[str, Any], *, in_stream: bool = False) -> None:
        """Write a document for programs; `in_stream`: one line, as among the events of a run."""
        import json

        self.write_raw(json.dumps(document, indent=None if in_stream else 2) + "\n")

    def write_raw(self, text: str) -> None:
        """Write a text that is fit for the stream already, and flush."""
        if not text or self._gone.is_set():
            return
        with self._lock:
            try:
                self.stream.write(text)
                self.stream.flush()
            except BrokenPipeError:
                self._gone.set()
                _swallow_the_rest(self.stream)
            except ValueError:  # closed under us: at the end of an interpreter
                self._gone.set()


def _swallow_the_rest(stream: TextIO) -> None:
    """Point a stream whose reader went away at nothing: the interpreter flushes it once more at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
    except (OSError, ValueError):
        return


def look_at(stream: TextIO, environ: Mapping[str, str]) -> Terminal:
    """What a stream can show, from itself and the environment: NO_COLOR (https://no-color.org), TERM, the locale."""
    is_terminal = _is_terminal(stream)
    dumb = environ.get("TERM", "") in {"", "dumb", "unknown"}
    return Terminal(
        stream=stream,
        is_terminal=is_terminal,
        colour=is_terminal and not dumb and not environ.get("NO_COLOR"),
        unicode=_takes_unicode(stream, environ),
    )


def can_be_live(terminal: Terminal, environ: Mapping[str, str]) -> bool:
    """Whether a view that rewrites itself makes sense: a person at a real terminal, not a CI's log."""
    ci = environ.get("CI", "").lower() not in {"", "0", "false", "no"}
    return terminal.is_terminal and not ci and environ.get("TERM", "") not in {"", "dumb", "unknown"}


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _takes_unicode(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Python writes UTF-8 in the C locale as well (PEP 540), so the stream's encoding alone does not tell."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    if encoding != "utf8":
        return False
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    return "utf8" in locale.lower().replace("-", "")
