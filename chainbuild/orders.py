"""From a step and the images that it stands on to the one call of the builder: nothing is left open in an order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chainbuild.build_order import RESULT_COMPRESSION, STEP_COMPRESSION, BuildOrder
from chainbuild.errors import WrongUseError
from chainbuild.ignorefile import own_ignore
from chainbuild.model import Step, StepKind
from chainbuild.records.tags import staging_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.shipped import shipped

STAGE_VARIABLES: Final = {
    "LD_LIBRARY_PATH": "LIBRARY_PATH",
    "PATH": "SEARCH_PATH",
    "LANG": "LOCALE",
    "LC_ALL": "LOCALE_ALL",
    "TZ": "TIME_ZONE",
}
"""The chain's variables that the minimize stage gets, and the args that it gets them by."""


IMAGE_USER: Final = "IMAGE_USER"
"""The arg by which the minimize stage gets the USER of the chain's image."""


def order_for(
    step: Step,
    pinned: Mapping[str, str],
    *,
    image: str = "",
    sent: str = "",
    extra: Mapping[str, str] | None = None,
    build_platform: Platform | None = None,
) -> BuildOrder:
    """The order for a step. `pinned` has, for every image input by name, what the builder is to use for it.

    `sent` is as in `BuildOrder`. `extra` are args that follow from the inputs, and so need no place in the step's key.
    `build_platform` is this machine's if omitted. Errors: `WrongUseError` if the Dockerfile was changed after its inputs
    were read, or is gone.
    """
    # Late: a run that builds nothing needs none of it.
    from chainbuild.pinning import leaves_its_folder, pin_step

    args = dict(extra or {}) | {arg.name: arg.value for arg in step.args}
    contexts = dict(step.contexts)
    for wanted in step.images:
        if wanted.asked or wanted.by_trigger:
            contexts[wanted.name] = f"docker-image://{pinned[wanted.name]}"
        elif not wanted.as_context:
            args[wanted.name] = pinned[wanted.name]
    shown = step.shown or shown_path(step.dockerfile)
    raw = _dockerfile(step, shown)
    named = pin_step(step, raw, pinned, shown=shown, build_platform=build_platform)
    copied = bool(named.pins) or leaves_its_folder(step.dockerfile)
    contexts.update(named.contexts)
    return BuildOrder(
        step=step.id,
        dockerfile=step.dockerfile,
        shown=shown,
        origins=step.origins,
        source=raw if copied else None,
        ignore=own_ignore(step.dockerfile) if copied else None,
        pins=named.pins,
        images=tuple((one.written, pinned[one.name]) for one in step.images if one.as_context),
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


def _dockerfile(step: Step, shown: str) -> bytes:
    try:
        return step.dockerfile.read_bytes() if step.text is None else step.text
    except OSError as error:
        raise WrongUseError(f"{shown}: cannot be read: {error.strerror}", hint="Was it moved or deleted?") from error


def stage_args(step: Step, environ: Mapping[str, str], user: str = "") -> dict[str, str]:
    """What the minimize stage gets of the chain's image: its USER, and the variables that decide where programs look."""
    if step.kind is not StepKind.MINIMIZE:
        return {}
    given = {arg: environ.get(name, "") for name, arg in STAGE_VARIABLES.items()} | {IMAGE_USER: user}
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
