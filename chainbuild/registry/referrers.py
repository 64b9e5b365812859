"""What is attached to an image: the list of the artifacts that name its manifest as their subject (OCI distribution spec 1.1).

The list comes from the registry's referrers API if it has one. For other registries (docker-registry 2.8) the spec has the
referrers tag schema: an index under the tag `sha256-<hex>` of the subject, which clients maintain.
"""

from __future__ import annotations

from typing import Final

from chainbuild.patterns import regex
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import read_index
from chainbuild.registry.oci import Descriptor, Index
from chainbuild.registry.pool import Registries

_SUBJECT: Final = regex(r"sha256-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?")
"""The tags of the referrers tag schema, and cosign's; `.sbom` is that of its older versions."""


def referrers_tag(subject: Digest) -> str:
    """Return the tag of the referrers tag schema."""
    return str(subject).replace(":", "-")[:128]


def subject_of(tag: str) -> Digest | None:
    """Return the subject of a tag of the referrers tag schema or of cosign's tags; None for any other tag."""
    match = _SUBJECT.fullmatch(tag)
    return Digest(f"sha256:{match[1]}") if match else None


def referrers(
    registries: Registries, image: ImageReference, artifact_type: str = "", *, tag_first: bool = False
) -> tuple[Descriptor, ...]:
    """Descriptors of everything that is attached to the manifest which the reference's digest names, in list order.

    `tag_first` saves a request at a registry that most likely has no list of its own.
    """
    if image.digest is None:
        raise ValueError("only what a digest names has referrers")
    place = ImageReference(image.registry, image.repository)
    if tag_first and (there := read_index(registries, place.with_tag(referrers_tag(image.digest)))) is not None:
        return there.manifests
    descriptors = registries.client(place).referrers(place.repository, image.digest, artifact_type)
    if descriptors is not None:
        return Index.of(descriptors, where=str(image)).manifests
    index = None if tag_first else read_index(registries, place.with_tag(referrers_tag(image.digest)))
    return index.manifests if index else ()
