"""Compat layers put together: which ones, in which order, their Dockerfiles as one and their files in one folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.science.manifests import COMPAT, DOCKERFILE, MANIFEST, TEST, CompatLayer, Described
from chainbuild.text import perhaps_you_meant
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace

VARIABLE: Final = "SCISERVER_IMAGE"
_DEFINITIONS: Final = frozenset({MANIFEST, DOCKERFILE, TEST})
"""What says how a layer is made and is no part of it."""
_OPEN_END: Final = re.compile(r"\\[ \t\r]*$")


def order_of(name: str, layers: Mapping[str, CompatLayer]) -> tuple[CompatLayer, ...]:
    """A compat layer and all that it includes, the lowest first: includes in their order, each after its own, each once."""
    done: dict[str, CompatLayer] = {}
    todo: list[tuple[str, bool]] = [(name, False)]
    met: set[str] = set()
    while todo:
        current, includes_are_there = todo.pop()
        if includes_are_there:
            done[current] = layers[current]
        elif current not in met and current in layers:
            met.add(current)
            todo.append((current, True))
            todo += [(one, False) for one in reversed(layers[current].includes)]
    return tuple(done.values())


def check_includes(layers: Mapping[str, CompatLayer], problems: list[Problem]) -> None:
    """Every include is there, and none includes itself, directly or not. A diamond is no circle."""
    for layer in layers.values():
        problems.extend(
            Problem(
                path=layer.manifest,
                line=layer.lines.get("includes", 0),
                message=f"it includes {name!r}, and there is no {COMPAT}/{name}/{MANIFEST}",
                hint=_nearest(name, layers),
            )
            for name in layer.includes
            if name not in layers
        )
    included = {name: layer.includes for name, layer in layers.items()}
    path = find_cycle(included, topological_order(included))
    if path:
        problems.append(
            Problem(
                path=layers[path[0]].manifest,
                line=layers[path[0]].lines.get("includes", 0),
                message=f"layers include each other in a circle: {' includes '.join(path)}",
                hint="Take one of the includes away.",
            )
        )


def unknown_compat(said: Described, layers: Mapping[str, CompatLayer]) -> Problem | None:
    """A science layer's compat layer has to be there, whether it is built now or not."""
    if said.compat is None or said.compat in layers:
        return None
    return Problem(
        path=said.manifest,
        line=said.lines.get("compat", 0),
        message=f"its compat is {said.compat!r}, and there is no {COMPAT}/{said.compat}/{MANIFEST}",
        hint=_nearest(said.compat, layers),
    )


def _nearest(name: str, layers: Mapping[str, CompatLayer]) -> str:
    hint = perhaps_you_meant(name, layers)
    return hint + (f"Here are: {', '.join(sorted(layers))}." if layers else "There is no compat layer here.")


def check_dockerfile(layer: CompatLayer, problems: list[Problem]) -> None:
    """A compat layer's Dockerfile is a piece: no FROM, nothing left open at its end, no escape character of its own."""
    below = parse(b"FROM scratch\n" + layer.text.encode("utf-8", "surrogateescape"), layer.shown)
    problems.extend(replace(found, line=max(found.line - 1, 0)) for found in below.problems)
    for stage in below.stages[1:]:
        hint = "A compat layer goes on top of every final science layer; take the FROM away."
        problems.append(Problem(path=layer.shown, line=stage.line - 1, message="a compat layer has no FROM", hint=hint))
    if parse(layer.text.encode("utf-8", "surrogateescape"), layer.shown).escape != "\\":
        hint = "Its lines are put between others'; write it with the backslash."
        problems.append(Problem(path=layer.shown, line=1, message="it has an escape character of its own", hint=hint))
    lines = [line for line in layer.text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if lines and _OPEN_END.search(lines[-1]):
        hint = "What comes after it would become a part of that instruction; take the backslash away."
        last = layer.text.removesuffix("\n").count("\n") + 1
        problems.append(Problem(path=layer.shown, line=last, message="its last instruction is not finished", hint=hint))


class MergedDockerfile(Struct, frozen=True, kw_only=True):
    """A merged Dockerfile; `origins` tell from which of its lines on which layer's stands in it."""

    text: str
    origins: tuple[tuple[int, str], ...]

    def parsed(self, shown: str) -> Dockerfile:
        """The Dockerfile, read."""
        return parse(self.text.encode("utf-8", "surrogateescape"), shown)


def merged_dockerfile(base: str, release: str | None, layers: Iterable[CompatLayer]) -> MergedDockerfile:
    """FROM the final layer, then the compat layers' Dockerfiles in order, then the image's name as a variable.

    Without a `release`: the compat layers alone.
    """
    parts = tuple(layers)
    syntax = next((found for layer in reversed(parts) if (found := _syntax(layer))), "")
    lines = [f"# syntax={syntax}"] if syntax else []
    lines.append(f"FROM {base}")
    origins: list[tuple[int, str]] = []
    for layer in parts:
        # One comment line stands before each piece, so the piece begins on the line after it.
        lines.append(f"# {layer.shown}")
        origins.append((len(lines) + 1, layer.shown))
        lines += layer.text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    if release is not None:
        lines.append(f"ENV {VARIABLE}={release}")
    return MergedDockerfile(text="\n".join(lines) + "\n", origins=tuple(origins))


def _syntax(layer: CompatLayer) -> str:
    return parse(layer.text.encode("utf-8", "surrogateescape"), layer.shown).syntax


def merge_files(layers: Iterable[CompatLayer], target: Path) -> None:
    """Put the layers' files into one folder: what a later layer has is on top, whatever the times and sizes are.

    Manifests and Dockerfiles stay out. Errors: `WrongUseError` with every file that cannot be taken.
    """
    problems: list[Problem] = []
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    for layer in layers:
        try:
            _lay_over(layer.path, target, layer, problems, top=True)
        except OSError as error:
            hint = "Is the folder readable?"
            problems.append(Problem(path=layer.folder, message=f"cannot be taken: {error.strerror}", hint=hint))
    if problems:
        raise WrongUseError(problems)


def _lay_over(source: Path, target: Path, layer: CompatLayer, problems: list[Problem], *, top: bool) -> None:
    for entry in sorted(os.scandir(source), key=lambda one: one.name):
        if top and entry.name in _DEFINITIONS:
            continue
        place = target / entry.name
        info = entry.stat(follow_symlinks=False)
        shown = f"{layer.folder}/{Path(entry.path).relative_to(layer.path)}"
        try:
            if stat.S_ISDIR(info.st_mode):
                # Through a link of a lower layer's nothing is written: it is replaced.
                if place.is_symlink() or (place.exists() and not place.is_dir()):
                    place.unlink()
                place.mkdir(exist_ok=True)
                _lay_over(Path(entry.path), place, layer, problems, top=False)
                place.chmod(stat.S_IMODE(info.st_mode))
            elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                _take(Path(entry.path), place)
            else:
                message = "neither a file nor a folder nor a link"
                problems.append(Problem(path=shown, message=message, hint="Take it away from the layer's folder."))
        except OSError as error:
            problems.append(Problem(path=shown, message=f"cannot be taken: {error.strerror}", hint="Is it readable?"))


def _take(source: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if source.is_symlink():
        place.symlink_to(source.readlink())
        return
    shutil.copy2(source, place)
