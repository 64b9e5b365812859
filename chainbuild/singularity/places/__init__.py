"""Places to publish SIF files: a folder, SFTP, WebDAV, an OCI registry, and how to open one."""

from __future__ import annotations

from pathlib import Path

from chainbuild.singularity.places.address import Address, parse_address
from chainbuild.singularity.places.destination import Destination


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
