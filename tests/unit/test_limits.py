"""Limits on foreign content: what each reader refuses, what its message says, and that no other exception escapes."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.errors import DamagedContentError, LimitError
from chainbuild.limits import Budget, Limit

SMALL = Limit("the size of a test", 10)


def test_limit_exceeded_names_limit_value_and_place() -> None:
    with pytest.raises(LimitError) as raised:
        Limit("the size of a manifest", 8 << 20).check((8 << 20) + 1, "the manifest", "team/app:1")
    assert str(raised.value) == "team/app:1: the manifest exceeds the limit on the size of a manifest, 8 MiB"
    assert Limit("the pages of a list", 5000, "pages").shown == "5,000 pages"


def test_limit_at_its_value_is_accepted() -> None:
    SMALL.check(10, "it")


def test_budget_spent_in_parts_raises_at_the_sum() -> None:
    budget = Budget(SMALL, "it")
    budget.spend(6)
    budget.spend(-2)
    budget.spend(6)
    with pytest.raises(LimitError):
        budget.spend(1)


def test_every_limit_has_a_name_a_value_and_a_unit() -> None:
    every = {name: value for name, value in vars(limits).items() if isinstance(value, Limit)}
    assert len(every) > 30
    assert all(one.value > 0 and one.name for one in every.values())


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 7


def test_read_all_without_end_raises() -> None:
    with pytest.raises(LimitError, match="exceeds the limit on the size of a test, 10 bytes"):
        limits.read_all(endless(), SMALL, "it")


def test_read_start_without_end_returns_the_first_bytes() -> None:
    assert limits.read_start(endless(), SMALL) == b"x" * 10
    assert limits.read_start([b"abc"], SMALL) == b"abc"


# ---- gzip -------------------------------------------------------------------------------------------------------------


def test_inflate_of_a_bomb_stops_at_the_limit() -> None:
    """Zeros compress 1:1,000: a megabyte of gzip can unpack to a gigabyte."""
    bomb = gzip.compress(bytes(1 << 20))
    with pytest.raises(LimitError):
        limits.inflate(bomb, Limit("a document", 1000), "it")


def test_inflate_of_many_members_counts_all_of_them() -> None:
    part = gzip.compress(b"12345", mtime=0)
    assert limits.inflate(part * 2, SMALL, "it") == b"1234512345"
    assert limits.inflate(part + bytes(100), SMALL, "it") == b"12345"
    with pytest.raises(LimitError):
        limits.inflate(part * 3, SMALL, "it")


@pytest.mark.parametrize(
    "data", [b"not gzip", gzip.compress(b"abc", mtime=0)[:-1], gzip.compress(b"abc", mtime=0)[:5], b"\x1f\x8b"]
)
def test_inflate_of_damaged_gzip_raises(data: bytes) -> None:
    with pytest.raises(DamagedContentError, match="it is"):
        limits.inflate(data, SMALL, "it")


@given(st.binary(max_size=200))
def test_inflate_of_any_bytes_is_document_or_error(data: bytes) -> None:
    for raw in (data, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + data):
        with suppress(DamagedContentError):
            assert len(limits.inflate(raw, SMALL, "it")) <= 10


# ---- JSON -------------------------------------------------------------------------------------------------------------

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_read_json_of_a_document_returns_it(document: object) -> None:
    for ascii_only in (True, False):
        try:
            raw = json.dumps(document, ensure_ascii=ascii_only).encode()
            wanted = json.loads(raw)
        except (UnicodeEncodeError, ValueError):
            return
        try:
            found = limits.read_json(raw, "it")
        except DamagedContentError as refused:
            found, said = wanted, str(refused)
            assert "surrogate" in said or "digits" in said
        assert found == wanted


@given(st.binary(max_size=60) | st.text('[]{}":,0123456789eE+-.\\ud8dctrufalsn ', max_size=60).map(str.encode))
def test_read_json_of_any_bytes_is_document_or_error(raw: bytes) -> None:
    try:
        document = limits.read_json(raw, "it")
    except DamagedContentError:
        return
    # An accepted document can be written, compared and shown.
    assert json.loads(json.dumps(document, ensure_ascii=False, allow_nan=False).encode()) == document


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [65, 400, 100_000])
def test_read_json_nested_too_deeply_names_the_limit(opening: str, depth: int) -> None:
    closing = opening.replace("[", "]").replace('{"a":', "}")[::-1]
    raw = (opening * depth + "1" + closing * depth).encode()
    with pytest.raises(LimitError, match="the depth of JSON, 64 levels"):
        limits.read_json(raw, "it")


def test_read_json_wide_and_flat_is_accepted() -> None:
    assert len(limits.read_json(b"[" + b",".join([b"[]"] * 1000) + b"]", "it")) == 1000
    assert limits.read_json(b'"' + b"[" * 1000 + b'"', "it") == "[" * 1000


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[" + b"9" * 100 + b"]",
        b'["\\ud800"]',
        b'["\xed\xa0\x80"]',
        b"\xff\xfe[\x00]\x00",
        b"\xef\xbb\xbf[]",
        b"",
        b"[1,]",
        b"[" + b"1" * 5000 + b"]",
    ],
)
def test_read_json_with_unusable_values_raises(raw: bytes) -> None:
    """Invalid numbers, unpaired surrogates and other encodings would make unrelated code fail later."""
    with pytest.raises(DamagedContentError):
        limits.read_json(raw, "it")


def test_read_json_with_file_names_accepts_their_bytes() -> None:
    assert limits.read_json(b'["\\udcff"]', "it", has_file_names=True) == ["\udcff"]


def test_read_object_of_a_list_raises() -> None:
    with pytest.raises(DamagedContentError, match="not a JSON object"):
        limits.read_object(b"[]", "it")


# ---- files ------------------------------------------------------------------------------------------------------------


def test_read_file_of_a_fifo_raises_at_once(tmp_path: Path) -> None:
    """Opening a pipe without a writer would hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        limits.read_file(tmp_path / "pipe")


def test_read_file_larger_than_the_limit_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(LimitError, match="file exceeds"):
        limits.read_file(tmp_path / "file", SMALL)
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert limits.read_file(tmp_path / "file", SMALL) == b"x" * 10


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_check_text_with_letter_across_chunks_is_accepted(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    monkeypatch.setattr(limits, "_PIECE", cut)
    limits.check_text("aé日🎉".encode(), "it")
    with pytest.raises(DamagedContentError, match="not UTF-8"):
        limits.check_text("aé日".encode()[:-1], "it")


def test_pace_transfer_grows_with_the_size() -> None:
    pace = limits.Pace(grace=10, rate=100)
    assert (pace.transfer(0), pace.transfer(1000)) == (10, 20)
    assert limits.PACE.transfer(5 << 30) > 24 * 3600, "five gibibytes over a slow line take days"
