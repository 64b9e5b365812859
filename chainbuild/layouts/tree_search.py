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

    Links are not followed, and folders that cannot be read are left out. Errors: `LimitError` if there are too many.
    """
    for count, (path, folders, _) in enumerate(os.walk(root), start=1):
        limits.FOLDERS.check(count, "the search for Dockerfiles", str(root))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield Path(path)


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, in a fixed order. Errors: as `folders_below`."""
    for folder in folders_below(root):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        except OSError:
            continue
        yield from (folder / name for name in names)
