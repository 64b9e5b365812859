"""Share extracts of layers through the chain registry, so that no other machine reads these layers.

An extract is kept beside the image, under a tag made of its layer's digest, in an envelope signed by who read the layer. Only
one that a trusted key signed is used. A user without a key writes none: a question creates no key.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from chainbuild.errors import RegistryError
from chainbuild.records.tags import packages_tag
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.trust.envelope import MEDIA_TYPE, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError

PAYLOAD_TYPE: Final = "application/vnd.chainbuild.packages.v1+msgpack"


class SharedExtracts:
    """The extracts in a chain registry. Thread-safe."""

    def __init__(self, registries: Registries, chain: ChainRegistry, keyring: KeyRing) -> None:
        self._registries = registries
        self._chain = chain
        self._keyring = keyring

    def read(self, image: RemoteImage, layer: Descriptor) -> bytes | None:
        """Return the extract of an image's layer; None if there is none that a trusted key signed."""
        if not self._chain.holds(image.reference):
            return None
        try:
            artifact = read_artifact(self._registries, _place(image, layer), PAYLOAD_TYPE)
            return self._keyring.open(artifact.content, PAYLOAD_TYPE).payload if artifact else None
        except (RegistryError, EnvelopeError, UntrustedError):
            # Whatever is there: the layer itself is read.
            return None

    def write(self, image: RemoteImage, layer: Descriptor, extract: bytes) -> None:
        """Keep the extract of an image's layer, if the user has a key and may write to the registry."""
        if not self._chain.holds(image.reference) or not self._keyring.has_signing_key:
            return
        content = self._keyring.sign(extract, PAYLOAD_TYPE).raw
        with suppress(RegistryError):
            put_artifact(
                self._registries,
                _place(image, layer),
                artifact_type=PAYLOAD_TYPE,
                media_type=MEDIA_TYPE,
                content=content,
            )


def _place(image: RemoteImage, layer: Descriptor) -> ImageReference:
    reference = image.reference
    return ImageReference(reference.registry, reference.repository, tag=packages_tag(layer.digest))
