"""The rules for the content of YAML files such as `chainbuild.yaml`: the source of the checks and of the JSON schema.

The rules describe shape: which keys exist, and what kind of value each has. The reader also checks what a value means,
for example whether a folder exists or an image name is valid.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field


class TextRule(Struct, frozen=True, kw_only=True):
    """A string that is not empty. `what` names it in messages; `pattern` is anchored and valid in every regex dialect.

    `blank`: its key may also have no value yet, for a person to fill in.
    """

    what: str
    pattern: str = ""
    choices: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    blank: bool = False


class BooleanRule(Struct, frozen=True, kw_only=True):
    """`true` or `false`."""

    default: bool


class IntegerRule(Struct, frozen=True, kw_only=True):
    """An integer from `least` to `most`."""

    least: int
    most: int | None = None


class ArgValueRule(Struct, frozen=True, kw_only=True):
    """The value of a build argument: any scalar, taken literally; without a value, that of the environment."""


class ListRule(Struct, frozen=True, kw_only=True):
    """A list that has items, unless `empty` allows none. `alone`: a single item may be written without the list.

    Strings in it must all differ.
    """

    item: Rule
    alone: bool = False
    empty: bool = False


class MapRule(Struct, frozen=True, kw_only=True):
    """A table whose keys the user chooses."""

    key: TextRule
    value: Rule


class TextOrTableRule(Struct, frozen=True, kw_only=True):
    """A string or a table."""

    text: TextRule
    table: MapRule


class KeyRule(Struct, frozen=True, kw_only=True):
    """A key of a table, and what it is for (`about`)."""

    rule: Rule
    about: str
    needed: bool = False


class TableRule(Struct, frozen=True, kw_only=True):
    """A table of fixed keys. If `any_of` has keys, at least one of them is required."""

    what: str
    keys: Mapping[str, KeyRule]
    any_of: tuple[str, ...] = field(default=())


Rule = TextRule | BooleanRule | IntegerRule | ArgValueRule | ListRule | MapRule | TextOrTableRule | TableRule
