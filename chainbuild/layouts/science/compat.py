"""Merge compat layers: which layers in which order, their Dockerfiles into one, and their files into one folder."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.science.manifests import COMPAT, DOCKERFILE, MANIFEST, TEST, CompatLayer, Described
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace

VARIABLE: Final = "SCISERVER_IMAGE"
_DEFINITIONS: Final = frozenset({MANIFEST, DOCKERFILE, TEST})
"""Files that describe a layer and are not part of it."""
_OPEN_END: Final = regex(r"\\[ \t\r]*$")


def order_of(name: str, layers: Mapping[str, CompatLayer]) -> tuple[CompatLayer, ...]:
    """Return a compat layer and all of its includes, lowest first: in their order, each once and after its own includes."""
    done: dict[str, CompatLayer] = {}
    todo: list[tuple[str, bool]] = [(name, False)]
    met: set[str] = set()
    while todo:
        current, includes_done = todo.pop()
        if includes_done:
            done[current] = layers[current]
        elif current not in met and current in layers:
            met.add(current)
            todo.append((current, True))
            todo += [(item, False) for item in reversed(layers[current].includes)]
    return tuple(done.values())


def check_includes(layers: Mapping[str, CompatLayer], problems: list[Problem]) -> None:
    """Check that every include exists, and that no layer includes itself, directly or indirectly."""
    for layer in layers.values():
        problems.extend(
            Problem(
                path=layer.manifest,
                line=layer.lines.get("includes", 0),
                message=f"it includes {name!r}, but {COMPAT}/{name}/{MANIFEST} does not exist",
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
                message=f"layers include each other in a cycle: {' includes '.join(path)}",
                hint="Remove one of the includes.",
            )
        )


def unknown_compat(said: Described, layers: Mapping[str, CompatLayer]) -> Problem | None:
    """Return a problem if the compat layer of a science layer does not exist, even if it is not built now."""
    if said.compat is None or said.compat in layers:
        return None
    return Problem(
        path=said.manifest,
        line=said.lines.get("compat", 0),
        message=f"its compat is {said.compat!r}, but {COMPAT}/{said.compat}/{MANIFEST} does not exist",
        hint=_nearest(said.compat, layers),
    )


def _nearest(name: str, layers: Mapping[str, CompatLayer]) -> str:
    hint = perhaps_you_meant(name, layers)
    return hint + (f"Available: {', '.join(sorted(layers))}." if layers else "There are no compat layers.")


def check_dockerfile(layer: CompatLayer, problems: list[Problem]) -> None:
    """Check that a compat layer's Dockerfile is a fragment: no FROM, no open continuation, no own escape character."""
    below = parse(b"FROM scratch\n" + layer.text.encode("utf-8", "surrogateescape"), layer.shown)
    problems.extend(replace(result, line=max(result.line - 1, 0)) for result in below.problems)
    for stage in below.stages[1:]:
        hint = "Remove the FROM: a compat layer is added to every final science layer."
        message = "a compat layer must not have a FROM"
        problems.append(Problem(path=layer.shown, line=stage.line - 1, message=message, hint=hint))
    if parse(layer.text.encode("utf-8", "surrogateescape"), layer.shown).escape != "\\":
        hint = "Use the backslash: the lines are merged with those of other layers."
        problems.append(Problem(path=layer.shown, line=1, message="it sets an escape character", hint=hint))
    lines = [line for line in layer.text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if lines and _OPEN_END.search(lines[-1]):
        hint = "Remove the backslash: the next line would become part of this instruction."
        last = layer.text.removesuffix("\n").count("\n") + 1
        message = "its last instruction is incomplete"
        problems.append(Problem(path=layer.shown, line=last, message=message, hint=hint))


class MergedDockerfile(Struct, frozen=True, kw_only=True):
    """A merged Dockerfile; `origins` has the first line of each layer's part."""

    text: str
    origins: tuple[tuple[int, str], ...]

    def parsed(self, shown: str) -> Dockerfile:
        """Return the parsed Dockerfile."""
        return parse(self.text.encode("utf-8", "surrogateescape"), shown)


def merged_dockerfile(base: str, release: str | None, layers: Iterable[CompatLayer]) -> MergedDockerfile:
    """Merge FROM the final layer, the compat layers' Dockerfiles in order, and the image's name as a variable.

    Without a `release`, only the compat layers are included.
    """
    parts = tuple(layers)
    syntax = next((result for layer in reversed(parts) if (result := _syntax(layer))), "")
    lines = [f"# syntax={syntax}"] if syntax else []
    lines.append(f"FROM {base}")
    origins: list[tuple[int, str]] = []
    for layer in parts:
        # A comment precedes each part, so the part begins on the next line.
        lines.append(f"# {layer.shown}")
        origins.append((len(lines) + 1, layer.shown))
        lines += layer.text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    if release is not None:
        lines.append(f"ENV {VARIABLE}={release}")
    return MergedDockerfile(text="\n".join(lines) + "\n", origins=tuple(origins))


def _syntax(layer: CompatLayer) -> str:
    return parse(layer.text.encode("utf-8", "surrogateescape"), layer.shown).syntax


def merge_files(layers: Iterable[CompatLayer], target: Path) -> None:
    """Merge the layers' files into one folder. A later layer overrides earlier ones, whatever the times and sizes.

    Manifests and Dockerfiles are left out. Errors: `WrongUseError` with every file that cannot be copied.
    """
    problems: list[Problem] = []
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    for layer in layers:
        try:
            _lay_over(layer.path, target, layer, problems, top=True)
        except OSError as error:
            hint = "Check the permissions of the folder."
            problems.append(Problem(path=layer.folder, message=f"cannot be copied: {error.strerror}", hint=hint))
    if problems:
        raise WrongUseError(problems)


def _lay_over(source: Path, target: Path, layer: CompatLayer, problems: list[Problem], *, top: bool) -> None:
    for entry in sorted(os.scandir(source), key=lambda item: item.name):
        if top and entry.name in _DEFINITIONS:
            continue
        place = target / entry.name
        info = entry.stat(follow_symlinks=False)
        shown = f"{layer.folder}/{Path(entry.path).relative_to(layer.path)}"
        try:
            if stat.S_ISDIR(info.st_mode):
                # Never write through a link of a lower layer: replace it.
                if place.is_symlink() or (place.exists() and not place.is_dir()):
                    place.unlink()
                place.mkdir(exist_ok=True)
                _lay_over(Path(entry.path), place, layer, problems, top=False)
                place.chmod(stat.S_IMODE(info.st_mode))
            elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                _take(Path(entry.path), place)
            else:
                message = "not a file, folder or link"
                problems.append(Problem(path=shown, message=message, hint="Remove it from the layer's folder."))
        except OSError as error:
            hint = "Check the permissions of the file."
            problems.append(Problem(path=shown, message=f"cannot be copied: {error.strerror}", hint=hint))


def _take(source: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if source.is_symlink():
        place.symlink_to(source.readlink())
        return
    shutil.copy2(source, place)
