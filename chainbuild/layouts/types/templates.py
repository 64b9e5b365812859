"""The template language: `%(name)s` stands for a parameter, whose value may hold `%(other)s` itself.

Every other `%` is a `%`. A text that has to say `%(name)s` itself writes `%%(name)s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from chainbuild.wording import perhaps_you_meant

Value = Callable[[str], str]
_USE: Final = re.compile(r"%?%\((?P<name>[^()\s]+)\)(?P<kind>[A-Za-z]?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrong:
    """What is wrong with a text, `line` counted from 1 in it; and a way out."""

    line: int
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters with no parameters in their values any more. `broken` are those that could not be had."""

    values: Mapping[str, str]
    broken: frozenset[str] = field(default_factory=frozenset)


def resolve_parameters(given: Mapping[str, str]) -> tuple[Parameters, dict[str, Wrong]]:
    """Put parameters' values into each other's; what is wrong is told for each parameter."""
    done: dict[str, str] = {}
    wrong: dict[str, Wrong] = {}

    def value_of(name: str, path: tuple[str, ...]) -> str:
        if name in done or name in wrong:
            return done.get(name, "")
        if name in path:
            circle = " names ".join((*path[path.index(name) :], name))
            wrong[name] = Wrong(
                line=0,
                message=f"parameters name each other in a circle: {circle}",
                hint="Write one of them out.",
            )
            return ""
        text, found = _replaced(given[name], given, lambda other: value_of(other, (*path, name)))
        if name in wrong:  # it is a part of a circle, which was met further down
            return ""
        if found:
            wrong[name] = found[0]
        else:
            done[name] = text
        return text

    for name in given:
        value_of(name, ())
    _spread(given, done, wrong)
    return Parameters(values=done, broken=frozenset(given).difference(done)), wrong


def _spread(given: Mapping[str, str], done: dict[str, str], wrong: Mapping[str, Wrong]) -> None:
    """What names a broken parameter has no value either; that is told where the first one is."""
    bad = set(wrong)
    while more := {name for name in done if bad.intersection(names_in(given[name]))}:
        bad |= more
        for name in more:
            del done[name]


def render(text: str, parameters: Parameters) -> tuple[str, tuple[Wrong, ...]]:
    """The text with the parameters' values; what is wrong with it is told, each with its line."""
    known = dict(parameters.values) | dict.fromkeys(parameters.broken, "")
    rendered, found = _replaced(text, known, known.__getitem__)
    return rendered, tuple(found)


def names_in(text: str) -> tuple[str, ...]:
    """The parameters that a text uses, in order."""
    return tuple(dict.fromkeys(match["name"] for match in _uses(text)))


def _uses(text: str) -> Iterator[re.Match[str]]:
    for match in _USE.finditer(text):
        if match["kind"] == "s" and not match[0].startswith("%%"):
            yield match


def _replaced(text: str, known: Mapping[str, str], value_of: Value) -> tuple[str, list[Wrong]]:
    pieces: list[str] = []
    wrong: list[Wrong] = []
    last = 0
    for match in _USE.finditer(text):
        piece = _piece(match, text, known, value_of, wrong)
        if piece is not None:
            pieces += [text[last : match.start()], piece]
            last = match.end()
    return "".join((*pieces, text[last:])), wrong


def _piece(
    match: re.Match[str], text: str, known: Mapping[str, str], value_of: Value, wrong: list[Wrong]
) -> str | None:
    """What a use becomes; None where it stays as it is."""
    name, line = match["name"], text.count("\n", 0, match.start()) + 1
    if match[0].startswith("%%"):
        return match[0][1:]
    if match["kind"] != "s":
        if name in known:
            message = f"%({name}){match['kind']} is no use of the parameter {name}"
            wrong.append(Wrong(line=line, message=message, hint=f"Write %({name})s."))
        return None
    if name not in known:
        hint = perhaps_you_meant(name, known, lambda near: f"%({near})s")
        hint += f"Parameters here: {', '.join(sorted(known))}. " if known else ""
        hint += f"Where the text itself is meant: %%({name})s."
        wrong.append(Wrong(line=line, message=f"there is no parameter {name!r}", hint=hint))
        return ""
    return value_of(name)
