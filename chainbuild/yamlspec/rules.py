"""What may stand in `chainbuild.yaml`, as values: the one source of the reader's checks and of the JSON schema.

The rules are about shape: which keys there are, and what kind of value each has. What a value means (whether a folder is
there, whether a name is an image's) the reader checks besides.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field


class TextRule(Struct, frozen=True, kw_only=True):
    """A text that is not empty. `what` is how people call it; `pattern` is anchored, and the same in every dialect.

    `blank`: its key may stand without a value, too, which waits for a person.
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
    """A whole number."""

    least: int
    most: int | None = None


class ArgValueRule(Struct, frozen=True, kw_only=True):
    """The value of a build argument: any scalar, taken as it is written; none at all is the environment's."""


class ListRule(Struct, frozen=True, kw_only=True):
    """A list that is not empty, unless it may be `empty`; `alone`: one item may stand without the list.

    Texts in it are all different.
    """

    item: Rule
    alone: bool = False
    empty: bool = False


class MapRule(Struct, frozen=True, kw_only=True):
    """A table under names of one's own."""

    key: TextRule
    value: Rule


class TextOrTableRule(Struct, frozen=True, kw_only=True):
    """A text, or a table."""

    text: TextRule
    table: MapRule


class KeyRule(Struct, frozen=True, kw_only=True):
    """A key of a table, with what it is for."""

    rule: Rule
    about: str
    needed: bool = False


class TableRule(Struct, frozen=True, kw_only=True):
    """A table of known keys; of `any_of`, where there are some, one has to be there."""

    what: str
    keys: Mapping[str, KeyRule]
    any_of: tuple[str, ...] = field(default=())


Rule = TextRule | BooleanRule | IntegerRule | ArgValueRule | ListRule | MapRule | TextOrTableRule | TableRule
