"""Lists of paths and patterns in arguments of the stages.

Shell patterns of paths: their parts as `fnmatch` reads them, and paths as patterns of themselves alone.

Lists in the arguments of the stages: words that are separated by commas or white space.

A backslash before a comma or white space makes it a part of the word; before anything else it stays, for the shell
pattern that the word may be. A word that begins with ``?`` may name nothing; one that begins with ``!`` takes back the
word of that text which a lower option asked for (``!*``: all of them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ESCAPED_CHARACTER = re.compile(r"\\(.)", re.DOTALL)


def literal(path: str) -> str:
    """The pattern that means this path and no other."""
    return "".join(f"\\{c}" if c in "*?[\\" else c for c in path)


def unescaped(part: str) -> tuple[str, bool]:
    """One part of a shell pattern as `fnmatch` reads it, and whether it has a wildcard; without one, the plain name."""
    if not any(sign in _ESCAPED_CHARACTER.sub("", part) for sign in "*?["):
        return _ESCAPED_CHARACTER.sub(r"\1", part), False
    return _ESCAPED_CHARACTER.sub(lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], part), True


_WORD = re.compile(r"(?:\\.|[^\s,\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\([\s,])|(\\.)", re.DOTALL)
_SEPARATOR = re.compile(r"[\s,]")
EVERYTHING = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListWord:
    """A word of a list; ``text`` is without its prefix and without the backslashes that are the list's own."""

    text: str
    optional: bool = False
    taken_back: bool = False

    def __str__(self) -> str:
        """The word as it stands in a list."""
        text = _SEPARATOR.sub(lambda found: f"\\{found[0]}", self.text)
        return ("!" if self.taken_back else "?" if self.optional else "") + text


def words_in(value: str) -> tuple[ListWord, ...]:
    """The words of a list, in order, each once; of words of the same text the one that must name something counts."""
    found: dict[tuple[str, bool], ListWord] = {}
    for written in _WORD.findall(value):
        taken_back, optional = written.startswith("!"), written.startswith("?")
        text = _ESCAPED.sub(r"\1\2", written[1:] if taken_back or optional else written)
        if not text:
            continue
        known = found.get((text, taken_back))
        if known is None or (known.optional and not optional):
            found[text, taken_back] = ListWord(text=text, optional=optional, taken_back=taken_back)
    return tuple(found.values())


def as_list(words: Iterable[ListWord], separator: str = " ") -> str:
    """A list that `words_in` reads back."""
    return separator.join(map(str, words))
