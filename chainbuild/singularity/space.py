"""Where a conversion works, and whether there is room for it: told before anything is fetched."""

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

# Apptainer's words come first, and then those of Singularity, which Apptainer takes as well.
_TEMPORARY: Final = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR")
_CACHE: Final = ("APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR")
# Of the compressed layers, measured with Debian images and Python environments: unpacked they are 2.5 to 3.2 times as big.
_UNPACKED: Final = 3.5
# Apptainer copies the layers before it unpacks them, and packs beside what it unpacked.
_COPY: Final = 1.0
_PACKED: Final = 1.2
# What a conversion takes of itself, however small the image is.
_LEAST: Final = 8 << 20


class WorkFolders(Struct, frozen=True, kw_only=True):
    """The folders that a conversion works in. `cache`: where layers stay for the next time; None for nowhere."""

    temporary: Path
    cache: Path | None
    temporary_variable: str = "TMPDIR"
    """The variable that names the temporary folder, or would."""


def find_places(environ: Mapping[str, str]) -> WorkFolders:
    """The folders that the environment names, else the system's. Errors: `WrongUseError` for what is no such folder."""
    problems: list[Problem] = []

    def folder(names: Sequence[str]) -> tuple[str, Path | None]:
        name = next((one for one in names if environ.get(one)), "")
        if not name:
            return "", None
        path = Path(environ[name]).absolute()
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            problems.append(
                Problem(
                    message=f"{name} is {str(path)!r}, which is no folder that can be written to",
                    hint=f"Make it, or name another one in {name}.",
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
    """Bytes that are needed in a folder, for what, and which variable or flag names another folder."""

    folder: Path
    size: int
    what: str
    instead: str


def needs(layers: Sequence[int], places: WorkFolders, output: Path) -> tuple[Need, ...]:
    """What converting images whose layers have these sizes (compressed bytes) takes: one after the other, all kept.

    How big an image is unpacked is estimated: nobody knows before it is.
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
    """Refuse what does not fit; folders of one disk are taken together. Errors: `NotReadyError` with every disk."""
    disks: dict[int, list[Need]] = {}
    for need in wanted:
        disks.setdefault(disk(need.folder), []).append(need)
    lines: list[str] = []
    variables: list[str] = []
    for members in disks.values():
        total, there = sum(one.size for one in members), free(members[0].folder)
        if total <= there:
            continue
        parts = ", ".join(f"{size(one.size)} for {one.what} in {one.folder}" for one in members)
        lines.append(f"not enough space: about {size(total)} needed and {size(there)} free: {parts}")
        variables += [one.instead for one in members]
    if lines:
        raise NotReadyError(
            "\n".join(lines), hint=f"Make room, or name another folder in {' or '.join(dict.fromkeys(variables))}."
        )
