"""Signatures and attestations in cosign's place: artifacts under tags that are made of an image's digest.

cosign's signature and attestation specifications ("Storage") put all signatures of an image into one image manifest under
the tag `sha256-<hex>.sig`, and all attestations into one under `sha256-<hex>.att`; each of them is a layer. In registries
with the referrers API of the OCI distribution spec 1.1, the manifests written here also name the image as their subject,
with cosign's artifact types, so that these registries list them. Elsewhere they do not: a client that copies such a
manifest keeps the list itself, under the tag `sha256-<hex>`, and `cosign copy` has the image there and fails.

Nothing is verified here, and nobody's layers are removed except the signer's own older ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import NotFoundInRegistryError, RegistryError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import copy_blobs
from chainbuild.registry.oci import OCI_CONFIG, Descriptor, Manifest, canonical
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers

Kind = Literal["sig", "att"]
"""The two kinds, as the tags end."""
KINDS: Final[tuple[Kind, ...]] = ("sig", "att")


def signed_tag(subject: Digest, kind: Kind) -> str:
    """Return the tag for the signatures or the attestations of an image."""
    return f"{str(subject).replace(':', '-')[:120]}.{kind}"


def artifact_type(kind: Kind) -> str:
    """Return cosign's artifact type (OCI 1.1) for a kind."""
    return f"application/vnd.dev.cosign.artifact.{kind}.v1+json"


def read_signed(registries: Registries, image: ImageReference, kind: Kind) -> Manifest | None:
    """Return the manifest with the signatures or attestations of the image of that digest; None if there is none.

    It is the one under cosign's tag, else the last one in the list of referrers, where `oras copy -r` and cosign's
    experimental mode of OCI 1.1 leave it. Errors: those of the registry; `DamagedContentError` if it is none.
    """
    subject = _digest(image)
    place = _place(image)
    found = _manifest(registries, place.with_tag(signed_tag(subject, kind)))
    if found is not None:
        return found
    rows = referrers(registries, place.with_digest(subject), artifact_type(kind))
    digests = [row.digest for row in rows if row.artifact_type == artifact_type(kind)]
    return _manifest(registries, place.with_digest(digests[-1])) if digests else None


def layer_content(registries: Registries, image: ImageReference, layer: Descriptor, limit: limits.Limit) -> bytes:
    """Return the content of a layer. Errors: `LimitError` if it is too large; those of the registry."""
    limit.check(layer.size, "a signature or attestation", str(image))
    if layer.data is not None:
        return layer.data
    client = registries.client(image)
    return client.blob(image.repository, layer.digest, size=layer.size, limit=limit)


def put_signed(
    registries: Registries,
    image: ImageReference,
    kind: Kind,
    layers: Sequence[tuple[Descriptor, bytes]],
    *,
    replaces: Callable[[Descriptor], bool] = lambda _: False,
) -> bool:
    """Add layers to the signatures or attestations of the image of that digest; return whether anything was written.

    Existing layers stay, except those that `replaces` accepts and that are not among the new ones. Errors: those of the
    registry.
    """
    merged = _merged(registries, image, kind, [layer for layer, _ in layers], replaces)
    if merged is None:
        return False
    client = registries.client(image)
    for _, content in layers:
        client.put_blob(image.repository, content)
    _put_manifest(registries, image, kind, merged)
    return True


def copy_signed(registries: Registries, source: ImageReference, destination: ImageReference) -> None:
    """Copy the signatures and attestations of an image, whose copy has the same digest; those already there stay.

    Errors: those of the registries.
    """
    target = _place(destination).with_digest(_digest(source))
    for kind in KINDS:
        own = _manifest(registries, _place(source).with_tag(signed_tag(_digest(source), kind)))
        merged = _merged(registries, target, kind, own.layers) if own else None
        if own is not None and merged is not None:
            copy_blobs(registries, source, target, own.layers)
            _put_manifest(registries, target, kind, merged)


class _Merged(Struct, frozen=True, kw_only=True):
    """The layers of a new manifest, and the manifest that it takes the place of."""

    layers: tuple[Descriptor, ...]
    before: Manifest | None


def _merged(
    registries: Registries,
    image: ImageReference,
    kind: Kind,
    added: Sequence[Descriptor],
    replaces: Callable[[Descriptor], bool] = lambda _: False,
) -> _Merged | None:
    """Return what is there and what is added; None if that is there already. Errors: those of the registry; `LimitError`."""
    before = _manifest(registries, _place(image).with_tag(signed_tag(_digest(image), kind)))
    there = before.layers if before else ()
    layers = (*(layer for layer in there if layer not in added and not replaces(layer)), *added)
    limits.ATTESTATIONS.check(len(layers), "what is attached to it", str(image))
    return None if before is not None and set(there) == set(layers) else _Merged(layers=layers, before=before)


def _put_manifest(registries: Registries, image: ImageReference, kind: Kind, merged: _Merged) -> None:
    place = _place(image)
    client = registries.client(place)
    layers, before = merged.layers, merged.before
    # The config that cosign writes: an image without a platform.
    config = canonical(
        {
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
        }
    )
    client.put_blob(place.repository, config)
    manifest = Manifest.make(
        config=Descriptor.of(config, OCI_CONFIG),
        layers=layers,
        artifact_type=artifact_type(kind),
        subject=_subject(registries, image, kind),
    )
    client.put_manifest(place.repository, signed_tag(_digest(image), kind), manifest.raw, manifest.media_type)
    if before is not None and before.subject is not None and before.digest != manifest.digest:
        # Without its tag, only the list of referrers still names it. Some registries allow no deletion.
        with suppress(RegistryError):
            client.delete_manifest(place.repository, before.digest)


def _subject(registries: Registries, image: ImageReference, kind: Kind) -> Descriptor | None:
    """Return the subject of the image's signatures; None if the registry lists no referrers. Errors: those of the registry."""
    place, digest = _place(image), _digest(image)
    client = registries.client(place)
    there = client.head(place.repository, digest)
    if there is None:
        raise NotFoundInRegistryError(f"{image} is not in {image.registry}")
    if client.referrers(place.repository, digest, artifact_type(kind)) is None:
        return None
    return Descriptor(media_type=there.media_type, digest=digest, size=there.size)


def _manifest(registries: Registries, reference: ImageReference) -> Manifest | None:
    client = registries.client(reference)
    try:
        raw = client.manifest(reference.repository, reference.digest or reference.tag_or_latest)
    except NotFoundInRegistryError:
        return None
    return None if raw.is_index else Manifest.of(raw, where=str(reference))


def _place(reference: ImageReference) -> ImageReference:
    return ImageReference(reference.registry, reference.repository)


def _digest(image: ImageReference) -> Digest:
    if image.digest is None:
        raise ValueError("only what a digest names has signatures")
    return image.digest
