"""Typed reading of the fields of a JSON document from a registry, where null is the same as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from chainbuild.errors import DamagedContentError


class FieldReader(Struct, frozen=True):
    """Reads fields of a document. `what` and `where` name it in errors, which are all `DamagedContentError`."""

    what: str
    where: str = ""

    def mapping(self, document: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Return an object; empty if absent."""
        value = document.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return value

    def items(self, document: Mapping[str, Any], key: str) -> list[Any]:
        """Return a list; empty if absent."""
        value = document.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def text(self, document: Mapping[str, Any], key: str) -> str:
        """Return a string; empty if absent."""
        value = document.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def texts(self, document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
        """Return a list of strings; None if absent."""
        value = document.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of strings")
        return tuple(value)

    def number(self, document: Mapping[str, Any], key: str) -> int:
        """Return a whole number; 0 if absent."""
        value = document.get(key)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, value, "a whole number")
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> DamagedContentError:
        return DamagedContentError(f"{self.what} has {key} {str(value)[:80]!r}, not {expected}", where=self.where)
