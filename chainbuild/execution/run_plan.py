"""Plan a run: resolve the external images of a graph, and decide for every step."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from chainbuild import events
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Session
from chainbuild.images.resolver import EMPTY, Found, find_all
from chainbuild.images.stage_statement_store import StatementReader
from chainbuild.model import Graph, ImageInput, Step
from chainbuild.planning.decisions import Decision, ImageFacts, Plan
from chainbuild.planning.inheritance import with_inherited
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Planner, make_plan, pinned_before
from chainbuild.planning.trigger_images import with_trigger_images
from chainbuild.proof.trace.proof import proofs_stand
from chainbuild.records.index import RecordIndex
from chainbuild.records.labels import identity_of
from chainbuild.registry.config import ImageConfig
from chainbuild.values import replace


class PlannedRun(Struct, frozen=True, kw_only=True):
    """A plan and the objects that it was made with."""

    plan: Plan
    found: Found
    planner: Planner
    index: RecordIndex
    asked: StatementReader


def plan_run(graph: Graph, session: Session, options: ExecutionOptions) -> PlannedRun:
    """Report what the layout detected, resolve the external images of the graph, and decide for every step."""
    for note in graph.notes:
        session.emit(events.Message(text=note))
    finder = session.finder()
    backends = session.backends
    build_platform = backends.build_platform()
    found = dict(find_all(finder, graph.external_images))
    # The images' inherited stage settings and ONBUILD triggers are known only after they are resolved.
    asked = StatementReader(session.records, found, session.warn)
    graph = with_inherited(graph, asked.asks_of, build_platform=build_platform)
    found |= find_all(finder, _not_in(found, graph))
    graph = with_trigger_images(graph, found, build_platform=build_platform)
    found |= find_all(finder, _not_in(found, graph))
    index = RecordIndex(session.registries, graph.chains, session.records.keyring, session.records.seen)

    planner = Planner(
        session.records,
        InputReader(build_platform, remotes=backends.remotes, of_builder=session.builder_platform),
        lambda step: _external_facts(step, found),
        renewal=options.renewal,
        pinned_steps=pinned_before(graph, options.first) if options.first is not None else None,
        tolerance=options.tolerance,
        clock=backends.clock,
        index=index,
        passed=proofs_stand,
        rebase=options.rebase,
    )
    plan = make_plan(graph, planner)
    if options.outdated:
        from chainbuild.execution.outdated_steps import find_renewals

        renewals = find_renewals(plan, session, security=options.outdated == "security")
        if renewals.reasons:
            outdated = replace(options.renewal, outdated=renewals.reasons, updates=renewals.updates)
            planner = planner.with_renewal(outdated)
            plan = make_plan(graph, planner)
    return PlannedRun(plan=plan, found=found, planner=planner, index=index, asked=asked)


def _not_in(found: Found, graph: Graph) -> list[ImageInput]:
    return [image for image in graph.external_images if (str(image.source), image.platform.oci) not in found]


def _external_facts(step: Step, found: Found) -> Mapping[str, ImageFacts]:
    facts: dict[str, ImageFacts] = {}
    for image in step.images:
        if image.external is None:
            continue
        resolved = found[str(image.source), image.platform.oci]
        config = resolved.image.config
        if resolved.named.is_scratch:
            # scratch is the same on every platform, and the platform is already part of the key.
            facts[image.name] = ImageFacts(identity=EMPTY, digest=EMPTY, env=_env(config))
            continue
        # For a stage on the builder's platform, use the index: it does not depend on where the builder runs.
        index = resolved.image.index_digest if image.on_builder else None
        facts[image.name] = ImageFacts(
            identity=str(index) if index else identity_of(config),
            digest=str(index or resolved.image.digest),
            env=_env(config),
            on_build=config.on_build,
        )
    return facts


def _env(config: ImageConfig) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in config.env)


def planned_step(decision: Decision) -> events.PlannedStep:
    """Return what a run reports about a decision when it starts."""
    return events.PlannedStep(
        step=decision.step.id,
        action=decision.action,
        reason=decision.reason,
        image=str(decision.step.reference),
        expected_seconds=decision.expected_seconds,
        needs=decision.step.needs,
    )
