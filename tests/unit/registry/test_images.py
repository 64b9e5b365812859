from __future__ import annotations

import pytest

from chainbuild.errors import NotFoundInRegistryError, RegistryError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.images import (
    copy_image,
    images_of_tags,
    platforms_of,
    put_index,
    put_tag,
    read_index,
    replace_config,
    resolve,
)
from chainbuild.registry.oci import digest_of
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import Answer, FakeRegistry

AMD64, ARM64, ARMV7 = (Platform.parse(name) for name in ("amd64", "aarch64", "armv7"))


def at(name: str) -> ImageReference:
    return ImageReference.parse(name if "/" in name and "." in name.partition("/")[0] else f"localhost:5000/{name}")


def test_image_of_one_platform_is_found_and_pinned(fake: FakeRegistry, registries: Registries) -> None:
    made = fake.add_image("team/app:1", layers=[b"one", b"two"], env=[("A", "1")])
    found = resolve(registries, at("team/app:1"), AMD64)
    assert found == made
    assert found.reference.pinned == f"localhost:5000/team/app@{made.digest}"
    assert found.size == made.manifest.config.size + 6
    assert found.index_digest is None


def test_index_leads_to_the_platform_image(fake: FakeRegistry, registries: Registries) -> None:
    images = [fake.add_image(f"team/app:{name}", name, layers=[name.encode()]) for name in ("amd64", "aarch64")]
    index = fake.add_index("team/app:all", images, attested=True)
    found = resolve(registries, at("team/app:all"), Platform.parse("linux/arm64/v8"))
    assert (found.digest, found.index_digest) == (images[1].digest, index.digest)
    assert platforms_of(registries, at("team/app:all")) == (AMD64, ARM64)
    by_digest = ImageReference.parse(f"localhost:5000/team/app@{index.digest}")
    assert resolve(registries, by_digest, AMD64).digest == images[0].digest


def test_missing_image_is_reported_with_its_name(registries: Registries) -> None:
    with pytest.raises(NotFoundInRegistryError, match="localhost:5000/team/app:1 is not in localhost:5000"):
        resolve(registries, at("team/app:1"), AMD64)


@pytest.mark.parametrize("indexed", [True, False])
def test_image_for_other_platforms_lists_them(fake: FakeRegistry, registries: Registries, indexed: bool) -> None:
    image = fake.add_image("team/app:1", "aarch64")
    if indexed:
        fake.add_index("team/app:1", [image], attested=True)
    with pytest.raises(NotFoundInRegistryError, match="exists, but not for amd64; it has: aarch64"):
        resolve(registries, at("team/app:1"), AMD64)


def test_artifact_is_not_an_image(registries: Registries) -> None:
    put_artifact(registries, at("team/app:k1-0"), artifact_type="application/vnd.example", content=b"{}")
    with pytest.raises(RegistryError, match=r"not an image but an artifact \(application/vnd.example\)"):
        resolve(registries, at("team/app:k1-0"), AMD64)


def test_damaged_config_is_an_error(fake: FakeRegistry, registries: Registries) -> None:
    fake.host().damage(fake.add_image("team/app:1").manifest.config.digest)
    with pytest.raises(RegistryError, match="damaged"):
        resolve(registries, at("team/app:1"), AMD64)


# ---- copies -----------------------------------------------------------------------------------------------------------


def test_copy_within_a_registry_sends_no_layer(fake: FakeRegistry, registries: Registries) -> None:
    made = fake.add_image("team/app:1", layers=[b"one", b"two"])
    assert copy_image(registries, at("team/app:1"), at("team/other:9")) == made.digest
    assert resolve(registries, at("team/other:9"), AMD64).layers == made.layers
    assert fake.counted("PUT", "blobs") == 0


def test_known_manifest_is_tagged_without_being_read(fake: FakeRegistry, registries: Registries) -> None:
    made = fake.add_image("team/app:1", layers=[b"one"])
    put_tag(registries, at("team/app:2"), made.digest, known=made.manifest)
    assert fake.counted("GET", "manifests") == 0
    assert resolve(registries, at("team/app:2"), AMD64).digest == made.digest


def test_artifact_with_several_tags_is_sent_once(fake: FakeRegistry, registries: Registries) -> None:
    names = [at(f"team/app:{tag}") for tag in ("one", "two", "three")]
    digest = put_artifact(
        registries, names[0], artifact_type="application/x", content=b"content", also=["two", "three"]
    )
    assert fake.counted("PUT", "blobs") == fake.counted("HEAD", "blobs") == 2
    found = [read_artifact(registries, name) for name in names]
    assert [(each.digest, each.content) for each in found if each] == [(digest, b"content")] * 3


def test_copy_falls_back_to_sending(fake: FakeRegistry, registries: Registries) -> None:
    fake.add_image("team/app:1", layers=[b"one", b"two"])
    fake.host().can_mount = False
    copy_image(registries, at("team/app:1"), at("team/other:9"))
    assert resolve(registries, at("team/other:9"), AMD64).config
    assert fake.counted("PUT", "blobs") == 3


def test_index_is_copied_between_registries_with_all_that_it_holds(fake: FakeRegistry, registries: Registries) -> None:
    images = [fake.add_image(f"team/app:{name}", name, layers=[name.encode()]) for name in ("amd64", "aarch64")]
    index = fake.add_index("team/app:all", images, attested=True)
    assert copy_image(registries, at("team/app:all"), at("ghcr.io/org/app:1")) == index.digest
    assert fake.host("ghcr.io").manifests.keys() == {
        ("org/app", digest.value) for digest in (index.digest, *(child.digest for child in index.manifests))
    }
    for platform in (AMD64, ARM64):
        image = resolve(registries, at("ghcr.io/org/app:1"), platform)
        assert registries.client("ghcr.io").blob("org/app", image.layers[0].digest) == str(platform).encode()
    fake.log.clear()
    copy_image(registries, at("team/app:all"), at("ghcr.io/org/app:1"))
    assert (fake.counted("PUT"), fake.counted("POST")) == (0, 0)


def test_damaged_layer_is_not_copied_on(fake: FakeRegistry, registries: Registries) -> None:
    made = fake.add_image("team/app:1", layers=[b"some layer"])
    fake.host().damage(made.layers[0].digest)
    with pytest.raises(RegistryError, match="damaged"):
        copy_image(registries, at("team/app:1"), at("ghcr.io/org/app:1"))
    assert fake.host("ghcr.io").manifests == {}


# ---- names ------------------------------------------------------------------------------------------------------------


def test_tag_that_is_right_already_is_not_sent(fake: FakeRegistry, registries: Registries) -> None:
    made = fake.add_image("team/app:1")
    put_tag(registries, at("team/app:again"), made.digest)
    put_tag(registries, at("team/app:again"), made.digest)
    assert fake.counted("PUT", "manifests") == 1
    assert registries.client("localhost:5000").tags("team/app") == ("1", "again")


def test_index_replaces_or_merges(fake: FakeRegistry, registries: Registries) -> None:
    amd64, arm64, newer = (
        fake.add_image(f"team/app:{number}", name, layers=[bytes([number])])
        for number, name in enumerate(("amd64", "aarch64", "aarch64"))
    )
    fake.add_index("team/app:all", [amd64, arm64], attested=True)
    merged = put_index(registries, at("team/app:all"), {ARM64: newer.descriptor}, merge=True)
    assert [child.digest for child in merged.images] == [amd64.digest, newer.digest]
    # The replaced image's attestation is not of this index any more; the kept image's is.
    assert len(merged.manifests) == 3
    assert merged.attestations_of(amd64.digest)
    replaced = put_index(registries, at("team/app:all"), {ARM64: newer.descriptor})
    assert replaced.platforms == (ARM64,)
    assert read_index(registries, at("team/app:all")) == replaced


def test_order_of_platforms_does_not_change_an_index(fake: FakeRegistry, registries: Registries) -> None:
    images = {Platform.parse(n): fake.add_image(f"team/app:{n}", n).descriptor for n in ("aarch64", "amd64", "armv7")}
    one = put_index(registries, at("team/app:a"), images)
    other = put_index(registries, at("team/app:b"), dict(reversed(images.items())))
    assert one.digest == other.digest


def test_missing_index_is_none(fake: FakeRegistry, registries: Registries) -> None:
    fake.add_image("team/app:1")
    assert read_index(registries, at("team/app:1")) is None
    assert read_index(registries, at("team/app:2")) is None


def test_config_change_keeps_the_layers(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("team/app:1", layers=[b"one"], cmd=["old"])
    config = image.config.with_changes(cmd=["new"], labels={"a": "b"})
    changed = replace_config(registries, image, config, at("team/app:2"))
    found = resolve(registries, at("team/app:2"), AMD64)
    assert found == changed
    assert (found.config.cmd, found.layers) == (("new",), image.layers)
    assert resolve(registries, at("team/app:1"), AMD64).config.cmd == ("old",)
    other = fake.add_image("team/app:3", layers=[b"two"])
    with pytest.raises(ValueError, match="same layers"):
        replace_config(registries, image, other.config, at("team/app:2"))


# ---- artifacts --------------------------------------------------------------------------------------------------------

KIND = "application/vnd.example.record"


@pytest.mark.parametrize("size", [2, 100_000])
def test_artifact_reads_back(fake: FakeRegistry, registries: Registries, size: int) -> None:
    content = b"x" * size
    digest = put_artifact(registries, at("team/app:k1-0"), artifact_type=KIND, content=content, annotations={"a": "b"})
    fake.log.clear()
    found = read_artifact(registries, at("team/app:k1-0"), KIND)
    assert found is not None
    assert (found.digest, found.content, found.annotations) == (digest, content, (("a", "b"),))
    # A small one costs one request.
    assert len(fake.log) == (1 if size < 1000 else 2)


def test_artifact_of_another_type_is_none(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("team/app:1")
    fake.add_index("team/app:2", [image])
    put_artifact(registries, at("team/app:3"), artifact_type="other", content=b"{}")
    for tag in ("1", "2", "3", "4"):
        assert read_artifact(registries, at(f"team/app:{tag}"), KIND) is None


def test_artifact_without_content_is_none_and_damaged_is_an_error(fake: FakeRegistry, registries: Registries) -> None:
    content = b"y" * 100_000
    put_artifact(registries, at("team/app:k1-0"), artifact_type=KIND, content=content)
    fake.host().damage(digest_of(content))
    with pytest.raises(RegistryError, match="damaged"):
        read_artifact(registries, at("team/app:k1-0"), KIND)
    fake.host().forget(digest_of(content))
    assert read_artifact(registries, at("team/app:k1-0"), KIND) is None


def test_clients_are_made_once_per_host(fake: FakeRegistry, registries: Registries) -> None:
    assert registries.client("ghcr.io") is registries.client(at("ghcr.io/a/b"))
    assert registries.client("ghcr.io") is not registries.client("localhost:5000")


def test_images_of_tags_leaves_out_what_is_not_there(fake: FakeRegistry, registries: Registries) -> None:
    one, other = (fake.add_image(f"team/app:{tag}", layers=[tag.encode()]) for tag in ("one", "other"))
    asked = [at(f"team/app:{tag}") for tag in ("one", "missing", "other")]
    assert images_of_tags(registries, asked) == {asked[0]: one.digest, asked[2]: other.digest}
    assert images_of_tags(registries, []) == {}


def test_images_of_tags_leaves_out_what_cannot_be_asked(fake: FakeRegistry, registries: Registries) -> None:
    fake.add_image("team/app:one", layers=[b"one"])
    fake.answers = [Answer.error(403, "DENIED")]
    assert images_of_tags(registries, [at("team/app:one")]) == {}
