"""Match names against glob patterns in bounded time, however many wildcards a pattern has.

A pattern is a sequence of tokens, made from its own grammar (`dockerignore`, `search`). `re` matches patterns with up to
two tokens of variable length, which takes at most quadratic time. For more, all paths through the pattern are followed
at once, so that the time grows with the product of both lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec import Struct

_FEW: Final = 2


class Token(Struct, frozen=True):
    """A part of a pattern.

    `one` is a character that the regular expression `chars` (for one character) matches, `many` any number of them,
    `folders` is empty or any text without line ends up to a slash, `start` is empty and only matches at the beginning.
    """

    kind: Literal["one", "many", "folders", "start"]
    chars: str = ""

    @property
    def regex(self) -> str:
        """The token as a regular expression."""
        return {"one": self.chars, "many": f"{self.chars}*", "folders": "(?:.*/)?", "start": "^"}[self.kind]


Matcher = Callable[[str], bool]


def compile_glob(tokens: Iterable[Token]) -> Matcher:
    """Return the function that returns whether the pattern matches a whole name."""
    kept: list[Token] = []
    for token in tokens:
        if token.kind in {"one", "start"} or not kept or kept[-1] != token:
            kept.append(token)
    if sum(token.kind in {"many", "folders"} for token in kept) <= _FEW:
        match = re.compile("".join(token.regex for token in kept) + r"\Z").match
        return lambda name: match(name) is not None
    return _Automaton(kept).matches


class _Automaton:
    """A pattern as states, one bit each: one before every token, and a final one. All active states advance at once."""

    def __init__(self, tokens: list[Token]) -> None:
        self.chars: list[re.Pattern[str] | None] = []
        self.ones = self.loops = self.entries = self.starts = 0
        for token in tokens:
            bit = 1 << len(self.chars)
            if token.kind == "folders":
                # A state that may be skipped, a loop over any character, a slash.
                self.entries |= bit
                self.loops |= bit << 1
                self.ones |= bit << 2
                self.chars += [None, re.compile("."), re.compile("/")]
            elif token.kind == "start":
                self.starts |= bit
                self.chars.append(None)
            else:
                if token.kind == "one":
                    self.ones |= bit
                else:
                    self.loops |= bit
                self.chars.append(re.compile(token.chars))
        self.last = 1 << len(self.chars)
        self.accepting: dict[str, int] = {}

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches the whole name."""
        live = self.closed(1, self.starts)
        for char in name:
            accepting = self.accepting.get(char)
            if accepting is None:
                accepting = self.accepting[char] = self.states_for(char)
            live &= accepting
            live = self.closed(((live & self.ones) << 1) | (live & self.loops), 0)
            if not live:
                return False
        return bool(live & self.last)

    def closed(self, live: int, starts: int) -> int:
        """Return the active states and those that are reached from them without a character."""
        while True:
            more = live | ((live & (self.loops | self.entries | starts)) << 1) | ((live & self.entries) << 3)
            if more == live:
                return live
            live = more

    def states_for(self, char: str) -> int:
        """Return the states whose token matches the character."""
        return sum(1 << at for at, chars in enumerate(self.chars) if chars and chars.fullmatch(char))
