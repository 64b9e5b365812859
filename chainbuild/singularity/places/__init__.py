"""Where SIF files are published: a folder, SFTP, WebDAV, an OCI registry. What each can do, and which one an address means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chainbuild.singularity.collection import Sif
from chainbuild.singularity.places.address import Address, parse_address

Told = Callable[[int, int], None]
"""`(bytes that are there, of how many)`."""


class Destination(Protocol):
    """Where SIF files are published."""

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        """The sha256 of each of these that is published, by its file's name. Errors: those of the place."""
        ...

    def files(self) -> tuple[str, ...] | None:
        """The names of all SIF files there; None where the place cannot tell."""
        ...

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        """Publish a file instead of what is there under its name: whole or not at all, its checksum last."""
        ...

    def close(self) -> None:
        """Leave it."""
        ...


def open_place(text: str) -> Destination:
    """The place of an address. Errors: `WrongUseError`."""
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
