"""What is in an image's layers: which of them each file of the image comes from, read from the registry as it streams.

Nothing is unpacked and nothing is kept: a layer goes through the decompressor, and the headers of its tar are looked at.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO, Final, cast

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.references import ImageReference
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member, TarError, members
from chainbuild.values import replace

WHITEOUT: Final = ".wh."
"""How the name of a member begins that takes away what lower layers have (OCI image spec, layer, "Whiteouts")."""
_AT_ONCE: Final = 4
_BUFFER: Final = 1 << 20


class Origin(Struct, frozen=True):
    """Where a file comes from: the number of its layer, from 0; its size in bytes there."""

    layer: int
    size: int


def origins(registries: Registries, place: ImageReference, layers: tuple[Descriptor, ...]) -> dict[str, Origin]:
    """By path (`/usr/bin/x`, free of links above it) the layer that has the newest version of each regular file.

    It also tells of files that a later layer deletes: whoever asks knows what the image has. A hard link has the size of
    what it is a link to. Errors: `RegistryError`; `LimitError` for more files than an image can have.
    """
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        listings = threads.map(lambda layer: _listing(registries, place, layer), layers)
        found: dict[str, Origin] = {}
        files = limits.Budget(limits.ALL_MEMBERS, "the image", str(place))
        for number, listing in enumerate(listings):
            files.spend(len(listing))
            found |= {path: Origin(number, size) for path, size in listing.items()}
    return found


def _listing(registries: Registries, place: ImageReference, layer: Descriptor) -> dict[str, int]:
    sizes: dict[str, int] = {}
    links: list[tuple[str, str]] = []
    for member in layer_members(registries, place, layer):
        path = absolute(member.name)
        if posixpath.basename(path).startswith(WHITEOUT):
            continue
        if member.kind == "file":
            sizes[path] = member.size
        elif member.kind == "hard":
            links.append((path, absolute(member.target)))
    return sizes | {path: sizes.get(target, 0) for path, target in links}


def layer_members(registries: Registries, place: ImageReference, layer: Descriptor) -> Iterator[Member]:
    """What a layer's tar has, in its order, within the limits of `chainbuild.limits`.

    It counts only when the last one was given: the layer's digest is checked then. Errors: `RegistryError`;
    `DamagedContentError` where the layer is not what its digest and size say, or not a tar.
    """
    source = registries.client(place).stream(place.repository, layer.digest, size=layer.size)
    tar, broken = unpacked(source, layer)
    what = f"the layer {layer.digest.short}"

    def content(member: Member) -> Iterator[bytes]:
        try:
            yield from member.chunks()
        except (TarError, OSError, EOFError, broken) as error:
            raise DamagedContentError(f"{place}: {what} cannot be read: {error}") from error

    try:
        for member in members(tar, what, str(place)):
            yield replace(member, chunks=partial(content, member))
        for _ in source:  # to its end, where its digest is checked
            pass
    except (TarError, OSError, EOFError, broken) as error:
        raise DamagedContentError(f"{place}: {what} cannot be read: {error}") from error


def absolute(name: str) -> str:
    """The path in the image of a name in a layer."""
    return posixpath.normpath("/" + name.lstrip("/"))


def unpacked(source: Iterator[bytes], layer: Descriptor) -> tuple[IO[bytes], type[Exception]]:
    """The tar of a layer whose bytes come in pieces, and what is raised where it cannot be unpacked."""
    raw = io.BufferedReader(_Reader(source), _BUFFER)
    if layer.media_type.endswith(("+gzip", ".gzip")):
        return cast(IO[bytes], gzip.open(raw)), zlib.error
    if layer.media_type.endswith("+zstd"):
        # Late, and from where there is one: Python has it since 3.14.
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from backports import zstd
        return cast(IO[bytes], zstd.open(raw)), zstd.ZstdError
    return raw, zlib.error


class _Reader(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
