"""From a step and the images that it stands on to the one call of the builder: nothing is left open in an order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chainbuild.build_order import RESULT_COMPRESSION, STEP_COMPRESSION, BuildOrder
from chainbuild.model import Step, StepKind
from chainbuild.records.tags import staging_tag
from chainbuild.references import ImageReference
from chainbuild.shipped import shipped

STAGE_VARIABLES: Final = {"LD_LIBRARY_PATH": "LIBRARY_PATH", "PATH": "SEARCH_PATH"}
"""The chain's variables that the minimize stage gets, and the args that it gets them by."""


def order_for(
    step: Step,
    pinned: Mapping[str, str],
    *,
    image: str = "",
    sent: str = "",
    extra: Mapping[str, str] | None = None,
) -> BuildOrder:
    """The order for a step. `pinned` has, for every image input by name, what the builder is to use for it.

    `sent` is as in `BuildOrder`. `extra` are args that follow from the inputs, and so need no place in the step's key.
    """
    args = dict(extra or {}) | {arg.name: arg.value for arg in step.args}
    contexts = dict(step.contexts)
    for wanted in step.images:
        if wanted.as_context:
            contexts[wanted.name] = f"docker-image://{pinned[wanted.name]}"
        else:
            args[wanted.name] = pinned[wanted.name]
    return BuildOrder(
        step=step.id,
        dockerfile=step.dockerfile,
        shown=step.shown or shown_path(step.dockerfile),
        origins=step.origins,
        context=step.context,
        sent=sent,
        platform=step.platform,
        args=tuple(args.items()),
        contexts=tuple(contexts.items()),
        secrets=step.secrets,
        target=step.target,
        image=image,
        compression=RESULT_COMPRESSION if step.kind is StepKind.PRODUCE else STEP_COMPRESSION,
    )


def stage_args(step: Step, environ: Mapping[str, str]) -> dict[str, str]:
    """What the minimize stage is told of the chain's image: the variables that decide where its programs look."""
    if step.kind is not StepKind.MINIMIZE:
        return {}
    given = {arg: environ.get(name, "") for name, arg in STAGE_VARIABLES.items()}
    return {arg: value for arg, value in given.items() if value}


def shown_path(path: Path) -> str:
    """The path as people see it in messages and records: relative to the current folder, or to what is shipped."""
    relative = os.path.relpath(path)
    if not relative.startswith(".."):
        return relative
    if path.is_relative_to(shipped("utilities")):
        return f"chainbuild's utilities/{path.name}"
    return str(path)


def staging_reference(step: Step) -> ImageReference:
    """Where a step's image goes before it has earned its name. One tag per step, so that nothing piles up."""
    return step.repository.with_tag(staging_tag(step.family))
