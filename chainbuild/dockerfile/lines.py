"""Split a Dockerfile into logical lines and read its parser directives, by the rules of BuildKit's parser.

Offsets count the characters of the whole text, decoded as UTF-8 with `surrogateescape`, and so map to bytes exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.expansion import SPACE
from chainbuild.patterns import regex

Piece = tuple[int, int]
"""The start of a part of a joined line: its offset in the joined text, and its offset in the file."""

BOM: Final = "\ufeff"
_GO_SPACE: Final = r"[\t\n\f\r ]"
_DIRECTIVE: Final = regex(
    rf"([a-zA-Z][a-zA-Z0-9]*){_GO_SPACE}*={_GO_SPACE}*([^\t\n\f\r ](?:.*[^\t\n\f\r ])?){_GO_SPACE}*"
)
_KNOWN: Final = frozenset({"syntax", "escape", "check"})
_SURROGATE: Final = regex("[\ud800-\udfff]")


class LogicalLine(Struct, frozen=True):
    """Lines joined by continuation: the text, its pieces, and the line indexes from `start` up to `end`."""

    text: str
    pieces: tuple[Piece, ...]
    start: int
    end: int


class Lines:
    """The lines of a Dockerfile's text, a cursor over them, and the escape character."""

    def __init__(self, whole: str) -> None:
        self.first = 1 if whole.startswith(BOM) else 0
        self.lines = whole[self.first :].split("\n")
        if len(self.lines) > 1 and not self.lines[-1]:
            self.lines.pop()
        self.escape = "\\"
        self.at = 0
        self._starts = [self.first]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def logical(self) -> Iterator[LogicalLine]:
        """Yield every logical line that is not empty and not a comment. The caller may move the cursor in between."""
        while self.at < len(self.lines):
            start = self.at
            text, pieces = self._joined()
            if pieces:
                yield LogicalLine(text, pieces, start, self.at)

    def _joined(self) -> tuple[str, tuple[Piece, ...]]:
        """Join continued lines; comments and empty lines between them are left out."""
        begin = self._starts[self.at]
        whole = self.lines[self.at].rstrip("\r")
        line = whole.lstrip(SPACE)
        begin += len(whole) - len(line)
        self.at += 1
        if line.startswith("#"):
            return "", ()
        line, goes_on = self._cut_continuation(line)
        if not line and not goes_on:
            return "", ()
        parts, pieces, length = [line], [(0, begin)], len(line)
        while goes_on and self.at < len(self.lines):
            begin = self._starts[self.at]
            line = self.lines[self.at].rstrip("\r")
            self.at += 1
            bare = line.lstrip(SPACE)
            if not bare or bare.startswith("#"):
                continue
            line, goes_on = self._cut_continuation(line)
            parts.append(line)
            pieces.append((length, begin))
            length += len(line)
        return "".join(parts), tuple(pieces)

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False


class Directive(Struct, frozen=True):
    """A parser directive and its line, which counts from 1."""

    name: str
    value: str
    line: int


def parser_directives(lines: list[str]) -> Iterator[Directive]:
    """Yield the directives that BuildKit's parser evaluates, including duplicates."""
    for number, line in enumerate(lines, start=1):
        result = _directive(line.rstrip("\r").lstrip(SPACE), "#", number)
        if result is None:
            return
        yield result


def frontend(lines: list[str]) -> str:
    """Return the frontend image that a Dockerfile sets by `# syntax=`, `// syntax=` or a JSON object; else `""`."""
    shebang = int(lines[0].startswith("#!"))
    for comment in ("#", "//"):
        for number, line in enumerate(lines[shebang:], start=1 + shebang):
            result = _directive(line, comment, number)
            if result is None:
                break
            if result.name == "syntax":
                return result.value.split(" ")[0]
    text = "\n".join(lines[shebang:])
    if text.lstrip(SPACE).startswith("{"):
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        if isinstance(whole, dict):
            # BuildKit before 0.20 accepts the key in any case.
            for key, value in whole.items():
                if key.lower() == "syntax" and isinstance(value, str):
                    return _SURROGATE.sub("\ufffd", value)
    return ""


def _directive(line: str, comment: str, number: int) -> Directive | None:
    if not line.startswith(comment):
        return None
    match = _DIRECTIVE.fullmatch(line[len(comment) :].lstrip(SPACE))
    if not match or match[1].lower() not in _KNOWN:
        return None
    return Directive(match[1].lower(), match[2], number)
