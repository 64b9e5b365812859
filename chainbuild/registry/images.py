"""Images in registries: find, copy, tag, join to an index, change the config, and check for completeness.

Completeness is checked because a manifest can outlive its blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError, RegistryError
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.http.transport import Body
from chainbuild.registry.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest, RawManifest
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
# Parallel transfers per image: a few hide the latency; more only share the bandwidth.


class RemoteImage(Struct, frozen=True, kw_only=True):
    """An image of one platform in a registry. `reference` is pinned by the digest of the image's own manifest."""

    reference: ImageReference
    index_digest: Digest | None
    """The digest of the index that the name pointed at; None if it pointed at the image itself."""
    platform: Platform
    manifest: Manifest
    config: ImageConfig

    @property
    def digest(self) -> Digest:
        """Return the digest of the image's manifest."""
        return self.manifest.digest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Return the layers as they are stored, lowest first."""
        return self.manifest.layers

    @property
    def size(self) -> int:
        """Return the compressed size in bytes."""
        return self.manifest.size

    @property
    def descriptor(self) -> Descriptor:
        """Return what points at it in an index."""
        return replace(self.manifest.descriptor, platform=self.platform)


def resolve(registries: Registries, reference: ImageReference, platform: Platform) -> RemoteImage:
    """Return the image that a name means on a platform.

    Errors: `NotFoundInRegistryError` if there is none, or none for that platform (then it says which there are);
    `LoginNeededError`, `UnreachableError`.
    """
    client = registries.client(reference)
    requested: str | Digest = reference.digest or reference.tag_or_latest
    raw = _manifest(client, reference, requested)
    index_digest: Digest | None = None
    if raw.is_index:
        index = Index.of(raw, where=str(reference))
        child = index.child(platform)
        if child is None:
            raise _other_platforms(reference, platform, index.platforms)
        index_digest = raw.digest
        raw = _manifest(client, reference, child.digest)
    manifest = Manifest.of(raw, where=str(reference))
    config = read_config(client, reference, manifest)
    if not _fits(config.platform, platform):
        raise _other_platforms(reference, platform, (config.platform,))
    return RemoteImage(
        reference=reference.with_digest(manifest.digest),
        index_digest=index_digest,
        platform=platform,
        manifest=manifest,
        config=config,
    )


def read_config(client: RegistryClient, reference: ImageReference, manifest: Manifest) -> ImageConfig:
    """Return the config of an image's manifest. Errors: `NotAnImageError` if the manifest describes an artifact."""
    if manifest.config.media_type not in {OCI_CONFIG, _DOCKER_CONFIG}:
        kind = manifest.artifact_type or manifest.config.media_type
        raise NotAnImageError(
            f"{reference} is not an image but an artifact ({kind})", hint="Give the reference of an image."
        )
    config = manifest.config
    limits.CONFIG.check(config.size, "the image's config", str(reference))
    raw = config.data
    if raw is None:
        raw = client.blob(reference.repository, config.digest, size=config.size, limit=limits.CONFIG)
    return ImageConfig.parse(raw, where=str(reference))


def platforms_of(registries: Registries, reference: ImageReference) -> tuple[Platform, ...]:
    """Return the platforms that a name has images for. Errors: as `resolve`."""
    client = registries.client(reference)
    raw = _manifest(client, reference, reference.digest or reference.tag_or_latest)
    if raw.is_index:
        return Index.of(raw, where=str(reference)).platforms
    manifest = Manifest.of(raw, where=str(reference))
    return (read_config(client, reference, manifest).platform,)


def read_index(registries: Registries, reference: ImageReference) -> Index | None:
    """Return the index under a name; None if there is nothing, or an image of one platform."""
    client = registries.client(reference)
    try:
        raw = client.manifest(reference.repository, reference.digest or reference.tag_or_latest)
    except NotFoundInRegistryError:
        return None
    return Index.of(raw, where=str(reference)) if raw.is_index else None


def put_tag(
    registries: Registries, reference: ImageReference, digest: Digest, *, known: RawManifest | None = None
) -> None:
    """Point the reference's tag at a manifest of the repository, unless it already does.

    `known` is that manifest if it was read already.
    """
    client = registries.client(reference)
    manifest = client.head(reference.repository, reference.tag_or_latest)
    if manifest is not None and manifest.digest == digest:
        return
    raw = known or client.manifest(reference.repository, digest)
    client.put_manifest(reference.repository, reference.tag_or_latest, raw.raw, raw.media_type)


def images_of_tags(registries: Registries, references: Iterable[ImageReference]) -> Mapping[ImageReference, Digest]:
    """Return the manifests to which references' tags point, asked at once if the registry is remote.

    Tags that do not exist, and those of registries that cannot be asked now, are left out.
    """
    asked = tuple(references)

    def digest(reference: ImageReference) -> Digest | None:
        try:
            manifest = registries.client(reference).head(reference.repository, reference.tag_or_latest)
        except RegistryError:
            return None
        return manifest.digest if manifest is not None else None

    at_once = min((registries.client(reference).at_once for reference in asked), default=1)
    found = zip(asked, in_parallel(digest, asked, at_once=at_once), strict=True)
    return {reference: image for reference, image in found if image is not None}


def put_index(
    registries: Registries,
    reference: ImageReference,
    images: Mapping[Platform, Descriptor],
    *,
    merge: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Index:
    """Put an index over images (manifests in the reference's repository) under the reference's tag.

    `merge` keeps the images for other platforms, with their attestations, that an index under that name has now. The
    order is by platform, so that the same images give the same digest.
    """
    given = {platform.oci: replace(image, platform=platform) for platform, image in images.items()}
    children = dict(given)
    kept: list[Descriptor] = []
    if merge and (old := read_index(registries, reference)) is not None:
        for child in old.images:
            if child.platform is not None and child.platform.oci not in given:
                children[child.platform.oci] = child
                kept.extend(old.attestations_of(child.digest))
    index = Index.make(
        [children[key] for key in sorted(children)] + kept, media_type=OCI_INDEX, annotations=annotations
    )
    client = registries.client(reference)
    manifest = client.head(reference.repository, reference.tag_or_latest)
    if manifest is None or manifest.digest != index.digest:
        client.put_manifest(reference.repository, reference.tag_or_latest, index.raw, index.media_type)
    return index


def copy_image(registries: Registries, source: ImageReference, destination: ImageReference) -> Digest:
    """Copy what `source` points at, an image or an index with all its images, and give it the destination's tag.

    Digests do not change. Within one registry blobs are mounted, not sent; existing content is not sent
    again. Without a tag the destination has it by digest only. Errors: as `resolve`.
    """
    giver = registries.client(source)
    raw = _manifest(giver, source, source.digest or source.tag_or_latest)
    _copy_content(registries, source, destination, raw)
    taker = registries.client(destination)
    tag: str | Digest = destination.tag or raw.digest
    manifest = taker.head(destination.repository, tag)
    if manifest is None or manifest.digest != raw.digest:
        taker.put_manifest(destination.repository, tag, raw.raw, raw.media_type)
    return raw.digest


def replace_config(
    registries: Registries,
    image: RemoteImage,
    config: ImageConfig,
    destination: ImageReference,
    annotations: Mapping[str, str] | None = None,
) -> RemoteImage:
    """Return the same layers under another config, in the destination's repository and under its tag (if it has one).

    `annotations` are added to those of the manifest.

    Errors: `ValueError` if the config's layers are not the image's (a bug of the caller).
    """
    if config.diff_ids != image.config.diff_ids:
        raise ValueError("another config must have the same layers")
    copy_blobs(registries, image.reference, destination, image.layers)
    return put_image(registries, destination, config, image.layers, like=image, annotations=annotations)


def put_image(
    registries: Registries,
    destination: ImageReference,
    config: ImageConfig,
    layers: Iterable[Descriptor],
    *,
    like: RemoteImage | None = None,
    annotations: Mapping[str, str] | None = None,
) -> RemoteImage:
    """Return an image from a config and layers that the destination's repository holds; tagged where the destination is.

    Its platform, its annotations and its media types are those of the image `like` (default: the config's, none, OCI), with
    `annotations` added; Docker's manifests have none.
    """
    client = registries.client(destination)
    digest = client.put_blob(destination.repository, config.raw)
    media_type = like.manifest.config.media_type if like else OCI_CONFIG
    manifest = Manifest.make(
        config=Descriptor(media_type=media_type, digest=digest, size=len(config.raw)),
        layers=layers,
        media_type=like.manifest.media_type if like else OCI_MANIFEST,
        annotations=_annotations(like, annotations or {}),
    )
    client.put_manifest(destination.repository, destination.tag or manifest.digest, manifest.raw, manifest.media_type)
    return RemoteImage(
        reference=destination.with_digest(manifest.digest),
        index_digest=None,
        platform=like.platform if like else config.platform,
        manifest=manifest,
        config=config,
    )


def _annotations(like: RemoteImage | None, added: Mapping[str, str]) -> dict[str, str]:
    if like is None:
        return dict(added)
    return dict(like.manifest.annotations) | (dict(added) if like.manifest.media_type == OCI_MANIFEST else {})


# ---- phases ---------------------------------------------------------------------------------------------------------


def _manifest(client: RegistryClient, reference: ImageReference, wanted: str | Digest) -> RawManifest:
    try:
        return client.manifest(reference.repository, wanted)
    except NotFoundInRegistryError as error:
        raise NotFoundInRegistryError(
            f"{reference} is not in {reference.registry}"
            + (f" ({wanted})" if str(wanted) not in str(reference) else ""),
            hint="Check the name, and that the image was pushed to this registry.",
        ) from error


def _fits(there: Platform, wanted: Platform) -> bool:
    if (there.os, there.architecture) != (wanted.os, wanted.architecture):
        return False
    return not there.variant or not wanted.variant or there.variant == wanted.variant


def _other_platforms(
    reference: ImageReference, platform: Platform, there: tuple[Platform, ...]
) -> NotFoundInRegistryError:
    names = ", ".join(str(item) for item in there) or "no platform at all"
    return NotFoundInRegistryError(
        f"{reference} exists, but not for {platform}; it has: {names}",
        hint=f"Use another base, or push an image for {platform.oci} under this name.",
    )


def _copy_content(
    registries: Registries, source: ImageReference, destination: ImageReference, raw: RawManifest, *, depth: int = 0
) -> None:
    if (source.registry, source.repository) == (destination.registry, destination.repository):
        return
    if not raw.is_index:
        manifest = Manifest.of(raw, where=str(source))
        copy_blobs(registries, source, destination, (*manifest.layers, manifest.config))
        return
    limits.INDEX_DEPTH.check(depth + 1, "the index", str(source))
    giver, taker = registries.client(source), registries.client(destination)
    children = {child.digest: child for child in Index.of(raw, where=str(source)).manifests}
    for child in children.values():
        if taker.head(destination.repository, child.digest) is not None:
            continue
        below = giver.manifest(source.repository, child.digest)
        _copy_content(registries, source, destination, below, depth=depth + 1)
        taker.put_manifest(destination.repository, child.digest, below.raw, below.media_type)


def copy_blobs(
    registries: Registries, source: ImageReference, destination: ImageReference, blobs: Iterable[Descriptor]
) -> None:
    """Copy blobs that the destination's repository lacks; within one registry they are mounted, not sent.

    Errors: those of the registries.
    """
    if (source.registry, source.repository) == (destination.registry, destination.repository):
        return
    needed = {blob.digest: blob for blob in blobs}
    if not needed:
        return
    giver, taker = registries.client(source), registries.client(destination)

    def copy(blob: Descriptor) -> None:
        if not taker.needs_blob(destination.repository, blob.digest, size=blob.size):
            return
        if giver is taker and taker.mount_blob(destination.repository, blob.digest, source.repository):
            return
        body = Body(blob.size, lambda: giver.stream(source.repository, blob.digest, size=blob.size))
        taker.put_blob(destination.repository, body, digest=blob.digest)

    in_parallel(copy, needed.values(), at_once=STREAMS)


def is_intact(registries: Registries, reference: ImageReference, platform: Platform) -> bool:
    """Return whether manifest and config can be read and are for the platform, and every layer's blob is there.

    The layers' content is not read: clients check their digests when pulling. Damaged content, or no image, is not intact.
    Errors: every other `RegistryError`: an unclear response does not mean that content is missing.
    """
    try:
        image = resolve(registries, reference, platform)
        client = registries.client(reference)

        def has(layer: Descriptor) -> bool:
            return client.has_blob(reference.repository, layer.digest, size=layer.size)

        return all(in_parallel(has, image.layers, at_once=client.at_once))
    except (NotFoundInRegistryError, DamagedContentError, NotAnImageError):
        return False
