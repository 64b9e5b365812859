"""Parse lists of paths and patterns in arguments of the stages.

Values are separated by commas or white space. A backslash before a comma or white space makes it part of the value;
before anything else it stays, because the value may be a shell pattern. A value that begins with `?` may match nothing;
a value that begins with `!` removes the same value that a lower option requested (`!*` removes all of them).

Shell patterns are parsed as `fnmatch` reads them; `literal` returns a pattern that matches exactly one path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ESCAPED_CHARACTER = re.compile(r"\\(.)", re.DOTALL)


def literal(path: str) -> str:
    """Return the pattern that matches only this path."""
    return "".join(f"\\{c}" if c in "*?[\\" else c for c in path)


def unescaped(part: str) -> tuple[str, bool]:
    """Return a part of a shell pattern in `fnmatch` syntax, and whether it has a wildcard; without one, its plain name."""
    if not any(sign in _ESCAPED_CHARACTER.sub("", part) for sign in "*?["):
        return _ESCAPED_CHARACTER.sub(r"\1", part), False
    return _ESCAPED_CHARACTER.sub(lambda match: f"[{match[1]}]" if match[1] in "*?[" else match[1], part), True


_WORD = re.compile(r"(?:\\.|[^\s,\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\([\s,])|(\\.)", re.DOTALL)
_SEPARATOR = re.compile(r"[\s,]")
EVERYTHING = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListWord:
    """A value of a list; `text` has neither the prefix nor the backslashes that belong to the list syntax."""

    text: str
    optional: bool = False
    taken_back: bool = False

    def __str__(self) -> str:
        """Return the value as written in a list."""
        text = _SEPARATOR.sub(lambda match: f"\\{match[0]}", self.text)
        return ("!" if self.taken_back else "?" if self.optional else "") + text


def words_in(value: str) -> tuple[ListWord, ...]:
    """Return the unique values of a list in order; of duplicates, the one that must match something counts."""
    words: dict[tuple[str, bool], ListWord] = {}
    for written in _WORD.findall(value):
        taken_back, optional = written.startswith("!"), written.startswith("?")
        text = _ESCAPED.sub(r"\1\2", written[1:] if taken_back or optional else written)
        if not text:
            continue
        earlier = words.get((text, taken_back))
        if earlier is None or (earlier.optional and not optional):
            words[text, taken_back] = ListWord(text=text, optional=optional, taken_back=taken_back)
    return tuple(words.values())


def as_list(words: Iterable[ListWord], separator: str = " ") -> str:
    """Format values as a list that `words_in` can read."""
    return separator.join(map(str, words))
