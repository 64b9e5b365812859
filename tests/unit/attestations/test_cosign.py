"""Signatures in cosign's form, byte by byte, and what a second run, another signer and a copy make of them.

The facts are those of sigstore/cosign: specs/SIGNATURE_SPEC.md ("Tag-based Discovery", "OCI Image Manifest V1", "Simple
Signing"), specs/ATTESTATION_SPEC.md ("Overall Layout"), and of what `cosign attest` writes (cmd/cosign/cli/attest).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.attestations.statement import SPDX_TYPE
from chainbuild.attestations.verification import read_evidence
from chainbuild.attestations.writer import sign_image
from chainbuild.execution.publish import push_results
from chainbuild.planning.decisions import Renewal
from chainbuild.records.garbage import collect, find_garbage, is_readable
from chainbuild.references import ImageReference
from chainbuild.registry.oci import Index
from chainbuild.registry.referrers import referrers_tag
from chainbuild.registry.signed_tags import KINDS, copy_signed, read_signed, signed_tag
from chainbuild.trust.envelope import Envelope, pae
from tests.support.attestations import HERE, attest, attested_world, content, result_of, signed, signer
from tests.support.keys import keyring, signing_key
from tests.support.world import REPOSITORY, World

THERE = ImageReference.parse("ghcr.io/acme/atom")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return attested_world(tmp_path)


@pytest.fixture
def listing(tmp_path: Path) -> World:
    """Return such a world whose registry lists referrers."""
    world = World(tmp_path)
    world.host.lists_referrers = True
    return attest(world)


def pem_key() -> Ed25519PublicKey:
    """Return the public key as another program reads it: from what `chainbuild trust key --pem` prints."""
    key = load_pem_public_key(signing_key(1).public.pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


def test_signature_has_the_tag_the_specification_derives(world: World) -> None:
    digest = result_of(world).digest
    for kind in KINDS:
        assert (REPOSITORY, f"sha256-{digest.hex}.{kind}") in world.host.tags


def test_signature_layer_is_byte_for_byte_that_of_cosign(world: World) -> None:
    image = result_of(world)
    manifest = signed(world.registries, image.reference, "sig")
    assert manifest.config.media_type == "application/vnd.oci.image.config.v1+json"
    (layer,) = manifest.layers
    assert layer.media_type == "application/vnd.dev.cosign.simplesigning.v1+json"
    raw = content(world.registries, image.reference, layer)
    # Go's JSON of payload.SimpleContainerImage in sigstore/sigstore.
    assert raw == (
        b'{"critical":{"identity":{"docker-reference":"team/atom"},"image":{"docker-manifest-digest":"%b"},'
        b'"type":"cosign container image signature"},"optional":null}' % str(image.digest).encode()
    )
    value = base64.b64decode(dict(layer.annotations)["dev.cosignproject.cosign/signature"], validate=True)
    pem_key().verify(value, raw)


def test_attestations_are_envelopes_with_the_type_of_predicate(world: World) -> None:
    image = result_of(world)
    manifest = signed(world.registries, image.reference, "att")
    assert [dict(layer.annotations)["predicateType"] for layer in manifest.layers] == [PROVENANCE_TYPE, SPDX_TYPE]
    for layer in manifest.layers:
        assert layer.media_type == "application/vnd.dsse.envelope.v1+json"
        assert dict(layer.annotations)["dev.cosignproject.cosign/signature"] == ""
        document = json.loads(content(world.registries, image.reference, layer))
        assert set(document) == {"payload", "payloadType", "signatures"}
        assert document["payloadType"] == "application/vnd.in-toto+json"
        (signature,) = document["signatures"]
        assert set(signature) == {"keyid", "sig"}
        message = pae(document["payloadType"], base64.b64decode(document["payload"]))
        pem_key().verify(base64.b64decode(signature["sig"]), message)


def test_manifests_name_their_image_as_oci_subject(listing: World) -> None:
    """OCI distribution spec 1.1, "Referrers"; the artifact types are cosign's (internal/pkg/oci/remote)."""
    image = result_of(listing)
    for kind in KINDS:
        manifest = signed(listing.registries, image.reference, kind)
        assert manifest.subject is not None
        assert manifest.subject.digest == image.digest
        assert manifest.artifact_type == f"application/vnd.dev.cosign.artifact.{kind}.v1+json"


def test_manifests_have_no_subject_where_the_registry_lists_none(world: World) -> None:
    """Else `cosign copy` of go-containerregistry makes a list of them under the tag that it then wants for the image."""
    for kind in KINDS:
        assert signed(world.registries, result_of(world).reference, kind).subject is None


def test_registry_that_lists_referrers_needs_no_tag(listing: World) -> None:
    for kind in KINDS:
        listing.host.tags.pop((REPOSITORY, signed_tag(result_of(listing).digest, kind)))
    evidence = read_evidence(listing.registries, result_of(listing).reference, [signer()])
    assert [len(evidence.signers), len(evidence.statements)] == [1, 2]


def test_copy_with_its_referrers_needs_no_tag_of_cosign(listing: World) -> None:
    """`oras copy -r` to a registry that lists none: everything is in a list under the tag `sha256-<hex>`."""
    image = result_of(listing)
    rows = [signed(listing.registries, image.reference, kind).descriptor for kind in KINDS]
    index = Index.make(rows)
    listing.registries.client(HERE).put_manifest(REPOSITORY, referrers_tag(image.digest), index.raw, index.media_type)
    listing.host.lists_referrers = False
    for kind in KINDS:
        listing.host.tags.pop((REPOSITORY, signed_tag(image.digest, kind)))
    evidence = read_evidence(listing.registries, image.reference, [signer()])
    assert [len(evidence.signers), len(evidence.statements)] == [1, 2]


# Again ----------------------------------------------------------------------------------------------------------------


def test_second_run_attests_nothing_and_asks_nothing(world: World) -> None:
    world.begin_again()
    assert world.run().succeeded
    assert not [path for method, path in world.fake.log if ".sig" in path or ".att" in path]


def test_run_after_a_kill_attests_what_the_killed_run_built(world: World) -> None:
    digest = result_of(world).digest
    before = {kind: world.host.tags.pop((REPOSITORY, signed_tag(digest, kind))) for kind in KINDS}
    world.drop_indexes()
    assert world.run().succeeded
    assert {kind: world.host.tags[REPOSITORY, signed_tag(digest, kind)] for kind in KINDS} == before


def test_reused_result_of_another_user_is_not_attested(world: World) -> None:
    digest = result_of(world).digest
    for kind in KINDS:
        world.host.tags.pop((REPOSITORY, signed_tag(digest, kind)))
    world.drop_indexes()
    world.sign_as(2, trusts=(signing_key(1).public,))
    assert world.run().succeeded
    assert read_signed(world.registries, result_of(world).reference, "att") is None


def test_renewed_result_of_equal_content_has_one_provenance(world: World) -> None:
    world.now += 3600
    world.run(renewal=Renewal(refresh=True))
    manifest = signed(world.registries, result_of(world).reference, "att")
    assert len(manifest.layers) == 2
    evidence = read_evidence(world.registries, result_of(world).reference, [signer()])
    assert evidence.provenance[0].account is not None
    assert evidence.provenance[0].account.finished == world.now


def test_signature_of_a_second_signer_is_added(world: World) -> None:
    image = result_of(world)
    assert sign_image(world.registries, keyring(2), image.reference)
    assert not sign_image(world.registries, keyring(2), image.reference)
    evidence = read_evidence(world.registries, image.reference, [signer(1), signer(2)])
    assert [each.name for each in evidence.signers] == ["key 1", "key 2"]


# Copies ---------------------------------------------------------------------------------------------------------------


def test_push_sends_signature_and_attestations(world: World) -> None:
    world.fake.host("ghcr.io")
    push_results(world.registries, THERE, world.graph().chains, world.run())
    place = THERE.with_digest(result_of(world).digest)
    evidence = read_evidence(world.registries, place, [signer()])
    assert [len(evidence.signers), len(evidence.statements), evidence.refused] == [1, 2, ()]


def test_copy_keeps_signatures_that_the_target_has(world: World) -> None:
    world.fake.host("ghcr.io")
    push_results(world.registries, THERE, world.graph().chains, world.run())
    place = THERE.with_digest(result_of(world).digest)
    sign_image(world.registries, keyring(3), place)
    copy_signed(world.registries, result_of(world).reference, THERE)
    evidence = read_evidence(world.registries, place, [signer(1), signer(3)])
    assert {each.name for each in evidence.signers} == {"key 1", "key 3"}
    world.fake.log.clear()
    copy_signed(world.registries, result_of(world).reference, THERE)
    assert not world.fake.counted("PUT", "manifests")


def test_garbage_collection_keeps_and_removes_with_the_image(world: World) -> None:
    digest = result_of(world).digest
    tags = {signed_tag(digest, kind) for kind in KINDS}
    assert not any(is_readable(tag) for tag in tags)
    kept = find_garbage(world.registries, HERE, dropped=())
    assert not tags & {tag for held in kept.manifests for tag in held.tags}
    gone = find_garbage(world.registries, HERE, dropped=list(world.tags()))
    assert tags <= {tag for held in gone.manifests for tag in held.tags}
    collect(world.registries, gone)
    assert not tags & {tag for _, tag in world.host.tags}


def test_envelope_without_a_key_id_is_verified_by_any_key() -> None:
    """cosign writes an empty `keyid`."""
    envelope = Envelope.sign(b"{}", "a/b", signing_key(1))
    raw = json.loads(envelope.raw)
    raw["signatures"] = [{"keyid": "", "sig": raw["signatures"][0]["sig"]}]
    parsed = Envelope.parse(json.dumps(raw).encode())
    assert parsed.valid_keys([signing_key(2).public, signing_key(1).public]) == (signing_key(1).public,)
