"""What a run is about: everything, or what git says changed, or named folders; and what stands on that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.git import Git, Span
from chainbuild.layouts.science.compat import order_of
from chainbuild.layouts.science.forest import Forest
from chainbuild.layouts.science.manifests import COMPAT, SCIENCE, CompatLayer
from chainbuild.wording import perhaps_you_meant


class Wanted(Struct, frozen=True, kw_only=True):
    """What the user asked for. `include` and `ignore` are folders below the root, as `science/a` or `compat/b`."""

    ref: Span | None = None
    untracked: bool = False
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing narrows it: the registry alone decides."""
        return self.ref is None and not self.include


class Selection(Struct, frozen=True, kw_only=True):
    """The layers that get names: science targets, and the `image:version` of compat images.

    `ignored` are the folders whose own changes start nothing.
    """

    targets: frozenset[str]
    releases: frozenset[str]
    ignored: frozenset[str] = frozenset()


def select(forest: Forest, compat: Mapping[str, CompatLayer], wanted: Wanted, changed: Iterable[str]) -> Selection:
    """What is selected when these folders (`science/a`, `compat/b`) have changed.

    What git or a person names begins nothing where it is ignored; where the registry decides, an ignored layer is looked
    at with all the others.
    """
    starts = frozenset(changed) if wanted.everything else frozenset(changed).difference(wanted.ignore)
    begun = {layer.target for layer in forest.layers if layer.said.folder in starts}
    targets = forest.with_dependents(begun)
    with_new = {name for name in compat if any(layer.folder in starts for layer in order_of(name, compat))}
    releases = _releases(forest, targets, with_new)
    return Selection(targets=targets, releases=releases, ignored=frozenset(wanted.ignore))


def _releases(forest: Forest, targets: frozenset[str], compat: Iterable[str]) -> frozenset[str]:
    by_target = forest.by_target
    updated = frozenset(compat)
    return frozenset(
        release
        for release, target in forest.finals.items()
        if by_target[target].said.compat and (target in targets or by_target[target].said.compat in updated)
    )


def changed_folders(forest: Forest, compat: Mapping[str, CompatLayer], wanted: Wanted, git: Git) -> frozenset[str]:
    """The layers' folders that the selection begins with. Errors: `WrongUseError`."""
    every = frozenset((*(layer.said.folder for layer in forest.layers), *(layer.folder for layer in compat.values())))
    if wanted.include:
        return frozenset(wanted.include)
    if wanted.ref is None:
        return every
    files = git.changed(wanted.ref, (SCIENCE, COMPAT))
    if wanted.untracked:
        if not wanted.ref.open:
            raise WrongUseError(
                f"--untracked does not go with --ref {wanted.ref.said}",
                hint="A range is about commits: give the revision that it begins with alone.",
            )
        files = (*files, *git.untracked((SCIENCE, COMPAT)))
    return every.intersection("/".join(name.split("/")[:2]) for name in files)


def folders_named(flag: str, texts: Sequence[str], root: Path, known: Iterable[str]) -> tuple[str, ...]:
    """The layers' folders that a person means: seen from where the person stands, or from the root; nothing else.

    Errors: `WrongUseError` with the nearest folder: a word that means nothing is never an empty plan.
    """
    here = frozenset(known)
    found: list[str] = []
    problems: list[Problem] = []
    for text in texts:
        seen = (os.path.relpath(Path(text).absolute(), root), os.path.normpath(text))
        folder = next((one.replace(os.sep, "/") for one in seen if one.replace(os.sep, "/") in here), None)
        if folder:
            found.append(folder)
            continue
        hint = f"{perhaps_you_meant(seen[1], here)}Name a layer's folder, as science/nist-basic."
        problems.append(Problem(message=f"{flag} {text!r}: no layer has that folder", hint=hint))
    if problems:
        raise WrongUseError(problems)
    return tuple(dict.fromkeys(found))
