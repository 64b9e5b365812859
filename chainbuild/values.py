"""Copies of values with some fields changed.

`msgspec.structs.replace` takes any name and any type. Here the type checker sees `dataclasses.replace`, for which it
knows the fields of every `Struct` and checks what is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace
else:
    import dataclasses

    from msgspec import Struct, structs

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a struct or dataclass with these fields. Errors: `TypeError` for a field that it does not have."""
        change = structs.replace if isinstance(value, Struct) else dataclasses.replace
        return change(value, **changes)


__all__ = ["replace"]
