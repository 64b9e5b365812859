"""Sigstore bundles, in which cosign 3 stores signatures and attestations: each is an artifact that refers to the image.

A bundle is JSON with verification material and a DSSE envelope (sigstore/protobuf-specs, sigstore_bundle.proto). The artifact
has the bundle's media type as its artifact type, and the bundle as its layer (sigstore/cosign, specs/BUNDLE_SPEC.md and
pkg/oci/remote/write.go). A signature over an image is a statement with the predicate type `SIGN_TYPE`.

Only the envelope is used: no transparency log is read. Nothing is verified here.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct, field

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.references import ImageReference
from chainbuild.registry.artifacts import referrers
from chainbuild.registry.oci import Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.signed_tags import layer_content
from chainbuild.values import decode_json

SIGN_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of a statement that only signs an image."""
_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle"
"""The start of the media type; the version follows."""


class _Bundle(Struct, frozen=True):
    envelope: Raw = field(name="dsseEnvelope")


def list_bundles(registries: Registries, image: ImageReference) -> tuple[Descriptor, ...]:
    """Return the artifacts of the image of the reference's digest that are bundles, each once.

    Errors: those of the registry; `LimitError` if they are too many.
    """
    rows = {row.digest: row for row in referrers(registries, image) if row.artifact_type.startswith(_MEDIA_TYPE)}
    limits.ATTESTATIONS.check(len(rows), "the bundles", str(image))
    return tuple(rows.values())


def bundle_layer(registries: Registries, image: ImageReference, row: Descriptor) -> Descriptor:
    """Return the layer of an artifact that is a bundle. Errors: those of the registry."""
    raw = registries.client(image).manifest(image.repository, row.digest)
    layers = () if raw.is_index else Manifest.of(raw, where=str(image)).layers
    if len(layers) != 1 or not layers[0].media_type.startswith(_MEDIA_TYPE):
        raise DamagedContentError("it has not exactly one layer with a bundle")
    return layers[0]


def read_envelope(registries: Registries, image: ImageReference, layer: Descriptor) -> bytes:
    """Return the DSSE envelope in a bundle. Errors: those of the registry; `DamagedContentError` if there is none."""
    content = layer_content(registries, image, layer, limits.STATEMENT)
    try:
        return bytes(decode_json(content.decode(), _Bundle).envelope)
    except (ValueError, RecursionError) as error:
        raise DamagedContentError(f"not a bundle with a DSSE envelope: {error}") from error
