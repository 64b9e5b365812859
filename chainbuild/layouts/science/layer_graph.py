"""The graph of science layers: order, cycles, the final layer of each image and version, and the selection of a run.

A run selects everything, or what changed according to git, or named folders; and everything that depends on these.
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
    """The layers in dependency order.

    `below` has the direct bases of each target; `finals` the final target of each `image:version`.
    """

    layers: tuple[ScienceLayer, ...]
    by_target: Mapping[str, ScienceLayer]
    below: Mapping[str, tuple[str, ...]]
    finals: Mapping[str, str]

    def with_dependents(self, targets: Iterable[str]) -> frozenset[str]:
        """Return the targets and all of their dependents, direct or indirect."""
        hit = set(targets)
        for layer in self.layers:
            if hit.intersection(self.below[layer.target]):
                hit.add(layer.target)
        return frozenset(hit)

    def with_bases(self, targets: Iterable[str]) -> frozenset[str]:
        """Return the targets and all of their bases, direct or indirect."""
        hit = set(targets)
        for layer in reversed(self.layers):
            if layer.target in hit:
                hit.update(self.below[layer.target])
        return frozenset(hit)


def grow(
    layers: Iterable[ScienceLayer], below: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> LayerGraph | None:
    """Return the graph; None if the layers form a cycle. Problems go to `problems`."""
    by_target = {layer.target: layer for layer in layers}
    order = topological_order(below)
    if len(order) < len(by_target):
        problems.append(_cycle(by_target, find_cycle(below, order)))
        return None
    layer_graph = LayerGraph(
        layers=tuple(by_target[target] for target in order), by_target=by_target, below=below, finals={}
    )
    _check_versions(layer_graph, problems)
    return replace(layer_graph, finals=_finals(layer_graph, problems))


def _cycle(by_target: Mapping[str, ScienceLayer], path: tuple[str, ...]) -> Problem:
    """Return the problem of a cycle, with all of its layers."""
    return Problem(
        path=f"{by_target[path[0]].said.folder}/{DOCKERFILE}",
        message=f"layers depend on each other in a cycle: {' on '.join(path)}",
        hint="Base one of them on another image.",
    )


def _check_versions(layer_graph: LayerGraph, problems: list[Problem]) -> None:
    by_target = layer_graph.by_target
    for layer in layer_graph.layers:
        problems.extend(
            Problem(
                path=layer.said.manifest,
                line=layer.said.lines.get("version", 0),
                message=f"{layer.said.release} is based on {base.layer}, a higher version of the same image",
                hint=f"Set a version after {base.version}, or use an older layer as the base.",
            )
            for base in (by_target[target].said for target in layer_graph.below[layer.target])
            if base.image == layer.said.image and base.version > layer.said.version
        )


def _finals(layer_graph: LayerGraph, problems: list[Problem]) -> dict[str, str]:
    """Return for each `image:version` the one layer that is not the base of another with the same image and version."""
    groups: dict[str, list[str]] = {}
    for layer in layer_graph.layers:
        groups.setdefault(layer.said.release, []).append(layer.target)
    finals: dict[str, str] = {}
    by_target = layer_graph.by_target
    for release, targets in groups.items():
        consumed = {base for target in targets for base in layer_graph.below[target]}
        left = [target for target in targets if target not in consumed]
        if len(left) > 1:
            # A layer may depend on another through layers of other images.
            left = [target for target in left if not _stands_below(layer_graph, target, left)]
        finals[release] = left[-1]
        if len(left) > 1:
            value = by_target[left[-1]].said
            problems.append(
                Problem(
                    path=value.manifest,
                    line=value.lines.get("image", 0),
                    message=f"{release} has {len(left)} final layers: {', '.join(left)}",
                    hint="Only one layer of an image and version can be final. Base the layers on each other, or set another"
                    " version for one of them.",
                )
            )
    return finals


def _stands_below(layer_graph: LayerGraph, target: str, others: Iterable[str]) -> bool:
    above = layer_graph.with_dependents([target])
    return any(other in above for other in others if other != target)


class LayerFilter(Struct, frozen=True, kw_only=True):
    """The user's selection. `include` and `ignore` are folders below the root, such as `science/a` or `compat/b`."""

    ref: CommitRange | None = None
    untracked: bool = False
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """True if nothing limits the selection: the registry alone decides."""
        return self.ref is None and not self.include


class LayerSelection(Struct, frozen=True, kw_only=True):
    """The layers to tag: science targets, and the `image:version` of compat images.

    `ignored` are the folders whose own changes do not cause a build.
    """

    targets: frozenset[str]
    releases: frozenset[str]
    ignored: frozenset[str] = frozenset()


def select(
    layer_graph: LayerGraph, compat: Mapping[str, CompatLayer], wanted: LayerFilter, changed: Iterable[str]
) -> LayerSelection:
    """Return the selection if these folders (`science/a`, `compat/b`) have changed.

    Ignored folders that git or the user names select nothing. If the registry decides, an ignored layer is checked like
    all others.
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
    """Return the folders of layers that the selection begins with. Errors: `WrongUseError`."""
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
                f"--untracked cannot be combined with --ref {wanted.ref.said}",
                hint="A range consists of commits. Give only the revision that it begins with.",
            )
        files = (*files, *git.untracked((SCIENCE, COMPAT)))
    return every.intersection("/".join(name.split("/")[:2]) for name in files)


def folders_named(flag: str, texts: Sequence[str], root: Path, known: Iterable[str]) -> tuple[str, ...]:
    """Return the folders of layers that the user named, relative to the working directory or to the root.

    Errors: `WrongUseError` with the most similar folder, so that a typo never results in an empty plan.
    """
    current = frozenset(known)
    results: list[str] = []
    problems: list[Problem] = []
    for text in texts:
        seen = (os.path.relpath(Path(text).absolute(), root), os.path.normpath(text))
        folder = next((item.replace(os.sep, "/") for item in seen if item.replace(os.sep, "/") in current), None)
        if folder:
            results.append(folder)
            continue
        hint = f"{perhaps_you_meant(seen[1], current)}Give the folder of a layer, for example science/nist-basic."
        problems.append(Problem(message=f"{flag} {text!r}: not the folder of a layer", hint=hint))
    if problems:
        raise WrongUseError(problems)
    return tuple(dict.fromkeys(results))
