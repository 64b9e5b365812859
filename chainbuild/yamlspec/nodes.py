"""Read a YAML text into plain values with their lines, and report every part that has the wrong shape.

The expected shape is a table of rules (see `rules`), for example `PROJECT` for `chainbuild.yaml`.

Scalars follow YAML 1.2's core schema (an unquoted `on` or `1:30` is a string), as in editors that use the JSON schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from msgspec import Struct, field

from chainbuild.errors import Problem, WrongUseError
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant
from chainbuild.yamlspec.rules import (
    ArgValueRule,
    BooleanRule,
    IntegerRule,
    ListRule,
    MapRule,
    Rule,
    TableRule,
    TextOrTableRule,
    TextRule,
)

T = TypeVar("T")
Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

_TAG: Final = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML loader with the scalars of the core schema of YAML 1.2 (section 10.3.2 of its specification)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # drop the base class's


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, regex(rf"^(?:{_pattern})$"), [*_first, *([""] * (_name == "null"))])


class Content(Struct, frozen=True, kw_only=True):
    """The content of a file: plain values (`values`), the line of each value, and the problems found."""

    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, *place: str | int) -> int:
        """Return the line of a value, or of the nearest value around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


class ContentReader:
    """Turns the content of a file into values, and collects the problems of values that mean nothing."""

    def __init__(self, shown: str, content: Content) -> None:
        self.shown = shown
        self.content = content
        self.problems = list(content.problems)

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """Add a problem of the value at `place`."""
        self.problems.append(Problem(path=self.shown, line=self.content.line(*place), message=message, hint=hint))

    def parsed(self, parse: Callable[[str], T], text: str, *place: str | int) -> T | None:
        """Return the parsed text; if it is invalid, add the problems and return None."""
        try:
            return parse(text)
        except WrongUseError as error:
            for problem in error.problems:
                self.add(place, f"{self.subject(place)}{problem.message}", problem.hint)
            return None

    def subject(self, place: Place) -> str:  # noqa: ARG002
        """Return what the message of a parser begins with."""
        return ""


FILL_IT: Final = "Run chainbuild init --force to write a file that fits the folder."


def shown_path(path: Path) -> str:
    """Return the path of a file as messages show it: relative to the current folder, unless that is far away."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../../..") else relative


def read_nodes(raw: bytes, path: str, rules: TableRule, *, if_empty: str = FILL_IT) -> Content:
    """Read the file's bytes.

    `values` has everything that is valid, `problems` everything that is not. `if_empty` is the hint for an empty file.
    """
    try:
        node = compose(raw)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return Content(problems=(Problem(path=path, line=line, message="not UTF-8 text", hint="Save it as UTF-8."),))
    except yaml.YAMLError as error:
        return Content(problems=(_syntax(error, path),))
    except RecursionError:
        return Content(
            problems=(Problem(path=path, line=1, message="not YAML: nested too deeply", hint="Use fewer levels."),)
        )
    shape = _Shape(path)
    values = shape.read(rules, node, ()) if node is not None else shape.empty(if_empty)
    return Content(values=values or {}, lines=shape.lines, problems=tuple(shape.problems))


def compose(raw: bytes) -> yaml.Node | None:
    """Return the file's root node. Errors: `UnicodeDecodeError`, `yaml.YAMLError`."""
    return yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)


def _syntax(error: yaml.YAMLError, path: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    return Problem(
        path=path,
        line=mark.line + 1 if mark else 0,
        message=f"not YAML: {reason}",
        hint="Check the indentation and the quotes on this line.",
    )


_NOTHING: Final = object()
"""Stands for a value that has the wrong shape."""


class _Shape:
    """Checks a tree of nodes against the rules."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []

    def empty(self, hint: str) -> dict[str, Any]:
        self.say(1, "the file is empty", hint)
        return {}

    def say(self, line: int, message: str, hint: str) -> None:
        self.problems.append(Problem(path=self.path, line=line, message=message, hint=hint))

    def read(self, rule: Rule, node: yaml.Node, place: Place) -> Any:
        """Return the value of a node without the parts of the wrong shape, which become problems."""
        self.lines[place] = node.start_mark.line + 1
        readers: dict[type, Callable[[Any, yaml.Node, Place], Any]] = {
            TextRule: self._text,
            BooleanRule: self._flag,
            IntegerRule: self._count,
            ArgValueRule: self._arg,
            ListRule: self._many,
            MapRule: self._named,
            TextOrTableRule: self._one_of,
            TableRule: self._table,
        }
        return readers[type(rule)](rule, node, place)

    # Scalars ----------------------------------------------------------------------------------------------------------

    def _mismatch(self, node: yaml.Node, place: Place, expected: str, hint: str = "") -> object:
        self.say(
            node.start_mark.line + 1,
            f"{_named(place)}: expected {expected}, found {_kind(node)}",
            hint or _how(expected),
        )
        return _NOTHING

    def _text(self, rule: TextRule, node: yaml.Node, place: Place) -> Any:
        if rule.blank and _is(node, "null"):
            return None
        if not _is(node, "str"):
            hint = f'Put it in quotes: "{node.value}".' if _is(node, "int", "float", "bool") else ""
            return self._mismatch(node, place, rule.what, hint)
        return node.value if self._fits(rule, node.value, node, place) else _NOTHING

    def _fits(self, rule: TextRule, value: str, node: yaml.Node, place: Place) -> bool:
        line = node.start_mark.line + 1
        if not value:
            self.say(line, f"{_named(place)} is empty", f"Give {rule.what}.")
        elif rule.choices and value not in rule.choices:
            self.say(line, f"{_named(place)}: {value!r} is not {rule.what}", _nearest(value, rule.choices))
        elif rule.pattern and not re.search(rule.pattern, value):
            example = f", for example {rule.examples[0]}" if rule.examples else ""
            self.say(line, f"{_named(place)}: {value!r} is not {rule.what}", f"It must match {rule.pattern}{example}.")
        else:
            return True
        return False

    def _flag(self, _rule: BooleanRule, node: yaml.Node, place: Place) -> Any:
        if not _is(node, "bool"):
            return self._mismatch(node, place, "true or false")
        return node.value.lower() == "true"

    def _count(self, rule: IntegerRule, node: yaml.Node, place: Place) -> Any:
        number = _number(node)
        if number is None or number != number // 1:
            return self._mismatch(node, place, "a whole number")
        if number < rule.least or (rule.most is not None and number > rule.most):
            most = f" to {rule.most}" if rule.most is not None else " or more"
            self.say(
                node.start_mark.line + 1, f"{_named(place)}: {node.value} is out of range", f"Use {rule.least}{most}."
            )
            return _NOTHING
        return int(number)

    def _arg(self, _rule: ArgValueRule, node: yaml.Node, place: Place) -> Any:
        if _is(node, "null"):
            return None
        if not _is(node, "str", "int", "float", "bool"):
            return self._mismatch(node, place, "the value of a build arg", "A build arg is one line of text.")
        return node.value

    # Collections ------------------------------------------------------------------------------------------------------

    def _many(self, rule: ListRule, node: yaml.Node, place: Place) -> Any:
        if not isinstance(node, yaml.SequenceNode) or not _is(node, "seq"):
            if rule.alone and _is(node, "str"):
                value = self.read(rule.item, node, place)
                self.lines[*place, 0] = node.start_mark.line + 1
                return [None if value is _NOTHING else value]
            return self._mismatch(node, place, "a list", "Write a list as [a, b], or as lines that begin with a dash.")
        if not node.value and not rule.empty:
            self.say(node.start_mark.line + 1, f"{_named(place)} is an empty list", "Remove the key.")
        values: list[Any] = []
        for index, child in enumerate(node.value):
            value = self.read(rule.item, child, (*place, index))
            if isinstance(rule.item, TextRule) and value is not _NOTHING and value in values:
                self.say(
                    child.start_mark.line + 1, f"{_named(place)}: duplicate entry {value!r}", "Remove one of them."
                )
            values.append(value)
        # Invalid items stay in the list as None, because `lines` uses the index.
        return [None if value is _NOTHING else value for value in values]

    def _entries(self, node: yaml.Node, place: Place, what: str) -> list[tuple[str, yaml.Node, yaml.Node]] | None:
        """Return the entries of a mapping with key and value nodes, each key once; None if the node is no mapping."""
        if not isinstance(node, yaml.MappingNode) or not _is(node, "map"):
            self._mismatch(node, place, what, "Write its keys on the lines below, indented: key: value.")
            return None
        entries: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.say(line, f"a key of {what} is {_kind(key)}", "Keys must be strings.")
            elif key.value in entries:
                before = entries[key.value][1].start_mark.line + 1
                self.say(line, f"duplicate key {key.value!r}; first set in line {before}", "Remove one of them.")
            else:
                entries[key.value] = (key.value, key, value)
        return list(entries.values())

    def _named(self, rule: MapRule, node: yaml.Node, place: Place) -> Any:
        values: dict[str, Any] = {}
        for name, key, child in self._entries(node, place, "a table") or ():
            self._fits(rule.key, name, key, place)
            value = self.read(rule.value, child, (*place, name))
            self.lines[*place, name] = key.start_mark.line + 1
            if value is not _NOTHING:
                values[name] = value
        return values

    def _one_of(self, rule: TextOrTableRule, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._named(rule.table, node, place)
        if not _is(node, "str"):
            return self._mismatch(node, place, f"{rule.text.what}, or a table with a builder for each platform")
        return self._text(rule.text, node, place)

    def _table(self, rule: TableRule, node: yaml.Node, place: Place) -> Any:
        entries = self._entries(node, place, rule.what)
        if entries is None:
            return _NOTHING if place else {}
        values: dict[str, Any] = {}
        for name, key, child in entries:
            line = key.start_mark.line + 1
            if name not in rule.keys:
                self.say(line, f"{rule.what} has no key {name!r}", _nearest(name, rule.keys))
                continue
            value = self.read(rule.keys[name].rule, child, (*place, name))
            self.lines[*place, name] = line
            if value is not _NOTHING:
                values[name] = value
        present = {name for name, _, _ in entries}
        line = node.start_mark.line + 1
        for name in (name for name, key in rule.keys.items() if key.needed and name not in present):
            self.say(line, f"{rule.what} needs {name!r}", rule.keys[name].about)
        if rule.any_of and not present.intersection(rule.any_of):
            self.say(line, f"{rule.what} needs one of: {', '.join(rule.any_of)}", rule.keys[rule.any_of[0]].about)
        return values


def _is(node: yaml.Node, *kinds: str) -> bool:
    return node.tag in {_TAG + kind for kind in kinds}


def _number(node: yaml.Node) -> float | None:
    if not _is(node, "int", "float"):
        return None
    text = node.value.lower()
    try:
        return float(int(text, 0)) if text.startswith(("0o", "0x")) else float(text)
    except (ValueError, OverflowError):
        return None


def _kind(node: yaml.Node) -> str:
    if _is(node, "int", "float"):
        return f"a number ({node.value})"
    kinds = {"str": "a string", "bool": "true or false", "null": "nothing", "seq": "a list", "map": "a table"}
    return kinds.get(node.tag.removeprefix(_TAG), f"a {node.tag}")


def _named(place: Place) -> str:
    """Return a place as messages show it: `layers[1].base`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def _how(expected: str) -> str:
    return f"Give {expected}."


def _nearest(word: str, choices: Iterable[str]) -> str:
    words = list(choices)
    same = word.lower().replace("_", "-")
    # Prefer the same word in another spelling to every similar word.
    spelled = next((choice for choice in words if choice.replace("_", "-") == same), same)
    shown = ", ".join(words[:24]) + (", …" if len(words) > 24 else "")
    return f"{perhaps_you_meant(spelled, words)}Valid: {shown}."
