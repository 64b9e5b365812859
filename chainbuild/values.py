"""Copies of values with some fields changed, and bases of values that compare by some fields or show none.

`msgspec.structs.replace` accepts any name and any type. Here the type checker sees `dataclasses.replace` instead, for which
it knows the fields of every `Struct` and checks the arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from msgspec import structs

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a struct or dataclass with fields changed. Errors: `TypeError` for an unknown field."""
        if isinstance(value, Struct):
            return structs.replace(value, **changes)
        import dataclasses

        return dataclasses.replace(value, **changes)


class Compared(Struct, frozen=True, eq=False):
    """A value that is compared by some of its fields."""

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.compared() == other.compared()

    def __hash__(self) -> int:
        return hash(self.compared())


class Discreet(Struct, frozen=True):
    """A value whose fields are secret: its repr shows none of them."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


__all__ = ["Compared", "Discreet", "replace"]
