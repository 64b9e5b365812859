"""Explain why a step would be built or reused: everything that differs from its last record."""

from __future__ import annotations

import difflib
from typing import Any

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import Session
from chainbuild.model import Graph, Step
from chainbuild.parsing.stage_args import StageArgument, stage_arguments
from chainbuild.planning.decisions import Decision, facts_of
from chainbuild.records.keys import Components, changes
from chainbuild.records.record import Record
from chainbuild.requests.build import BuildRequest
from chainbuild.text import perhaps_you_meant


class Explanation(Struct, frozen=True, kw_only=True):
    """A step's decision, and every difference from its last record; `diff` is a unified diff of the Dockerfile.

    `arguments` are the requested arguments, if the step is a stage.
    """

    decision: Decision
    differences: tuple[str, ...]
    diff: tuple[str, ...]
    arguments: tuple[StageArgument, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the explanation as a JSON object."""
        last = self.decision.previous_record
        return {
            "step": str(self.decision.step.id),
            "action": self.decision.action,
            "reason": self.decision.reason,
            "key": self.decision.components.key if self.decision.components else None,
            "last": last.as_json() if last else None,
            "differences": list(self.differences),
            "dockerfile_diff": list(self.diff),
            "arguments": [argument.as_json() for argument in self.arguments],
        }


def steps_named(graph: Graph, name: str) -> tuple[Step, ...]:
    """Return the steps with an id, or with an id that ends in the given name.

    Errors: `WrongUseError`, with the nearest names.
    """
    matching = tuple(step for step in graph if f"/{step.id}".endswith(f"/{name}") or step.name == name)
    if not matching:
        names = [str(step.id) for step in graph] + [step.name for step in graph]
        hint = perhaps_you_meant(name, names)
        raise WrongUseError(
            f"no such step: {name!r}", hint=hint + "Steps: " + ", ".join(str(step.id) for step in graph)
        )
    return matching


def explain(request: BuildRequest, session: Session, step: Step) -> Explanation:
    """Plan the run and compare the step with its last record."""
    planned = plan_run(request.graph, session, request.options)
    by_id = {decision.step.id: decision for decision in planned.plan.decisions}
    decision = by_id[step.id]
    components = decision.components
    if components is None and decision.previous_record:
        # A parent is not built yet: compare with the parents as last built, to report only differences of this step.
        parents = {need: by_id[need].cached_record or by_id[need].previous_record for need in step.needs}
        facts = {need: facts_of(record) for need, record in parents.items() if record}
        if len(facts) == len(parents):
            components = planned.planner.components(decision.step, facts)
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
