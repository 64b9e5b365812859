"""Do the same work for several items at once, where it waits for a registry or another server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

AT_ONCE: Final = 8
"""How many items are worked on at the same time: more would be slower on most servers, or be refused."""
STREAMS: Final = 4
"""The same, for work that reads or sends large content."""


def in_parallel(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, at_once: int = AT_ONCE
) -> tuple[_Result, ...]:
    """Return what `work` returns for each item, in the order of the items. `at_once` 1: one after the other.

    Errors: that of the first item in order whose work failed; by then no other is being worked on.
    """
    todo = tuple(items)
    if len(todo) < 2 or at_once < 2:
        return tuple(map(work, todo))
    # Imported on demand: most commands that build nothing have one item only.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(at_once, len(todo))) as threads:
        return tuple(threads.map(work, todo))
