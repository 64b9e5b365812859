"""Small OCI artifacts, and artifacts attached to an image.

The form is that of the image spec 1.1, "Guidelines for Artifact Usage": an image manifest with an `artifactType` and
the empty config. Registries older than 1.1 (docker-registry 2.8) store it like any manifest.

An attached artifact names the image's manifest as its subject (OCI distribution spec 1.1), and is in the list of its
referrers (see `referrers`), which clients maintain where the registry does not.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import NotFoundInRegistryError, RegistryError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import copy_image, read_index
from chainbuild.registry.oci import OCI_EMPTY, Descriptor, Index, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers, referrers_tag
from chainbuild.values import replace

_EMPTY: Final = b"{}"
# Contents up to this many bytes are also embedded in the manifest (descriptor `data`): one request reads them. Base64
# makes that 43 KiB; registries must take manifests of 4 MiB.
_EMBEDDED: Final = 32 << 10


class Artifact(Struct, frozen=True, kw_only=True):
    """An artifact: its type, its content (the first blob), its annotations."""

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
    also: Iterable[str] = (),
) -> Digest:
    """Store an artifact under the reference's tag, and under the tags of `also` in the same repository, in that order.

    The same content gives the same digest.
    """
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
    for name in (reference.tag or manifest.digest, *also):
        client.put_manifest(reference.repository, name, manifest.raw, manifest.media_type)
    return manifest.digest


def read_artifact(registries: Registries, reference: ImageReference, *artifact_types: str) -> Artifact | None:
    """Return the artifact under a name; None if there is none, or one of another type (an image, say) if types are given.

    Takes one request if the content is small. Errors: `DamagedContentError` if it is damaged; all others of a registry
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


MADE_BY: Final = "io.github.chainbuild.attached"
"""The annotation of chainbuild's attachments; those of others are never replaced."""
SLOT: Final = "io.github.chainbuild.slot"
"""The annotation that distinguishes documents of one type: a document replaces only one with the same slot."""
_INLINE: Final = "io.github.chainbuild.content"
# The list of attachments embeds content up to this size, so one request reads it. Longer content is fetched.
_LONGEST_INLINE: Final = 8 << 10
_GZIP: Final = "+gzip"


def attach(
    registries: Registries,
    image: ImageReference,
    *,
    artifact_type: str,
    media_type: str,
    content: bytes,
    title: str,
    slot: str = "",
    inline: bool = False,
) -> Digest:
    """Attach a compressed document to the image of the reference's digest; return the artifact's digest.

    It replaces chainbuild's earlier attachment of that type (and `slot`). The same content gives the same
    digest. `inline`: short text is in the list of what is attached, too if nothing but its own signature proves it.
    """
    subject = _subject(registries, image)
    place = ImageReference(image.registry, image.repository)
    marks = {MADE_BY: "1"}
    if slot:
        marks[SLOT] = slot
    if inline and len(content) <= _LONGEST_INLINE:
        marks[_INLINE] = content.decode("utf-8")
    digest = put_artifact(
        registries,
        place,
        artifact_type=artifact_type,
        # It contains no time and no name.
        content=gzip.compress(content, 6, mtime=0),
        media_type=f"{media_type}{_GZIP}",
        annotations={**marks, "org.opencontainers.image.title": f"{title}.gz"},
        subject=subject,
    )
    client = registries.client(place)
    if client.referrers(place.repository, subject.digest) is None:
        stored = client.manifest(place.repository, digest).descriptor
        row = replace(stored, artifact_type=artifact_type, annotations=tuple(marks.items()))
        _list(registries, place.with_tag(referrers_tag(subject.digest)), row)
    elif slot:
        _drop_former(registries, place.with_digest(subject.digest), artifact_type, digest)
    return digest


def _drop_former(registries: Registries, image: ImageReference, artifact_type: str, newest: Digest) -> None:
    """Delete a replaced document, if the registry has the referrers API and allows it."""
    rows = {row.digest: row for row in referrers(registries, image, artifact_type)}
    client = registries.client(image)
    for digest, row in rows.items():
        if newest in rows and digest != newest and _same_made(row, rows[newest]):
            with suppress(RegistryError):
                client.delete_manifest(image.repository, digest)


def attached(registries: Registries, image: ImageReference, artifact_type: str) -> bytes | None:
    """Return the document of that type that is attached to the image which the reference's digest names; None if there is none.

    chainbuild's attachments take precedence over those of others, then the last of the list. Errors: `DamagedContentError`
    where it is damaged; `LimitError` if it is too large, stored or unpacked.
    """
    rows = [row for row in referrers(registries, image, artifact_type) if row.artifact_type == artifact_type]
    if not rows:
        return None
    return content_of(registries, image, ([row for row in rows if row.annotation(MADE_BY)] or rows)[-1])


def content_of(registries: Registries, image: ImageReference, row: Descriptor, *, inline: bool = False) -> bytes | None:
    """Return the document of an entry of `referrers`; None if it has none. `inline`: the list's own copy will do.

    Errors: as `attached`.
    """
    if inline and (text := row.annotation(_INLINE)):
        return text.encode("utf-8", "replace")
    client = registries.client(image)
    raw = client.manifest(image.repository, row.digest)
    manifest = Manifest.of(raw, where=str(image))
    if not manifest.layers:
        return None
    blob = manifest.layers[0]
    what = f"what is attached to it ({row.artifact_type})"
    limits.ATTACHED.check(blob.size, what, str(image))
    stored = client.stream(image.repository, blob.digest, size=blob.size)
    content = limits.read_all(stored, limits.ATTACHED, what, str(image))
    if not blob.media_type.endswith(_GZIP):
        return content
    return limits.inflate(content, limits.ATTACHED_UNPACKED, what, str(image))


def copy_attached(registries: Registries, source: ImageReference, destination: ImageReference) -> None:
    """Copy the attachments of an image whose copy the destination's repository already has, and its signatures."""
    if source.digest is None:
        raise ValueError("only what a digest names has referrers")
    rows = referrers(registries, source)
    target = ImageReference(destination.registry, destination.repository)
    taker = registries.client(target)
    for row in rows:
        copy_image(registries, ImageReference(source.registry, source.repository).with_digest(row.digest), target)
    if rows and taker.referrers(target.repository, source.digest) is None:
        for row in rows:
            _list(registries, target.with_tag(referrers_tag(source.digest)), row)
    # Imported late: most runs copy nothing.
    from chainbuild.registry.signed_tags import copy_signed

    copy_signed(registries, source, target)


def _subject(registries: Registries, image: ImageReference) -> Descriptor:
    if image.digest is None:
        raise ValueError("only what a digest names has referrers")
    subject = registries.client(image).head(image.repository, image.digest)
    if subject is None:
        raise NotFoundInRegistryError(f"{image} is not in {image.registry}")
    return Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)


def _list(registries: Registries, tag: ImageReference, row: Descriptor) -> None:
    """Add the artifact to the index under the tag, replacing chainbuild's earlier one of its type."""
    before = read_index(registries, tag)
    kept: Iterable[Descriptor] = before.manifests if before else ()
    kept = [one for one in kept if one.digest != row.digest and not _same_made(one, row)]
    index = Index.make([*kept, row])
    if before is None or before.digest != index.digest:
        registries.client(tag).put_manifest(tag.repository, tag.tag_or_latest, index.raw, index.media_type)


def _same_made(one: Descriptor, other: Descriptor) -> bool:
    made: Mapping[str, str] = dict(one.annotations)
    both = MADE_BY in made and MADE_BY in dict(other.annotations)
    return both and (one.artifact_type, one.annotation(SLOT)) == (other.artifact_type, other.annotation(SLOT))
