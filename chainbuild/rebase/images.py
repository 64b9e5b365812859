"""Make a rebased image with registry operations only: the new base's layers, the step's, and a layer of merged files."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
from collections.abc import Iterable
from typing import Final

from chainbuild.rebase.changes import MergedFile
from chainbuild.references import ImageReference
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.contents import WHITEOUT
from chainbuild.registry.images import RemoteImage, copy_blobs, put_image
from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import XATTR
from chainbuild.values import replace

_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_LEVEL: Final = 6


def merged_layer(files: Iterable[MergedFile]) -> bytes:
    """Return the tar of merged files, in the order of their paths and without times, so that equal files give equal bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files, key=lambda file: file.path):
            name = file.path.lstrip("/")
            if file.entry is None:
                folder, _, last = name.rpartition("/")
                member = tarfile.TarInfo(posixpath.join(folder, f"{WHITEOUT}{last}"))
                archive.addfile(member)
                continue
            data = file.entry.data or b""
            member = tarfile.TarInfo(name)
            member.mode, member.size = file.entry.mode, len(data)
            member.uid, member.gid = map(int, file.entry.owner.split(":"))
            member.pax_headers = {
                f"{XATTR}{key}": value.decode("utf-8", "surrogateescape") for key, value in file.entry.xattrs
            }
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def put_rebased(
    registries: Registries,
    built: RemoteImage,
    parent: RemoteImage,
    own: tuple[Descriptor, ...],
    config: ImageConfig,
    layer: bytes | None,
    destination: ImageReference,
) -> RemoteImage:
    """Return the image of `parent`'s layers, the layers `own` of `built`, and a layer (a tar), under the destination's tag.

    `config` has the diff ids of all of them. Blobs are mounted within a registry, and copied from another one.
    """
    copy_blobs(registries, parent.reference, destination, parent.layers)
    copy_blobs(registries, built.reference, destination, own)
    layers = [*map(_oci, parent.layers), *own]
    if layer is not None:
        packed = gzip.compress(layer, _LEVEL, mtime=0)
        digest = registries.client(destination).put_blob(destination.repository, packed)
        layers.append(Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=len(packed)))
    return put_image(registries, destination, config, layers, like=built)


def _oci(layer: Descriptor) -> Descriptor:
    """Return a layer as it is described in an OCI manifest, which has names of its own for the same content."""
    return replace(layer, media_type=OCI_LAYER_GZIP) if layer.media_type == _DOCKER_LAYER else layer
