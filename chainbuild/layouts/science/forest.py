"""How science layers stand on each other: order, cycles, and which one of an image and version is the final one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.layouts.science.manifests import DOCKERFILE, ScienceLayer
from chainbuild.ordering import circle, in_order
from chainbuild.values import replace


class Forest(Struct, frozen=True, kw_only=True):
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
) -> Forest | None:
    """The forest; None where layers stand on each other in a circle. Everything that is wrong goes to `problems`."""
    by_target = {layer.target: layer for layer in layers}
    order = in_order(below)
    if len(order) < len(by_target):
        problems.append(_circle(by_target, circle(below, order)))
        return None
    forest = Forest(layers=tuple(by_target[target] for target in order), by_target=by_target, below=below, finals={})
    _check_versions(forest, problems)
    return replace(forest, finals=_finals(forest, problems))


def _circle(by_target: Mapping[str, ScienceLayer], path: tuple[str, ...]) -> Problem:
    """One circle, whole."""
    return Problem(
        path=f"{by_target[path[0]].said.folder}/{DOCKERFILE}",
        message=f"layers stand on each other in a circle: {' on '.join(path)}",
        hint="One of them has to stand on another image.",
    )


def _check_versions(forest: Forest, problems: list[Problem]) -> None:
    by_target = forest.by_target
    for layer in forest.layers:
        problems.extend(
            Problem(
                path=layer.said.manifest,
                line=layer.said.lines.get("version", 0),
                message=f"{layer.said.release} stands on {base.layer}, a higher version of the same image",
                hint=f"Give it a version after {base.version}, or let it stand on an older layer.",
            )
            for base in (by_target[target].said for target in forest.below[layer.target])
            if base.image == layer.said.image and base.version > layer.said.version
        )


def _finals(forest: Forest, problems: list[Problem]) -> dict[str, str]:
    """For each `image:version` the one layer that no other one of the same image and version stands on."""
    groups: dict[str, list[str]] = {}
    for layer in forest.layers:
        groups.setdefault(layer.said.release, []).append(layer.target)
    finals: dict[str, str] = {}
    by_target = forest.by_target
    for release, targets in groups.items():
        consumed = {base for target in targets for base in forest.below[target]}
        left = [target for target in targets if target not in consumed]
        if len(left) > 1:
            # One may stand on another through layers of other images.
            left = [target for target in left if not _stands_below(forest, target, left)]
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


def _stands_below(forest: Forest, target: str, others: Iterable[str]) -> bool:
    above = forest.with_dependents([target])
    return any(other in above for other in others if other != target)
