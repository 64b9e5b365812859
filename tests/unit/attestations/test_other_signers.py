"""What other programs sign: cosign 2 and 3, with keys of any kind it takes, and envelopes as the specifications allow."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chainbuild import limits
from chainbuild.attestations.bundles import SIGN_TYPE
from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.attestations.statement import PAYLOAD_TYPE
from chainbuild.attestations.verification import Evidence, open_attestation, read_evidence, read_signers
from chainbuild.errors import WrongUseError
from chainbuild.limits import Limit
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Index, Manifest
from chainbuild.registry.referrers import referrers_tag
from chainbuild.registry.signed_tags import KINDS, signed_tag
from chainbuild.trust.envelope import Envelope
from chainbuild.trust.verification_keys import parse_verification_key
from chainbuild.values import replace
from tests.support.attestations import HERE, attested_world, result_of, signer, statements
from tests.support.keys import signing_key
from tests.support.world import REPOSITORY, World

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world whose registry lists referrers, and in which only other programs have signed the result."""
    world = attested_world(tmp_path)
    world.host.lists_referrers = True
    return world


def statement_of(image: RemoteImage, predicate_type: str = SIGN_TYPE, **changes: Any) -> bytes:
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.digest.hex}}],
        "predicateType": predicate_type,
        "predicate": {},
    }
    return json.dumps({**document, **changes}).encode()


def sealed(statement: bytes, number: int = 2) -> dict[str, Any]:
    """Return an envelope as cosign writes it: its signatures have no key id."""
    envelope = Envelope.sign(statement, PAYLOAD_TYPE, signing_key(number), shows_key=False)
    document: dict[str, Any] = json.loads(envelope.raw)
    del document["signatures"][0]["keyid"]
    return document


def put_bundle(world: World, content: bytes, artifact_type: str = BUNDLE) -> None:
    put_artifact(
        world.registries,
        HERE,
        artifact_type=artifact_type,
        content=content,
        media_type=artifact_type,
        annotations={"dev.sigstore.bundle.content": "dsse-envelope"},
        subject=result_of(world).descriptor,
    )


def bundle(envelope: dict[str, Any]) -> bytes:
    material = {"publicKey": {"hint": "x"}, "tlogEntries": []}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}).encode()


def evidence_of(world: World, number: int = 2) -> Evidence:
    return read_evidence(world.registries, result_of(world).reference, [signer(number)])


# cosign 3 --------------------------------------------------------------------------------------------------------------


def test_signature_in_a_bundle_of_cosign_3_counts(world: World) -> None:
    put_bundle(world, bundle(sealed(statement_of(result_of(world)))))
    assert [each.name for each in evidence_of(world).signers] == ["key 2"]
    by, _ = read_signers(world.registries, result_of(world).reference, [signer(2)])
    assert [each.name for each in by] == ["key 2"]


def test_provenance_in_a_bundle_of_cosign_3_counts(world: World) -> None:
    provenance = statements(world, result_of(world))[PROVENANCE_TYPE]
    put_bundle(world, bundle(sealed(json.dumps(provenance).encode())))
    for kind in KINDS:
        world.host.tags.pop((REPOSITORY, signed_tag(result_of(world).digest, kind)))
    evidence = evidence_of(world)
    assert len(evidence.provenance) == 1
    assert evidence.signers == (), "a statement about an image is no signature over it"


@pytest.mark.parametrize("told", ["application/vnd.oci.empty.v1+json", ""])
def test_bundle_in_a_list_that_cosign_3_keeps_counts(world: World, told: str) -> None:
    """As cosign 3.1.1 leaves it in docker-registry 2.8: the list has the media type of the artifact's config as its type."""
    world.host.lists_referrers = False
    image = result_of(world)
    put_bundle(world, b'{"spdxVersion": "SPDX-2.3"}', "application/spdx+json")
    put_bundle(world, bundle(sealed(statement_of(image), 3)))
    put_bundle(world, bundle(sealed(statement_of(image))))
    rows = [
        replace(Manifest.parse(raw).descriptor, artifact_type=told)
        for _, raw in world.host.manifests.values()
        if json.loads(raw).get("subject", {}).get("digest") == str(image.digest)
    ]
    index = Index.make(rows)
    world.registries.client(HERE).put_manifest(
        HERE.repository, referrers_tag(image.digest), index.raw, index.media_type
    )
    evidence = evidence_of(world)
    assert [each.name for each in evidence.signers] == ["key 2"]
    others = [each for each in evidence.refused if each.what.startswith("bundle")]
    assert [each.why for each in others] == ["no accepted key signed it"], (
        "what is no bundle is not one that does not count"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda image: bundle(sealed(statement_of(image), 3)), "no accepted key signed it"),
        (
            lambda image: bundle(sealed(statement_of(image, subject=[{"digest": {"sha256": "d" * 64}}]))),
            "another image",
        ),
        (lambda _: b'{"messageSignature":{}}', "missing required field `dsseEnvelope`"),
        (lambda _: b'{"dsseEnvelope":' + b"[" * 9999 + b"]" * 9999 + b"}", "not a"),
        (lambda _: b"\xff", "not a bundle"),
    ],
)
def test_bundle_that_proves_nothing_is_refused_with_the_reason(world: World, content: Any, why: str) -> None:
    put_bundle(world, content(result_of(world)))
    evidence = evidence_of(world)
    assert evidence.signers == ()
    (refusal,) = [each for each in evidence.refused if each.what == "bundle 1"]
    assert why in refusal.why


def test_artifact_of_another_type_is_not_a_bundle(world: World) -> None:
    put_bundle(world, bundle(sealed(statement_of(result_of(world)))), "application/vnd.example+json")
    assert evidence_of(world).signers == ()


def test_attestations_of_more_than_the_total_size_are_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENTS", Limit("the size of all attestations of an image", 10))
    evidence = evidence_of(world, 1)
    assert evidence.statements == ()
    assert all("exceeds the limit on the size of all attestations" in each.why for each in evidence.refused)


# cosign 2, and others ----------------------------------------------------------------------------------------------------


def test_statement_of_version_0_1_as_cosign_attest_writes_it_counts(world: World) -> None:
    provenance = statements(world, result_of(world))[PROVENANCE_TYPE]
    old = json.dumps({**provenance, "_type": "https://in-toto.io/Statement/v0.1"}).encode()
    attested = open_attestation(json.dumps(sealed(old)).encode(), result_of(world).digest, [signer(2)])
    assert attested.account is not None


def test_url_safe_base64_of_an_envelope_is_accepted(world: World) -> None:
    """DSSE, protocol.md: "verifiers MUST accept either"."""
    image = result_of(world)
    envelope = sealed(statement_of(image, other="\u00ff\u00fe~~~???>>>"))
    for inner, name in ((envelope, "payload"), (envelope["signatures"][0], "sig")):
        raw = base64.b64decode(inner[name])
        inner[name] = base64.urlsafe_b64encode(raw).decode()
    assert set(json.dumps(envelope)) & {"-", "_"}
    open_attestation(json.dumps(envelope).encode(), image.digest, [signer(2)])


def test_key_id_of_another_scheme_is_only_a_hint(world: World) -> None:
    """DSSE, protocol.md: a KEYID is unauthenticated. Tekton Chains writes `SHA256:` and base64."""
    image = result_of(world)
    envelope = sealed(statement_of(image))
    envelope["signatures"][0]["keyid"] = "SHA256:caEJWYJSxy1SVF2KObm5Rr3Yt6xIb4T2w56FHtCg8WI"
    open_attestation(json.dumps(envelope).encode(), image.digest, [signer(2)])


def test_rsa_key_as_cosign_imports_it_verifies() -> None:
    private = rsa.generate_private_key(65537, 2048)
    key = parse_verification_key(private.public_key().public_bytes(*PEM).decode())
    made = private.sign(b"claim", padding.PKCS1v15(), SHA256())
    assert key.verifies(made, b"claim")
    assert not key.verifies(made, b"other")
    assert not key.verifies(b"", b"claim")
    assert not key.verifies(b"\0" * 256, b"claim")


def test_short_rsa_key_and_other_curves_are_refused() -> None:
    for public in (
        rsa.generate_private_key(65537, 1024).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
    ):
        with pytest.raises(WrongUseError):
            parse_verification_key(public.public_bytes(*PEM).decode())


@pytest.mark.parametrize("made", ["3006020100020100", "3006020101020100", "30080202ff0102020101", "3000", ""])
def test_degenerate_ecdsa_signature_is_refused(made: str) -> None:
    """Zero, negative and missing values of r and s."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key = parse_verification_key(public.public_bytes(*PEM).decode())
    assert not key.verifies(bytes.fromhex(made), b"claim")
