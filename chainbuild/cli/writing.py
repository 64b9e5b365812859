"""Files and folders that a command is asked to write."""

from __future__ import annotations

from pathlib import Path

from chainbuild.errors import WrongUseError
from chainbuild.scratch import write_whole


def make_folder(folder: Path) -> None:
    """Make the folder of `-o DIR`. Errors: `WrongUseError` where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUseError(f"{folder} cannot be made: {error.strerror}", hint="Name another with -o DIR.") from error


def own_folder(root: Path, *names: str) -> Path:
    """Make a folder below `.chainbuild/` of a tree. Errors: `WrongUseError` if it cannot be made there."""
    from chainbuild.tree_folder import make_own_folder

    try:
        return make_own_folder(root, *names)
    except OSError as error:
        raise WrongUseError(f"cannot create a folder in .chainbuild/: {error.strerror}", hint="Use -o DIR.") from error


def write_result(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Errors: `WrongUseError` where the place does not take it."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise WrongUseError(f"{path} cannot be written: {error.strerror}", hint="Name another place.") from error
