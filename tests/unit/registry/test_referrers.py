"""Attachments of images: by the referrers API, or by the referrers tag schema if the registry has no API."""

from __future__ import annotations

import json

import pytest

from chainbuild.errors import NotFoundInRegistryError, RegistryError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import attach, attached, copy_attached, put_artifact
from chainbuild.registry.images import RemoteImage, read_index
from chainbuild.registry.oci import OCI_INDEX, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers, referrers_tag, subject_of
from tests.support.fake_registry import DEFAULT_HOST, Answer, FakeRegistry

KIND = "application/spdx+json"
PLACE = ImageReference(DEFAULT_HOST, "team/app")


@pytest.fixture(params=[False, True], ids=["tag schema", "list of its own"])
def fake(request: pytest.FixtureRequest) -> FakeRegistry:
    made = FakeRegistry()
    made.host().lists_referrers = request.param
    made.host("ghcr.io").lists_referrers = request.param
    return made


@pytest.fixture
def registries(fake: FakeRegistry) -> Registries:
    return Registries(transport=fake.transport, credentials=lambda host: None)


@pytest.fixture
def image(fake: FakeRegistry) -> RemoteImage:
    return fake.add_image("team/app:1")


def put(registries: Registries, image: RemoteImage, content: bytes = b"{}", kind: str = KIND) -> Digest:
    return attach(
        registries, image.reference, artifact_type=kind, media_type="application/json", content=content, title="x.json"
    )


def test_attachment_is_read_back(registries: Registries, image: RemoteImage) -> None:
    assert attached(registries, image.reference, KIND) is None
    content = b'{"a": 1}' * 100_000
    digest = put(registries, image, content)
    assert attached(registries, image.reference, KIND) == content
    assert attached(registries, image.reference, "application/other") is None
    (row,) = referrers(registries, image.reference)
    assert (row.digest, row.artifact_type) == (digest, KIND)


def test_attachment_manifest_follows_the_specification(
    fake: FakeRegistry, registries: Registries, image: RemoteImage
) -> None:
    digest = put(registries, image)
    _, raw = fake.host().manifests["team/app", str(digest)]
    document = json.loads(raw)
    subject = document["subject"]
    assert (subject["digest"], subject["size"]) == (str(image.digest), len(image.manifest.raw))
    assert subject["mediaType"] == image.manifest.media_type
    assert document["artifactType"] == KIND
    assert document["layers"][0]["mediaType"] == "application/json+gzip"
    assert document["annotations"]["org.opencontainers.image.title"] == "x.json.gz"
    index = read_index(registries, PLACE.with_tag(referrers_tag(image.digest)))
    if fake.host().lists_referrers:
        assert index is None, "a registry with a list needs no tag"
    else:
        assert index is not None
        assert index.media_type == OCI_INDEX
        assert [one.artifact_type for one in index.manifests] == [KIND]


def test_same_attachment_causes_no_change(fake: FakeRegistry, registries: Registries, image: RemoteImage) -> None:
    put(registries, image)
    before = dict(fake.host().manifests), dict(fake.host().tags)
    put(registries, image)
    assert (fake.host().manifests, fake.host().tags) == before


def test_newer_attachment_replaces_only_that_of_chainbuild(
    fake: FakeRegistry, registries: Registries, image: RemoteImage
) -> None:
    fake.host().lists_referrers = False  # such a list is the registry's own affair
    put(registries, image, b"ours")
    put(registries, image, b"another kind", "application/other")
    theirs = put_artifact(registries, PLACE, artifact_type=KIND, content=b"theirs", subject=image.descriptor)
    tag = PLACE.with_tag(referrers_tag(image.digest))
    from chainbuild.registry.oci import Descriptor, Index

    index = read_index(registries, tag)
    assert index is not None
    raw = fake.host().manifests["team/app", str(theirs)][1]
    row = Descriptor(media_type=Manifest.parse(raw).media_type, digest=theirs, size=len(raw), artifact_type=KIND)
    more = Index.make([*index.manifests, row])
    registries.client(tag).put_manifest(tag.repository, tag.tag_or_latest, more.raw, more.media_type)
    put(registries, image, b"newer")
    kinds = [one.artifact_type for one in referrers(registries, image.reference)]
    assert sorted(kinds) == ["application/other", KIND, KIND]
    assert attached(registries, image.reference, KIND) == b"newer"
    assert theirs in {one.digest for one in referrers(registries, image.reference)}


def test_foreign_attachment_is_read_unchanged(fake: FakeRegistry, registries: Registries, image: RemoteImage) -> None:
    digest = put_artifact(registries, PLACE, artifact_type=KIND, content=b'{"plain": 1}', subject=image.descriptor)
    if not fake.host().lists_referrers:
        from chainbuild.registry.oci import Descriptor, Index

        raw = fake.host().manifests["team/app", str(digest)][1]
        row = Descriptor(
            media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size=len(raw), artifact_type=KIND
        )
        index = Index.make([row])
        registries.client(PLACE).put_manifest("team/app", referrers_tag(image.digest), index.raw, index.media_type)
    assert attached(registries, image.reference, KIND) == b'{"plain": 1}'


def test_attachments_are_copied_to_another_registry(
    fake: FakeRegistry, registries: Registries, image: RemoteImage
) -> None:
    from chainbuild.registry.images import copy_image

    put(registries, image, b"bill")
    target = ImageReference.parse("ghcr.io/acme/app:1")
    copy_image(registries, image.reference, target)
    copy_attached(registries, image.reference, target)
    there = target.with_digest(image.digest)
    assert attached(registries, there, KIND) == b"bill"
    before = dict(fake.host("ghcr.io").manifests)
    copy_attached(registries, image.reference, target)
    assert fake.host("ghcr.io").manifests == before


def test_damaged_attachment_is_reported(fake: FakeRegistry, registries: Registries, image: RemoteImage) -> None:
    digest = put(registries, image, b"x" * 200_000)
    blob = json.loads(fake.host().manifests["team/app", str(digest)][1])["layers"][0]["digest"]
    fake.host().damage(blob)
    with pytest.raises(RegistryError, match="damaged"):
        attached(registries, image.reference, KIND)


def test_missing_image_gets_no_attachment(registries: Registries, image: RemoteImage) -> None:
    nowhere = PLACE.with_digest(Digest("sha256:" + "0" * 64))
    with pytest.raises(NotFoundInRegistryError):
        attach(registries, nowhere, artifact_type=KIND, media_type="x/y", content=b"", title="x")
    with pytest.raises(ValueError, match="digest"):
        referrers(registries, PLACE.with_tag("1"))


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_registry_without_referrers_api_is_recognised(
    fake: FakeRegistry, registries: Registries, image: RemoteImage, status: int
) -> None:
    fake.answers.append(Answer.error(status, "UNSUPPORTED"))
    assert registries.client(PLACE).referrers("team/app", image.digest) is None


def test_html_page_is_not_a_list(fake: FakeRegistry, registries: Registries, image: RemoteImage) -> None:
    fake.answers.append(Answer(200, b"<html>", {"Content-Type": "text/html"}))
    assert registries.client(PLACE).referrers("team/app", image.digest) is None


@pytest.mark.parametrize("tag", ["v1", "sha256-abc", "sha256-" + "g" * 64, "sha256-" + "a" * 64 + ".sign", "k1-x"])
def test_other_tags_have_no_subject(tag: str) -> None:
    assert subject_of(tag) is None


@pytest.mark.parametrize("suffix", [".sig", ".att", ".sbom"])
def test_tags_of_cosign_have_their_image_as_subject(suffix: str) -> None:
    assert subject_of("sha256-" + "a" * 64 + suffix) == Digest("sha256:" + "a" * 64)


def test_referrers_tag_names_its_image() -> None:
    digest = Digest("sha256:" + "ab" * 32)
    assert subject_of(referrers_tag(digest)) == digest
