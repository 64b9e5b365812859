"""Places to publish SIF files: a folder, SFTP, WebDAV, an OCI registry. Their common protocol, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chainbuild.registry.transport import read_chunks
from chainbuild.singularity.collection import Sif
from chainbuild.singularity.places.address import Address, parse_address

Told = Callable[[int, int], None]
"""Called with the bytes sent so far and the total."""


class Destination(Protocol):
    """A place to publish SIF files."""

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        """Return the sha256 of each published file, by file name. Errors: those of the place."""
        ...

    def files(self) -> tuple[str, ...] | None:
        """Return the names of all published SIF files; None if the place cannot list them."""
        ...

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        """Publish a file in place of the old one: only when complete, and its checksum last."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def sent_chunks(sif: Sif, path: Path, told: Told) -> Iterator[bytes]:
    """Yield the bytes of a SIF file, and report how many were taken."""
    done = 0
    for chunk in read_chunks(path):
        yield chunk
        done += len(chunk)
        told(done, sif.size)


def open_place(text: str) -> Destination:
    """Return the place at an address. Errors: `WrongUseError`."""
    address: Address = parse_address(text)
    match address.kind:
        case "folder":
            from chainbuild.singularity.places.folder import FolderPlace

            return FolderPlace(Path(address.path))
        case "sftp":
            from chainbuild.singularity.places.sftp import SftpPlace

            return SftpPlace(address)
        case "webdav":
            from chainbuild.singularity.places.webdav import WebdavPlace

            return WebdavPlace(address)
        case "oras":
            from chainbuild.singularity.places.oras import OrasPlace

            return OrasPlace(address)
