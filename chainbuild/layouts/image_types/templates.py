"""The template language: `%(name)s` is replaced with a parameter, whose value may contain `%(other)s`.

Every other `%` is literal. Write `%%(name)s` for a literal `%(name)s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant

Value = Callable[[str], str]
_MOST_WRONG: Final = 50
_MOST_NAMED: Final = 20
_LONGEST_NAME: Final = 64
_USE: Final = regex(r"%?%\((?P<name>[^()\s]+)\)(?P<kind>[A-Za-z]?)")


class Wrong(Struct, frozen=True, kw_only=True):
    """A problem of a text, with its line (from 1) and a hint."""

    line: int
    message: str
    hint: str


class Parameters(Struct, frozen=True, kw_only=True):
    """Parameters whose values are fully expanded. `broken` are those that could not be expanded."""

    values: Mapping[str, str]
    broken: frozenset[str] = field(default_factory=frozenset)


def resolve_parameters(given: Mapping[str, str]) -> tuple[Parameters, dict[str, Wrong]]:
    """Expand the values of parameters in each other; return also the problem of each invalid parameter.

    Parameters that use each other several times multiply, so the total size and the depth are limited.
    """
    done: dict[str, str] = {}
    wrong: dict[str, Wrong] = {}
    left = limits.TEMPLATE.value

    def value_of(name: str, path: tuple[str, ...]) -> str:
        nonlocal left
        if name in done or name in wrong:
            return done.get(name, "")
        if name in path:
            cycle = " uses ".join((*path[path.index(name) :], name))
            wrong[name] = Wrong(
                line=0,
                message=f"parameters use each other in a cycle: {cycle}",
                hint="Replace one of them with its value.",
            )
            return ""
        if len(path) >= limits.TEMPLATE_DEPTH.value:
            wrong[name] = Wrong(
                line=0,
                message=f"parameter {name!r} is nested too deeply: it exceeds the"
                f" limit on {limits.TEMPLATE_DEPTH.name}, {limits.TEMPLATE_DEPTH.shown}",
                hint="Use fewer levels of parameters.",
            )
            return ""
        text, result = _replaced(given[name], given, lambda other: value_of(other, (*path, name)), left)
        if name in wrong:  # part of a cycle that was found in the recursion
            return ""
        if result:
            wrong[name] = result[0]
        else:
            done[name] = text
            left -= len(text)
        return text

    for name in given:
        value_of(name, ())
    _spread(given, done, wrong)
    return Parameters(values=done, broken=frozenset(given).difference(done)), wrong


def _spread(values: Mapping[str, str], done: dict[str, str], wrong: Mapping[str, Wrong]) -> None:
    """Remove the parameters that use a broken one. Only the broken parameter itself is reported."""
    used_by: dict[str, list[str]] = {}
    for name in done:
        for other in names_in(values[name]):
            used_by.setdefault(other, []).append(name)
    todo = list(wrong)
    while todo:
        todo += [name for name in used_by.get(todo.pop(), ()) if done.pop(name, None) is not None]


def render(text: str, parameters: Parameters) -> tuple[str, tuple[Wrong, ...]]:
    """Return the text with the parameters' values, and its problems with their lines."""
    values = dict(parameters.values) | dict.fromkeys(parameters.broken, "")
    rendered, result = _replaced(text, values, values.__getitem__, limits.TEMPLATE.value)
    return rendered, tuple(result)


def names_in(text: str) -> tuple[str, ...]:
    """Return the parameters that a text uses, in order."""
    return tuple(dict.fromkeys(match["name"] for match in _uses(text)))


def _uses(text: str) -> Iterator[re.Match[str]]:
    for match in _USE.finditer(text):
        if match["kind"] == "s" and not match[0].startswith("%%"):
            yield match


def _replaced(text: str, values: Mapping[str, str], value_of: Value, most: int) -> tuple[str, list[Wrong]]:
    """Return the text with its uses replaced, up to `most` characters, and a limited number of problems."""
    pieces: list[str] = []
    wrong: list[Wrong] = []
    last = length = 0
    for match in _USE.finditer(text):
        piece = _piece(match, text, values, value_of, wrong)
        if piece is not None:
            pieces += [text[last : match.start()], piece]
            length += match.start() - last + len(piece)
            last = match.end()
        if length > most or len(wrong) >= _MOST_WRONG:
            break
    if length + len(text) - last > most:
        message = f"it expands to more than the limit on {limits.TEMPLATE.name} allows, {limits.TEMPLATE.shown}"
        hint = "Parameters that use each other several times multiply. Replace one of them with its value."
        return "", [*wrong, Wrong(line=_line(text, last), message=message, hint=hint)]
    return "".join((*pieces, text[last:])), wrong


def _piece(
    match: re.Match[str], text: str, values: Mapping[str, str], value_of: Value, wrong: list[Wrong]
) -> str | None:
    """Return the replacement of a use; None if it stays as it is."""
    name = match["name"]
    if match[0].startswith("%%"):
        return match[0][1:]
    if match["kind"] != "s":
        if name in values:
            message = f"invalid use of the parameter {name}: %({name}){match['kind']}"
            wrong.append(Wrong(line=_line(text, match.start()), message=message, hint=f"Write %({name})s."))
        return None
    if name not in values:
        hint = perhaps_you_meant(name[:_LONGEST_NAME], values, lambda near: f"%({near})s")
        hint += f"Parameters: {', '.join(sorted(values)[:_MOST_NAMED])}. " if values else ""
        hint += f"For the literal text, write %%({name})s."
        wrong.append(Wrong(line=_line(text, match.start()), message=f"no such parameter: {name!r}", hint=hint))
        return ""
    return value_of(name)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
