"""One file of an image, read from the registry's layers as they stream: nothing else is unpacked or held in memory."""

from __future__ import annotations

import errno
import posixpath
from pathlib import Path
from typing import Final

from chainbuild.errors import NotAnImageError, NotFoundInRegistryError, NotReadyError
from chainbuild.references import ImageReference
from chainbuild.registry.contents import WHITEOUT, absolute, layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member

_OPAQUE: Final = ".wh..wh..opq"


def save_file(registries: Registries, image: RemoteImage, path: str, target: Path) -> None:
    """Write the regular file at an absolute path of an image to `target`. Layers are read from the top until it is found.

    Errors: `NotFoundInRegistryError` if the image has no such file; `NotAnImageError` if there is something else at the
    path; `NotReadyError` if `target` cannot be written; those of the registry, and `DamagedContentError`.
    """
    wanted = path
    for layer in reversed(image.layers):
        found = _search(registries, image.reference, layer, wanted, target)
        if found == wanted:
            return
        if found is None:
            break
        if found:
            # A hard link: its file is in the same layer, or in a lower one.
            wanted = found
            if _search(registries, image.reference, layer, wanted, target) == wanted:
                return
    raise NotFoundInRegistryError(f"{image.reference} has no file {path}")


def _search(registries: Registries, place: ImageReference, layer: Descriptor, path: str, target: Path) -> str | None:
    """Look for a file in a layer, of which the last entry of a path counts.

    Return the path if it was written, another path if it is a hard link to that, `""` if the layer says nothing of it, and
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
    """Return the entries by which a layer deletes a path: of itself, and of every folder that it is in."""
    found: set[str] = set()
    while path != "/":
        folder, name = posixpath.split(path)
        found |= {posixpath.join(folder, f"{WHITEOUT}{name}"), posixpath.join(folder, _OPAQUE)}
        path = folder
    return frozenset(found)


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
