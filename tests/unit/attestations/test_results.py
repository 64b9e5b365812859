"""What a run gives its results besides their tags: annotations, and signatures over indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.attestations.verification import read_evidence
from chainbuild.attestations.writer import sign_index
from chainbuild.references import Platform
from chainbuild.registry.images import put_index, resolve
from chainbuild.registry.oci import Index
from chainbuild.registry.signed_tags import signed_tag
from chainbuild.values import replace
from tests.support.attestations import COMMIT, HERE, SOURCE, attested_world, result_of, signer
from tests.support.keys import keyring
from tests.support.world import AMD64, ARM64, REPOSITORY, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return attested_world(tmp_path)


def test_result_is_annotated_with_base_source_and_revision(world: World) -> None:
    annotations = dict(result_of(world).manifest.annotations)
    digest = world.registries.client("docker.io").manifest("library/slim", "1").digest
    assert annotations["org.opencontainers.image.base.name"] == "docker.io/library/slim:1"
    assert annotations["org.opencontainers.image.base.digest"] == str(digest)
    assert annotations["org.opencontainers.image.revision"] == COMMIT
    assert annotations["org.opencontainers.image.source"] == SOURCE


def test_tree_with_other_changes_has_no_revision(world: World) -> None:
    world.notes = {**world.notes, "dirty": "yes"}
    world.write({"src/setup.py": "other()\n"})
    assert world.run().succeeded
    annotations = dict(result_of(world).manifest.annotations)
    assert "org.opencontainers.image.revision" not in annotations
    assert annotations["org.opencontainers.image.source"] == SOURCE


def test_annotations_change_neither_content_nor_labels(world: World) -> None:
    before = result_of(world).config
    world.notes = {**world.notes, "commit": "f" * 40}
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built == [], "a commit that changes nothing builds nothing"
    assert result_of(world).config.raw == before.raw
    assert not [name for name, _ in before.labels if name.startswith("org.opencontainers")]


def test_step_of_a_chain_has_no_annotations(world: World) -> None:
    assert result_of(world, "v1-stock-20-blas-amd64").manifest.annotations == ()


def test_index_is_signed_if_its_images_are(world: World) -> None:
    index = world.registries.client(HERE).manifest(REPOSITORY, "v1-stock")
    assert (REPOSITORY, signed_tag(index.digest, "sig")) in world.host.tags
    evidence = read_evidence(world.registries, HERE.with_digest(index.digest), [signer()])
    assert [each.name for each in evidence.signers] == ["key 1"]


def test_index_with_a_foreign_image_is_not_signed(world: World) -> None:
    """Anyone with write access may have put an image of another platform into the index."""
    foreign = world.fake.add_image(f"{REPOSITORY}:x", ARM64, layers=[b"foreign"])
    own = resolve(world.registries, HERE.with_tag("v1-stock-amd64"), AMD64)
    name = HERE.with_tag("mixed")
    index = put_index(world.registries, name, {AMD64: own.descriptor, ARM64: foreign.descriptor})
    assert not sign_index(world.registries, keyring(1), name)
    assert (REPOSITORY, signed_tag(index.digest, "sig")) not in world.host.tags
    world.host.tags[REPOSITORY, "v1-stock"] = str(index.digest)
    world.now += 1
    world.write({"src/setup.py": "other()\n"})
    assert world.run().succeeded
    assert any("v1-stock is not signed, because no trusted key" in text for text in world.messages)


ATTESTATION = (("vnd.docker.reference.type", "attestation-manifest"),)
UNKNOWN = Platform.from_oci("unknown", "unknown")


def mixed_index_is_signed(
    world: World, platform: Platform | None = None, annotations: tuple[tuple[str, str], ...] = ()
) -> bool:
    """Return whether an index is signed that has the result and, with that platform and annotations, a foreign image."""
    foreign = world.fake.add_image(f"{REPOSITORY}:x", ARM64, layers=[b"foreign"])
    own = replace(resolve(world.registries, HERE.with_tag("v1-stock-amd64"), AMD64).descriptor, platform=AMD64)
    entry = replace(foreign.descriptor, platform=platform, annotations=annotations)
    index = Index.make([own, entry])
    world.registries.client(HERE).put_manifest(REPOSITORY, "mixed", index.raw, index.media_type)
    sign_index(world.registries, keyring(1), HERE.with_tag("mixed"))
    return (REPOSITORY, signed_tag(index.digest, "sig")) in world.host.tags


def test_foreign_child_without_a_platform_prevents_the_signature(world: World) -> None:
    """containerd takes such a child for every platform that the index does not have."""
    assert not mixed_index_is_signed(world)


def test_foreign_image_marked_as_attestation_prevents_the_signature(world: World) -> None:
    """The mark is an annotation that anyone can write; clients choose by platform."""
    assert not mixed_index_is_signed(world, platform=ARM64, annotations=ATTESTATION)


def test_attestation_of_buildkit_in_an_index_needs_no_signature(world: World) -> None:
    assert mixed_index_is_signed(world, platform=UNKNOWN, annotations=ATTESTATION)
