"""Why one step would be built, or is reused: everything that differs from its last record, in full."""

from __future__ import annotations

import difflib
from typing import Any

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.execution.pipeline import plan_run
from chainbuild.execution.session import Session
from chainbuild.model import Graph, Step
from chainbuild.parsing.stage_args import StageArgument, stage_arguments
from chainbuild.planning.planner import Decision, facts_of
from chainbuild.records.keys import Components, changes
from chainbuild.records.record import Record
from chainbuild.requests.build import BuildRequest
from chainbuild.text import perhaps_you_meant


class Explanation(Struct, frozen=True, kw_only=True):
    """A step's decision and every difference to its last record; `diff` is the Dockerfile's, as a unified diff.

    `arguments` are what was asked of it, if it is a stage.
    """

    decision: Decision
    differences: tuple[str, ...]
    diff: tuple[str, ...]
    arguments: tuple[StageArgument, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The explanation's document."""
        last = self.decision.previous_record
        return {
            "step": self.decision.step.id,
            "action": self.decision.action,
            "reason": self.decision.reason,
            "key": self.decision.components.key if self.decision.components else None,
            "last": last.as_json() if last else None,
            "differences": list(self.differences),
            "dockerfile_diff": list(self.diff),
            "arguments": [argument.as_json() for argument in self.arguments],
        }


def steps_named(graph: Graph, name: str) -> tuple[Step, ...]:
    """The steps that a person means: by id, or by the end of it.

    Errors: `WrongUseError` with the nearest names.
    """
    found = tuple(step for step in graph if step.id == name or step.id.endswith(f"/{name}") or step.name == name)
    if not found:
        names = [step.id for step in graph] + [step.name for step in graph]
        hint = perhaps_you_meant(name, names)
        raise WrongUseError(f"there is no step {name!r}", hint=hint + "Steps: " + ", ".join(step.id for step in graph))
    return found


def explain(request: BuildRequest, session: Session, step: Step) -> Explanation:
    """Plan the run and compare the step with its last record."""
    planned = plan_run(request.graph, session, request.options)
    by_id = {decision.step.id: decision for decision in planned.plan.decisions}
    decision = by_id[step.id]
    components = decision.components
    if components is None and decision.previous_record:
        # A parent is not built yet: compare with the parents as they were, so that only what differs here is told.
        parents = {need: by_id[need].cached_record or by_id[need].previous_record for need in step.needs}
        known = {need: facts_of(record) for need, record in parents.items() if record}
        if len(known) == len(parents):
            components = planned.planner.components(decision.step, known)
    last = decision.previous_record
    arguments = stage_arguments(planned.plan.graph).get(step.id, ())
    if last is None or components is None:
        return Explanation(decision=decision, differences=(), diff=(), arguments=arguments)
    return Explanation(
        decision=decision,
        arguments=arguments,
        differences=changes(last.components, components, shown=None),
        diff=_dockerfile_diff(last, components),
    )


def _dockerfile_diff(last: Record, now: Components) -> tuple[str, ...]:
    before, after = last.components.dockerfile.splitlines(), now.dockerfile.splitlines()
    return tuple(difflib.unified_diff(before, after, "last built", "now", lineterm=""))
