"""Report the files of COPY, ADD and bind mounts that the builder will not find.

Only certain problems are reported: a source whose name depends on an image that is not built yet is not checked.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.context import ContextTree
from chainbuild.context.dockerignore import IgnoreFile, find_ignore
from chainbuild.context.search import has_wildcards
from chainbuild.context.submodules import empty_submodules
from chainbuild.errors import Problem
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

_PARENTS: Final = 3
"""How many parent folders of the context are searched for missing files."""
_GET: Final = "Run: git submodule update --init "


class RequiredSource(Struct, frozen=True, kw_only=True):
    """A file or folder that a build requires: `pattern` below `root`, used at `path:line`.

    `instruction` is `COPY`, `ADD` or `RUN --mount`; `context` the name of a named context, empty for the main one.
    `movable`: `--context` can select another folder. `ignored`: the file exists, but the ignore file excludes it.
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
    """The sources of a step, and warnings about them."""

    sources: tuple[RequiredSource, ...] = ()
    warnings: tuple[str, ...] = ()


class Submodules:
    """The submodules that are not checked out, by context. Each context is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, ...]] = {}

    def of(self, root: Path) -> tuple[str, ...]:
        """Return the submodules' paths, relative to the context's folder."""
        if root not in self._known:
            self._known[root] = empty_submodules(root)
        return self._known[root]

    def above(self, root: Path, pattern: str) -> str:
        """Return the submodule that is, or contains, a source; empty if there is none."""
        return next((one for one in self.of(root) if f"{pattern}/".startswith(f"{one}/")), "")

    def below(self, root: Path, pattern: str) -> tuple[str, ...]:
        """Return the submodules in a folder."""
        if has_wildcards(pattern):
            return ()
        return tuple(one for one in self.of(root) if one.startswith(f"{pattern}/"))


def problems_of(checked: Iterable[Checked], submodules: Submodules) -> tuple[Problem, ...]:
    """Return a problem for each missing source of a run's steps, with a context that has all of them, if any."""
    every = tuple(dict.fromkeys(source for each in checked for source in each.sources))
    bad = [source for source in every if source.missing or submodules.above(source.root, source.pattern)]
    parents: dict[Path, str] = {}
    for root in dict.fromkeys(source.root for source in bad if source.movable and source.missing):
        movable = [source.pattern for source in every if source.root == root and source.movable]
        folders = [Path(source.path).absolute().parent for source in bad if source.root == root]
        parents[root] = _context_with(root, dict.fromkeys(movable), folders, submodules)
    problems = [_problem(source, submodules, parents) for source in bad]
    _name_all_submodules(problems, every, submodules)
    return tuple(problems)


def _name_all_submodules(problems: list[Problem], every: Iterable[RequiredSource], submodules: Submodules) -> None:
    """Let the first problem about a submodule name all that the run copies from, those within copied folders included."""
    first = next((place for place, problem in enumerate(problems) if problem.hint.startswith(_GET)), None)
    if first is None:
        return
    needed = dict.fromkeys(
        one
        for source in every
        for one in (submodules.above(source.root, source.pattern), *submodules.below(source.root, source.pattern))
        if one
    )
    problems[first] = replace(problems[first], hint=_GET + " ".join(needed))


def _problem(source: RequiredSource, submodules: Submodules, parents: Mapping[Path, str]) -> Problem:
    where = f"the build context ({_shown(source.root)})"
    if source.context:
        where = f"the named context {source.context} ({_shown(source.root)})"
    message = f"{source.instruction} {source.pattern}: no such file or folder in {where}"
    submodule = submodules.above(source.root, source.pattern)
    if submodule:
        message = f"{source.instruction} {source.pattern}: the submodule {submodule} is not checked out"
        hint = f"{_GET}{submodule}"
    elif source.ignored:
        message = f"{source.instruction} {source.pattern}: excluded from {where} by its ignore file"
        hint = f"Add the line !{source.pattern} to the ignore file, or remove it from the Dockerfile."
    elif parent := parents.get(source.root, "") if source.movable else "":
        hint = f"All files that the Dockerfiles copy are in {parent}: use --context {parent}"
    else:
        hint = perhaps_you_meant(source.pattern, _neighbours(source)) + "Check the path."
        if source.movable:
            hint += f" COPY and ADD read from {_shown(source.root)}; --context selects another folder."
    return Problem(path=source.path, line=source.line, message=message, hint=hint)


def _neighbours(source: RequiredSource) -> list[str]:
    folder, _ = posixpath.split(source.pattern)
    try:
        names = [entry.name for entry in os.scandir(source.root / folder)]
    except (OSError, ValueError):
        return []
    return [posixpath.join(folder, name) for name in names[:1000]]


def _context_with(root: Path, patterns: Iterable[str], dockerfiles: Iterable[Path], submodules: Submodules) -> str:
    """Return a folder that has all sources of a context: a parent, or the folder of a Dockerfile; empty if there is none."""
    patterns = tuple(patterns)
    if any("**" in pattern for pattern in patterns):
        return ""  # that would scan whole file systems
    for folder in dict.fromkeys([*root.parents[:_PARENTS], *dockerfiles]):
        checked_out = [pattern for pattern in patterns if not submodules.above(folder, pattern)]
        if not ContextTree(folder).missing(find_ignore(folder), checked_out):
            return _shown(folder)
    return ""


def _shown(folder: Path) -> str:
    return os.path.relpath(folder)


def is_there(tree: ContextTree, pattern: str) -> bool:
    """Return whether a source exists in a context, regardless of the ignore file."""
    return not tree.missing(IgnoreFile(), (pattern,))
