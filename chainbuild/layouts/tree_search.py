"""Search a tree for folders and files at all depths, in a fixed order and within limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chainbuild import limits

_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
"""Folders that tools fill. Hidden folders are skipped, too."""


def folders_below(root: Path) -> Iterator[Path]:
    """Yield the root and the folders below it, each before its own folders, in the order of their names.

    Links are not followed, except for those in the root that lead out of it, and these not further. Folders that cannot be
    read, and names that are not UTF-8, are left out. Errors: `LimitError` if there are too many.
    """
    for count, (path, folders, _) in enumerate(os.walk(root), start=1):
        limits.FOLDERS.check(count, "the search for Dockerfiles", str(root))
        folders[:] = sorted(name for name in folders if _is_searched(name))
        yield Path(path)
        if count == 1:
            yield from (folder for name in folders if _leads_out(root, folder := root / name))


def _is_searched(name: str) -> bool:
    if name.startswith(".") or name in _SKIPPED:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
