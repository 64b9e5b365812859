"""JSON with `#` and `//` comments, and the line on which each key of the outermost object stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

# A string is taken whole, so that what looks like a comment in it stays.
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|//[^\n]*|[{}\[\]]')
_COLON: Final = re.compile(r"\s*:")


class CommentedObject(Struct, frozen=True, kw_only=True):
    """An object: its values, the line of each key, and the keys that stand twice. Numbers are texts, as written."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    twice: tuple[tuple[str, int], ...] = ()


class CommentedJsonError(ValueError):
    """What is wrong with the text, and on which line (from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_object(raw: bytes) -> CommentedObject:
    """Read an object. Errors: `CommentedJsonError`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommentedJsonError("it is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1) from error
    plain = without_comments(text)
    try:
        # Numbers stay what was written: 2.10 is not 2.1.
        values = json.loads(plain, parse_float=str, parse_int=str)
    except json.JSONDecodeError as error:
        raise CommentedJsonError(f"not JSON: {error.msg[0].lower()}{error.msg[1:]}", error.lineno) from error
    except RecursionError as error:
        raise CommentedJsonError("not JSON: it is nested too deeply", 1) from error
    if not isinstance(values, dict):
        raise CommentedJsonError("it is not a JSON object", 1)
    places = _keys(plain)
    lines: dict[str, int] = {}
    twice: list[tuple[str, int]] = []
    for key, line in places:
        if key in lines:
            twice.append((key, line))
        lines[key] = line
    return CommentedObject(values=values, lines=lines, twice=tuple(twice))


def without_comments(text: str) -> str:
    """The text with blanks for its comments: every line and column stays where it was."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return " " * len(token) if token[0] in "#/" else token

    return _TOKEN.sub(blank, text)


def _keys(text: str) -> list[tuple[str, int]]:
    """The keys of the outermost object, with their lines."""
    found: list[tuple[str, int]] = []
    depth, line, last = 0, 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", last, match.start())
        last = match.start()
        word = match[0]
        if word in {"{", "["}:
            depth += 1
        elif word in {"}", "]"}:
            depth -= 1
        elif depth == 1 and _COLON.match(text, match.end()):
            found.append((str(json.loads(word)), line))
    return found
