"""Search a tree for folders and files at all depths, in a fixed order and within limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chainbuild import limits

_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
"""Folders that tools fill. Hidden folders are skipped, too."""
_SEARCH: Final = "the search for Dockerfiles"
_NEARER: Final = "Run it in the folder that has the Dockerfiles. Names that begin with a period are not searched."
_SHOWN: Final = 8
"""How many names of a path that is too deep are shown."""
_LONGEST: Final = os.pathconf("/", "PC_PATH_MAX") - 300
"""Bytes of a path that leave room for the name of a folder and a Dockerfile in it."""


def folders_below(root: Path) -> Iterator[Path]:
    """Yield the root and the folders below it, each before its own folders, in the order of their names.

    Links are not followed, except for those in the root that lead out of it, and these not further. Folders that cannot be
    read, whose path is too long, or whose name is not UTF-8, are left out. Errors: `LimitError` if there are too many, or
    they are too deep.
    """
    top = len(root.parts)
    for count, (path, folders, _) in enumerate(os.walk(root), start=1):
        limits.FOLDERS.check(count, _SEARCH, str(root), _NEARER)
        depth = len(Path(path).parts) - top
        limits.FOLDER_DEPTH.check(depth, _SEARCH, str(Path(*Path(path).parts[:_SHOWN])), _NEARER)
        room = _LONGEST - len(os.fsencode(Path(path).absolute())) - 1
        folders[:] = sorted(name for name in folders if _is_searched(name, room))
        yield Path(path)
        if count == 1:
            yield from (folder for name in folders if _leads_out(root, folder := root / name))


def _is_searched(name: str, room: int) -> bool:
    if name.startswith(".") or name in _SKIPPED:
        return False
    try:
        return len(name.encode()) <= room
    except UnicodeEncodeError:
        return False


def _leads_out(root: Path, folder: Path) -> bool:
    return folder.is_symlink() and not folder.resolve().is_relative_to(root.resolve())


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, in a fixed order. Errors: as `folders_below`."""
    for folder in folders_below(root):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        except OSError:
            continue
        yield from (folder / name for name in names)
