"""The names of numbered Dockerfiles: the forms that a tree may use, and the step that each name identifies.

- `NN-Dockerfile-x`, `NN_Dockerfile_x`, `NN-Dockerfile`
- `Dockerfile.NN-x`, `Dockerfile-NN-x`, `Dockerfile.NN`
- `NN-x.Dockerfile`, `NN.Dockerfile`
- `NN-x/Dockerfile`: a folder, which is also the step's build context
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.patterns import regex

PLAIN: Final = "Dockerfile"
LEFT_OVER: Final = (".dockerignore", ".bak", ".orig", ".rej", ".swp", ".tmp", "~")
"""Endings of files that are no Dockerfiles: ignore files, and what editors and merges create next to a file."""

_NUMBER: Final = r"(?P<number>[0-9]+)"
_DESCRIPTOR: Final = r"(?P<descriptor>[A-Za-z0-9][A-Za-z0-9_.-]*)"
_FILES: Final = (
    regex(rf"{_NUMBER}[-_]{PLAIN}(?:[-_]{_DESCRIPTOR})?"),
    regex(rf"{PLAIN}[-_.]{_NUMBER}(?:[-_]{_DESCRIPTOR})?"),
    regex(rf"{_NUMBER}(?:[-_]{_DESCRIPTOR})?\.[Dd]ockerfile"),
)
_FOLDER: Final = regex(rf"{_NUMBER}[-_]{_DESCRIPTOR}")


class NumberedName(Struct, frozen=True, kw_only=True):
    """The step that a name identifies. `file` is the path of its Dockerfile in the folder of the option.

    `prefix` is the number as written; `descriptor` may be empty. `in_folder`: the Dockerfile has a folder of its own.
    """

    prefix: str
    descriptor: str
    file: str
    in_folder: bool = False

    @property
    def number(self) -> int:
        """The number that orders the steps."""
        return int(self.prefix)

    @property
    def step(self) -> str:
        """The name of the step: `NN-descriptor`, or `NN` without a descriptor."""
        return f"{self.prefix}-{self.descriptor}" if self.descriptor else self.prefix

    @property
    def taker(self) -> str:
        """The name in the args files and the test of the step: the descriptor, or the number without one."""
        return self.descriptor or self.prefix


def name_of_file(file_name: str) -> NumberedName | None:
    """Return the step that the name of a file identifies; None if it is not the name of a numbered Dockerfile."""
    if file_name.endswith(LEFT_OVER):
        return None
    match = next((match for pattern in _FILES if (match := pattern.fullmatch(file_name))), None)
    if match is None:
        return None
    return NumberedName(prefix=match["number"], descriptor=match["descriptor"] or "", file=file_name)


def numbered_names(folder: Path) -> tuple[NumberedName, ...]:
    """Return the numbered Dockerfiles of a folder, in the order of their numbers. Errors: `OSError`."""
    names = [name for entry in os.scandir(folder) if (name := _name_of_entry(entry))]
    return tuple(sorted(names, key=lambda name: (name.number, name.file)))


def _name_of_entry(entry: os.DirEntry[str]) -> NumberedName | None:
    name = name_of_file(entry.name)
    match = None if name else _FOLDER.fullmatch(entry.name)
    if match and (Path(entry.path) / PLAIN).is_file():
        file = f"{entry.name}/{PLAIN}"
        return NumberedName(prefix=match["number"], descriptor=match["descriptor"], file=file, in_folder=True)
    return name


def has_numbered(folder: Path) -> bool:
    """Return whether a folder has numbered Dockerfiles. A folder that cannot be read has none."""
    try:
        return bool(numbered_names(folder))
    except OSError:
        return False
