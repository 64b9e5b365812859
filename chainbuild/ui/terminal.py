"""An output stream: whether it has colors and characters beyond ASCII, how wide it is, and safe writing to it.

Styled text is a tuple of spans, so that all output can be laid out and tested without a terminal and without rich.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from msgspec import Struct, field

from chainbuild.patterns import regex
from chainbuild.text import inert
from chainbuild.ui.styles import Style, ansi

_RESET: Final = "\x1b[0m"

# chainbuild's own non-ASCII characters, and their replacement in locales without them.
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
# All control characters except those that lay out a document.
_CONTROL: Final = regex("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER: Final = "|/-\\"


class Span(Struct, frozen=True):
    """A piece of a line in one style. (Positional fields, because layout code creates many spans.)"""

    text: str
    style: Style = ""


Line = tuple[Span, ...]


def plain_text(line: Line) -> str:
    """Return the text of a line without styles."""
    return "".join(span.text for span in line)


def to_ascii(text: str) -> str:
    """Replace non-ASCII characters: chainbuild's own marks by ASCII forms, everything else by `?`."""
    return text if text.isascii() else text.translate(_ASCII_FORMS).encode("ascii", "replace").decode("ascii")


class Terminal(Struct, frozen=True, kw_only=True, eq=False):
    """A text stream with its abilities. Thread-safe. If the reader is gone, output is dropped and the run continues."""

    stream: TextIO
    is_terminal: bool = False
    colour: bool = False
    unicode: bool = True
    fixed_width: int | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _gone: threading.Event = field(default_factory=threading.Event)

    @property
    def width(self) -> int | None:
        """The number of columns, or None if lines may have any length (a pipe, a file)."""
        if self.fixed_width is not None or not self.is_terminal:
            return self.fixed_width
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except (OSError, ValueError):
            columns = shutil.get_terminal_size().columns
        return columns or 80

    def fit(self, text: str) -> str:
        """Return the text with characters that the stream can encode."""
        if text.isascii():
            return text
        if not self.unicode:
            return to_ascii(text)
        encoding = self.stream.encoding or "utf-8"
        return text.encode(encoding, "replace").decode(encoding, "replace")

    def paint(self, line: Line) -> str:
        """Return a line for the stream, with colors if it supports them."""
        if not self.colour:
            return self.fit(inert(plain_text(line))).rstrip()
        painted = (f"{ansi(s.style)}{inert(s.text)}{_RESET}" if s.style and s.text else inert(s.text) for s in line)
        return self.fit("".join(painted)).rstrip()

    def write(self, lines: Iterable[Line | str]) -> None:
        """Write whole lines and flush. The lines of one call stay together; a text may have several lines.

        Control characters are escaped, so foreign text cannot act on the terminal.
        """
        spans = (
            line
            for item in lines
            for line in ([(Span(text),) for text in item.split("\n")] if isinstance(item, str) else [item])
        )
        self.write_raw("".join(f"{self.paint(line)}\n" for line in spans))

    def write_document(self, text: str) -> None:
        """Write a document for programs (JSON, YAML, a Dockerfile) unchanged.

        On a terminal, control characters are escaped as in JSON and YAML.
        """
        self.write_raw(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if self.is_terminal else text)

    def write_file(self, path: Path) -> None:
        """Write the bytes of a file unchanged. The stream must not be a terminal."""
        with self._lock, path.open("rb") as file:
            try:
                self.stream.flush()
                shutil.copyfileobj(file, self.stream.buffer)
                self.stream.flush()
            except BrokenPipeError:
                self._gone.set()
                _swallow_the_rest(self.stream)

    def write_json(self, document: Mapping[str, Any], *, in_stream: bool = False) -> None:
        """Write a JSON document; `in_stream`: on one line, as among the events of a run."""
        import json

        self.write_raw(json.dumps(document, indent=None if in_stream else 2) + "\n")

    def write_raw(self, text: str) -> None:
        """Write text that is already safe for the stream, and flush."""
        if not text or self._gone.is_set():
            return
        with self._lock:
            try:
                self.stream.write(text)
                self.stream.flush()
            except BrokenPipeError:
                self._gone.set()
                _swallow_the_rest(self.stream)
            except ValueError:  # the stream was closed while the interpreter exits
                self._gone.set()


def _swallow_the_rest(stream: TextIO) -> None:
    """Redirect a stream without a reader to the null device, because the interpreter flushes it again at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
    except (OSError, ValueError):
        return


def look_at(stream: TextIO, environ: Mapping[str, str]) -> Terminal:
    """Return a stream with its abilities, from NO_COLOR (https://no-color.org), TERM and the locale."""
    is_terminal = _is_terminal(stream)
    dumb = environ.get("TERM", "") in {"", "dumb", "unknown"}
    return Terminal(
        stream=stream,
        is_terminal=is_terminal,
        colour=is_terminal and not dumb and not environ.get("NO_COLOR"),
        unicode=_takes_unicode(stream, environ),
    )


def stdout(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> Terminal:
    """Return the terminal for results (default: stdout)."""
    return look_at(stream or sys.stdout, os.environ if environ is None else environ)


def stderr(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> Terminal:
    """Return the terminal for progress and errors (default: stderr)."""
    return look_at(stream or sys.stderr, os.environ if environ is None else environ)


def can_be_live(terminal: Terminal, environ: Mapping[str, str]) -> bool:
    """Return True if a live view makes sense: an interactive terminal that is not the log of a CI job."""
    ci = environ.get("CI", "").lower() not in {"", "0", "false", "no"}
    return terminal.is_terminal and not ci and environ.get("TERM", "") not in {"", "dumb", "unknown"}


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _takes_unicode(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Check encoding and locale: Python writes UTF-8 even in the C locale (PEP 540), so the encoding is not enough."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    if encoding != "utf8":
        return False
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    return "utf8" in locale.lower().replace("-", "")
