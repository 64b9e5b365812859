"""The template language: `%(name)s` stands for a parameter, whose value may hold `%(other)s` itself.

Every other `%` is a `%`. A text that has to say `%(name)s` itself writes `%%(name)s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.text import perhaps_you_meant

Value = Callable[[str], str]
_MOST_WRONG: Final = 50
_MOST_NAMED: Final = 20
_LONGEST_NAME: Final = 64
_USE: Final = re.compile(r"%?%\((?P<name>[^()\s]+)\)(?P<kind>[A-Za-z]?)")


class Wrong(Struct, frozen=True, kw_only=True):
    """What is wrong with a text, `line` counted from 1 in it; and a way out."""

    line: int
    message: str
    hint: str


class Parameters(Struct, frozen=True, kw_only=True):
    """Parameters with no parameters in their values any more. `broken` are those that could not be had."""

    values: Mapping[str, str]
    broken: frozenset[str] = field(default_factory=frozenset)


def resolve_parameters(given: Mapping[str, str]) -> tuple[Parameters, dict[str, Wrong]]:
    """Put parameters' values into each other's; what is wrong is told for each parameter.

    Parameters that use each other several times multiply, so what they all expand to has a limit, and so has how deep they
    use each other.
    """
    done: dict[str, str] = {}
    wrong: dict[str, Wrong] = {}
    left = limits.TEMPLATE.value

    def value_of(name: str, path: tuple[str, ...]) -> str:
        nonlocal left
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
        if len(path) >= limits.TEMPLATE_DEPTH.value:
            wrong[name] = Wrong(
                line=0,
                message=f"parameter {name!r} is used by parameters that are used by others, and so on: it exceeds the"
                f" limit on {limits.TEMPLATE_DEPTH.name}, {limits.TEMPLATE_DEPTH.shown}",
                hint="Use it directly.",
            )
            return ""
        text, found = _replaced(given[name], given, lambda other: value_of(other, (*path, name)), left)
        if name in wrong:  # it is a part of a circle, which was met further down
            return ""
        if found:
            wrong[name] = found[0]
        else:
            done[name] = text
            left -= len(text)
        return text

    for name in given:
        value_of(name, ())
    _spread(given, done, wrong)
    return Parameters(values=done, broken=frozenset(given).difference(done)), wrong


def _spread(given: Mapping[str, str], done: dict[str, str], wrong: Mapping[str, Wrong]) -> None:
    """What names a broken parameter has no value either; that is told where the first one is."""
    used_by: dict[str, list[str]] = {}
    for name in done:
        for other in names_in(given[name]):
            used_by.setdefault(other, []).append(name)
    todo = list(wrong)
    while todo:
        todo += [name for name in used_by.get(todo.pop(), ()) if done.pop(name, None) is not None]


def render(text: str, parameters: Parameters) -> tuple[str, tuple[Wrong, ...]]:
    """The text with the parameters' values; what is wrong with it is told, each with its line."""
    known = dict(parameters.values) | dict.fromkeys(parameters.broken, "")
    rendered, found = _replaced(text, known, known.__getitem__, limits.TEMPLATE.value)
    return rendered, tuple(found)


def names_in(text: str) -> tuple[str, ...]:
    """The parameters that a text uses, in order."""
    return tuple(dict.fromkeys(match["name"] for match in _uses(text)))


def _uses(text: str) -> Iterator[re.Match[str]]:
    for match in _USE.finditer(text):
        if match["kind"] == "s" and not match[0].startswith("%%"):
            yield match


def _replaced(text: str, known: Mapping[str, str], value_of: Value, most: int) -> tuple[str, list[Wrong]]:
    """The text with its uses replaced, of up to `most` letters; and what is wrong with it, up to a number."""
    pieces: list[str] = []
    wrong: list[Wrong] = []
    last = length = 0
    for match in _USE.finditer(text):
        piece = _piece(match, text, known, value_of, wrong)
        if piece is not None:
            pieces += [text[last : match.start()], piece]
            length += match.start() - last + len(piece)
            last = match.end()
        if length > most or len(wrong) >= _MOST_WRONG:
            break
    if length + len(text) - last > most:
        message = f"it expands to more than the limit on {limits.TEMPLATE.name} allows, {limits.TEMPLATE.shown}"
        hint = "Parameters that use each other several times multiply: write one of them out."
        return "", [*wrong, Wrong(line=_line(text, last), message=message, hint=hint)]
    return "".join((*pieces, text[last:])), wrong


def _piece(
    match: re.Match[str], text: str, known: Mapping[str, str], value_of: Value, wrong: list[Wrong]
) -> str | None:
    """What a use becomes; None where it stays as it is."""
    name = match["name"]
    if match[0].startswith("%%"):
        return match[0][1:]
    if match["kind"] != "s":
        if name in known:
            message = f"%({name}){match['kind']} is no use of the parameter {name}"
            wrong.append(Wrong(line=_line(text, match.start()), message=message, hint=f"Write %({name})s."))
        return None
    if name not in known:
        hint = perhaps_you_meant(name[:_LONGEST_NAME], known, lambda near: f"%({near})s")
        hint += f"Parameters here: {', '.join(sorted(known)[:_MOST_NAMED])}. " if known else ""
        hint += f"Where the text itself is meant: %%({name})s."
        wrong.append(Wrong(line=_line(text, match.start()), message=f"there is no parameter {name!r}", hint=hint))
        return ""
    return value_of(name)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
