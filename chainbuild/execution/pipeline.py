"""Run a build from start to end: make the plan, execute it, publish the results, and report what users must know."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild import events
from chainbuild.execution.native_tools import NativeTools
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.run_plan import plan_run, planned_step
from chainbuild.execution.session import Session
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.model import Chain, Graph, Publication, published
from chainbuild.planning.decisions import Plan, Renewal
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from chainbuild.trust.keyring import SIGNING_KEY
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.execution.outcome import RunOutcome
    from chainbuild.planning.generations import Generations


def build_run(
    graph: Graph,
    session: Session,
    options: ExecutionOptions,
    *,
    log_folder: Path | None = None,
    log_path: Callable[[StepId], Path | None] = lambda _: None,
) -> RunOutcome:
    """Plan, execute and publish; emit `RunFinished` at the end. Failures are in the outcome."""
    from chainbuild.execution.execute import execute

    started = time.monotonic()
    planned = plan_run(graph, session, options)
    native = plan_acceleration(planned, session, options)
    if options.push and planned.plan.builds:
        from chainbuild.execution.publish import check_push

        check_push(session.registries, planned.plan.graph.repo, planned.plan.graph.chains)
    _check_start(planned.plan, session, log_folder, native)
    outcome = execute(planned, session, options, log_path, native)
    results = publish(planned.plan.graph, session, outcome, options)
    session.emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=outcome.succeeded, results=results))
    return outcome


def _check_start(plan: Plan, session: Session, log_folder: Path | None, native: NativeTools) -> None:
    """Report the plan, and check that this machine can do what it says: fail now, not after an hour of building."""
    for text in plan.warnings:
        session.warn(text)
    steps = tuple(planned_step(decision) for decision in (*native.decisions, *plan.decisions))
    session.emit(events.RunStarted(steps=steps, log_folder=log_folder))
    if not plan.builds:
        return
    # Creates the signing key if there is none.
    _ = session.records.keyring.signing_key
    if session.records.keyring.made_key and session.settings.registry and session.backends.environ.get("CI"):
        text = f"this job signs records with a new key that no other job trusts; set the CI secret {SIGNING_KEY}"
        session.warn(text)
    session.backends.check_builders(
        session.driver, {decision.step.platform for decision in plan.builds if not decision.rebase}
    )


def publish(
    graph: Graph, session: Session, outcome: RunOutcome, options: ExecutionOptions
) -> tuple[events.ImageResult, ...]:
    """Publish the finished results: update indexes, push to REPO's registry, load into the local image store."""
    from chainbuild.execution.publish import publish_indexes, push_results, stale_where_pushed

    finished = [chain for chain in graph.chains if chain.publication and chain.result.id in outcome.results]
    if graph.together and not outcome.succeeded:
        # Images that belong together are published together or not at all.
        session.warn("nothing was published: some images of this release are missing")
        return ()
    generations = _generations(session, options)
    refuse = options.refuse_stale_index
    if finished:
        session.emit(events.RunPhase(phase="index"))
    indexes = publish_indexes(
        session.registries,
        finished,
        outcome,
        replace=options.replace_index,
        generations=generations,
        refuse_stale=refuse,
    )
    texts = indexes.messages
    if options.push and not graph.exact:
        texts += stale_where_pushed(session.registries, graph.repo, finished, generations, refuse_stale=refuse)
    for text in dict.fromkeys(texts):
        session.warn(text)
    pushed: tuple[ImageReference, ...] = ()
    if options.push:
        session.emit(events.RunPhase(phase="push"))
        pushed = push_results(
            session.registries, graph.repo, finished, outcome, together=graph.together, exact=graph.exact
        )
        for name in pushed:
            session.emit(events.Message(text=f"pushed {name}"))
    if pushed or any(outcome.results[chain.result.id].built for chain in finished):
        from chainbuild.execution.attesting import sign_indexes

        for text in sign_indexes(session.records, (*indexes.platforms, *pushed)):
            session.emit(events.Message(level="note", text=text))
    results = []
    if options.load and any(names.local_tag for _, names in published(finished)):
        session.emit(events.RunPhase(phase="load"))
    for chain, names in published(finished):
        result, repo = outcome.results[chain.result.id], names.repo or graph.repo
        local_name = str(repo.with_tag(names.local_tag)) if options.load and names.local_tag else ""
        if local_name:
            # The tag includes the platform if several platforms are loaded.
            others = names.also if names.local_tag != names.tag else ()
            for other in (local_name, *(str(repo.with_tag(tag)) for tag in others)):
                session.local.load(result.reference.pinned, result.record.image, chain.platform, other)
        image = _image_result(chain, names, outcome, local_name)
        results.append(replace(image, index_name=str(names.index), index_platforms=indexes.platforms[names.index]))
    return tuple(results)


def _generations(session: Session, options: ExecutionOptions) -> Generations:
    """Return the checker for images of other platforms."""
    from chainbuild.planning.generations import Generations

    def plan_of(graph: Graph) -> Plan:
        # Suppress messages: the runs that build those platforms emit them.
        quiet = replace(session, emit=lambda _: None)
        return plan_run(graph, quiet, replace(options, first=None, renewal=Renewal(), outdated="")).plan

    return Generations(session.records, options.graph_for, plan_of)


def _image_result(chain: Chain, names: Publication, outcome: RunOutcome, local_name: str) -> events.ImageResult:
    result = outcome.results[chain.result.id]
    minimized = outcome.results.get(chain.minimize.id) if chain.minimize else None
    # Without a production stage the last image is the result, and there is no chain image to compare it with.
    last = outcome.results.get(chain.last.id) if chain.production else None
    return events.ImageResult(
        name=names.tag,
        platform=chain.platform.name,
        registry_name=str(names.release),
        local_name=local_name,
        digest=str(result.record.image),
        size=result.record.unpacked,
        chain_size=int(minimized.record.notes.get("chain_bytes", "0")) if minimized else 0,
        compressed_size=result.record.size,
        compressed_chain_size=last.record.size if last else 0,
    )
