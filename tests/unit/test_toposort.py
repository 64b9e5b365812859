"""Topological order and cycles."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.toposort import find_cycle, topological_order

names = st.text("abcdef", min_size=1, max_size=2)
graphs = st.dictionaries(names, st.sets(names, max_size=4), max_size=10)


@given(graphs)
def test_order_follows_dependencies_or_cycle_is_found(below: dict[str, set[str]]) -> None:
    order = topological_order(below)
    assert len(set(order)) == len(order)
    for place, name in enumerate(order):
        assert {base for base in below[name] if base in below} <= set(order[:place])
    path = find_cycle(below, order)
    assert bool(path) == (len(order) < len(below))
    if path:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(other in below[name] for name, other in pairwise(path))


@given(graphs)
def test_order_is_independent_of_input_order(below: dict[str, set[str]]) -> None:
    assert topological_order(dict(reversed(below.items()))) == topological_order(below)


def test_independent_names_are_sorted() -> None:
    assert topological_order({"c": ["a"], "b": [], "a": ["b"], "d": ["unknown"]}) == ("b", "a", "c", "d")
    assert find_cycle({"a": ["b"], "b": ["a"], "c": ["a"]}, ()) == ("a", "b", "a")
    assert find_cycle({"a": ["a"]}, ()) == ("a", "a")
