"""The builder's command lines of the steps of a plan, for people who want to see or run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chainbuild.execution.native_tools import NativeTools
from chainbuild.execution.run_plan import PlannedRun
from chainbuild.execution.session import Session
from chainbuild.model import CHAIN_IMAGE, Step, StepKind
from chainbuild.records.record import Record
from chainbuild.step_id import StepId
from chainbuild.values import replace


def commands(planned: PlannedRun, session: Session, native: NativeTools) -> Mapping[StepId, tuple[str, ...]]:
    """Return the exact builder command line of every step that would be built.

    The digest of an image that is not built yet is shown as a placeholder with the step's name.
    """
    from chainbuild.builder.build_spec import build_spec_for, stage_args, staging_reference

    records = {decision.step.id: decision.cached_record for decision in planned.plan.decisions}
    result: dict[StepId, tuple[str, ...]] = {}
    for decision in planned.plan.builds:
        step = decision.step
        pinned: dict[str, str] = {}
        for image in step.images:
            if image.from_step is not None:
                record = records[image.from_step]
                name = step.repository.name
                pinned[image.name] = f"{name}@{record.image}" if record else f"{name}@<digest of {image.source}>"
            else:
                pinned[image.name] = planned.found[str(image.source), image.platform.oci].pinned
        extra = stage_args(step, _chain_env(step, records), f"<USER of {CHAIN_IMAGE}>")
        spec = build_spec_for(step, pinned, image=str(staging_reference(step)), extra=extra)
        spec = native.applied(step, spec)
        if step.handed:
            handed = ", ".join(f"{file.path} of {file.image}" for file in step.handed)
            spec = replace(spec, context=Path(f"<{spec.context} with {handed}>"))
        result[step.id] = session.driver.command(spec)
    return result


def _chain_env(step: Step, records: Mapping[StepId, Record | None]) -> Mapping[str, str]:
    """Return the environment of the chain's image; placeholders if that is not built yet."""
    chain_image = step.image(CHAIN_IMAGE) if step.kind is StepKind.MINIMIZE else None
    if chain_image is None:
        return {}
    from chainbuild.builder.build_spec import STAGE_VARIABLES

    record = records[chain_image.from_step] if chain_image.from_step is not None else None
    if record:
        return dict(text.partition("=")[::2] for text in record.env)
    return {name: f"<{name} of {chain_image.source}>" for name in STAGE_VARIABLES}
