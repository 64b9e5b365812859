"""The three lines of every run: read the graph, make the plan, execute it; and what is said before and after."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.build_spec import STAGE_VARIABLES, order_for, stage_args, staging_reference
from chainbuild.builder.preflight import check_builders
from chainbuild.execution.executor import ExecutionServices, Executor
from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.execution.post_build import StageFinisher, proofs_stand
from chainbuild.execution.publish import publish_indexes, push_results, stale_where_pushed
from chainbuild.execution.session import Session
from chainbuild.images.provenance import tree_notes
from chainbuild.images.resolver import EMPTY, Found, find_all
from chainbuild.images.stage_statement_store import AskedNotes, AskedReader
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.model import CHAIN_IMAGE, Chain, ChangeTolerance, Graph, ImageInput, Step, StepId, StepKind
from chainbuild.planning.generations import Generations, GraphFor
from chainbuild.planning.inheritance import with_inherited
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Decision, ImageFacts, Plan, Planner, Renewal, make_plan, pinned_before
from chainbuild.planning.trigger_images import with_trigger_images
from chainbuild.records.index import RecordIndex, chains_by_index
from chainbuild.records.labels import identity_of
from chainbuild.records.record import Record
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.trust.keyring import SIGNING_KEY
from chainbuild.values import replace


class ExecutionOptions(Struct, frozen=True, kw_only=True):
    """How a run is to be done."""

    jobs: int | None = None
    """Steps at once; None: one for each platform."""
    keep_going: bool = False
    strict: bool = False
    """Warnings of the minimize stage and of the proofs are errors."""
    load: bool = True
    renewal: Renewal = field(default_factory=Renewal)
    tolerance: Mapping[StepId, ChangeTolerance] = field(default_factory=dict)
    """Steps for which some changes are no reason to build."""
    first: int | None = None
    """`--from`: steps below this number are taken as they stand."""
    seconds_left: Callable[[], float] | None = None
    """Until the deadline."""
    push: bool = False
    """Send results and indexes to REPO's own registry."""
    replace_index: bool = False
    """Let an index lose the platforms that this run does not build."""
    refuse_stale_index: bool = False
    """Fail if an index would keep a platform's image that the tree does not give now."""
    graph_for: GraphFor | None = None
    """Reads the same request for other platforms."""


class PlannedRun(Struct, frozen=True, kw_only=True):
    """A plan and what it was made with."""

    plan: Plan
    found: Found
    planner: Planner
    index: RecordIndex
    asked: AskedReader


def plan_run(graph: Graph, session: Session, options: ExecutionOptions) -> PlannedRun:
    """Find what the graph stands on, and decide for every step."""
    finder = session.finder()
    here = Platform.of_this_machine()
    found = dict(find_all(finder, graph.external_images))
    # What was asked of the stages up to those images, and what their triggers read, is known only now.
    asked = AskedReader(session.records, found, lambda text: session.emit(events.Message(level="warning", text=text)))
    graph = with_inherited(graph, asked.asks_of, build_platform=here)
    found |= find_all(finder, _not_in(found, graph))
    graph = with_trigger_images(graph, found, build_platform=here)
    found |= find_all(finder, _not_in(found, graph))
    index = RecordIndex(session.registries, graph.chains, session.records.keyring, session.records.seen)
    planner = Planner(
        session.records,
        InputReader(here),
        lambda step: _external_facts(step, found),
        renewal=options.renewal,
        pinned_steps=pinned_before(graph, options.first) if options.first is not None else None,
        tolerance=options.tolerance,
        index=index,
        passed=proofs_stand,
    )
    return PlannedRun(plan=make_plan(graph, planner), found=found, planner=planner, index=index, asked=asked)


def _not_in(found: Found, graph: Graph) -> list[ImageInput]:
    return [image for image in graph.external_images if (str(image.source), image.platform.oci) not in found]


def _external_facts(step: Step, found: Found) -> Mapping[str, ImageFacts]:
    facts: dict[str, ImageFacts] = {}
    for wanted in step.images:
        if isinstance(wanted.source, str):
            continue
        there = found[str(wanted.source), wanted.platform.oci]
        config = there.image.config
        if there.named.is_scratch:
            # The same everywhere and for ever, whatever the platform is: that is in the key already.
            facts[wanted.name] = ImageFacts(identity=EMPTY, digest=EMPTY, env=_env(config))
            continue
        # A stage on the builder's own platform: the index is the same wherever the builder runs.
        index = there.image.index_digest if wanted.on_builder else None
        facts[wanted.name] = ImageFacts(
            identity=str(index) if index else identity_of(config),
            digest=str(index or there.image.digest),
            env=_env(config),
            on_build=config.on_build,
        )
    return facts


def _env(config: ImageConfig) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in config.env)


def build_run(
    graph: Graph,
    session: Session,
    options: ExecutionOptions,
    *,
    log_folder: Path | None = None,
    log_path: Callable[[StepId], Path | None] = lambda _: None,
) -> RunOutcome:
    """Plan, execute, publish; the end is told as `RunFinished`. Failures are in the outcome."""
    started = time.monotonic()
    planned = plan_run(graph, session, options)
    plan, emit = planned.plan, session.emit
    graph = plan.graph
    for text in plan.warnings:
        emit(events.Message(level="warning", text=text))
    emit(events.RunStarted(steps=tuple(_announced(decision) for decision in plan.decisions), log_folder=log_folder))
    if plan.builds:
        # A key that cannot be made is found out now, not after an hour of building.
        _ = session.records.keyring.signing_key
        if session.records.keyring.made_key and session.settings.registry and os.environ.get("CI"):
            text = f"this job signs with a key of its own, which no other job trusts; set the CI secret {SIGNING_KEY}"
            emit(events.Message(level="warning", text=text))
        check_builders(session.driver, {decision.step.platform for decision in plan.builds})
    notes = AskedNotes(
        graph, session.registries, session.records.keyring, planned.index, notice=session.registries.notice
    )
    tools = ExecutionServices(
        driver=session.driver,
        registries=session.registries,
        records=session.records,
        planner=planned.planner,
        finisher=StageFinisher(
            session.registries, session.driver, emit, contexts=partial(pinned_contexts, session.finder())
        ),
        found=planned.found,
        emit=emit,
        log_path=log_path,
        notes=lru_cache(maxsize=1)(lambda: tree_notes(session.settings.root)),
        before_name=notes.note,
    )
    platforms = {chain.platform.oci for chain in graph.chains}
    execution = Executor(
        plan,
        tools,
        jobs=options.jobs or len(platforms),
        keep_going=options.keep_going,
        seconds_left=options.seconds_left,
        strict=options.strict,
    )
    outcome = execution.run()
    _update_index(graph, planned.index, outcome, notes)
    session.records.seen.remember(result.record for result in outcome.results.values())
    session.records.seen.remember_times(planned.asked.used)
    results = _name_results(graph, session, outcome, options)
    emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=outcome.succeeded, results=results))
    return outcome


def _update_index(graph: Graph, index: RecordIndex, outcome: RunOutcome, notes: AskedNotes) -> None:
    """Write the records of the run into the indexes of its chains, and which statements of what was asked there are."""
    for chains in chains_by_index(graph.chains).values():
        steps = [step.id for chain in chains for step in chain.all_steps if step.id in outcome.results]
        made = {tag: mark for chain in chains for tag, mark in notes.made(chain).items()}
        index.update(chains[0], [outcome.results[step].record for step in steps], made)


def _announced(decision: Decision) -> events.PlannedStep:
    return events.PlannedStep(
        step=decision.step.id,
        action=decision.action,
        reason=decision.reason,
        image=str(decision.step.reference),
        expected_seconds=decision.expected_seconds,
    )


def _name_results(
    graph: Graph, session: Session, outcome: RunOutcome, options: ExecutionOptions
) -> tuple[events.ImageResult, ...]:
    """Give the results that there are their names beyond the chain registry's: index, REPO's registry, local store."""
    finished = [chain for chain in graph.chains if chain.has_names and chain.result.id in outcome.results]
    if graph.together and not outcome.succeeded:
        # A release of some images that belong together would be none.
        session.emit(events.Message(level="warning", text="no image has got a name: not all of them are there"))
        return ()
    generations = _generations(session, options)
    refuse = options.refuse_stale_index
    texts = publish_indexes(
        session.registries,
        finished,
        outcome,
        replace=options.replace_index,
        generations=generations,
        refuse_stale=refuse,
    )
    if options.push and not graph.exact:
        texts += stale_where_pushed(session.registries, graph.repo, finished, generations, refuse_stale=refuse)
    for text in dict.fromkeys(texts):
        session.emit(events.Message(level="warning", text=text))
    if options.push:
        pushed = push_results(
            session.registries, graph.repo, finished, outcome, together=graph.together, exact=graph.exact
        )
        for name in pushed:
            session.emit(events.Message(text=f"pushed {name}"))
    results = []
    for chain in finished:
        result = outcome.results[chain.result.id]
        local_tag = chain.result_tag if chain.local_tag == "" else chain.local_tag
        local_name = str((chain.repo or graph.repo).with_tag(local_tag)) if options.load and local_tag else ""
        if local_name:
            # The platform is a part of the tag where the local store gets several.
            others = chain.also if local_tag != chain.result_tag else ()
            for other in (local_name, *(str((chain.repo or graph.repo).with_tag(tag)) for tag in others)):
                session.local.load(result.reference.pinned, result.record.image, chain.platform, other)
        results.append(_told(chain, result, outcome, local_name))
    return tuple(results)


def _generations(session: Session, options: ExecutionOptions) -> Generations:
    """What tells whether images of other platforms are those of the present tree."""

    def plan_of(graph: Graph) -> Plan:
        # What is found on the way is said by the runs that build it.
        quiet = replace(session, emit=lambda _: None)
        return plan_run(graph, quiet, replace(options, first=None, renewal=Renewal())).plan

    return Generations(session.records, options.graph_for, plan_of)


def _told(chain: Chain, result: StepResult, outcome: RunOutcome, local_name: str) -> events.ImageResult:
    minimized = outcome.results.get(chain.minimize.id) if chain.minimize else None
    # Without a production stage the last image is the result: there is nothing to compare it with.
    last = outcome.results.get(chain.last.id) if chain.production else None
    return events.ImageResult(
        name=chain.result_tag,
        platform=chain.platform.name,
        registry_name=str(chain.release),
        local_name=local_name,
        digest=str(result.record.image),
        size=result.record.unpacked,
        chain_size=int(minimized.record.notes.get("chain_bytes", "0")) if minimized else 0,
        compressed_size=result.record.size,
        compressed_chain_size=last.record.size if last else 0,
    )


def _chain_env(step: Step, known: Mapping[StepId, Record | None]) -> Mapping[str, str]:
    """The environment of the chain's image, as far as it is known before that is built."""
    source = step.image(CHAIN_IMAGE).source if step.kind is StepKind.MINIMIZE else None
    record = known[source] if isinstance(source, str) else None
    if record:
        return dict(text.partition("=")[::2] for text in record.env)
    return {name: f"<{name} of {source}>" for name in STAGE_VARIABLES} if source else {}


def commands(planned: PlannedRun, session: Session) -> Mapping[StepId, tuple[str, ...]]:
    """The exact invocation of the builder for every step that would be built.

    The digest of an image that is not built yet cannot be known; its place holds the step's name.
    """
    known = {decision.step.id: decision.cached_record for decision in planned.plan.decisions}
    told: dict[StepId, tuple[str, ...]] = {}
    for decision in planned.plan.builds:
        step = decision.step
        pinned: dict[str, str] = {}
        for wanted in step.images:
            if isinstance(wanted.source, str):
                record = known[wanted.source]
                name = step.repository.name
                pinned[wanted.name] = f"{name}@{record.image}" if record else f"{name}@<digest of {wanted.source}>"
            else:
                pinned[wanted.name] = planned.found[str(wanted.source), wanted.platform.oci].pinned
        extra = stage_args(step, _chain_env(step, known), f"<USER of {CHAIN_IMAGE}>")
        order = order_for(step, pinned, image=str(staging_reference(step)), extra=extra)
        if step.handed:
            handed = ", ".join(f"{file.path} of {file.image}" for file in step.handed)
            order = replace(order, context=Path(f"<{order.context} with {handed}>"))
        told[step.id] = session.driver.command(order)
    return told
