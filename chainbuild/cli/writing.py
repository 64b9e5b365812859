"""Files that a command is asked to write."""

from __future__ import annotations

import os
from pathlib import Path

from chainbuild.errors import WrongUseError


def write_result(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Errors: `WrongUseError` where the place does not take it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise WrongUseError(f"{path} cannot be written: {error.strerror}", hint="Name another place.") from error
    finally:
        aside.unlink(missing_ok=True)
