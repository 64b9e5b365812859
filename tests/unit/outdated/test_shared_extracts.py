"""Extracts of layers in the chain registry: what one machine has read, another one does not read again."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from chainbuild.outdated.fetching import Store
from chainbuild.outdated.inventory import InventoryReader
from chainbuild.outdated.layers import LayerReader
from chainbuild.outdated.shared_extracts import PAYLOAD_TYPE, SharedExtracts
from chainbuild.records.tags import packages_layer, packages_tag
from chainbuild.references import ChainRegistry, Digest
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.trust.keyring import SIGNING_KEY, TRUSTED_KEYS, KeyRing
from chainbuild.trust.keys import SigningKey
from tests.support.fake_registry import FakeRegistry
from tests.support.tars import tar

HOST = "localhost:5000"
STATUS = b"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13\n"
LAYERS = ({"var/lib/dpkg/status": STATUS}, {"srv/content": b"no package"})


class Machine:
    """A machine with a cache folder and keys of its own, at a registry that all machines share."""

    def __init__(self, fake: FakeRegistry, folder: Path, key: SigningKey | None, *trusted: SigningKey) -> None:
        self.registries = Registries(transport=fake.transport, credentials=lambda host: None)
        self.store = Store(lambda: folder)
        environ = {TRUSTED_KEYS: " ".join(str(one.public) for one in trusted)}
        if key:
            environ[SIGNING_KEY] = key.secret_text
        self.keyring = KeyRing(shared=True, environ=environ)

    def streamed(self, image: RemoteImage) -> int:
        """Read the packages of the image, and return the number of layers that were read for that."""
        shared = SharedExtracts(self.registries, ChainRegistry.parse(HOST), self.keyring)
        reader = LayerReader(self.registries, self.store, shared)
        inventory = InventoryReader(reader).read(image)
        assert [(package.name, package.version) for package in inventory.packages] == [("zlib1g", "1:1.2.13")]
        return reader.read_layers


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


def add_image(fake: FakeRegistry, name: str) -> RemoteImage:
    return fake.add_image(name, "amd64", layers=[gzip.compress(tar(layer), mtime=0) for layer in LAYERS])


def test_layers_are_read_once_for_all_machines(fake: FakeRegistry, tmp_path: Path) -> None:
    image = add_image(fake, f"{HOST}/team/app:1")
    one, two = SigningKey.generate(), SigningKey.generate()
    first = Machine(fake, tmp_path / "first", one)
    assert first.streamed(image) == 2
    assert first.streamed(image) == 0, "a layer without packages is not read again either"
    second = Machine(fake, tmp_path / "second", two, one)
    assert second.streamed(image) == 0
    fake.host(HOST).tags.clear()
    assert second.streamed(image) == 0, "it keeps what it was given"


def test_extract_of_an_unknown_key_is_not_used(fake: FakeRegistry, tmp_path: Path) -> None:
    image = add_image(fake, f"{HOST}/team/app:1")
    Machine(fake, tmp_path / "first", SigningKey.generate()).streamed(image)
    assert Machine(fake, tmp_path / "second", SigningKey.generate()).streamed(image) == 2


def test_extract_of_another_layer_is_not_used(fake: FakeRegistry, tmp_path: Path) -> None:
    """Who can write to the registry can move the tags of what a trusted key signed."""
    image, key = add_image(fake, f"{HOST}/team/app:1"), SigningKey.generate()
    first = Machine(fake, tmp_path / "first", key)
    first.streamed(image)
    database, empty = (("team/app", packages_tag(layer.digest)) for layer in image.layers)
    fake.host(HOST).tags[database] = fake.host(HOST).tags[empty]
    assert Machine(fake, tmp_path / "second", key).streamed(image) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_what_is_no_extract_is_not_used(fake: FakeRegistry, tmp_path: Path, content: bytes) -> None:
    image, key = add_image(fake, f"{HOST}/team/app:1"), SigningKey.generate()
    machine = Machine(fake, tmp_path / "first", key)
    for number, layer in enumerate(image.layers):
        place = image.reference.with_tag(packages_tag(layer.digest))
        signed = machine.keyring.sign(content, PAYLOAD_TYPE).raw
        raw = signed if number else content
        put_artifact(machine.registries, place, artifact_type=PAYLOAD_TYPE, content=raw)
    assert machine.streamed(image) == 2


def test_nothing_is_written_without_a_key_or_elsewhere(fake: FakeRegistry, tmp_path: Path) -> None:
    image = add_image(fake, f"{HOST}/team/app:1")
    before = dict(fake.host(HOST).tags)
    assert Machine(fake, tmp_path / "first", None).streamed(image) == 2
    assert fake.host(HOST).tags == before
    other = add_image(fake, "registry.test/team/app:1")
    tags = dict(fake.host("registry.test").tags)
    assert Machine(fake, tmp_path / "second", SigningKey.generate()).streamed(other) == 2
    assert fake.host("registry.test").tags == tags


def test_tag_names_its_layer() -> None:
    layer = Digest("sha256:" + "0a" * 32)
    assert packages_layer(packages_tag(layer)) == layer
    assert [packages_layer(tag) for tag in ("k1-packages-0a", "v1", "k1-packages-" + "g" * 64)] == [None] * 3
