"""The header of a SIF file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import ChainbuildError
from chainbuild.references import Platform
from chainbuild.singularity.sif import architecture, set_architecture
from tests.unit.singularity.sif_files import PARTITION, TEXT, a_sif


def codes(raw: bytes) -> tuple[bytes, ...]:
    return (raw[45:48], *(raw[at + 201 + 8 : at + 201 + 11] for at in range(4096, len(raw), 585)))


def test_architecture_is_set_in_header_and_partitions_only(tmp_path: Path) -> None:
    path = tmp_path / "x.sif"
    path.write_bytes(a_sif(kinds=((TEXT, True), (PARTITION, True), (PARTITION, False))))
    assert architecture(path) == "amd64"
    assert set_architecture(path, Platform.parse("aarch64"))
    assert architecture(path) == "arm64"
    assert codes(path.read_bytes()) == (b"04\0", b"02\0", b"04\0", b"02\0")
    before = path.read_bytes()
    assert not set_architecture(path, Platform.parse("aarch64"))
    assert path.read_bytes() == before


def test_platform_unknown_to_sif_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.sif"
    path.write_bytes(a_sif())
    assert not set_architecture(path, Platform.parse("loong64"))
    assert path.read_bytes() == a_sif()


@given(raw=st.binary(max_size=200))
def test_other_file_is_rejected_as_sif(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("sif") / "x.sif"
    path.write_bytes(raw)
    with pytest.raises(ChainbuildError, match="not a SIF file"):
        set_architecture(path, Platform.parse("amd64"))


def test_truncated_descriptors_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.sif"
    path.write_bytes(a_sif()[:-10])
    with pytest.raises(ChainbuildError, match="not a SIF file"):
        set_architecture(path, Platform.parse("aarch64"))
