"""Which layer each file of an image comes from, read from tars that were compressed in every way that registries have."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable

import pytest
from backports import zstd

from chainbuild import limits
from chainbuild.errors import DamagedContentError, LimitError, RegistryError
from chainbuild.references import ImageReference
from chainbuild.registry.contents import FileOrigin, origins
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.support.fake_registry import DEFAULT_HOST, FakeRegistry
from tests.support.tars import tar

PLACE = ImageReference(DEFAULT_HOST, "team/app")
TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    TAR: bytes,
    f"{TAR}+gzip": gzip.compress,
    f"{TAR}+zstd": zstd.compress,
    DOCKER: gzip.compress,
}


def found(*layers: tuple[str, bytes]) -> dict[str, FileOrigin]:
    fake = FakeRegistry()
    rows = []
    for kind, raw in layers:
        fake.add_blob("team/app", raw)
        rows.append(Descriptor.of(raw, kind))
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    return origins(registries, PLACE, tuple(rows))


@pytest.mark.parametrize("kind", PACKERS)
def test_file_belongs_to_the_last_layer_that_has_it(kind: str) -> None:
    pack = PACKERS[kind]
    lower = pack(tar({"usr": None, "usr/a": b"a" * 10, "./usr/b": b"b" * 70_000, "usr/c": b"c"}))
    upper = pack(tar({"usr/b": b"bb", "usr/.wh.c": b"", "usr/lib/.wh..wh..opq": b"", "/usr/d": b"dd"}))
    assert found((kind, lower), (kind, upper)) == {
        "/usr/a": FileOrigin(0, 10),
        "/usr/b": FileOrigin(1, 2),
        "/usr/c": FileOrigin(0, 1),  # deleted from the image, so it is never looked up
        "/usr/d": FileOrigin(1, 2),
    }


def test_hard_links_have_the_size_of_their_file() -> None:
    assert found((TAR, tar({"bin/a": b"12345", "bin/b": "bin/a", "bin/c": "./bin/a"}))) == {
        "/bin/a": FileOrigin(0, 5),
        "/bin/b": FileOrigin(0, 5),
        "/bin/c": FileOrigin(0, 5),
    }


def test_names_that_are_no_text_come_through() -> None:
    name = os.fsdecode(b"odd\xff\nname")
    assert found((TAR, tar({name: b"x"}))) == {f"/{name}": FileOrigin(0, 1)}


def test_image_without_layers_has_no_files() -> None:
    assert found() == {}


@pytest.mark.parametrize("kind", PACKERS)
def test_truncated_layer_is_reported(kind: str) -> None:
    raw = PACKERS[kind](tar({"a": os.urandom(50_000)}))[:30_000]
    with pytest.raises(RegistryError, match="cannot be read"):
        found((kind, raw))


@pytest.mark.parametrize("kind", [f"{TAR}+gzip", f"{TAR}+zstd"])
def test_layer_of_another_format_is_reported(kind: str) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        found((kind, b"not compressed at all" * 100))


def test_layer_changed_in_transit_is_reported() -> None:
    fake = FakeRegistry()
    raw = tar({"a": b"a"}) + b"\0" * 2048
    digest = fake.add_blob("team/app", raw)
    fake.host().damage(digest)
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    with pytest.raises(RegistryError, match="damaged"):
        origins(registries, PLACE, (Descriptor.of(raw, TAR),))


def test_origins_of_a_layer_longer_than_its_descriptor_raise() -> None:
    fake = FakeRegistry()
    raw = tar({"a": b"a" * 5000})
    digest = fake.add_blob("team/app", raw)
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    short = Descriptor(media_type=TAR, digest=digest, size=len(raw) - 1)
    with pytest.raises(DamagedContentError, match="bytes, not"):
        origins(registries, PLACE, (short,))


@pytest.mark.parametrize("kind", [f"{TAR}+gzip", f"{TAR}+zstd"])
def test_origins_of_a_layer_that_inflates_without_end_name_the_limit(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Compressors reach 1:1,000 and more: the stored size does not limit the unpacked size of a layer."""
    monkeypatch.setattr(limits, "UNPACKED", replace(limits.UNPACKED, value=1 << 20))
    raw = PACKERS[kind](tar({"a": bytes(4 << 20)}))
    assert len(raw) < 20_000
    with pytest.raises(LimitError, match="the unpacked size of a layer, 1 MiB"):
        found((kind, raw))


def test_origins_of_a_large_layer_take_constant_memory() -> None:
    """A layer of gigabytes is read as it streams: nothing grows with its size."""
    import tracemalloc

    raw = gzip.compress(tar({"large": bytes(64 << 20)}), 1)
    fake = FakeRegistry()
    digest = fake.add_blob("team/app", raw)
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    tracemalloc.start()
    try:
        rows = origins(registries, PLACE, (Descriptor(media_type=f"{TAR}+gzip", digest=digest, size=len(raw)),))
        assert rows == {"/large": FileOrigin(0, 64 << 20)}
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
