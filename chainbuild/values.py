"""Copies of values with some fields changed.

`msgspec.structs.replace` accepts any name and any type. Here the type checker sees `dataclasses.replace` instead, for which
it knows the fields of every `Struct` and checks the arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace
else:
    import dataclasses

    from msgspec import Struct, structs

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a struct or dataclass with fields changed. Errors: `TypeError` for an unknown field."""
        change = structs.replace if isinstance(value, Struct) else dataclasses.replace
        return change(value, **changes)


__all__ = ["replace"]
