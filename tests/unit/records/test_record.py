"""The document of a record: its bytes never change, it reads back, and any other content is a `ValueError`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.references import Digest
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning, WarningList

NAME = "src/\udcff é"
"""A file name that is not UTF-8 (PEP 383), with a letter that JSON may or may not escape."""
COMPONENTS = Components(
    dockerfile="FROM x\n", platform="linux/amd64", args={"A": "1"}, files={NAME: "file 0644 sha256:0"}, secrets=("s",)
)
RECORD = Record(
    key=COMPONENTS.key,
    step=StepId.parse("amd64/stock/10-base"),
    family="stock-10-base-amd64",
    image=Digest("sha256:" + "a" * 64),
    identity="sha256:" + "b" * 64,
    size=5,
    added=3,
    seconds=1.23456,
    built_at=1000.0,
    components=COMPONENTS,
    env=("PATH=/bin",),
    verdicts={"libraries": "2 ELF files"},
    warnings=WarningList.of([StepWarning(text="w", path="/p")]),
)
BYTES = (
    '{"added":3,"builder":"","built_at":1000.0,"components":{"args":{"A":"1"},"contexts":{},"dockerfile":"FROM x\\n",'
    '"facts":{},"files":{"src/\\udcff \\u00e9":"file 0644 sha256:0"},"images":{},"platform":"linux/amd64","remotes":{},'
    f'"secrets":["s"],"target":""}},"env":["PATH=/bin"],"family":"stock-10-base-amd64","identity":"sha256:{"b" * 64}",'
    f'"image":"sha256:{"a" * 64}","key":"{COMPONENTS.key}","notes":{{}},"on_build":[],"parents":{{}},'
    '"schema":"chainbuild.record/2","seconds":1.235,"size":5,"step":"amd64/stock/10-base","unpacked":0,'
    '"verdicts":{"libraries":"2 ELF files"},"warnings":{"first":[{"fix":"","kind":"","package":"","path":"/p","text":"w"}],'
    '"total":1}}'
).encode()
DOCUMENT = json.loads(BYTES)
OPTIONAL = frozenset({"warnings"})
TEXTS = ("key", "step", "family", "image", "identity", "builder")
LISTS = ("env", "on_build")
NUMBERS = ("size", "added", "unpacked", "seconds", "built_at")
OBJECTS = ("verdicts", "notes", "parents", "components", "warnings")


def changed(**fields: Any) -> bytes:
    return json.dumps(DOCUMENT | fields).encode()


def test_record_bytes_stay_the_same() -> None:
    """Signatures and digests depend on them."""
    assert RECORD.payload == BYTES


def test_record_key_stays_the_same() -> None:
    assert COMPONENTS.key == "k1-3945825e07a9ddcb1e960cdd183d5ed5d7341fd8ff4cb974b5446b2bf72bbef0"


def test_record_reads_back() -> None:
    read = Record.parse(BYTES)
    assert read == Record.parse(read.payload)
    assert read.payload == BYTES
    assert read.components == COMPONENTS


def test_record_without_warnings_has_no_such_field() -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != "warnings"}
    read = Record.parse(json.dumps(document).encode())
    assert not read.warnings
    assert json.loads(read.payload) == document


@pytest.mark.parametrize("name", sorted(DOCUMENT.keys() - OPTIONAL))
def test_record_without_a_field_is_refused(name: str) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != name}
    with pytest.raises(ValueError, match=name):
        Record.parse(json.dumps(document).encode())


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]))
def test_components_without_a_field_are_refused(name: str) -> None:
    components = {key: value for key, value in DOCUMENT["components"].items() if key != name}
    with pytest.raises(ValueError, match=name):
        Record.parse(changed(components=components))


NONE, NUMBER, TRUE, TEXT, LIST, OBJECT = None, 7, True, "x", [7], {"x": 7}
OTHERS: list[tuple[str, Any]] = [
    *((name, value) for name in TEXTS for value in (NONE, NUMBER, TRUE, LIST, OBJECT)),
    *((name, value) for name in LISTS for value in (NONE, NUMBER, TEXT, LIST, OBJECT)),
    *((name, value) for name in NUMBERS for value in (NONE, TEXT, TRUE, LIST, OBJECT)),
    *((name, value) for name in OBJECTS for value in (NUMBER, TEXT, TRUE, LIST, OBJECT)),
    ("image", "sha256:x"),
    ("seconds", 10**400),
    ("schema", "chainbuild.record/1"),
    ("schema", None),
]


@pytest.mark.parametrize(("name", "value"), OTHERS)
def test_record_with_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.parse(changed(**{name: value}))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"[" * 200_000,
        b'{"schema":' * 200_000,
        BYTES[:-1] + b',"notes":' + b"[" * 200_000,
        BYTES[:-1] + b',"notes":[]}',
        BYTES[:-1] + b',"size":' + b"9" * 5_000 + b"}",
        BYTES[:-1],
        b"\xff" + BYTES,
    ],
    ids=[
        "empty",
        "null",
        "list",
        "text",
        "deep",
        "deep object",
        "deep field",
        "second key",
        "digits",
        "cut",
        "not UTF-8",
    ],
)
def test_record_of_hostile_bytes_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.parse(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*DOCUMENT, "first", "total", "text"]), inner),
        max_leaves=20,
    ),
    st.sampled_from(sorted(DOCUMENT)),
)
def test_record_parser_raises_value_errors_only(value: Any, name: str) -> None:
    for raw in (changed(**{name: value}), json.dumps(value).encode()):
        try:
            Record.parse(raw)
        except ValueError:
            continue
