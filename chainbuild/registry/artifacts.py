"""Small OCI artifacts: what chainbuild remembers, beside the images that it is about.

The form is that of the image spec 1.1, "Guidelines for Artifact Usage": an image manifest with an `artifactType` and
the empty config. Registries older than 1.1 (docker-registry 2.8) store it like any manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.oci import OCI_EMPTY, Descriptor, Manifest
from chainbuild.registry.pool import Registries

_EMPTY: Final = b"{}"
# Contents up to this many bytes are also embedded in the manifest (descriptor `data`): one request reads them. Base64
# makes that 43 KiB; registries must take manifests of 4 MiB.
_EMBEDDED: Final = 32 << 10


class Artifact(Struct, frozen=True, kw_only=True):
    """An artifact that was read: its type, its content (the first blob), its annotations."""

    digest: Digest
    artifact_type: str
    media_type: str
    content: bytes
    annotations: tuple[tuple[str, str], ...] = ()


def put_artifact(
    registries: Registries,
    reference: ImageReference,
    *,
    artifact_type: str,
    content: bytes,
    media_type: str = "application/json",
    annotations: Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
) -> Digest:
    """Store an artifact under the reference's tag. The same content gives the same digest."""
    client = registries.client(reference)
    client.put_blob(reference.repository, _EMPTY)
    client.put_blob(reference.repository, content)
    manifest = Manifest.make(
        config=Descriptor.of(_EMPTY, OCI_EMPTY, embed=True),
        layers=(Descriptor.of(content, media_type, embed=len(content) <= _EMBEDDED),),
        artifact_type=artifact_type,
        annotations=annotations,
        subject=subject,
    )
    return client.put_manifest(
        reference.repository, reference.tag or manifest.digest, manifest.raw, manifest.media_type
    )  # fmt: skip


def read_artifact(registries: Registries, reference: ImageReference, *artifact_types: str) -> Artifact | None:
    """The artifact under a name; None if there is none, or one of another type (an image, say) if types are given.

    One request where the content is small. Errors: `DamagedContentError` where it is damaged; all others of a registry
    that does not answer clearly.
    """
    client = registries.client(reference)
    try:
        raw = client.manifest(reference.repository, reference.digest or reference.tag_or_latest)
        if raw.is_index:
            return None
        manifest = Manifest.of(raw, where=str(reference))
        if not manifest.layers or (artifact_types and manifest.artifact_type not in artifact_types):
            return None
        blob = manifest.layers[0]
        content = blob.data
        if content is None:
            content = client.blob(reference.repository, blob.digest, size=blob.size)
    except NotFoundInRegistryError:
        return None
    return Artifact(
        digest=manifest.digest,
        artifact_type=manifest.artifact_type,
        media_type=blob.media_type,
        content=content,
        annotations=manifest.annotations,
    )
