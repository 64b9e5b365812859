"""Arbitrary YAML documents, and documents near to what a rule accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from chainbuild.yamlspec.rules import (
    ArgValueRule,
    BooleanRule,
    IntegerRule,
    ListRule,
    MapRule,
    Rule,
    TableRule,
    TextOrTableRule,
    TextRule,
)

# Strings in both dialects of YAML, including strings that patterns match.
texts = st.sampled_from(
    [
        "",
        "a",
        "stock",
        "amd64",
        "linux/arm64",
        "arm64",
        "7d",
        "4h30m",
        "1.5h",
        "soon",
        "A b",
        "A,b",
        "v1",
        ".v1",
        "_x",
        "BASEIMAGE",
        "1A",
        "acme/os:1",
        "x" * 129,
        "é",
        "a=b",
        "a\tb",
    ]
)


scalars = st.one_of(texts, st.booleans(), st.none(), st.integers(-3, 70000), st.sampled_from([0.5, 2.0, 21.2, -1.0]))


anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(bool), inner, max_size=3),
    max_leaves=5,
)


def near(rule: Rule) -> st.SearchStrategy[Any]:
    """Return values that a rule accepts, and some that it rejects."""
    match rule:
        case TextRule():
            fine = st.sampled_from(rule.choices) if rule.choices else texts
            return st.one_of(fine, texts)
        case BooleanRule():
            return st.booleans()
        case IntegerRule():
            return st.integers(-1, 70000)
        case ArgValueRule():
            return scalars
        case ListRule():
            several = st.lists(near(rule.item) | scalars, max_size=3)
            return near(rule.item) | several
        case MapRule():
            return st.dictionaries(near(rule.key).map(str), near(rule.value) | scalars, max_size=2)
        case TextOrTableRule():
            return near(rule.text) | near(rule.table)
        case TableRule():
            known = {name: near(key.rule) | anything for name, key in rule.keys.items()}
            needed = {name: known.pop(name) for name, key in rule.keys.items() if key.needed}
            whole = st.fixed_dictionaries(needed, optional=known)
            return st.one_of(whole, st.fixed_dictionaries({}, optional={**known, **needed, "other": texts}))
