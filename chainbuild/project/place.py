"""Where a project's file is. Nothing here takes time to import: every run without words asks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FILE_NAME: Final = "chainbuild.yaml"


def find_project(folder: Path) -> Path | None:
    """The project file of a folder: in it, or in the nearest one above it."""
    folder = folder.resolve()
    return next((path for one in (folder, *folder.parents) if (path := one / FILE_NAME).is_file()), None)
