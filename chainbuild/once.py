"""Make a value once for each key, also if several threads ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Once(Generic[_Key, _Value]):
    """Values by key. Threads that ask for different keys do not wait for each other."""

    def __init__(self) -> None:
        self._values: dict[_Key, _Value] = {}
        self._locks: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """Return the value of a key; `make` it unless it is known. Errors: those of `make`, which is then called again."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def forget(self, key: _Key) -> None:
        """Make the value of a key anew when it is needed again."""
        self._values.pop(key, None)

    def known(self) -> dict[_Key, _Value]:
        """Return the values that were made so far, in their order."""
        with self._lock:
            return dict(self._values)
