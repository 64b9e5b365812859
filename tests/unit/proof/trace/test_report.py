"""A report of traced tests is read into values or is an error."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import ChainbuildError
from chainbuild.proof.trace.report import TracedPackage, read_trace_report

MAGIC = {"kind_of_package": "deb", "package": "libmagic-mgc", "version": "1:5.44-3"}
NONE = {"kind_of_package": "", "package": "", "version": ""}
REPORT: dict[str, Any] = {
    "paths": 12,
    "tests": [
        {"name": "t", "status": "0", "produced": "1", "traced": True, "calls": 9, "paths": 12, "cut": False, "said": ""}
    ],
    "missing": [
        {"path": "/srv/a", "kind": "executed", "program": "", "tests": ["t"], **NONE},
        {"path": "/usr/lib/file/magic.mgc", "kind": "opened", "program": "/usr/bin/file", "tests": ["t"], **MAGIC},
    ],
    "words": [
        {"path": "/srv/a", "pattern": "/srv/a", "brings": ["/srv/a"], **NONE},
        {"path": "/usr/lib/file", "pattern": "/usr/lib/file", "brings": ["/usr/lib/file/magic.mgc"], **MAGIC},
    ],
    "ignored": ["/srv/x"],
}


def test_report_has_missing_paths_by_package_and_additions() -> None:
    report = read_trace_report(json.dumps(REPORT).encode())
    assert (report.paths, report.ignored) == (12, ("/srv/x",))
    (test,) = report.tests
    assert test.passed
    assert test.ending_in_production == "fails (exit code 1)"
    assert [str(one) for one in report.missing] == [
        "/srv/a, of no package: executed by t (t)",
        "/usr/lib/file/magic.mgc, of the Debian package libmagic-mgc 1:5.44-3: opened by /usr/bin/file (t)",
    ]
    assert list(report.by_package()) == [
        TracedPackage(kind="deb", name="libmagic-mgc", version="1:5.44-3"),
        TracedPackage(),
    ]
    assert [one.pattern for one in report.additions_for(report.missing[1:])] == ["/usr/lib/file"]


@pytest.mark.parametrize("key", ["paths", "tests", "missing", "words", "ignored"])
def test_report_without_required_part_is_error(key: str) -> None:
    raw = json.dumps({name: value for name, value in REPORT.items() if name != key}).encode()
    with pytest.raises(ChainbuildError):
        read_trace_report(raw)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*REPORT, "name", "path"]), inner),
    max_leaves=20,
)


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries(dict.fromkeys(REPORT, _ANY)).map(lambda one: json.dumps(one).encode())
)
def test_arbitrary_bytes_are_report_or_error(raw: bytes) -> None:
    with suppress(ChainbuildError):
        assert read_trace_report(raw).paths is not None
