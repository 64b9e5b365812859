"""A folder of SIF files with their checksums and facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.singularity.collection import Collection, parse_facts, read_checksum
from tests.unit.singularity.conftest import sif_of


def made(folder: Path, content: bytes = b"sif", name: str = "team/tool:v1") -> Collection:
    path = folder / ".made"
    path.write_bytes(content)
    Collection(folder).put(path, sif_of(path, name))
    return Collection(folder)


def test_file_is_stored_with_checksum_and_facts(tmp_path: Path) -> None:
    shelf = made(tmp_path)
    (sif,) = shelf.all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "team_tool_v1.sif",
        "team_tool_v1.sif.json",
        "team_tool_v1.sif.sha256",
    ]
    assert (tmp_path / "team_tool_v1.sif.sha256").read_text() == f"{sif.sha256}  team_tool_v1.sif\n"
    document = json.loads((tmp_path / "team_tool_v1.sif.json").read_text())
    assert document["image"] == "team/tool:v1"
    assert document["digest"] == str(sif.digest)
    assert shelf.find(sif.name) == sif


@pytest.mark.parametrize("gone", ["", ".json", ".sha256"])
def test_file_without_checksum_or_facts_does_not_count(tmp_path: Path, gone: str) -> None:
    shelf = made(tmp_path)
    (tmp_path / f"team_tool_v1.sif{gone}").unlink()
    assert shelf.all() == ()


def test_modified_file_does_not_count(tmp_path: Path) -> None:
    shelf = made(tmp_path)
    (tmp_path / "team_tool_v1.sif").write_bytes(b"longer than it was")
    assert shelf.all() == ()
    made(tmp_path, b"again")
    (tmp_path / "team_tool_v1.sif.sha256").write_text(f"{'0' * 64}  team_tool_v1.sif\n")
    assert shelf.all() == ()


@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_no_facts(raw: bytes) -> None:
    assert parse_facts(raw) is None


@given(
    document=st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["schema", "repository", "tag", "image", "platform", "sha256", "tool", "size", "digest"]
                ),
                inner,
            )
        ),
    )
)
def test_arbitrary_facts_file_never_raises(document: object) -> None:
    if isinstance(document, dict):
        document["schema"] = "chainbuild.sif/1"
    assert parse_facts(json.dumps(document).encode()) is None


@given(digits=st.text("0123456789abcdef", min_size=64, max_size=64), name=st.text(max_size=20))
def test_checksum_formats_of_common_tools_are_read(digits: str, name: str) -> None:
    word = "".join(name.split())
    for text in (digits, f"{digits}  {word}\n", f"{digits} *{word}\n", f"{digits.upper()}\n"):
        assert read_checksum(text) == digits
    assert read_checksum(digits[1:]) == ""


@given(text=st.text(max_size=100))
def test_arbitrary_checksum_file_never_raises(text: str) -> None:
    assert read_checksum(text) == "" or len(read_checksum(text)) == 64
