"""Publish to an OCI registry: each SIF file is an artifact in the form that `apptainer pull oras://…` expects.

That form is older than the artifacts of the image spec: a manifest with a config and one layer of Sylabs' media types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chainbuild.errors import NotFoundInRegistryError, WrongUseError
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.http.transport import Body
from chainbuild.registry.oci import Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.singularity.collection import Sif
from chainbuild.singularity.names import SifName
from chainbuild.singularity.places.address import Address
from chainbuild.singularity.places.destination import Told, sent_chunks

SIF_CONFIG: Final = "application/vnd.sylabs.sif.config.v1+json"
SIF_LAYER: Final = "application/vnd.sylabs.sif.layer.v1.sif"
_EMPTY: Final = b"{}"


class OrasPlace:
    """Repositories below a path of a registry: `oras://ghcr.io/org/sif` gets `ghcr.io/org/sif/chainbuild/atom:TAG`.

    The tag is pushed last, like the checksum elsewhere.
    """

    def __init__(self, address: Address, registries: Registries | None = None) -> None:
        self._registry = ChainRegistry.parse(f"{address.netloc}/{address.path}")
        self._registries = registries or Registries()

    def reference(self, name: SifName) -> ImageReference:
        """Return the reference of a SIF file in the registry."""
        return self._registry.place(ImageReference.parse(str(name))).with_tag(name.tag)

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        results = {sif.file: self._checksum(self.reference(sif.name)) for sif in sifs}
        return {file: checksum for file, checksum in results.items() if checksum}

    def files(self) -> tuple[str, ...] | None:
        return None

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        target = self.reference(sif.name)
        self._checksum(target)  # fails if the tag is not a SIF file
        client = self._registries.client(target)
        digest = Digest(f"sha256:{sif.sha256}")
        client.put_blob(target.repository, Body(sif.size, lambda: sent_chunks(sif, path, told)), digest=digest)
        client.put_blob(target.repository, _EMPTY)
        layer = Descriptor(
            media_type=SIF_LAYER,
            digest=digest,
            size=sif.size,
            annotations=(("org.opencontainers.image.title", sif.file),),
        )
        manifest = Manifest.make(
            config=Descriptor.of(_EMPTY, SIF_CONFIG),
            layers=(layer,),
            annotations={
                "org.opencontainers.image.base.digest": str(sif.digest),
                "org.opencontainers.image.base.name": sif.image,
                "io.github.chainbuild.platform": sif.platform,
            },
        )
        client.put_manifest(target.repository, target.tag_or_latest, manifest.raw, manifest.media_type)

    def close(self) -> None:
        self._registries.close()

    def _checksum(self, target: ImageReference) -> str:
        """Return the sha256 of the SIF file at a tag; empty if missing. Errors: `WrongUseError` if it is not a SIF file."""
        try:
            raw = self._registries.client(target).manifest(target.repository, target.tag_or_latest)
        except NotFoundInRegistryError:
            return ""
        if not raw.is_index:
            manifest = Manifest.of(raw, where=str(target))
            if len(manifest.layers) == 1 and manifest.layers[0].media_type == SIF_LAYER:
                return manifest.layers[0].digest.hex
        raise WrongUseError(
            f"{target} exists and is not a SIF file; it was not overwritten",
            hint=f"Use a separate path for SIF files, for example oras://{self._registry}/sif.",
        )
