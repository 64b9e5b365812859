"""The documents of the OCI image spec (and Docker's v2 schema 2, the same but for their media types), as values.

Read with `Manifest.parse` and `Index.parse` (the config of an image is in `config`). Each keeps the bytes that it was read
from, because a document's identity is the digest of its bytes. What is written here is canonical JSON: sorted keys, no
spaces.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, RegistryError, WrongUseError
from chainbuild.references import Digest, Platform
from chainbuild.registry.fields import FieldReader
from chainbuild.values import replace

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"

INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
# In order of preference: registries that convert use the first one that they support.
ACCEPTED_TYPES: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)

# BuildKit's annotation for children of an index with provenance and SBOMs instead of an image.
_ATTESTATION: Final = ("vnd.docker.reference.type", "attestation-manifest")


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of `data`, by sha256 if nothing else is asked for."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, UTF-8. Equal content gives equal bytes and an equal digest."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Descriptor(Struct, frozen=True, kw_only=True):
    """A reference to content: media type, digest, size in bytes; in an index also the platform."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()
    data: bytes | None = None
    """The content itself if the document that points at it embeds it (OCI descriptor, `data`)."""

    @classmethod
    def of(cls, data: bytes, media_type: str, *, embed: bool = False) -> Descriptor:
        """Return the descriptor of these bytes; `embed` puts the bytes themselves into it."""
        return cls(media_type=media_type, digest=digest_of(data), size=len(data), data=data if embed else None)

    @property
    def is_index(self) -> bool:
        """Return whether it points at an index (a manifest list)."""
        return self.media_type in INDEX_TYPES

    @property
    def is_attestation(self) -> bool:
        """Return whether it is one of BuildKit's attestation manifests, which hold no image."""
        return _ATTESTATION in self.annotations

    def annotation(self, key: str) -> str:
        """Return the annotation's value; empty if there is none."""
        return dict(self.annotations).get(key, "")


class RawManifest(Struct, frozen=True, kw_only=True):
    """A manifest or an index as served by a registry: bytes with a verified digest."""

    media_type: str
    digest: Digest
    raw: bytes

    @property
    def is_index(self) -> bool:
        """Return whether it is an index (a manifest list)."""
        return self.media_type in INDEX_TYPES

    @property
    def descriptor(self) -> Descriptor:
        """Return what points at it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))


class Manifest(RawManifest, frozen=True, kw_only=True):
    """An image manifest: its config and its layers, lowest first. Artifacts have the same form."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Return the compressed size of the image in bytes, as registries count it: config and layers."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def descriptor(self) -> Descriptor:
        """Return what points at it."""
        return replace(super().descriptor, artifact_type=self.artifact_type)

    @classmethod
    def parse(cls, raw: bytes, *, media_type: str = "", where: str = "", digest: Digest | None = None) -> Manifest:
        """Read a manifest. `where` names it in errors; `digest` is the one that was verified, if it was.

        Errors: `DamagedContentError`; `RegistryError` for a format that is not supported any more.
        """
        document, reader = limits.read_object(raw, "the manifest", where), FieldReader("the manifest", where)
        kind = reader.text(document, "mediaType") or media_type or OCI_MANIFEST
        if kind not in MANIFEST_TYPES or "config" not in document:
            if document.get("schemaVersion") == 1:
                raise RegistryError(
                    "the manifest has Docker's schema 1, which is no longer supported",
                    where=where,
                    hint="Push the image again with Docker 1.10 or newer.",
                )
            raise DamagedContentError(f"not an image manifest (media type {kind[:100]!r})", where=where)
        subject = document.get("subject")
        layers = reader.items(document, "layers")
        limits.LAYERS.check(len(layers), "the manifest", where)
        return cls(
            media_type=kind,
            digest=digest or digest_of(raw),
            raw=raw,
            config=_descriptor(document["config"], reader),
            layers=tuple(_descriptor(layer, reader) for layer in layers),
            artifact_type=reader.text(document, "artifactType"),
            subject=_descriptor(subject, reader) if subject else None,
            annotations=_annotations(document, reader),
        )

    @classmethod
    def of(cls, raw: RawManifest, *, where: str = "") -> Manifest:
        """Read a manifest that a registry served, under the digest that was verified. Errors: as `parse`."""
        return cls.parse(raw.raw, media_type=raw.media_type, where=where, digest=raw.digest)

    @classmethod
    def make(
        cls,
        *,
        config: Descriptor,
        layers: Iterable[Descriptor],
        media_type: str = OCI_MANIFEST,
        artifact_type: str = "",
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
    ) -> Manifest:
        """Return a new manifest, with canonical bytes."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _wire(config),
            "layers": [_wire(layer) for layer in layers],
        }
        if artifact_type:
            document["artifactType"] = artifact_type
        if annotations:
            document["annotations"] = dict(annotations)
        if subject:
            document["subject"] = _wire(subject)
        return cls.parse(canonical(document))


class Index(RawManifest, frozen=True, kw_only=True):
    """An image index (manifest list): a manifest per platform, and maybe attestations."""

    manifests: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """Return the children that are images: attestations and children without a platform are left out."""
        return tuple(
            child
            for child in self.manifests
            if child.platform is not None and child.platform.os != "unknown" and not child.is_attestation
        )

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """Return the platforms that there is an image for, in the index's order."""
        return tuple(child.platform for child in self.images if child.platform is not None)

    def child(self, platform: Platform) -> Descriptor | None:
        """Return the image for a platform; None if there is none.

        `arm/v7` matches nothing else; a platform without a variant matches the first of its architecture
        (amd64 takes amd64/v2 only where there is no plain amd64), as containerd's matcher does.
        """
        for child in self.images:
            if child.platform is not None and child.platform.same_as(platform):
                return child
        if not platform.variant:
            for child in self.images:
                there = child.platform
                if there is not None and (there.os, there.architecture) == (platform.os, platform.architecture):
                    return child
        return None

    def attestations_of(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the attestation manifests that BuildKit attached to a child."""
        return tuple(
            child
            for child in self.manifests
            if child.is_attestation and child.annotation("vnd.docker.reference.digest") == digest.value
        )

    @classmethod
    def parse(cls, raw: bytes, *, media_type: str = "", where: str = "", digest: Digest | None = None) -> Index:
        """Read an index. Everything is as in `Manifest.parse`."""
        document, reader = limits.read_object(raw, "the index", where), FieldReader("the index", where)
        kind = reader.text(document, "mediaType") or media_type or OCI_INDEX
        if kind not in INDEX_TYPES:
            raise DamagedContentError(f"not an image index (media type {kind[:100]!r})", where=where)
        children = reader.items(document, "manifests")
        limits.INDEX_ENTRIES.check(len(children), "the index", where)
        return cls(
            media_type=kind,
            digest=digest or digest_of(raw),
            raw=raw,
            manifests=tuple(_descriptor(child, reader) for child in children),
            annotations=_annotations(document, reader),
        )

    @classmethod
    def of(cls, raw: RawManifest, *, where: str = "") -> Index:
        """Read an index that a registry served, under the digest that was verified. Errors: as `parse`."""
        return cls.parse(raw.raw, media_type=raw.media_type, where=where, digest=raw.digest)

    @classmethod
    def make(
        cls,
        manifests: Iterable[Descriptor],
        *,
        media_type: str = OCI_INDEX,
        annotations: Mapping[str, str] | None = None,
    ) -> Index:
        """Return a new index over these descriptors (each with its platform), with canonical bytes."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": [_wire(child) for child in manifests],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return cls.parse(canonical(document))


# ---- wire form ----------------------------------------------------------------------------------------------------


def _wire(descriptor: Descriptor) -> dict[str, Any]:
    body: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.value,
        "size": descriptor.size,
    }
    if descriptor.platform is not None:
        there = descriptor.platform
        body["platform"] = {"os": there.os, "architecture": there.architecture}
        if there.variant:
            body["platform"]["variant"] = there.variant
    if descriptor.artifact_type:
        body["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        body["annotations"] = dict(descriptor.annotations)
    if descriptor.data is not None:
        body["data"] = base64.b64encode(descriptor.data).decode()
    return body


def _descriptor(value: Any, reader: FieldReader) -> Descriptor:
    where = reader.where
    if not isinstance(value, dict):
        raise DamagedContentError("a descriptor is not an object", where=where)
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise DamagedContentError(f"a descriptor's size is {str(size)[:40]!r}", where=where)
    limits.DESCRIPTOR_SIZE.check(size, "a descriptor", where)
    digest = read_digest(value.get("digest"), where)
    return Descriptor(
        media_type=reader.text(value, "mediaType"),
        digest=digest,
        size=size,
        platform=_platform(reader.mapping(value, "platform"), reader) if value.get("platform") else None,
        artifact_type=reader.text(value, "artifactType"),
        annotations=_annotations(value, reader),
        data=_embedded(value.get("data"), digest, size),
    )


def _embedded(value: Any, digest: Digest, size: int) -> bytes | None:
    """Return the content that a descriptor embeds; None unless it is exactly what the descriptor's digest and size say.

    The content is then fetched as if nothing were embedded, which the specification allows for every `data`.
    """
    if not isinstance(value, str) or len(value) > 4 * (size // 3 + 1):
        return None
    try:
        content = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return None
    return content if len(content) == size and digest_of(content, digest.algorithm) == digest else None


def _platform(value: Mapping[str, Any], reader: FieldReader) -> Platform:
    return Platform.from_oci(*(reader.text(value, key) for key in ("os", "architecture", "variant")))


def _annotations(document: Mapping[str, Any], reader: FieldReader) -> tuple[tuple[str, str], ...]:
    value = reader.mapping(document, "annotations") if document.get("annotations") else {}
    return tuple(sorted((str(name), str(text)) for name, text in value.items()))


def read_digest(value: Any, where: str) -> Digest:
    """Return a digest out of a document or header. Errors: `DamagedContentError` (the registry's mistake, not the user's)."""
    try:
        return Digest(value if isinstance(value, str) else "")
    except WrongUseError as error:
        raise DamagedContentError(f"{str(value)[:200]!r} is not a digest", where=where) from error
