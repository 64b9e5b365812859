"""Topological order of a dependency graph, and its cycles. Pure functions."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping


def topological_order(below: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the keys in Kahn's order; ties are broken by name, so that the order is unique.

    `below` maps each name to its dependencies; dependencies that are not keys are ignored. Names in a cycle, and names that
    depend on one, are left out.
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
    """Return one cycle, with its first name repeated at the end, or an empty tuple if there is none.

    `order` is the result of `topological_order` for the same graph.
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
        # Each remaining name depends on a remaining name, so the walk must meet itself.
        name = min(left[name])
    return (*path[path.index(name) :], name)
