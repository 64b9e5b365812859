"""The folders that a conversion works in, and a check for disk space before anything is downloaded."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError, Problem, WrongUseError
from chainbuild.text import size

# Apptainer's variables first, then those of Singularity, which Apptainer reads, too.
_TEMPORARY: Final = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR")
_CACHE: Final = ("APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR")
# Relative to the compressed layers. Measured with Debian images and Python environments, which unpack to 2.5 to 3.2 times.
_UNPACKED: Final = 3.5
# Apptainer copies the layers before it unpacks them, and packs next to the unpacked files.
_COPY: Final = 1.0
_PACKED: Final = 1.2
# The minimum for any image.
_LEAST: Final = 8 << 20


class WorkFolders(Struct, frozen=True, kw_only=True):
    """The folders that a conversion works in. `cache` keeps layers for later runs; None: they are not kept."""

    temporary: Path
    cache: Path | None
    temporary_variable: str = "TMPDIR"
    """The variable that sets the temporary folder."""


def find_places(environ: Mapping[str, str]) -> WorkFolders:
    """Return the folders that the environment sets, else the system's. Errors: `WrongUseError` for an unusable folder."""
    problems: list[Problem] = []

    def folder(names: Sequence[str]) -> tuple[str, Path | None]:
        name = next((item for item in names if environ.get(item)), "")
        if not name:
            return "", None
        path = Path(environ[name]).absolute()
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            problems.append(
                Problem(
                    message=f"{name}: cannot write to the folder {str(path)!r}",
                    hint=f"Create it, or set {name} to another folder.",
                )
            )
        return name, path

    variable, temporary = folder(_TEMPORARY)
    _, cache = folder(_CACHE)
    if problems:
        raise WrongUseError(problems)
    return WorkFolders(
        temporary=temporary or Path(tempfile.gettempdir()), cache=cache, temporary_variable=variable or "TMPDIR"
    )


class Need(Struct, frozen=True, kw_only=True):
    """The bytes needed in a folder, their purpose, and the variable or flag that selects another folder."""

    folder: Path
    size: int
    what: str
    instead: str


def needs(layers: Sequence[int], places: WorkFolders, output: Path) -> tuple[Need, ...]:
    """Return the space needed to convert images with these layer sizes (compressed bytes) in turn, keeping every result.

    The unpacked size is an estimate, because it is not known before.
    """
    if not layers:
        return ()
    every, biggest = sum(layers), max(layers)
    instead = places.temporary_variable
    fetched = (
        Need(folder=places.cache, size=every, what="layers", instead="APPTAINER_CACHEDIR")
        if places.cache
        else Need(folder=places.temporary, size=every, what="layers", instead=instead)
    )
    unpacked = int(biggest * (_COPY + _UNPACKED + _PACKED)) + _LEAST
    return (
        fetched,
        Need(folder=places.temporary, size=unpacked, what="unpacking", instead=instead),
        Need(folder=output, size=int(every * _PACKED) + _LEAST, what="SIF files", instead="--folder"),
    )


def check_space(
    wanted: Iterable[Need],
    *,
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    disk: Callable[[Path], int] = lambda folder: folder.stat().st_dev,
) -> None:
    """Check that everything fits, summed up per disk. Errors: `NotReadyError` with every disk that is too full."""
    disks: dict[int, list[Need]] = {}
    for need in wanted:
        disks.setdefault(disk(need.folder), []).append(need)
    lines: list[str] = []
    variables: list[str] = []
    for members in disks.values():
        total, available = sum(item.size for item in members), free(members[0].folder)
        if total <= available:
            continue
        parts = ", ".join(f"{size(item.size)} for {item.what} in {item.folder}" for item in members)
        lines.append(f"not enough disk space: {size(total)} needed, {size(available)} free: {parts}")
        variables += [item.instead for item in members]
    if lines:
        raise NotReadyError(
            "\n".join(lines),
            hint=f"Free some space, or choose another folder with {' or '.join(dict.fromkeys(variables))}.",
        )
