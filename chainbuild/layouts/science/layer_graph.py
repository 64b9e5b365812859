"""The graph of science layers: order, cycles, final layers, and the part of it that a run selects.

How science layers stand on each other: order, cycles, and which one of an image and version is the final one.

What a run is about: everything, or what git says changed, or named folders; and what stands on that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.git import CommitRange, Git
from chainbuild.layouts.science.compat import order_of
from chainbuild.layouts.science.manifests import COMPAT, DOCKERFILE, SCIENCE, CompatLayer, ScienceLayer
from chainbuild.text import perhaps_you_meant
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace


class LayerGraph(Struct, frozen=True, kw_only=True):
    """The layers in an order in which each comes after all that it stands on.

    `below` has for each target those that it stands on, directly; `finals` the final target of each `image:version`.
    """

    layers: tuple[ScienceLayer, ...]
    by_target: Mapping[str, ScienceLayer]
    below: Mapping[str, tuple[str, ...]]
    finals: Mapping[str, str]

    def with_dependents(self, targets: Iterable[str]) -> frozenset[str]:
        """The targets and everything that stands on them, directly or not."""
        hit = set(targets)
        for layer in self.layers:
            if hit.intersection(self.below[layer.target]):
                hit.add(layer.target)
        return frozenset(hit)

    def with_bases(self, targets: Iterable[str]) -> frozenset[str]:
        """The targets and everything that they stand on, directly or not."""
        hit = set(targets)
        for layer in reversed(self.layers):
            if layer.target in hit:
                hit.update(self.below[layer.target])
        return frozenset(hit)


def grow(
    layers: Iterable[ScienceLayer], below: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> LayerGraph | None:
    """The layer_graph; None where layers stand on each other in a circle. Everything that is wrong goes to `problems`."""
    by_target = {layer.target: layer for layer in layers}
    order = topological_order(below)
    if len(order) < len(by_target):
        problems.append(_circle(by_target, find_cycle(below, order)))
        return None
    layer_graph = LayerGraph(
        layers=tuple(by_target[target] for target in order), by_target=by_target, below=below, finals={}
    )
    _check_versions(layer_graph, problems)
    return replace(layer_graph, finals=_finals(layer_graph, problems))


def _circle(by_target: Mapping[str, ScienceLayer], path: tuple[str, ...]) -> Problem:
    """One circle, whole."""
    return Problem(
        path=f"{by_target[path[0]].said.folder}/{DOCKERFILE}",
        message=f"layers stand on each other in a circle: {' on '.join(path)}",
        hint="One of them has to stand on another image.",
    )


def _check_versions(layer_graph: LayerGraph, problems: list[Problem]) -> None:
    by_target = layer_graph.by_target
    for layer in layer_graph.layers:
        problems.extend(
            Problem(
                path=layer.said.manifest,
                line=layer.said.lines.get("version", 0),
                message=f"{layer.said.release} stands on {base.layer}, a higher version of the same image",
                hint=f"Give it a version after {base.version}, or let it stand on an older layer.",
            )
            for base in (by_target[target].said for target in layer_graph.below[layer.target])
            if base.image == layer.said.image and base.version > layer.said.version
        )


def _finals(layer_graph: LayerGraph, problems: list[Problem]) -> dict[str, str]:
    """For each `image:version` the one layer that no other one of the same image and version stands on."""
    groups: dict[str, list[str]] = {}
    for layer in layer_graph.layers:
        groups.setdefault(layer.said.release, []).append(layer.target)
    finals: dict[str, str] = {}
    by_target = layer_graph.by_target
    for release, targets in groups.items():
        consumed = {base for target in targets for base in layer_graph.below[target]}
        left = [target for target in targets if target not in consumed]
        if len(left) > 1:
            # One may stand on another through layers of other images.
            left = [target for target in left if not _stands_below(layer_graph, target, left)]
        finals[release] = left[-1]
        if len(left) > 1:
            said = by_target[left[-1]].said
            problems.append(
                Problem(
                    path=said.manifest,
                    line=said.lines.get("image", 0),
                    message=f"{release} has {len(left)} final layers: {', '.join(left)}",
                    hint="One of an image and version is the final one: let the layers stand on each other, or give one"
                    " another version.",
                )
            )
    return finals


def _stands_below(layer_graph: LayerGraph, target: str, others: Iterable[str]) -> bool:
    above = layer_graph.with_dependents([target])
    return any(other in above for other in others if other != target)


class LayerFilter(Struct, frozen=True, kw_only=True):
    """What the user asked for. `include` and `ignore` are folders below the root, as `science/a` or `compat/b`."""

    ref: CommitRange | None = None
    untracked: bool = False
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing narrows it: the registry alone decides."""
        return self.ref is None and not self.include


class LayerSelection(Struct, frozen=True, kw_only=True):
    """The layers that get names: science targets, and the `image:version` of compat images.

    `ignored` are the folders whose own changes start nothing.
    """

    targets: frozenset[str]
    releases: frozenset[str]
    ignored: frozenset[str] = frozenset()


def select(
    layer_graph: LayerGraph, compat: Mapping[str, CompatLayer], wanted: LayerFilter, changed: Iterable[str]
) -> LayerSelection:
    """What is selected when these folders (`science/a`, `compat/b`) have changed.

    What git or a person names begins nothing where it is ignored; where the registry decides, an ignored layer is looked
    at with all the others.
    """
    starts = frozenset(changed) if wanted.everything else frozenset(changed).difference(wanted.ignore)
    begun = {layer.target for layer in layer_graph.layers if layer.said.folder in starts}
    targets = layer_graph.with_dependents(begun)
    with_new = {name for name in compat if any(layer.folder in starts for layer in order_of(name, compat))}
    releases = _releases(layer_graph, targets, with_new)
    return LayerSelection(targets=targets, releases=releases, ignored=frozenset(wanted.ignore))


def _releases(layer_graph: LayerGraph, targets: frozenset[str], compat: Iterable[str]) -> frozenset[str]:
    by_target = layer_graph.by_target
    updated = frozenset(compat)
    return frozenset(
        release
        for release, target in layer_graph.finals.items()
        if by_target[target].said.compat and (target in targets or by_target[target].said.compat in updated)
    )


def changed_folders(
    layer_graph: LayerGraph, compat: Mapping[str, CompatLayer], wanted: LayerFilter, git: Git
) -> frozenset[str]:
    """The layers' folders that the selection begins with. Errors: `WrongUseError`."""
    every = frozenset(
        (*(layer.said.folder for layer in layer_graph.layers), *(layer.folder for layer in compat.values()))
    )
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
