"""Find the steps that can be rebased: nothing changed but the content of the images that they build on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chainbuild.model import CHAIN_IMAGE, Step, StepKind
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.values import replace

PRODUCTION_IMAGE: Final = "PRODUCTION_IMAGE"
_OF_STAGES: Final = frozenset({CHAIN_IMAGE, PRODUCTION_IMAGE})


def moved_images(step: Step, last: Record | None, components: Components) -> tuple[str, ...]:
    """Return the image inputs that have other content than in the step's newest record; empty if the step cannot be rebased.

    Anything else that changed rules out a rebase: the Dockerfile, args, files, other images. Only the stages, whose programs
    run in an image of their own on the builder's platform, may get another one of these.
    """
    if last is None or step.kind is StepKind.JOIN or step.handed:
        return ()
    may_move = _inputs_of(step)
    before, now = _without(last.components, may_move), _without(components, may_move)
    if before != now or components.images.keys() != last.components.images.keys():
        return ()
    changed = (name for name in components.images if components.images[name] != last.components.images[name])
    moved = tuple(name for name in changed if name in _OF_STAGES or name == step.parent)
    return moved if all(_has_content(last, components, name) for name in moved) else ()


def _inputs_of(step: Step) -> frozenset[str]:
    if step.kind is StepKind.BUILD:
        return frozenset({step.parent})
    return _OF_STAGES | {image.name for image in step.images if image.on_builder}


def _without(components: Components, names: frozenset[str]) -> Components:
    images: Mapping[str, str] = {name: text for name, text in components.images.items() if name not in names}
    return replace(components, images=images)


def _has_content(last: Record, components: Components, name: str) -> bool:
    """Return whether an image is not the empty one, before and now: with that, everything is different."""
    return "scratch" not in {last.components.images[name], components.images[name]}
