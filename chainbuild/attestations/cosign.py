"""Signatures and attestations in the form that cosign writes and verifies (sigstore/cosign, specs/).

A signature is a layer whose content is a claim in the Simple Signing format and whose annotation has the signature over
these bytes (SIGNATURE_SPEC.md, "Payloads" and "OCI Image Manifest V1"). An attestation is a layer whose content is a DSSE
envelope (ATTESTATION_SPEC.md, "Overall Layout"), with the predicate's type as annotation, as `cosign attest` writes it.

No transparency log is written to or read: the verifier needs the public key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.attestations.statement import read_unambiguous
from chainbuild.errors import DamagedContentError
from chainbuild.references import Digest
from chainbuild.registry.oci import Descriptor, canonical
from chainbuild.trust.envelope import MEDIA_TYPE as ENVELOPE_MEDIA_TYPE
from chainbuild.trust.envelope import Envelope
from chainbuild.trust.keys import SigningKey
from chainbuild.values import convert, replace

CLAIM_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE: Final = "dev.cosignproject.cosign/signature"
PREDICATE_TYPE: Final = "predicateType"
CLAIM_TYPE: Final = "cosign container image signature"
_OWN: Final = "io.github.chainbuild.signed-by"
"""The annotation with the id of the signing key, by which a signer finds what to replace. It decides nothing else."""


class ClaimError(ValueError):
    """The content is no claim about the image."""


class _Image(Struct, frozen=True):
    digest: str = field(name="docker-manifest-digest")


class _Critical(Struct, frozen=True):
    image: _Image
    type: str


class _Claim(Struct, frozen=True):
    critical: _Critical


def claim_bytes(repository: str, image: Digest) -> bytes:
    """Return the claim that an image is the user's; `repository` is not compared with anything by verifiers."""
    return canonical(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": str(image)},
                "type": CLAIM_TYPE,
            },
            "optional": None,
        }
    )


def check_claim(content: bytes, image: Digest) -> None:
    """Check that a claim is one about the image of that digest. Errors: `ClaimError`."""
    try:
        claim = convert(read_unambiguous(content, "the claim"), _Claim)
    except DamagedContentError as error:
        raise ClaimError(error.message) from error
    except ValueError as error:
        raise ClaimError(f"not a claim in the Simple Signing format: {error}") from error
    if claim.critical.type != CLAIM_TYPE:
        raise ClaimError(f"a claim of another type, {claim.critical.type[:60]!r}")
    if claim.critical.image.digest != str(image):
        raise ClaimError(f"it is about another image, {claim.critical.image.digest[:80]}")


def signature_layer(repository: str, image: Digest, key: SigningKey) -> tuple[Descriptor, bytes]:
    """Return the layer with the user's signature over an image, and its content. The same input gives the same bytes."""
    content = claim_bytes(repository, image)
    value = base64.b64encode(key.sign(content)).decode("ascii")
    return _layer(content, CLAIM_MEDIA_TYPE, {SIGNATURE: value, _OWN: key.public.id}), content


def attestation_layer(envelope: Envelope, predicate_type: str) -> tuple[Descriptor, bytes]:
    """Return the layer with a signed statement, and its content."""
    content = envelope.raw
    marks = {PREDICATE_TYPE: predicate_type, SIGNATURE: "", _OWN: envelope.signatures[0].key_id}
    return _layer(content, ENVELOPE_MEDIA_TYPE, marks), content


def replaces(layer: Descriptor, other: Descriptor) -> bool:
    """Return whether a new layer takes the place of another one: both are of the same signer, about the same subject."""
    marks, others = dict(layer.annotations), dict(other.annotations)
    same_type = (layer.media_type, marks.get(PREDICATE_TYPE)) == (other.media_type, others.get(PREDICATE_TYPE))
    return same_type and bool(marks.get(_OWN)) and marks.get(_OWN) == others.get(_OWN)


def signature_of(layer: Descriptor) -> bytes:
    """Return the signature in a layer's annotation. Errors: `ClaimError`."""
    try:
        return base64.b64decode(layer.annotation(SIGNATURE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClaimError("its signature is not base64") from error


def _layer(content: bytes, media_type: str, annotations: Mapping[str, str]) -> Descriptor:
    # In the order in which a manifest's annotations are read.
    return replace(Descriptor.of(content, media_type), annotations=tuple(sorted(annotations.items())))
