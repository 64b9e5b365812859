"""Whether the registry still holds every part of an image: a manifest can outlive its blobs."""

from __future__ import annotations

from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import resolve
from chainbuild.registry.pool import Registries


def is_intact(registries: Registries, reference: ImageReference, platform: Platform) -> bool:
    """Whether manifest and config can be read and are for the platform, and every layer's blob is there.

    The layers' content is not read: whoever pulls them checks their digests. What is damaged, or no image, is not intact.
    Errors: every other `RegistryError`: a registry that does not answer clearly has not lost anything.
    """
    try:
        image = resolve(registries, reference, platform)
        client = registries.client(reference)
        return all(client.has_blob(reference.repository, layer.digest, size=layer.size) for layer in image.layers)
    except (NotFoundInRegistryError, DamagedContentError, NotAnImageError):
        return False
