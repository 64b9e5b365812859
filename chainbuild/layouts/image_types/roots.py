"""Where image types are looked for, in the documented order, and which of two in the same place is taken."""

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
"""The folder of the image types that come with the program."""
VARIABLE: Final = "CASA_DEFAULT_REPOSITORY"
DEFAULT_REPOSITORY: Final = "casa_distro"
"""The default repository, below the user's home."""


class TypesRoot(Struct, frozen=True, kw_only=True):
    """A folder that image types are looked for in. `what` it is, for people; `needed`: somebody named it."""

    what: str
    folder: Path
    needed: str = ""
    """Who named it (`--repository …`): then it has to be there."""
    built_in: bool = False


class Folder(Struct, frozen=True, kw_only=True):
    """An image type's folder. `spot` is its place in every root: `casa-dev/ubuntu-22.04`."""

    spot: str
    path: Path
    root: TypesRoot
    shadowed_by: Path | None = None
    """The folder of an earlier root that is taken instead."""


def search_order(repository: Path | None, environ: Mapping[str, str]) -> tuple[TypesRoot, ...]:
    """The roots, the first one wins: the repository's, the user's two, the built-in one.

    The repository is what `--repository` says, else what the environment does, else the default one.
    """
    home = Path(environ.get("HOME") or Path.home())
    named = environ.get(VARIABLE, "")
    if repository is not None:
        said, place = f"--repository {repository}", repository
    elif named:
        said, place = f"{VARIABLE}={named}", Path(named)
    else:
        said, place = "", home / DEFAULT_REPOSITORY
    return (
        TypesRoot(what="repository", folder=(place / "share" / "docker").absolute(), needed=said),
        TypesRoot(what="user", folder=user_folder(environ)),
        TypesRoot(what="user (old)", folder=home / ".casa-distro" / "docker"),
        TypesRoot(what="built-in", folder=shipped(BUILT_IN), built_in=True),
    )


def user_folder(environ: Mapping[str, str]) -> Path:
    """Where a user's own image types go."""
    return Path(environ.get("HOME") or Path.home()) / ".config" / "casa-distro" / "docker"


def find_folders(roots: tuple[TypesRoot, ...], problems: list[Problem]) -> tuple[Folder, ...]:
    """All image types' folders, those that are shadowed as well: in the order of spots, then of roots."""
    found: dict[str, list[Folder]] = {}
    seen: set[Path] = set()
    for root in roots:
        if not root.folder.is_dir():
            if root.needed:
                hint = f"Image types of a repository lie in its share/docker, each as TYPE/SYSTEM/{MANIFEST}."
                message = f"{root.needed}: there is no folder {str(root.folder)!r}"
                problems.append(Problem(message=message, hint=hint))
            continue
        # One folder under two names (a link) is one root.
        if root.folder.resolve() in seen:
            continue
        seen.add(root.folder.resolve())
        for spot, path in _folders_in(root, problems):
            there = found.setdefault(spot, [])
            there.append(Folder(spot=spot, path=path, root=root, shadowed_by=there[0].path if there else None))
    return tuple(folder for spot in sorted(found) for folder in found[spot])


def _folders_in(root: TypesRoot, problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """`TYPE/SYSTEM`, and a `TYPE` that is no more than that."""
    for depth in (1, 2, 3):
        for path in sorted(root.folder.glob("/".join(["*"] * depth + [MANIFEST]))):
            parts = path.parent.relative_to(root.folder).parts
            if any(part.startswith(".") for part in parts) or not path.is_file():
                continue
            if depth < 3:
                yield "/".join(parts), path.parent
            elif not (path.parent.parent / MANIFEST).is_file():
                # Below an image type's own folder it is one of its files.
                message = "an image type is a folder TYPE/SYSTEM; one that lies deeper would not be looked at"
                hint = "Move it, as in casa-dev/ubuntu-22.04."
                problems.append(Problem(path=shown(path), message=message, hint=hint))


def shown(path: Path) -> str:
    """A path as people see it: from where they stand, where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) and not relative.startswith("../../..") else str(path)
