"""Forged signatures and attestations: each is refused, with a reason, and says nothing about the image."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from chainbuild import limits
from chainbuild.attestations.cosign import claim_bytes
from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.attestations.statement import PAYLOAD_TYPE, StatementError
from chainbuild.attestations.verification import open_attestation, read_evidence
from chainbuild.limits import Limit
from chainbuild.references import Digest
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.trust.envelope import Envelope, EnvelopeError
from chainbuild.values import replace
from tests.support.attestations import attested_world, content, put_layers, result_of, signed, signer, statements
from tests.support.keys import signing_key
from tests.support.world import World

OTHER = Digest("sha256:" + "d" * 64)
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
JUNK = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return attested_world(tmp_path_factory.mktemp("tree"))


class Parts(Struct):
    """What a forger starts from: the image, its own statement of provenance, and the envelope of that."""

    image: RemoteImage
    statement: dict[str, Any]
    envelope: dict[str, Any]


def text(document: Any) -> bytes:
    return json.dumps(document).encode()


def sealed(statement: Any, number: int = 1, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return a statement in an envelope that the key of that number signed."""
    raw = statement if isinstance(statement, bytes) else text(statement)
    return Envelope.sign(raw, payload_type, signing_key(number), shows_key=False).raw


def with_subject(parts: Parts, *digests: dict[str, str]) -> bytes:
    return sealed({**parts.statement, "subject": [{"name": "team/atom", "digest": digest} for digest in digests]})


def changed_payload(parts: Parts) -> bytes:
    raw = base64.b64decode(parts.envelope["payload"]).replace(b"HASWELL", b"ZENVER3")
    return text({**parts.envelope, "payload": base64.b64encode(raw).decode()})


def other_image_of_last_step(parts: Parts) -> bytes:
    raw = json.dumps(parts.statement).replace(f'"image": "{parts.image.digest}"', f'"image": "{OTHER}"')
    return sealed(raw.encode())


def swapped_steps(parts: Parts) -> bytes:
    statement = json.loads(json.dumps(parts.statement))
    statement["predicate"]["buildDefinition"]["externalParameters"]["steps"].reverse()
    return sealed(statement)


def without(parts: Parts, *path: str) -> bytes:
    statement = json.loads(json.dumps(parts.statement))
    inner = statement
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return sealed(statement)


def signature_of_another(parts: Parts) -> bytes:
    other = json.loads(sealed({**parts.statement, "predicate": {}}))
    return text({**parts.envelope, "signatures": other["signatures"]})


def duplicate_subject(parts: Parts) -> bytes:
    """Two subjects keys: programs that take the first one see this image, others another."""
    raw = text(parts.statement)
    first = raw[:-1] + b',"subject":[{"name":"team/atom","digest":{"sha256":"%b"}}]}' % OTHER.hex.encode()
    return sealed(first)


FORGED_ATTESTATIONS: dict[str, tuple[Callable[[Parts], bytes], str]] = {
    "subject is another image": (lambda parts: with_subject(parts, {"sha256": OTHER.hex}), "about another image"),
    "subject has a weak digest only": (lambda parts: with_subject(parts, {"md5": "0" * 32}), "about another image"),
    "subject has the digest in capitals": (
        lambda parts: with_subject(parts, {"sha256": parts.image.digest.hex.upper()}),
        "about another image",
    ),
    "subject without a digest": (lambda parts: with_subject(parts, {}), "without uri, digest and content"),
    "no subject": (lambda parts: sealed({**parts.statement, "subject": []}), "no subject"),
    "subject missing": (lambda parts: without(parts, "subject"), "missing required field `subject`"),
    "two subject keys": (duplicate_subject, "a key occurs twice"),
    "another key": (lambda parts: sealed(parts.statement, 2), "no accepted key signed it"),
    "another key under the id of the right one": (
        lambda parts: text(
            json.loads(sealed(parts.statement, 2))
            | {
                "signatures": [
                    {**json.loads(sealed(parts.statement, 2))["signatures"][0], "keyid": signing_key(1).public.id}
                ]
            }
        ),
        "does not match its content",
    ),
    "payload changed": (changed_payload, "does not match its content"),
    "payload type changed": (
        lambda parts: text({**parts.envelope, "payloadType": "application/vnd.chainbuild.record.v2+json"}),
        "of another type",
    ),
    "signed as another type": (
        lambda parts: text(
            json.loads(sealed(parts.statement, payload_type="application/json")) | {"payloadType": PAYLOAD_TYPE}
        ),
        "does not match its content",
    ),
    "signature of another payload": (signature_of_another, "does not match its content"),
    "no signature": (lambda parts: text({**parts.envelope, "signatures": []}), "no signature"),
    "truncated base64": (
        lambda parts: text({**parts.envelope, "payload": parts.envelope["payload"][:-3]}),
        "not a DSSE envelope",
    ),
    "cut off": (lambda parts: text(parts.envelope)[:-20], "not a DSSE envelope"),
    "compressed": (lambda parts: gzip.compress(text(parts.envelope)), "not a DSSE envelope"),
    "too many signatures": (
        lambda parts: text({**parts.envelope, "signatures": parts.envelope["signatures"] * 100}),
        "not a DSSE envelope",
    ),
    "another predicate type": (
        lambda parts: sealed({**parts.statement, "predicateType": "https://example.com/other"}),
        f"it is no {PROVENANCE_TYPE}",
    ),
    "another version of statements": (
        lambda parts: sealed({**parts.statement, "_type": "https://in-toto.io/Statement/v2"}),
        "not an in-toto statement of version 1",
    ),
    "predicate is no provenance": (lambda parts: without(parts, "predicate", "runDetails"), "not SLSA provenance"),
    "predicate without a builder": (
        lambda parts: without(parts, "predicate", "runDetails", "builder"),
        "not SLSA provenance",
    ),
    "last step made another image": (other_image_of_last_step, "its last step made another image"),
    "steps and records differ": (swapped_steps, "its steps and its records differ"),
    "nested too deeply": (
        lambda parts: sealed(text(parts.statement)[:-1] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}"),
        "exceeds the limit on the depth of JSON",
    ),
}


@pytest.fixture
def parts(world: World) -> Parts:
    image = result_of(world)
    statement = statements(world, image)[PROVENANCE_TYPE]
    return Parts(image=image, statement=statement, envelope=json.loads(sealed(statement)))


@pytest.mark.parametrize("name", FORGED_ATTESTATIONS)
def test_forged_attestation_is_refused_with_the_reason(name: str, parts: Parts) -> None:
    forge, why = FORGED_ATTESTATIONS[name]
    with pytest.raises((EnvelopeError, StatementError)) as caught:
        open_attestation(forge(parts), parts.image.digest, [signer()], PROVENANCE_TYPE)
    assert why in str(caught.value)


def test_true_attestation_of_the_same_form_is_accepted(parts: Parts) -> None:
    """So that no forgery is refused for a reason that true ones have, too."""
    accepted = open_attestation(sealed(parts.statement), parts.image.digest, [signer()], PROVENANCE_TYPE)
    assert accepted.account is not None
    assert [each.name for each in accepted.signers] == ["key 1"]


def test_huge_attestation_is_refused_before_it_is_parsed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENT", Limit("the size of an attestation", 100))
    with pytest.raises(StatementError, match="larger than 100 bytes"):
        open_attestation(sealed(parts.statement), parts.image.digest, [signer()])


# Signatures -----------------------------------------------------------------------------------------------------------


def layer_of(raw: bytes, value: str, media_type: str = JUNK) -> tuple[Descriptor, bytes]:
    return replace(Descriptor.of(raw, media_type), annotations=((SIGNATURE, value),)), raw


def signature(raw: bytes, number: int = 1) -> str:
    return base64.b64encode(signing_key(number).sign(raw)).decode()


def claim(image: RemoteImage, **changes: Any) -> bytes:
    document = json.loads(claim_bytes("team/atom", image.digest))
    return text({**document, "critical": {**document["critical"], **changes}})


def of_claim(raw: bytes) -> tuple[Descriptor, bytes]:
    return layer_of(raw, signature(raw))


FORGED_SIGNATURES: dict[str, tuple[Callable[[RemoteImage], tuple[Descriptor, bytes]], str]] = {
    "of another image": (lambda image: of_claim(claim_bytes("team/atom", OTHER)), "about another image"),
    "of another key": (
        lambda image: layer_of(claim(image), signature(claim(image), 2)),
        "no accepted key made it",
    ),
    "of another claim": (lambda image: layer_of(claim(image), signature(b"{}")), "no accepted key made it"),
    "not base64": (lambda image: layer_of(claim(image), "@@@"), "not base64"),
    "truncated": (lambda image: layer_of(claim(image), signature(claim(image))[:-2]), "not base64"),
    "empty": (lambda image: layer_of(claim(image), ""), "no accepted key made it"),
    "of another type": (lambda image: of_claim(claim(image, type="atomic container signature")), "of another type"),
    "of no claim": (lambda image: of_claim(b"[]"), "not a JSON object"),
    "of a claim without image": (lambda image: of_claim(b'{"critical":{"type":"x"}}'), "Simple Signing"),
    "of an ambiguous claim": (
        lambda image: of_claim(claim_bytes("a", image.digest)[:-1] + b',"critical":{}}'),
        "a key occurs twice",
    ),
    "of another media type": (
        lambda image: layer_of(claim(image), signature(claim(image)), "application/json"),
        "it is no signature",
    ),
    "too large": (
        lambda image: layer_of(claim(image) + b" " * (64 << 10), signature(claim(image) + b" " * (64 << 10))),
        "exceeds the limit on the size of a signed claim",
    ),
}


@pytest.mark.parametrize("name", FORGED_SIGNATURES)
def test_forged_signature_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    world = attested_world(tmp_path)
    image = result_of(world)
    forge, why = FORGED_SIGNATURES[name]
    put_layers(world.registries, image, "sig", [forge(image)])
    evidence = read_evidence(world.registries, image.reference, [signer()])
    assert evidence.signers == ()
    (refusal,) = evidence.refused
    assert refusal.what == "signature 1"
    assert why in refusal.why


def test_true_signature_counts_beside_forged_and_repeated_ones(tmp_path: Path) -> None:
    world = attested_world(tmp_path)
    image = result_of(world)
    true = of_claim(claim_bytes("team/atom", image.digest))
    forged = FORGED_SIGNATURES["of another image"][0](image)
    put_layers(world.registries, image, "sig", [forged, true, true, forged])
    evidence = read_evidence(world.registries, image.reference, [signer()])
    assert [each.name for each in evidence.signers] == ["key 1"]
    assert [refusal.what for refusal in evidence.refused] == ["signature 1"]


def test_signatures_beyond_the_limit_are_all_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = attested_world(tmp_path)
    monkeypatch.setattr(limits, "ATTESTATIONS", Limit("the signatures and attestations of an image", 1, "entries"))
    evidence = read_evidence(world.registries, result_of(world).reference, [signer()])
    assert [refusal.what for refusal in evidence.refused] == ["all attestations"]
    assert evidence.statements == ()


def test_lost_and_damaged_contents_are_told(tmp_path: Path) -> None:
    world = attested_world(tmp_path)
    image = result_of(world)
    attestation, signature_layer = (
        signed(world.registries, image.reference, kind).layers[0].digest for kind in ("att", "sig")
    )
    world.host.forget(attestation)
    world.host.damage(signature_layer)
    evidence = read_evidence(world.registries, image.reference, [signer()])
    assert evidence.signers == ()
    assert [refusal.what for refusal in evidence.refused] == ["signature 1", "attestation 1"]
    assert "lost" in evidence.refused[1].why


def test_attestation_of_a_copied_tag_is_about_another_image(tmp_path: Path) -> None:
    """An attacker moves the tags of a good image's attestations to the digest of a bad one."""
    world = attested_world(tmp_path)
    good = result_of(world)
    bad = result_of(world, "v1-stock-10-base-amd64")
    for kind in ("sig", "att"):
        manifest = signed(world.registries, good.reference, kind)
        rows = [(layer, content(world.registries, good.reference, layer)) for layer in manifest.layers]
        tag = f"sha256-{bad.digest.hex}.{kind}"
        client = world.registries.client(bad.reference)
        client.put_manifest(bad.reference.repository, tag, manifest.raw, manifest.media_type)
        assert rows
    evidence = read_evidence(world.registries, bad.reference, [signer()])
    assert (evidence.signers, evidence.statements) == ((), ())
    assert all("another image" in refusal.why for refusal in evidence.refused)


@given(st.binary(max_size=300))
def test_bytes_of_any_form_are_refused(raw: bytes) -> None:
    with pytest.raises((EnvelopeError, StatementError)):
        open_attestation(raw, OTHER, [signer()])


@given(st.binary(max_size=300))
def test_signed_bytes_of_any_form_are_refused(raw: bytes) -> None:
    with pytest.raises((EnvelopeError, StatementError)):
        open_attestation(sealed(raw), OTHER, [signer()])
