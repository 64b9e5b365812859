"""Find image types in the documented search order; the first root that has a place wins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.package_data import shipped
from chainbuild.layouts.image_types.manifest import DOCKERFILE, MANIFEST, TEMPLATE

BUILT_IN: Final = "utilities/types"
"""The folder of the built-in image types."""
VARIABLE: Final = "CASA_DEFAULT_REPOSITORY"
DEFAULT_REPOSITORY: Final = "casa_distro"
"""The default repository, relative to the user's home."""
_IN_REPOSITORY: Final = ("share/docker", "docker")
"""The folders of a repository that may contain its image types; the first one that exists is used."""


class TypesRoot(Struct, frozen=True, kw_only=True):
    """A folder to search for image types. `what` names it in messages; `needed`: the user requested it."""

    what: str
    folder: Path
    needed: str = ""
    """The setting that requested it (`--repository …`): then it must exist."""
    repository: Path | None = None
    """The repository that it is a part of, if any: links of its image types may lead to all files of the repository."""
    built_in: bool = False


class Folder(Struct, frozen=True, kw_only=True):
    """The folder of an image type. `spot` is its place in every root: `casa-dev/ubuntu-22.04`."""

    spot: str
    path: Path
    root: TypesRoot
    shadowed_by: Path | None = None
    """The folder of an earlier root that is used instead."""
    has_manifest: bool = True
    """False in a root without any manifest: the folder's path is the name and the tag of its image."""


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
    folders = [(place / name).absolute() for name in _IN_REPOSITORY]
    return (
        TypesRoot(
            what="repository",
            folder=next(filter(Path.is_dir, folders), folders[0]),
            needed=value,
            repository=place.absolute(),
        ),
        TypesRoot(what="user", folder=user_folder(environ)),
        TypesRoot(what="user (old)", folder=home / ".casa-distro" / "docker"),
        TypesRoot(what="built-in", folder=shipped(BUILT_IN), built_in=True),
    )


def user_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's own image types."""
    return Path(environ.get("HOME") or Path.home()) / ".config" / "casa-distro" / "docker"


def find_folders(roots: tuple[TypesRoot, ...], notes: list[Problem]) -> tuple[Folder, ...]:
    """Return all folders of image types, including shadowed folders, sorted by place, then by root.

    Folders that are ignored go to `notes`. Errors: `WrongUseError` if a root that the user requested is missing.
    """
    results: dict[str, list[Folder]] = {}
    seen: set[Path] = set()
    for root in roots:
        if not root.folder.is_dir():
            if root.needed:
                hint = f"The image types of a repository are in its share/docker, each as TYPE/SYSTEM/{MANIFEST}."
                raise WrongUseError(f"{root.needed}: no such folder: {str(root.folder)!r}", hint=hint)
            continue
        # A folder with two names (a link) is one root.
        if root.folder.resolve() in seen:
            continue
        seen.add(root.folder.resolve())
        folders = tuple(_folders_in(root, notes))
        has_manifest = bool(folders)
        for spot, path in folders or _folders_without_manifest(root):
            existing = results.setdefault(spot, [])
            shadowed_by = existing[0].path if existing else None
            existing.append(Folder(spot=spot, path=path, root=root, shadowed_by=shadowed_by, has_manifest=has_manifest))
    return tuple(folder for spot in sorted(results) for folder in results[spot])


def _folders_in(root: TypesRoot, notes: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Yield the folders `TYPE/SYSTEM`, and `TYPE` folders that have a manifest themselves."""
    for depth in (1, 2, 3):
        for path in _files(root, depth, MANIFEST):
            if depth < 3:
                yield path.parent.relative_to(root.folder).as_posix(), path.parent
            elif not (path.parent.parent / MANIFEST).is_file():
                # Below the folder of an image type, it is one of its files.
                message = "the folder is too deep: an image type is a folder TYPE/SYSTEM"
                hint = "It is ignored. Move it, for example to casa-dev/ubuntu-22.04."
                notes.append(Problem(path=shown(path), message=message, hint=hint))


def _folders_without_manifest(root: TypesRoot) -> Iterator[tuple[str, Path]]:
    """Yield the folders `TYPE/SYSTEM` and `TYPE` that have a Dockerfile."""
    found: dict[str, Path] = {}
    for depth in (1, 2):
        for name in (DOCKERFILE, f"{DOCKERFILE}{TEMPLATE}"):
            for path in _files(root, depth, name):
                found[path.parent.relative_to(root.folder).as_posix()] = path.parent
    yield from found.items()


def _files(root: TypesRoot, depth: int, name: str) -> Iterator[Path]:
    """Yield the files of that name at a depth below a root, except those in hidden folders."""
    for path in sorted(root.folder.glob("/".join(["*"] * depth + [name]))):
        parts = path.parent.relative_to(root.folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            yield path


def shown(path: Path) -> str:
    """Return a path for messages: relative to the working directory if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) and not relative.startswith("../../..") else str(path)
