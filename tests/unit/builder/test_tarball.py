"""A tar without members that are hard links to themselves; everything else stays as it is."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.builder.handed_files import without_links_to_self

LONG = "long/" + "x" * 120


def tar(*names: str, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar in which a name that comes again is a hard link to itself, as GNU tar writes it; `a=b` is one to `b`."""
    raw, seen = io.BytesIO(), set[str]()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for written in names:
            name, _, target = written.partition("=")
            member = tarfile.TarInfo(name)
            if target or name in seen:
                member.type, member.linkname = tarfile.LNKTYPE, target or name
                archive.addfile(member)
            else:
                member.size = len(name) * 7
                archive.addfile(member, io.BytesIO(name.encode() * 7))
            seen.add(name)
    return raw.getvalue()


def names(raw: bytes) -> list[tuple[str, str]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return [(member.name, member.linkname) for member in archive]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_links_to_self_are_left_out(tmp_path: Path, packed: bool, form: int) -> None:
    raw = tar("a", "b", LONG, "a", LONG, "c=b", "d", form=form)
    path = tmp_path / "m.tar"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert without_links_to_self(path) == 2
    left = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    assert names(left) == [("a", ""), ("b", ""), (LONG, ""), ("c", "b"), ("d", "")]
    with tarfile.open(fileobj=io.BytesIO(left)) as archive:
        content = archive.extractfile(LONG)
        assert content
        assert content.read() == LONG.encode() * 7
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.tar"]


def test_tar_without_such_links_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.tar.gz"
    path.write_bytes(gzip.compress(tar("a", "b", "c=a"), 9))
    before = path.read_bytes()
    assert without_links_to_self(path) == 0
    assert path.read_bytes() == before


@settings(max_examples=60)
@given(st.binary(max_size=1500), st.booleans())
def test_other_files_are_unchanged(tmp_path_factory: pytest.TempPathFactory, raw: bytes, packed: bool) -> None:
    path = tmp_path_factory.mktemp("tar") / "m"
    path.write_bytes(b"\x1f\x8b" + raw if packed else raw)
    before = path.read_bytes()
    assert without_links_to_self(path) == 0
    assert path.read_bytes() == before


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "c/d", LONG]), max_size=8))
def test_other_members_are_kept(tmp_path_factory: pytest.TempPathFactory, wanted: list[str]) -> None:
    path = tmp_path_factory.mktemp("tar") / "m.tar"
    path.write_bytes(tar(*wanted))
    assert without_links_to_self(path) == len(wanted) - len(set(wanted))
    assert names(path.read_bytes()) == [(name, "") for name in dict.fromkeys(wanted)]
