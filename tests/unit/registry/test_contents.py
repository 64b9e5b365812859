"""Which layer each file of an image comes from, read from tars that were compressed in every way that registries have."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Mapping

import pytest
from backports import zstd

from chainbuild.errors import RegistryError
from chainbuild.references import ImageReference
from chainbuild.registry.contents import Origin, origins
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from tests.unit.registry.fake_registry import DEFAULT_HOST, FakeRegistry

PLACE = ImageReference(DEFAULT_HOST, "team/app")
TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    TAR: bytes,
    f"{TAR}+gzip": gzip.compress,
    f"{TAR}+zstd": zstd.compress,
    DOCKER: gzip.compress,
}


def tar(files: Mapping[str, bytes | str | None]) -> bytes:
    """A tar of files, folders (None) and hard links (a text)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def found(*layers: tuple[str, bytes]) -> dict[str, Origin]:
    fake = FakeRegistry()
    rows = []
    for kind, raw in layers:
        fake.add_blob("team/app", raw)
        rows.append(Descriptor.of(raw, kind))
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    return origins(registries, PLACE, tuple(rows))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_file_is_of_the_last_layer_that_has_it(kind: str) -> None:
    pack = PACKERS[kind]
    lower = pack(tar({"usr": None, "usr/a": b"a" * 10, "./usr/b": b"b" * 70_000, "usr/c": b"c"}))
    upper = pack(tar({"usr/b": b"bb", "usr/.wh.c": b"", "usr/lib/.wh..wh..opq": b"", "/usr/d": b"dd"}))
    assert found((kind, lower), (kind, upper)) == {
        "/usr/a": Origin(0, 10),
        "/usr/b": Origin(1, 2),
        "/usr/c": Origin(0, 1),  # it is gone from the image, and nobody will ask for it
        "/usr/d": Origin(1, 2),
    }


def test_hard_links_have_the_size_of_their_file() -> None:
    assert found((TAR, tar({"bin/a": b"12345", "bin/b": "bin/a", "bin/c": "./bin/a"}))) == {
        "/bin/a": Origin(0, 5),
        "/bin/b": Origin(0, 5),
        "/bin/c": Origin(0, 5),
    }


def test_names_that_are_no_text_come_through() -> None:
    name = os.fsdecode(b"odd\xff\nname")
    assert found((TAR, tar({name: b"x"}))) == {f"/{name}": Origin(0, 1)}


def test_no_layers_no_files() -> None:
    assert found() == {}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_layer_that_is_cut_off_is_told(kind: str) -> None:
    raw = PACKERS[kind](tar({"a": os.urandom(50_000)}))[:30_000]
    with pytest.raises(RegistryError, match="cannot be read"):
        found((kind, raw))


@pytest.mark.parametrize("kind", [f"{TAR}+gzip", f"{TAR}+zstd"])
def test_a_layer_that_is_something_else_is_told(kind: str) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        found((kind, b"not compressed at all" * 100))


def test_a_layer_that_was_changed_on_the_way_is_told() -> None:
    fake = FakeRegistry()
    raw = tar({"a": b"a"}) + b"\0" * 2048
    digest = fake.add_blob("team/app", raw)
    fake.host().damage(digest)
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    with pytest.raises(RegistryError, match="damaged"):
        origins(registries, PLACE, (Descriptor.of(raw, TAR),))
