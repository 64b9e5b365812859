"""Make the bill of materials of an image from its layers, as the proof of a built image makes it from its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from chainbuild import limits
from chainbuild.comparison.contents import Entry, LayeredRoot, entry_of
from chainbuild.minimize.packages import owned
from chainbuild.minimize.sbom import Digests, document, system_of
from chainbuild.registry.contents import layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member
from chainbuild.values import replace

_LEFT = ("/proc/", "/sys/", "/dev/")


def bill_of(registries: Registries, image: RemoteImage, name: str) -> bytes:
    """Return the SPDX document about all files of an image. `name` is the image's name in it. Errors: `RegistryError`."""
    sums: dict[bytes, Digests] = {}
    root = LayeredRoot((_rows(registries, image, layer, sums) for layer in image.layers), str(image.reference))
    digests = {
        path: sums[entry.content]
        for path, entry in root.files.items()
        if entry.kind == "file" and not path.startswith(_LEFT)
    }
    ownership = owned(root)
    owners = {path: ownership.owner(path) for path in digests}
    content = document(name, ownership, ownership.packages, owners, digests, system_of(root), None)
    return json.dumps(content, sort_keys=True).encode()


def _rows(
    registries: Registries, image: RemoteImage, layer: Descriptor, sums: dict[bytes, Digests]
) -> Iterator[tuple[str, Entry]]:
    """Yield the members of a layer, and add the checksums of its files by the digest of their content."""
    place = str(image.reference)
    kept = limits.Budget(limits.PACKAGE_FILES, f"the layer {layer.digest.short}", place)
    for member in layer_members(registries, image.reference, layer):
        if member.kind != "file":
            yield entry_of(member, kept, place)
            continue
        md5, sha1 = (hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1"))

        def chunks(member: Member = member, md5: hashlib._Hash = md5, sha1: hashlib._Hash = sha1) -> Iterator[bytes]:
            for piece in member.chunks():
                md5.update(piece)
                sha1.update(piece)
                yield piece

        path, entry = entry_of(replace(member, chunks=chunks), kept, place)
        sums[entry.content] = Digests(raw=md5.digest() + sha1.digest() + entry.content)
        yield path, entry
