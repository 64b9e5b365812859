"""Run a build from start to end: make the plan, execute it, publish the results, and report what users must know."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from chainbuild import events
from chainbuild.execution.native_tools import NativeTools, NoNativeTools
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Session
from chainbuild.images.resolver import EMPTY, Found, find_all
from chainbuild.images.stage_statement_store import StatementReader, StatementWriter
from chainbuild.model import CHAIN_IMAGE, Chain, Graph, ImageInput, Publication, Step, StepKind, published
from chainbuild.planning.decisions import Decision, ImageFacts, Plan, Renewal
from chainbuild.planning.inheritance import with_inherited
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Planner, make_plan, pinned_before
from chainbuild.planning.trigger_images import with_trigger_images
from chainbuild.proof.trace.proof import proofs_stand
from chainbuild.records.index import RecordIndex, chains_by_index
from chainbuild.records.labels import identity_of
from chainbuild.records.record import Record
from chainbuild.references import ImageReference
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from chainbuild.trust.keyring import SIGNING_KEY
from chainbuild.values import replace

if TYPE_CHECKING:
    # A plan imports nothing that only builds or publishes.
    from chainbuild.execution.outcome import RunOutcome, StepResult
    from chainbuild.planning.generations import Generations


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
        InputReader(build_platform, remotes=backends.remotes),
        lambda step: _external_facts(step, found),
        renewal=options.renewal,
        pinned_steps=pinned_before(graph, options.first) if options.first is not None else None,
        tolerance=options.tolerance,
        clock=backends.clock,
        index=index,
        passed=proofs_stand,
    )
    return PlannedRun(plan=make_plan(graph, planner), found=found, planner=planner, index=index, asked=asked)


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


def build_run(
    graph: Graph,
    session: Session,
    options: ExecutionOptions,
    *,
    log_folder: Path | None = None,
    log_path: Callable[[StepId], Path | None] = lambda _: None,
) -> RunOutcome:
    """Plan, execute and publish; emit `RunFinished` at the end. Failures are in the outcome."""
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


def plan_acceleration(planned: PlannedRun, session: Session, options: ExecutionOptions) -> NativeTools:
    """Decide which steps of a plan get native tools. The steps that make tools are planned, not run."""
    own = session.backends.build_platform().oci
    if all(decision.step.platform.oci == own for decision in planned.plan.builds):
        return NoNativeTools()
    # Imported late: most runs build nothing for another platform.
    from chainbuild.execution.acceleration import Acceleration, ToolSource

    def source(graph: Graph) -> ToolSource:
        tools = plan_tools(graph, session)
        return ToolSource(
            decisions=tools.plan.decisions,
            existing=None if tools.plan.builds else _existing_tools(tools.plan, session),
            make=partial(make_tools, tools, session),
        )

    acceleration = Acceleration(session)
    acceleration.plan(planned.plan, planned.found, options, source)
    return acceleration


def _tool_options(graph: Graph, session: Session) -> ExecutionOptions:
    from chainbuild.native.tools import REFRESH_AFTER, TOLERANCE

    # Compilers of one version never become old; packages do.
    ages = len(graph.chains[0].steps) == 1
    return ExecutionOptions(
        load=False,
        renewal=Renewal(refresh_after=REFRESH_AFTER if ages else None, since=session.backends.clock()),
        tolerance={step.id: TOLERANCE for step in graph},
    )


def plan_tools(graph: Graph, session: Session) -> PlannedRun:
    """Plan the steps that make native tools, without messages."""
    return plan_run(graph, replace(session, emit=lambda _: None), _tool_options(graph, session))


def make_tools(
    tools: PlannedRun, session: Session, log_path: Callable[[StepId], Path | None] = lambda _: None
) -> RemoteImage:
    """Build the image of native tools, or keep the one that is too old if that fails. Errors: those of the build."""
    graph = tools.plan.graph
    how = _tool_options(graph, session)
    outcome = execute(tools, session, how, log_path, NoNativeTools())
    step = tools.plan.decisions[-1].step
    if step.id in outcome.results:
        return resolve(session.registries, outcome.results[step.id].reference, step.platform)
    older = plan_run(graph, replace(session, emit=lambda _: None), replace(how, renewal=Renewal()))
    image = _existing_tools(older.plan, session)
    if image is None:
        raise next(iter(outcome.failures.values()))
    return image


def _existing_tools(plan: Plan, session: Session) -> RemoteImage | None:
    """Return the image of the last step of a plan, if the registry has it."""
    step, record = plan.decisions[-1].step, plan.decisions[-1].cached_record
    if record is None:
        return None
    place = plan.decisions[-1].source or step.repository
    return resolve(session.registries, place.with_digest(record.image), step.platform)


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
    session.backends.check_builders(session.driver, {decision.step.platform for decision in plan.builds})


def execute(
    planned: PlannedRun,
    session: Session,
    options: ExecutionOptions,
    log_path: Callable[[StepId], Path | None],
    native: NativeTools,
) -> RunOutcome:
    """Do what the plan says with every step, and write the records into the indexes. Failures are in the outcome."""
    from chainbuild.execution.annotating import ResultAnnotations
    from chainbuild.execution.attesting import ResultAttestations
    from chainbuild.execution.executor import Executor
    from chainbuild.execution.post_build import StageFinisher
    from chainbuild.execution.services import ExecutionServices
    from chainbuild.images.tools_image import pinned_contexts

    graph, backends = planned.plan.graph, session.backends
    for text in native.make_tools():
        session.warn(text)
    notes = StatementWriter(
        graph,
        session.registries,
        session.records.keyring,
        planned.index,
        notice=session.registries.notice,
        clock=backends.clock,
    )
    tree_notes = lru_cache(maxsize=1)(lambda: backends.tree_notes(session.settings.root))
    attested = ResultAttestations(graph, session.records, planned.found, planned.index)

    def before_name(result: StepResult) -> None:
        notes.note(result.step, result.record.image)
        attested.note(result)

    services = ExecutionServices(
        driver=session.driver,
        registries=session.registries,
        records=session.records,
        planner=planned.planner,
        finisher=StageFinisher(
            session.registries,
            session.driver,
            session.emit,
            clock=backends.clock,
            contexts=partial(pinned_contexts, session.finder()),
            annotations=ResultAnnotations(graph, planned.found, tree_notes).of,
        ),
        found=planned.found,
        emit=session.emit,
        log_path=log_path,
        notes=tree_notes,
        clock=backends.clock,
        before_name=before_name,
        acceleration=native,
    )
    outcome = Executor(planned.plan, services, options).run()
    _update_index(graph, planned.index, outcome, (notes.made, attested.made))
    session.records.seen.remember(result.record for result in outcome.results.values())
    session.records.seen.remember_times(planned.asked.used)
    return outcome


def _update_index(
    graph: Graph,
    index: RecordIndex,
    outcome: RunOutcome,
    marks_of: tuple[Callable[[Chain], Mapping[str, str]], ...],
) -> None:
    """Write the records of the run, and the marks of what is attached to its images, into the indexes of its chains."""
    for chains in chains_by_index(graph.chains).values():
        steps = [step.id for chain in chains for step in chain.all_steps if step.id in outcome.results]
        made = {tag: mark for chain in chains for marks in marks_of for tag, mark in marks(chain).items()}
        index.update(chains[0], [outcome.results[step].record for step in steps], made)


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


def publish(
    graph: Graph, session: Session, outcome: RunOutcome, options: ExecutionOptions
) -> tuple[events.ImageResult, ...]:
    """Publish the finished results: update indexes, push to REPO's registry, load into the local image store."""
    from chainbuild.execution.attesting import sign_indexes
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
        return plan_run(graph, quiet, replace(options, first=None, renewal=Renewal())).plan

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
