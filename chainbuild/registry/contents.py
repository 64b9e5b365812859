"""The files of an image, read from its layers as they stream from the registry.

Reads one file, or finds the layer of every file. Nothing is unpacked or kept in memory: a layer goes through the
decompressor, and only the headers of its tar (and the requested file) are read.
"""

from __future__ import annotations

import errno
import gzip
import io
import posixpath
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Final, cast

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError, NotReadyError
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.references import ImageReference
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member, TarError, members
from chainbuild.values import replace


def save_file(
    registries: Registries, image: RemoteImage, path: str, target: Path, *, layers: int | None = None
) -> None:
    """Write the regular file at an absolute path of an image to `target`. Layers are read from the top.

    With `layers`, only so many of the lowest layers are read.
    Errors: `NotFoundInRegistryError` if the image has no such file; `NotAnImageError` if it is not a regular
    file; `NotReadyError` if `target` cannot be written; those of the registry, and `DamagedContentError`.
    """
    target_path = path
    for layer in reversed(image.layers[:layers]):
        result = _search(registries, image.reference, layer, target_path, target)
        if result == target_path:
            return
        if result is None:
            break
        if result:
            # A hard link: its file is in the same layer, or in a lower one.
            target_path = result
            if _search(registries, image.reference, layer, target_path, target) == target_path:
                return
    raise NotFoundInRegistryError(f"{image.reference} has no file {path}")


def _search(registries: Registries, place: ImageReference, layer: Descriptor, path: str, target: Path) -> str | None:
    """Look for a file in a layer. The last entry of a path applies.

    Return the path if it was written, another path if it is a hard link to that, `""` if the layer does not contain it, and
    None if the layer deletes it.
    """
    deleted = _whiteouts(path)
    result: str | None = ""
    for member in layer_members(registries, place, layer):
        at = absolute(member.name)
        if at == path:
            if member.kind == "file":
                _write(member, target)
                result = path
            elif member.kind == "hard" and absolute(member.target) != path:
                result = absolute(member.target)
            elif member.kind != "hard":
                raise NotAnImageError(
                    f"{place}: {path} is no regular file but a {_KINDS.get(member.kind, member.kind)}"
                )
        elif at in deleted and not result:
            result = None
    return result


def _whiteouts(path: str) -> frozenset[str]:
    """Return the entries by which a layer deletes a path: its own and those of its parent folders."""
    paths: set[str] = set()
    while path != "/":
        folder, name = posixpath.split(path)
        paths |= {posixpath.join(folder, f"{WHITEOUT}{name}"), posixpath.join(folder, OPAQUE)}
        path = folder
    return frozenset(paths)


_KINDS: Final = {"dir": "folder", "link": "symbolic link", "special": "special file"}


def _write(member: Member, target: Path) -> None:
    try:
        with target.open("wb") as file:
            for chunk in member.chunks():
                file.write(chunk)
    except OSError as error:
        hint = "Free some space, or name another folder for temporary files in TMPDIR."
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            hint = "See the folder for temporary files (TMPDIR)."
        raise NotReadyError(f"cannot write {member.name}: {error.strerror}", where=str(target), hint=hint) from error


WHITEOUT: Final = ".wh."
"""The name prefix of a member that deletes files of lower layers (OCI image spec, layer, "Whiteouts")."""
OPAQUE: Final = ".wh..wh..opq"
"""The name of a member that deletes everything that lower layers have in its folder (ibid., "Opaque Whiteout")."""
_BUFFER: Final = 1 << 20


class FileOrigin(Struct, frozen=True):
    """Where a file comes from: the number of its layer, from 0; its size in bytes there."""

    layer: int
    size: int


def origins(registries: Registries, place: ImageReference, layers: tuple[Descriptor, ...]) -> dict[str, FileOrigin]:
    """By path (`/usr/bin/x`, free of links above it) the layer that has the newest version of each regular file.

    It also lists files that a later layer deletes. A hard link has the size of
    its target. Errors: `RegistryError`; `LimitError` for more files than an image can have.
    """
    listings = in_parallel(lambda layer: _listing(registries, place, layer), layers, at_once=STREAMS)
    origins: dict[str, FileOrigin] = {}
    files = limits.Budget(limits.ALL_MEMBERS, "the image", str(place))
    for number, listing in enumerate(listings):
        files.spend(len(listing))
        origins |= {path: FileOrigin(number, size) for path, size in listing.items()}
    return origins


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
    """Yield what a layer's tar has, in its order, within the limits of `chainbuild.limits`.

    The result is valid only after the last member: the digest is checked then. Errors: `RegistryError`;
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
    """Return the path in the image of a name in a layer."""
    return posixpath.normpath("/" + name.lstrip("/"))


def unpacked(source: Iterator[bytes], layer: Descriptor) -> tuple[IO[bytes], type[Exception]]:
    """Return the tar of a layer whose bytes come in pieces, and what is raised where it cannot be unpacked."""
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
