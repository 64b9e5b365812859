"""What people still have to decide in a plan. Pure: the registries are asked elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from chainbuild.errors import Problem
from chainbuild.release.model import PlannedImage, ReleasePlan
from chainbuild.release.rules import OPEN

_UPDATE = "Run chainbuild release update, and look at the difference."


def undecided(plan: ReleasePlan) -> tuple[Problem, ...]:
    """Everything that people have to do before the plan can be applied, as far as the file alone tells."""
    return tuple(problem for image in plan.images for problem in _of(plan, image))


def _of(plan: ReleasePlan, image: PlannedImage) -> Iterator[Problem]:
    if image.decision == OPEN:
        yield plan.problem(
            image, "decision", "nobody has decided", "Write decision: release, or decision: skip."
        )  # fmt: skip
    if not image.is_released:
        return
    if not image.to:
        yield plan.problem(image, "to", "it gets no name", "Write the full names below to:, as - ghcr.io/acme/tools:1.")
    if not image.digests:
        yield plan.problem(image, "digests", "it has no digest", _UPDATE)
    for name in image.to:
        if name not in image.replaces:
            yield plan.problem(image, str(name), f"nobody has looked at what {name} is now", _UPDATE)
    for error in image.errors:
        yield plan.problem(
            image, "errors", error, "Mend it and run chainbuild release update, or write decision: skip."
        )
    for warning in image.warnings:
        if not warning.accepted:
            yield Problem(
                path=plan.shown,
                line=warning.line or image.line_of("warnings"),
                message=f"{image.name}: {warning.says}",
                hint="Mend it and run chainbuild release update, or say why it is fine: accepted: REASON.",
            )
