"""Whether an image is whole: every part that its manifest names, and no more requests than that needs."""

from __future__ import annotations

import pytest

from chainbuild import limits
from chainbuild.errors import LoginNeededError, RegistryError, UnreachableError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.images import is_intact
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import Answer, FakeRegistry

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")
NAME = ImageReference.parse("localhost:5000/a:1")


@pytest.mark.parametrize("lost", ["first layer", "last layer", "config", "manifest"])
@pytest.mark.parametrize("indexed", [False, True])
def test_lost_part_is_noticed(fake: FakeRegistry, registries: Registries, lost: str, indexed: bool) -> None:
    image = fake.add_image("a:1", "amd64", layers=[b"one", b"two"], tag=not indexed)
    if indexed:
        fake.add_index("a:1", [image])
    assert is_intact(registries, NAME, AMD64)
    assert is_intact(registries, image.reference, AMD64)
    parts = {
        "first layer": image.layers[0].digest,
        "last layer": image.layers[-1].digest,
        "config": image.manifest.config.digest,
        "manifest": image.digest,
    }
    fake.host().forget(parts[lost])
    assert not is_intact(registries, NAME, AMD64)
    assert not is_intact(registries, image.reference, AMD64)


@pytest.mark.parametrize("damaged", ["config", "manifest"])
def test_damage_of_manifest_or_config_is_noticed(fake: FakeRegistry, registries: Registries, damaged: str) -> None:
    image = fake.add_image("a:1", "amd64")
    fake.host().damage(image.manifest.config.digest if damaged == "config" else image.digest)
    assert not is_intact(registries, image.reference, AMD64)


def test_image_of_another_platform_is_not_intact(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("a:1", "aarch64")
    assert not is_intact(registries, NAME, AMD64)
    fake.add_index("a:all", [image])
    assert not is_intact(registries, ImageReference.parse("localhost:5000/a:all"), AMD64)
    assert is_intact(registries, ImageReference.parse("localhost:5000/a:all"), ARM64)


def test_layers_are_not_read(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("a:1", "amd64", layers=[b"one", b"two"])
    fake.log.clear()
    assert is_intact(registries, NAME, AMD64)
    for layer in image.layers:
        assert not fake.counted("GET", str(layer.digest))
        assert fake.counted("HEAD", str(layer.digest)) == 1


def test_unreachable_registry_is_an_error_not_a_loss(fake: FakeRegistry, registries: Registries) -> None:
    fake.add_image("a:1", "amd64")
    fake.host().down = True
    with pytest.raises(UnreachableError):
        is_intact(registries, NAME, AMD64)
    fake.host().down = False
    fake.host().require("Basic x", 'Basic realm="x"')
    with pytest.raises(LoginNeededError):
        is_intact(registries, NAME, AMD64)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "UNSUPPORTED"), (418, ""), (429, "TOOMANYREQUESTS"), (503, "UNAVAILABLE")]
)
def test_is_intact_with_an_unclear_answer_raises(
    fake: FakeRegistry, registries: Registries, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """A registry that refuses, or is busy, has not lost the image: building it anew would be hours for nothing."""
    monkeypatch.setattr(limits, "PACE", limits.Pace(waits=()))
    fake.add_image("a:1", "amd64")
    fake.answers.append(Answer.error(status, code, "no"))
    with pytest.raises(RegistryError, match=str(status)):
        is_intact(registries, NAME, AMD64)


def test_is_intact_with_a_shorter_layer_is_false(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("a:1", "amd64", layers=[b"a layer"])
    fake.host().blobs["a", str(image.layers[0].digest)] = b"a lay"
    assert not is_intact(registries, NAME, AMD64)


def test_is_intact_with_an_artifact_is_false(registries: Registries) -> None:
    put_artifact(registries, NAME, artifact_type="application/x", content=b"{}")
    assert not is_intact(registries, NAME, AMD64)
