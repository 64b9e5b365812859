"""Find image types in the documented search order; the first root that has a place wins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.host.package_data import shipped
from chainbuild.layouts.image_types.manifest import MANIFEST

BUILT_IN: Final = "utilities/types"
"""The folder of the built-in image types."""
VARIABLE: Final = "CASA_DEFAULT_REPOSITORY"
DEFAULT_REPOSITORY: Final = "casa_distro"
"""The default repository, relative to the user's home."""


class TypesRoot(Struct, frozen=True, kw_only=True):
    """A folder to search for image types. `what` names it in messages; `needed`: the user requested it."""

    what: str
    folder: Path
    needed: str = ""
    """The setting that requested it (`--repository …`): then it must exist."""
    built_in: bool = False


class Folder(Struct, frozen=True, kw_only=True):
    """The folder of an image type. `spot` is its place in every root: `casa-dev/ubuntu-22.04`."""

    spot: str
    path: Path
    root: TypesRoot
    shadowed_by: Path | None = None
    """The folder of an earlier root that is used instead."""


def search_order(repository: Path | None, environ: Mapping[str, str]) -> tuple[TypesRoot, ...]:
    """Return the roots in search order: the repository's, the user's two, the built-in root.

    The repository is set by `--repository`, else by the environment, else it is the default.
    """
    home = Path(environ.get("HOME") or Path.home())
    named = environ.get(VARIABLE, "")
    if repository is not None:
        value, place = f"--repository {repository}", repository
    elif named:
        value, place = f"{VARIABLE}={named}", Path(named)
    else:
        value, place = "", home / DEFAULT_REPOSITORY
    return (
        TypesRoot(what="repository", folder=(place / "share" / "docker").absolute(), needed=value),
        TypesRoot(what="user", folder=user_folder(environ)),
        TypesRoot(what="user (old)", folder=home / ".casa-distro" / "docker"),
        TypesRoot(what="built-in", folder=shipped(BUILT_IN), built_in=True),
    )


def user_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's own image types."""
    return Path(environ.get("HOME") or Path.home()) / ".config" / "casa-distro" / "docker"


def find_folders(roots: tuple[TypesRoot, ...], problems: list[Problem]) -> tuple[Folder, ...]:
    """Return all folders of image types, including shadowed folders, sorted by place, then by root."""
    results: dict[str, list[Folder]] = {}
    seen: set[Path] = set()
    for root in roots:
        if not root.folder.is_dir():
            if root.needed:
                hint = f"The image types of a repository are in its share/docker, each as TYPE/SYSTEM/{MANIFEST}."
                message = f"{root.needed}: no such folder: {str(root.folder)!r}"
                problems.append(Problem(message=message, hint=hint))
            continue
        # A folder with two names (a link) is one root.
        if root.folder.resolve() in seen:
            continue
        seen.add(root.folder.resolve())
        for spot, path in _folders_in(root, problems):
            existing = results.setdefault(spot, [])
            existing.append(Folder(spot=spot, path=path, root=root, shadowed_by=existing[0].path if existing else None))
    return tuple(folder for spot in sorted(results) for folder in results[spot])


def _folders_in(root: TypesRoot, problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Yield the folders `TYPE/SYSTEM`, and `TYPE` folders that have a manifest themselves."""
    for depth in (1, 2, 3):
        for path in sorted(root.folder.glob("/".join(["*"] * depth + [MANIFEST]))):
            parts = path.parent.relative_to(root.folder).parts
            if any(part.startswith(".") for part in parts) or not path.is_file():
                continue
            if depth < 3:
                yield "/".join(parts), path.parent
            elif not (path.parent.parent / MANIFEST).is_file():
                # Below the folder of an image type, it is one of its files.
                message = "the folder is too deep: an image type is a folder TYPE/SYSTEM"
                hint = "Move it, for example to casa-dev/ubuntu-22.04."
                problems.append(Problem(path=shown(path), message=message, hint=hint))


def shown(path: Path) -> str:
    """Return a path for messages: relative to the working directory if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) and not relative.startswith("../../..") else str(path)
