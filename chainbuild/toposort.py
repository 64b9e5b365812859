"""An order in which everything comes after what it stands on, and a circle where there is none. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping


def topological_order(below: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Kahn's order of the keys; what is free comes in the order of names, so that a tree has one order.

    `below` has for each name those that it stands on; names that are no keys do not count. What is in a circle, and what
    stands on one, is left out.
    """
    real = {name: {base for base in bases if base in below} for name, bases in below.items()}
    waits = {name: len(bases) for name, bases in real.items()}
    above: dict[str, list[str]] = {name: [] for name in real}
    for name, bases in real.items():
        for base in bases:
            above[base].append(name)
    free = [name for name, count in waits.items() if not count]
    heapq.heapify(free)
    order: list[str] = []
    while free:
        name = heapq.heappop(free)
        order.append(name)
        for dependent in above[name]:
            waits[dependent] -= 1
            if not waits[dependent]:
                heapq.heappush(free, dependent)
    return tuple(order)


def find_cycle(below: Mapping[str, Iterable[str]], order: Collection[str]) -> tuple[str, ...]:
    """One circle, spelled out with its first name again at the end; `order` is what `topological_order` gave of the same.

    Empty where there is none.
    """
    done = frozenset(order)
    left = {
        name: [base for base in bases if base in below and base not in done]
        for name, bases in below.items()
        if name not in done
    }
    if not left:
        return ()
    path: list[str] = []
    name = min(left)
    while name not in path:
        path.append(name)
        # What is left waits for something that is left: the way never ends before it meets itself.
        name = min(left[name])
    return (*path[path.index(name) :], name)
