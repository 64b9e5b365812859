"""Sigstore bundles, in which cosign 3 stores signatures and attestations: each is an artifact that refers to the image.

A bundle is JSON with verification material and a DSSE envelope (sigstore/protobuf-specs, sigstore_bundle.proto). The artifact
has the bundle's media type as its artifact type, and the bundle as its layer (sigstore/cosign, specs/BUNDLE_SPEC.md and
pkg/oci/remote/write.go). A signature over an image is a statement with the predicate type `SIGN_TYPE`.

The list of an image's artifacts does not always tell which of them are bundles: in a registry without the referrers API,
cosign 3 writes it itself, with the media type of each artifact's config in place of the artifact's type. What the list
leaves open is decided by the artifact's own manifest.

Only the envelope is used: no transparency log is read. Nothing is verified here.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct, field

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.references import ImageReference
from chainbuild.registry.oci import OCI_EMPTY, Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers
from chainbuild.registry.signed_tags import layer_content
from chainbuild.values import decode_json

SIGN_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of a statement that only signs an image."""
_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle"
"""The start of the media type; the version follows."""
_UNTOLD: Final = frozenset({"", OCI_EMPTY})
"""What a list has for an artifact whose type it does not tell."""


class _Bundle(Struct, frozen=True):
    envelope: Raw = field(name="dsseEnvelope")


def list_bundles(registries: Registries, image: ImageReference) -> tuple[Descriptor, ...]:
    """Return the artifacts of the image of the reference's digest that are bundles or may be, each once.

    Errors: those of the registry; `LimitError` if they are too many.
    """
    rows = {row.digest: row for row in referrers(registries, image) if _may_be_bundle(row)}
    limits.ATTESTATIONS.check(len(rows), "the bundles", str(image))
    return tuple(rows.values())


def _may_be_bundle(row: Descriptor) -> bool:
    return row.artifact_type in _UNTOLD or row.artifact_type.startswith(_MEDIA_TYPE)


def bundle_layer(registries: Registries, image: ImageReference, row: Descriptor) -> Descriptor | None:
    """Return the layer of an artifact of `list_bundles`; None if it is something else. Errors: those of the registry."""
    raw = registries.client(image).manifest(image.repository, row.digest)
    manifest = None if raw.is_index else Manifest.of(raw, where=str(image))
    told = manifest.artifact_type if manifest and row.artifact_type in _UNTOLD else row.artifact_type
    if not told.startswith(_MEDIA_TYPE):
        return None
    layers = manifest.layers if manifest else ()
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
