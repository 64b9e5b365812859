"""Files that a command is asked to write."""

from __future__ import annotations

from pathlib import Path

from chainbuild.errors import WrongUseError
from chainbuild.scratch import write_whole


def write_result(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Errors: `WrongUseError` where the place does not take it."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise WrongUseError(f"{path} cannot be written: {error.strerror}", hint="Name another place.") from error
