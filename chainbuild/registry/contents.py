"""What is in an image's layers: which of them each file of the image comes from, read from the registry as it streams.

Nothing is unpacked and nothing is kept: a layer goes through the decompressor, and the headers of its tar are looked at.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, Final, cast

from chainbuild.errors import RegistryError
from chainbuild.references import ImageReference
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries

WHITEOUT: Final = ".wh."
"""How the name of a member begins that takes away what lower layers have (OCI image spec, layer, "Whiteouts")."""
_AT_ONCE: Final = 4
_BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file comes from: the number of its layer, from 0; its size in bytes there."""

    layer: int
    size: int


def origins(registries: Registries, place: ImageReference, layers: tuple[Descriptor, ...]) -> dict[str, Origin]:
    """By path (`/usr/bin/x`, free of links above it) the layer that has the newest version of each regular file.

    It also tells of files that a later layer deletes: whoever asks knows what the image has. A hard link has the size of
    what it is a link to. Errors: `RegistryError`.
    """
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        listings = threads.map(lambda layer: _listing(registries, place, layer), layers)
        found: dict[str, Origin] = {}
        for number, listing in enumerate(listings):
            found |= {path: Origin(number, size) for path, size in listing.items()}
    return found


def _listing(registries: Registries, place: ImageReference, layer: Descriptor) -> dict[str, int]:
    sizes: dict[str, int] = {}
    links: list[tuple[str, str]] = []
    for one in layer_members(registries, place, layer):
        member = one.info
        path = absolute(member.name)
        if posixpath.basename(path).startswith(WHITEOUT):
            continue
        if member.isreg():
            sizes[path] = member.size
        elif member.islnk():
            links.append((path, absolute(member.linkname)))
    return sizes | {path: sizes.get(target, 0) for path, target in links}


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """What a layer's tar has of one path; `chunks` gives its content, as long as no other member was asked for."""

    info: tarfile.TarInfo
    chunks: Callable[[], Iterator[bytes]]


def layer_members(registries: Registries, place: ImageReference, layer: Descriptor) -> Iterator[Member]:
    """What a layer's tar has, in its order.

    It counts only when the last one was given: the layer's digest is checked then. Errors: `RegistryError`.
    """
    source = registries.client(place).stream(place.repository, layer.digest)
    tar, broken = unpacked(source, layer)
    breaks = (tarfile.TarError, OSError, EOFError, ValueError, broken)

    def told(error: Exception) -> RegistryError:
        return RegistryError(f"{place}: the layer {layer.digest.short} cannot be read: {error}")

    def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        try:
            file = archive.extractfile(member)
            while file is not None and (chunk := file.read(_BUFFER)):
                yield chunk
        except breaks as error:
            raise told(error) from error

    try:
        with tarfile.open(fileobj=tar, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            for member in archive:
                # What was read is forgotten: a layer may have a million files.
                archive.members = []  # type: ignore[attr-defined]
                yield Member(info=member, chunks=partial(content, archive, member))
        for _ in source:  # to its end, where its digest is checked
            pass
    except breaks as error:
        raise told(error) from error


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
