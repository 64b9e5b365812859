"""What a plan says of the files that COPY, ADD and bind mounts take: each one that a builder will not find.

What is told is certain: a source whose name depends on an image that is not built yet is not looked for.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.context import ContextTree
from chainbuild.context.dockerignore import IgnoreFile, find_ignore
from chainbuild.context.search import has_wildcards
from chainbuild.context.submodules import empty_submodules
from chainbuild.errors import Problem
from chainbuild.text import perhaps_you_meant

_PARENTS: Final = 3
"""How many folders above the context are looked into for what is missing."""


class RequiredSource(Struct, frozen=True, kw_only=True):
    """A file or folder that a build refuses to do without: `pattern` below `root`, as `path:line` names it.

    `instruction` is `COPY`, `ADD` or `RUN --mount`; `context` the name of a named context, empty for the main one.
    `movable`: `--context` takes another folder for it. `ignored`: it is there, but the ignore file leaves it out.
    """

    path: str
    line: int
    instruction: str
    pattern: str
    root: Path
    context: str = ""
    movable: bool = False
    missing: bool = False
    ignored: bool = False


class Checked(Struct, frozen=True, kw_only=True):
    """The sources of a step, and what people should know of them although it is not certain to be wrong."""

    sources: tuple[RequiredSource, ...] = ()
    warnings: tuple[str, ...] = ()


class Submodules:
    """The submodules that are not checked out, by context; read once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, ...]] = {}

    def of(self, root: Path) -> tuple[str, ...]:
        """Return their paths, relative to the context's folder."""
        if root not in self._known:
            self._known[root] = empty_submodules(root)
        return self._known[root]

    def above(self, root: Path, pattern: str) -> str:
        """Return the submodule that a source is, or is in; empty if there is none."""
        return next((one for one in self.of(root) if f"{pattern}/".startswith(f"{one}/")), "")

    def below(self, root: Path, pattern: str) -> tuple[str, ...]:
        """Return the submodules in a folder."""
        if has_wildcards(pattern):
            return ()
        return tuple(one for one in self.of(root) if one.startswith(f"{pattern}/"))


def problems_of(checked: Iterable[Checked], submodules: Submodules) -> tuple[Problem, ...]:
    """Return a problem for each source that is missing, of all steps of a run: where they all are is told, too."""
    every = tuple(dict.fromkeys(source for one in checked for source in one.sources))
    bad = [source for source in every if source.missing or submodules.above(source.root, source.pattern)]
    parents: dict[Path, str] = {}
    for root in dict.fromkeys(source.root for source in bad if source.movable and source.missing):
        parents[root] = _parent_with(root, [source for source in every if source.root == root and source.movable])
    return tuple(_problem(source, submodules, parents) for source in bad)


def _problem(source: RequiredSource, submodules: Submodules, parents: Mapping[Path, str]) -> Problem:
    where = f"the build context ({_shown(source.root)})"
    if source.context:
        where = f"the named context {source.context} ({_shown(source.root)})"
    message = f"{source.instruction} {source.pattern}: no such file or folder in {where}"
    submodule = submodules.above(source.root, source.pattern)
    if submodule:
        message = f"{source.instruction} {source.pattern}: the submodule {submodule} is not checked out"
        hint = f"Run: git submodule update --init {submodule}"
    elif source.ignored:
        message = f"{source.instruction} {source.pattern}: left out of {where} by its ignore file"
        hint = f"Add the line !{source.pattern} to the ignore file, or take it out of the Dockerfile."
    elif parent := parents.get(source.root, "") if source.movable else "":
        hint = f"All that the Dockerfiles take is in {parent}: use --context {parent}"
    else:
        hint = perhaps_you_meant(source.pattern, _neighbours(source)) + "Is the path right?"
        if source.movable:
            hint += f" COPY and ADD see {_shown(source.root)}; --context takes another folder."
    return Problem(path=source.path, line=source.line, message=message, hint=hint)


def _neighbours(source: RequiredSource) -> list[str]:
    folder, _ = posixpath.split(source.pattern)
    try:
        names = [entry.name for entry in os.scandir(source.root / folder)]
    except (OSError, ValueError):
        return []
    return [posixpath.join(folder, name) for name in names[:1000]]


def _parent_with(root: Path, sources: Sequence[RequiredSource]) -> str:
    """Return a folder above a context's that has everything that is taken from it; empty if there is none."""
    patterns = tuple(dict.fromkeys(source.pattern for source in sources))
    if any("**" in pattern for pattern in patterns):
        return ""  # that would walk through everything there is
    for parent in root.parents[:_PARENTS]:
        if not ContextTree(parent).missing(find_ignore(parent), patterns):
            return _shown(parent)
    return ""


def _shown(folder: Path) -> str:
    return os.path.relpath(folder)


def is_there(tree: ContextTree, pattern: str) -> bool:
    """Return whether a source is in a context whatever the ignore file says."""
    return not tree.missing(IgnoreFile(), (pattern,))
