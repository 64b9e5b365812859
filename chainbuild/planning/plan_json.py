"""A plan as versioned JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from chainbuild.parsing.stage_args import stage_arguments
from chainbuild.planning.decisions import Plan
from chainbuild.step_id import StepId

SCHEMA: Final = "chainbuild.plan/1"


def plan_as_json(
    plan: Plan,
    commands: Mapping[StepId, tuple[str, ...]],
    native: Mapping[StepId, str],
    skipped: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the plan's document: `steps` in order, `publishes`, and the duration of the last builds in seconds.

    `skipped` has the problems of images that are not in the plan because of them.
    """
    arguments = stage_arguments(plan.graph)
    return json.dumps(
        {
            "schema": SCHEMA,
            "steps": [
                {
                    "step": str(decision.step.id),
                    "platform": decision.step.platform.oci,
                    "option": decision.step.option,
                    "action": decision.action,
                    "reason": decision.reason,
                    "image": str(decision.step.reference),
                    "key": decision.components.key if decision.components else None,
                    "digest": str(decision.cached_record.image) if decision.cached_record else None,
                    "built_at": decision.cached_record.built_at if decision.cached_record else None,
                    "from": decision.source.repository if decision.source else None,
                    "warning": decision.warning or None,
                    "expected_seconds": decision.expected_seconds,
                    "native": native.get(decision.step.id),
                    "needs": [str(need) for need in decision.step.needs],
                    "arguments": [argument.as_json() for argument in arguments.get(decision.step.id, ())],
                    "command": list(commands.get(decision.step.id, ())) or None,
                }
                for decision in plan.decisions
            ],
            "publishes": [{"name": name, "what": what} for name, what in plan.publishes],
            "builds": len(plan.builds),
            "expected_seconds": plan.expected_seconds,
        }
        | ({"skipped": {name: list(problems) for name, problems in skipped.items()}} if skipped else {}),
        indent=2,
    )
