"""Values from documents, copies with some fields changed, and bases of values that compare by some fields or show none.

`msgspec` collects the fields of a type when a thread first converts to it. A second thread that converts to the same type
meanwhile finds half of them and the process crashes (seen with 0.22). Here one thread at a time collects; `convert` and
`decode_json` therefore stand for the functions of `msgspec`.

`msgspec.structs.replace` accepts any name and any type. Here the type checker sees `dataclasses.replace` instead, for which
it knows the fields of every `Struct` and checks the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec
from msgspec import Struct

_T = TypeVar("_T")
_COLLECTED: Final[set[object]] = set()
"""Types whose fields `msgspec` knows."""
_COLLECTING: Final = Lock()

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


@overload
def convert(document: object, kind: type[_T], *, make: Callable[[Any, Any], Any] | None = None) -> _T: ...
@overload
def convert(document: object, kind: Any, *, make: Callable[[Any, Any], Any] | None = None) -> Any: ...
def convert(document: object, kind: Any, *, make: Callable[[Any, Any], Any] | None = None) -> Any:
    """Return a value of a type from what a JSON document holds; `make(kind, value)` makes types that `msgspec` does not know.

    Errors: `msgspec.ValidationError`.
    """
    _collect(kind)
    return msgspec.convert(document, kind, dec_hook=make)


def decode_json(raw: bytes | str, kind: type[_T], *, make: Callable[[Any, Any], Any] | None = None) -> _T:
    """Return a value of a type from JSON text; `make(kind, value)` makes types that `msgspec` does not know.

    Errors: `msgspec.DecodeError` if it is no JSON, `msgspec.ValidationError` if it is of another type.
    """
    _collect(kind)
    return msgspec.json.decode(raw, type=kind, dec_hook=make)


def decode_msgpack(raw: bytes, kind: type[_T]) -> _T:
    """Return a value of a type from MessagePack.

    Errors: `msgspec.DecodeError` if it is no MessagePack, `msgspec.ValidationError` if it is of another type.
    """
    _collect(kind)
    return msgspec.msgpack.decode(raw, type=kind)


def _collect(kind: object) -> None:
    if kind not in _COLLECTED:
        with _COLLECTING:
            msgspec.json.Decoder(kind)
            _COLLECTED.add(kind)


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


__all__ = ["Compared", "Discreet", "convert", "decode_json", "decode_msgpack", "replace"]
