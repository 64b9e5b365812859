"""Find a project's file. Imports little: every command imports this."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FILE_NAME: Final = "chainbuild.yaml"


def find_project(folder: Path) -> Path | None:
    """Return the project file of a folder: in the folder itself, or in its nearest parent that has one."""
    folder = folder.resolve()
    return next((path for parent in (folder, *folder.parents) if (path := parent / FILE_NAME).is_file()), None)
