"""Prove that a step's layers fit another version of what they were built on, or name what contradicts it. No I/O.

The proof compares two images of the step: the one that was built, and the same layers on the new base. It holds if a build on
the new base would have no reason to give anything else:

- no path of the layers overrides, deletes or copies something that differs between the bases (`changes`);
- databases that both sides write to are merged by rule (`merging`);
- nothing that a compiler may read differs, if the step may have compiled something (`paths`);
- ELF files find their libraries, symbol versions and symbols (`libraries`), and scripts their interpreters;
- nothing that the new base lacks is mentioned by a file of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile
from chainbuild.minimize.ldcache import LD_SO_CACHE
from chainbuild.minimize.root import shown
from chainbuild.minimize.startup import PATH
from chainbuild.native.runs import may_compile
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.changes import MergedFile, PathChanges, script_conflicts
from chainbuild.rebase.libraries import LibraryProof, ReadSymbols, renewed_cache
from chainbuild.rebase.merging import merge_for
from chainbuild.rebase.paths import is_documentation, is_passing
from chainbuild.rebase.tree import ImageTree, LayerContent
from chainbuild.registry.config import ImageConfig
from chainbuild.text import plural
from chainbuild.values import replace

_MOST_REMOVED: Final = 2000
_SHOWN: Final = 10

Mentions = Callable[[Collection[str]], Sequence[tuple[str, str]]]
"""Return the paths of the step's layers whose content mentions one of the names, each with the name."""


class RebaseVerdict(Struct, frozen=True, kw_only=True):
    """The result of a proof. `conflicts` say why the step has to be built; empty: it can be rebased.

    `merged` are the files of the layer that has to be added on top; `paths` and `elves` count what was checked.
    """

    conflicts: tuple[str, ...] = ()
    merged: tuple[MergedFile, ...] = ()
    paths: int = 0
    elves: int = 0

    @property
    def summary(self) -> str:
        """Return the verdict of a record: what was checked, and which files were merged."""
        text = f"{plural(self.paths, 'path')} and {plural(self.elves, 'ELF file')} fit the new base"
        changed = [shown(file.path) for file in self.merged]
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return f"{text}; merged: {', '.join(changed[:_SHOWN])}{more}" if changed else text


def shortened(conflicts: Sequence[str]) -> tuple[str, ...]:
    """Return the first conflicts, and how many more there are."""
    more = len(conflicts) - _SHOWN
    return (*conflicts[:_SHOWN], *((f"and {more} more",) if more > 0 else ()))


class StepContent(Struct, frozen=True, kw_only=True):
    """What a proof needs of a step: its layers, its Dockerfile, and the configs of both images.

    `dockerfile` is None for an image that no builder made on its base: then nothing was compiled from the base.
    """

    layers: tuple[LayerContent, ...]
    dockerfile: Dockerfile | None
    built: ImageConfig
    rebased: ImageConfig


def prove(bases: BasePair, step: StepContent, symbols: ReadSymbols, mentions: Mentions) -> RebaseVerdict:
    """Prove that a step fits the new base, or return the conflicts."""
    if not bases.differences:
        return RebaseVerdict()
    old, new = bases.old.extended(step.layers), bases.new.extended(step.layers)
    changes = PathChanges(bases, old, new)
    changes.judge()
    conflicts = [*bases.conflicts(), *_compiler_conflicts(bases, step.dockerfile), *changes.conflicts]
    conflicts += _removal_conflicts(bases, mentions)
    configs = (step.built, step.rebased)
    library_paths = (_variable(configs[0], "LD_LIBRARY_PATH"), _variable(configs[1], "LD_LIBRARY_PATH"))
    libraries = LibraryProof(bases, old, new, symbols, library_paths=library_paths)
    conflicts += libraries.conflicts()
    conflicts += script_conflicts(old, new, old.written, _variable(step.rebased, "PATH") or PATH)
    merged = changes.merged
    if LD_SO_CACHE in old.written:
        try:
            cache = renewed_cache(old, new)
        except ValueError as error:
            conflicts.append(f"{LD_SO_CACHE}: {error}")
        else:
            merged += [_file(LD_SO_CACHE, old, cache)] if cache is not None else []
    return RebaseVerdict(
        conflicts=tuple(dict.fromkeys(conflicts)),
        merged=tuple(merged),
        paths=len(old.written) + len(old.deleted),
        elves=libraries.checked,
    )


def _file(path: str, tree: ImageTree, data: bytes) -> MergedFile:
    entry = replace(tree.files[path], content=b"", size=len(data), data=data)
    return MergedFile(path=path, entry=entry, why="as ldconfig would write it")


def _compiler_conflicts(bases: BasePair, dockerfile: Dockerfile | None) -> Iterator[str]:
    if dockerfile is None or not bases.compiler_inputs:
        return
    runs = [found for stage in dockerfile.stages for found in stage.instructions if found.keyword == "RUN"]
    run = next((found for found in runs if may_compile(found)), None)
    if run is None:
        return
    for path in islice(bases.compiler_inputs, _SHOWN):
        yield f"{shown(path)}: it changed in the base, and line {run.line} of the Dockerfile may compile with it"


def _removal_conflicts(bases: BasePair, mentions: Mentions) -> Iterator[str]:
    names = bases.removed_names
    if len(names) > _MOST_REMOVED:
        yield f"the new base lacks {len(names)} files of the old one"
        return
    for path, name in mentions(names) if names else ():
        if not (is_passing(path) or is_documentation(path) or merge_for(path) or path == LD_SO_CACHE):
            yield f"{shown(path)}: it mentions {shown(name)}, which the new base lacks"


def _variable(config: ImageConfig, name: str) -> str:
    return dict(config.env).get(name, "")
