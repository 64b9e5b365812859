"""Warnings of a step: what a record stores, and readers that accept any document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.step_warnings import KEPT, StepWarning, WarningList, read_report_warnings

ONE = StepWarning(kind="interpreter", text="x needs /bin/bash", path="/x", package="deb:x:amd64", fix="KEEP=1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries({"text": JSON, "first": JSON, "total": JSON}) | JSON, max_size=4)


def test_warnings_read_back_from_record() -> None:
    warnings = WarningList.of([ONE, StepWarning(text="other"), ONE])
    assert (warnings.total, len(warnings.first)) == (2, 2)
    assert WarningList.read(json.loads(json.dumps(warnings.as_json()))) == warnings


def test_record_keeps_bounded_warnings() -> None:
    warnings = WarningList.of(StepWarning(text=f"{number} " + "x" * 10_000) for number in range(KEPT + 7))
    assert (len(warnings.first), warnings.total) == (KEPT, KEPT + 7)
    assert all(len(one.text) < 1000 for one in warnings.first)


def test_fix_is_kept_in_full_or_dropped() -> None:
    long = "ADDITIONAL_FILES=" + " ".join(f"/srv/app/data/table-{number}" for number in range(30))
    kept = WarningList.of([StepWarning(text="a", fix=long), StepWarning(text="b", fix=long * 10)])
    assert [one.fix for one in kept.first] == [long, ""]


def test_warnings_of_kind_are_replaced() -> None:
    there = WarningList.of([ONE, StepWarning(kind="trace", text="old")])
    found = there.with_kind("trace", [StepWarning(kind="trace", text="new")])
    assert ([one.text for one in found.first], found.total) == ([ONE.text, "new"], 2)
    assert there.with_kind("trace", ()).first == (ONE,)


def test_warning_text_ends_with_fix() -> None:
    assert str(ONE) == "x needs /bin/bash (KEEP=1)"
    assert str(StepWarning(text="only text")) == "only text"


def test_report_of_older_format_has_texts() -> None:
    assert read_report_warnings({}) == ()
    assert read_report_warnings({"warnings": [{"text": "a"}, "b"]}) == (StepWarning(text="a"), StepWarning(text="b"))
    with pytest.raises(ValueError, match="not a warning"):
        read_report_warnings({"warnings": [3]})
    with pytest.raises(ValueError, match="no list"):
        read_report_warnings({"warnings": 3})


@given(JSON | st.fixed_dictionaries({"first": ROWS, "total": JSON}))
def test_any_document_is_warnings_or_value_error(document: Any) -> None:
    try:
        found = WarningList.read(document)
    except ValueError:
        return
    assert found.total >= len(found.first)
    assert WarningList.read(found.as_json()) == found
