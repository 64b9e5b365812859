"""Limits and checks of layers that are unpacked to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from chainbuild import limits
from chainbuild.errors import DamagedContentError, LimitError
from chainbuild.references import ImageReference
from chainbuild.registry.oci import OCI_LAYER_ZSTD, Descriptor, digest_of
from chainbuild.registry.pool import Registries
from chainbuild.singularity.layout import BlobStore
from chainbuild.values import replace
from tests.support.fake_registry import DEFAULT_HOST, FakeRegistry

PLACE = ImageReference(DEFAULT_HOST, "team/app")
CONTENT = bytes(4 << 20)


@pytest.fixture
def store(registries: Registries, tmp_path: Path) -> BlobStore:
    return BlobStore(registries, tmp_path / "blobs")


def fetched(
    fake: FakeRegistry, store: BlobStore, change: Callable[[Descriptor], Descriptor] = lambda one: one
) -> Descriptor:
    packed = zstd.compress(CONTENT)
    fake.add_blob("team/app", packed)
    layer = change(Descriptor.of(packed, OCI_LAYER_ZSTD))
    store.fetch(PLACE, [layer], lambda *_: None)
    return layer


def test_unpack_of_layer_over_limit_leaves_no_file(
    fake: FakeRegistry, store: BlobStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A layer of a kilobyte can unpack to fill the disk."""
    monkeypatch.setattr(limits, "UNPACKED", replace(limits.UNPACKED, value=1 << 20))
    layer = fetched(fake, store)
    with pytest.raises(LimitError, match="the unpacked size of a layer, 1 MiB"):
        store.unpack(PLACE, layer, digest_of(CONTENT))
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [layer.digest.hex]


def test_unpack_verifies_sha512_diff_id(fake: FakeRegistry, store: BlobStore) -> None:
    layer = fetched(fake, store)
    assert store.unpack(PLACE, layer, digest_of(CONTENT, "sha512")).size == len(CONTENT)
    with pytest.raises(DamagedContentError, match="does not match its diff id"):
        store.unpack(PLACE, layer, digest_of(b"other", "sha512"))


def test_fetch_of_layer_over_descriptor_size_leaves_no_file(
    fake: FakeRegistry, store: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(DamagedContentError, match="bytes, not"):
        fetched(fake, store, lambda layer: replace(layer, size=layer.size - 1))
    assert list((tmp_path / "blobs").iterdir()) == []
