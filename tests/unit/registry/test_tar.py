"""The tar reader compared with Python's `tarfile` on tars of every format, and on hostile tars."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.errors import LimitError
from chainbuild.limits import Limit
from chainbuild.registry.tar import TarError, members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard",
    tarfile.CHRTYPE: "special",
    tarfile.FIFOTYPE: "special",
}
Row = tuple[str, str, int, str, int, int, int, bytes]


def read(raw: bytes) -> list[Row]:
    """Return the members that the reader finds, with the content of files."""
    return [
        (one.name, one.kind, one.size, one.target, one.mode, one.uid, one.gid, b"".join(one.chunks()))
        for one in members(io.BytesIO(raw), "the tar", "here")
    ]


def by_tarfile(raw: bytes) -> list[Row]:
    """The same by Python's own reader."""
    rows: list[Row] = []
    with tarfile.open(fileobj=io.BytesIO(raw), encoding="utf-8", errors="surrogateescape") as archive:
        for one in archive:
            kind = "file" if one.isreg() else "hard" if one.islnk() else "link" if one.issym() else "special"
            file = archive.extractfile(one) if one.isreg() else None
            content = file.read() if file else b""
            kind = "dir" if one.isdir() else kind
            size = one.size if kind == "file" else 0
            rows.append((one.name, kind, size, one.linkname, one.mode, one.uid, one.gid, content))
    return rows


def write(rows: list[dict[str, Any]], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for row in rows:
            content = row.get("content", b"")
            member = tarfile.TarInfo(row["name"])
            member.type = row.get("type", tarfile.REGTYPE)
            member.size = len(content)
            for key in ("linkname", "mode", "uid", "gid", "pax_headers"):
                setattr(member, key, row.get(key, getattr(member, key)))
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


names = st.binary(min_size=1, max_size=30).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"_"))) | st.text(
    "ab/.é", min_size=1, max_size=300
)
rows = st.fixed_dictionaries(
    {
        "name": names.filter(lambda name: name.strip("/")),
        "type": st.sampled_from(list(KINDS)),
        "linkname": names,
        "mode": st.integers(0, 0o7777),
        "uid": st.integers(0, 2**31),
        "gid": st.integers(0, 2**21),
        "content": st.binary(max_size=1500),
    }
).map(lambda row: row if row["type"] == tarfile.REGTYPE else row | {"content": b""})


@given(st.lists(rows, max_size=5), st.sampled_from(list(FORMATS)))
def test_members_of_any_tar_are_those_of_tarfile(made: list[dict[str, Any]], form: str) -> None:
    if form == "ustar":
        # It cannot say everything.
        made = [row | {"name": f"n{index}", "linkname": "l", "uid": 1, "gid": 1} for index, row in enumerate(made)]
    raw = write(made, FORMATS[form])
    assert read(raw) == by_tarfile(raw)


@given(st.dictionaries(st.text("abc.", min_size=1), st.binary(max_size=40), max_size=4))
def test_extended_attributes_are_those_of_the_pax_header(attributes: dict[str, bytes]) -> None:
    headers = {f"SCHILY.xattr.{name}": os.fsdecode(value) for name, value in attributes.items()}
    raw = write([{"name": "a", "pax_headers": {**headers, "other": "1"}}, {"name": "b"}])
    first, second = members(io.BytesIO(raw), "the tar")
    assert first.xattrs == tuple(sorted(attributes.items()))
    assert second.xattrs == ()


def test_extended_attributes_count_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATHS", Limit("names", 1000))
    raw = write([{"name": f"{number}", "pax_headers": {"SCHILY.xattr.user.x": "x" * 400}} for number in range(3)])
    with pytest.raises(LimitError):
        list(members(io.BytesIO(raw), "the tar"))


@given(st.binary(max_size=2000), st.integers(0, 3000), st.binary(min_size=1, max_size=8))
@settings(max_examples=300)
def test_members_of_a_damaged_tar_are_read_or_refused(tail: bytes, place: int, change: bytes) -> None:
    good = write([{"name": "a" * 200, "content": b"1" * 700}, {"name": "b", "pax_headers": {"x": "y"}}])
    for raw in (good[:place], good[:place] + change + good[place + len(change) :], good[:512] + tail, tail):
        try:
            read(raw)
        except (TarError, LimitError):
            continue


def test_members_of_an_empty_stream_are_none() -> None:
    assert read(b"") == []
    assert read(bytes(1024)) == []


def test_members_that_are_not_read_are_passed_over() -> None:
    raw = write([{"name": "a", "content": b"1" * 3000}, {"name": "b", "content": b"2"}])
    assert [one.name for one in members(io.BytesIO(raw), "it")] == ["a", "b"]
    assert [next(iter(one.chunks()))[:1] for one in members(io.BytesIO(raw), "it")] == [b"1", b"2"]


def test_members_with_a_damaged_header_in_the_middle_raise() -> None:
    """Python's reader takes that for the end of the tar, so the rest of a layer would not exist."""
    raw = bytearray(write([{"name": "a", "content": b"1"}, {"name": "b", "content": b"2"}]))
    raw[1024] ^= 1
    assert [one[0] for one in by_tarfile(bytes(raw))] == ["a"]
    with pytest.raises(TarError, match="header"):
        read(bytes(raw))


# ---- sparse files -----------------------------------------------------------------------------------------------------


def header(name: bytes, size: int, kind: bytes, more: bytes = b"", magic: bytes = b"ustar  \0") -> bytes:
    """A header's block; `more` are its bytes from 345 on."""
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s",
        name,
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"00000000000\0",
        b" " * 8,
        kind,
        b"",
        magic,
        b"",
        b"",
        b"",
        b"",
        b"",
        b"",
    )
    block = block[:345] + more + block[345 + len(more) :]
    return block[:148] + b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:]) + block[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(records: Mapping[str, str | bytes]) -> bytes:
    body = b""
    for key, value in records.items():
        rest = b" %b=%b\n" % (key.encode(), value if isinstance(value, bytes) else value.encode())
        length = len(rest) + len(str(len(rest)))
        length += len(str(length)) - len(str(len(rest)))
        body += b"%d%b" % (length, rest)
    return header(b"PaxHeader", len(body), b"x", magic=b"ustar\x0000") + padded(body)


def old_sparse() -> bytes:
    extents = [(0, 3), (1000, 2), (2000, 1), (3000, 1)]
    more = [(4000, 2), (5000, 0)]
    table = b"".join(b"%011o\0%011o\0" % one for one in extents)
    first = header(b"sparse", 9, b"S", bytes(41) + table + b"\x01" + b"%011o\0" % 5000)
    second = b"".join(b"%011o\0%011o\0" % one for one in more).ljust(504, b"\0") + bytes(8)
    return first + second + padded(b"aaabbcdee")


SPARSE = {
    "old GNU": old_sparse(),
    "0.0": pax(
        {
            "GNU.sparse.size": "5000",
            "GNU.sparse.numblocks": "1",
            "GNU.sparse.offset": "4998",
            "GNU.sparse.numbytes": "2",
        }
    )
    + header(b"sparse", 2, b"0")
    + padded(b"ab"),
    "0.1": pax({"GNU.sparse.map": "0,2,100,1,200,0", "GNU.sparse.size": "200", "GNU.sparse.name": "named"})
    + header(b"x", 3, b"0")
    + padded(b"abc"),
    "1.0": pax(
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s/n", "GNU.sparse.realsize": "1000"}
    )
    + header(b"x", 512 + 3, b"0")
    + padded(b"1\n10\n3\n")
    + padded(b"abc"),
}


@pytest.mark.parametrize("form", SPARSE)
def test_members_of_a_sparse_file_have_its_holes(form: str) -> None:
    raw = SPARSE[form] + write([{"name": "after", "content": b"1"}])
    found = read(raw)
    assert [(row[0], row[2], row[7]) for row in found] == [(row[0], row[2], row[7]) for row in by_tarfile(raw)]
    assert found[0][7].strip(b"\0")


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.map": "0,5", "GNU.sparse.size": "5"},  # more than the content
        {"GNU.sparse.map": "10,1,0,2", "GNU.sparse.size": "20"},  # not in order
        {"GNU.sparse.map": "0,3", "GNU.sparse.size": "1"},  # beyond the size
        {"GNU.sparse.map": "0,3,4", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "a,b", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "0,3", "GNU.sparse.size": "x"},
        {"GNU.sparse.map": "0,3", "GNU.sparse.size": "-1"},
    ],
)
def test_members_with_a_map_that_is_not_of_the_content_raise(records: dict[str, str]) -> None:
    with pytest.raises(TarError):
        read(pax(records) + header(b"x", 3, b"0") + padded(b"abc"))


def test_members_with_a_hole_of_exabytes_raise() -> None:
    """Two kilobytes that unpack to eight exabytes of zeros."""
    raw = pax({"GNU.sparse.map": "0,3", "GNU.sparse.size": str(1 << 62)}) + header(b"x", 3, b"0") + padded(b"abc")
    with pytest.raises(LimitError, match="unpacked size of a layer"):
        read(raw)


# ---- limits -----------------------------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A first part, and then zeros or a pattern for ever."""

    def __init__(self, first: bytes, pattern: bytes = b"x") -> None:
        super().__init__()
        self._first = first
        self._pattern = pattern

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        piece = self._first[:size] or (self._pattern * (size // len(self._pattern) + 1))[:size]
        self._first = self._first[size:]
        buffer[: len(piece)] = piece
        return len(piece)


BOMBS = {
    "a pax header of gigabytes": (header(b"p", 4 << 30, b"x", magic=b"ustar\x0000"), "the headers of one member"),
    "a global pax header of gigabytes": (header(b"p", 4 << 30, b"g"), "the headers of one member"),
    "a GNU name of gigabytes": (header(b"p", 4 << 30, b"L"), "the headers of one member"),
    "a GNU link of gigabytes": (header(b"p", 4 << 30, b"K"), "the headers of one member"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_members_with_a_header_of_gigabytes_raise_before_reading_it(kind: str) -> None:
    first, name = BOMBS[kind]
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=name):
            list(members(io.BufferedReader(Endless(first)), "the layer", "team/app:1"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_members_with_extended_headers_without_end_raise() -> None:
    block = pax({"comment": "x" * 100})
    with pytest.raises(LimitError, match="the headers of one member"):
        list(members(io.BufferedReader(Endless(b"", block)), "it"))


def test_members_with_a_sparse_map_without_end_raise() -> None:
    first = header(b"s", 0, b"S", bytes(41) + bytes(96) + b"\x01" + b"%011o\0" % 0)
    block = (b"%011o\0%011o\0" % (0, 0) * 21).ljust(504, b"\0") + b"\x01" + bytes(7)
    with pytest.raises(LimitError, match="the headers of one member"):
        list(members(io.BufferedReader(Endless(first, block)), "it"))


def test_members_whose_global_headers_add_up_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMBER_HEADERS", Limit("the headers of one member of a layer", 1000))
    parts = []
    for number in range(20):
        body = pax({f"key{number}": "x" * 100})
        parts.append(header(b"g", len(body) - 512, b"g") + body[512:])
        parts.append(header(b"a", 0, b"0"))
    with pytest.raises((LimitError, TarError)):
        read(b"".join(parts))


@pytest.mark.parametrize(
    ("limit", "value", "made"),
    [
        ("MEMBERS", 3, [{"name": str(number)} for number in range(4)]),
        ("PATH", 100, [{"name": "a" * 101}]),
        ("PATH", 100, [{"name": "a", "type": tarfile.SYMTYPE, "linkname": "b" * 101}]),
        ("PATHS", 300, [{"name": str(number) * 90} for number in range(4)]),
        ("UNPACKED", 10_000, [{"name": "a", "content": bytes(9000)}, {"name": "b", "content": bytes(9000)}]),
    ],
)
def test_members_beyond_a_limit_raise_with_its_name(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, made: list[dict[str, Any]]
) -> None:
    before = getattr(limits, limit)
    monkeypatch.setattr(limits, limit, Limit(before.name, value, before.unit))
    with pytest.raises(LimitError, match=f"the layer exceeds the limit on {before.name}"):
        list(members(io.BytesIO(write(made)), "the layer", "team/app:1"))


def test_members_of_a_large_file_take_constant_memory() -> None:
    """A layer with a file of 5 GiB is real: it passes through, a piece at a time."""
    size = 5 << 30
    stream = io.BufferedReader(
        Endless(
            header(b"large", 0, b"0", magic=b"ustar  \0")[:124]
            + b"\x80"
            + size.to_bytes(11, "big")
            + header(b"large", 0, b"0")[136:148]
        ),
        1 << 20,
    )
    block = stream.read(148)
    whole = block + b" " * 8 + header(b"large", 0, b"0")[156:]
    whole = whole[:148] + b"%06o\0 " % sum(whole) + whole[156:]
    tracemalloc.start()
    try:
        found: Iterator[Any] = members(io.BufferedReader(Endless(whole), 1 << 20), "it")
        member = next(found)
        assert member.size == size
        count = 0
        for piece in member.chunks():
            count += len(piece)
            if count > 64 << 20:
                break
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
