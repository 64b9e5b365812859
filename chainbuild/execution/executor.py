"""Walks a graph: every step as soon as what it needs is there; decides, builds, proves, records and names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.build_spec import BuildSpec, order_for, stage_args, staging_reference
from chainbuild.builder.buildx import BuildResult
from chainbuild.builder.handed_files import with_handed
from chainbuild.dockerfile import parse
from chainbuild.errors import BuildFailedError, ChainbuildError, NotFoundInRegistryError, NotProvenError, WrongUseError
from chainbuild.execution.outcome import DEADLINE, RunOutcome, StepResult
from chainbuild.images.compose_layers import FILES, join
from chainbuild.images.provenance import Provenance, ProvenanceStep, read_provenance
from chainbuild.images.resolver import EMPTY, Found
from chainbuild.model import CHAIN_IMAGE, Step, StepId, StepKind, dependents
from chainbuild.planning.planner import Decision, ImageFacts, Plan, Planner, digest_note, facts_of
from chainbuild.records.keys import Components
from chainbuild.records.labels import identity_of
from chainbuild.records.record import Record
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import RemoteImage, is_intact, put_tag, resolve
from chainbuild.registry.pool import Registries
from chainbuild.step_warnings import OF_TESTS, StepWarning, WarningList
from chainbuild.text import plural
from chainbuild.values import replace

DAMAGED = "its image is damaged in the registry"
STOP_SECONDS = 10.0
"""How long an interrupted run waits for its builds to end; they were told to."""


class Driver(Protocol):
    """What executes orders; `buildx.BuildxDriver` is the real one."""

    def build(self, order: BuildSpec, emit: events.Emit) -> BuildResult:
        """Build and push (or export)."""

    def stop(self) -> None:
        """Make the builds that are running end soon."""


class RecordWriter(Protocol):
    """Where records go; `records.store.RecordStore` is the real one."""

    def write(self, repository: ImageReference, record: Record) -> None:
        """Sign a record and store it."""

    def bring(self, source: ImageReference, repository: ImageReference, record: Record) -> None:
        """Copy a recorded image and its record from another repository of the chain registry."""


class FinishedImage(Struct, frozen=True, kw_only=True):
    """An image that is ready for its name: proofs passed, unpacked bytes where somebody counted them, and notes."""

    image: RemoteImage
    verdicts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[StepWarning, ...] = ()
    unpacked: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


class PostBuild(Protocol):
    """What is done to a step's image between its build and its name."""

    def finish(
        self, step: Step, order: BuildSpec, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Provenance
    ) -> FinishedImage:
        """Give it what the builder cannot, and prove it. Errors: `NotProvenError`."""

    def verdict_stands(self, step: Step, record: Record) -> bool:
        """Whether the record says that the image has passed the step's test as it is now (or there is no test)."""

    def tested(self, step: Step, image: RemoteImage, record: Record, inputs: Mapping[str, RemoteImage]) -> Record:
        """The record with the verdicts of the tests as they are now. Errors: `NotProvenError`."""


class ExecutionServices(Struct, frozen=True, kw_only=True):
    """What a run works with; each part is replaced by a simple one in tests."""

    driver: Driver
    registries: Registries
    records: RecordWriter
    planner: Planner
    finisher: PostBuild
    found: Found
    emit: events.Emit
    log_path: Callable[[StepId], Path | None] = lambda _: None
    notes: Callable[[], Mapping[str, str]] = dict
    """What every record of this run says besides: the tree's git commit, the builder."""
    clock: Callable[[], float] = time.time
    before_name: Callable[[Step, Digest], None] = lambda _step, _image: None
    """What is done with a step's finished image, which is in the step's repository, before it gets its readable name."""


class Executor:
    """One run over a graph."""

    def __init__(
        self,
        plan: Plan,
        tools: ExecutionServices,
        *,
        jobs: int = 1,
        keep_going: bool = False,
        seconds_left: Callable[[], float] | None = None,
        strict: bool = False,
    ) -> None:
        """`seconds_left` until the deadline, where there is one. `strict`: a result with warnings gets no name."""
        self._strict = strict
        self._graph = plan.graph
        self._planned = {decision.step.id: decision for decision in plan.decisions}
        self._results_ids = frozenset(chain.result.id for chain in plan.graph.chains)
        self._steps = dict(plan.graph.by_id)
        self._order = {step: place for place, step in enumerate(self._steps)}
        self._seconds_left = seconds_left
        self._tools = tools
        self._emit = tools.emit
        self._jobs = max(1, jobs)
        self._keep_going = keep_going
        self._repair = threading.RLock()
        self._stopping = False
        self.outcome = RunOutcome()

    def run(self) -> RunOutcome:
        """Run every step; failures are in the outcome. An exception that is no `ChainbuildError` ends the run at once."""
        waiting = dict(self._steps)
        running: dict[Future[StepResult], Step] = {}
        pool = ThreadPoolExecutor(max_workers=self._jobs, thread_name_prefix="step")
        try:
            while waiting or running:
                self._start_ready(pool, waiting, running)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._ended(running.pop(future), future, waiting)
        except KeyboardInterrupt:
            self._stopping = True
            # The registry and the logs are still there: let the builds end before those do.
            self._tools.driver.stop()
            wait(running, timeout=STOP_SECONDS)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.outcome

    def _start_ready(
        self, pool: ThreadPoolExecutor, waiting: dict[StepId, Step], running: dict[Future[StepResult], Step]
    ) -> None:
        for step in list(waiting.values()):
            if len(running) >= self._jobs:
                return
            if step.id in waiting and all(need in self.outcome.results for need in step.needs):
                del waiting[step.id]
                if not self._fits(step):
                    self._skip([step.id, *dependents(self._graph, [step.id])], waiting, DEADLINE)
                    continue
                running[pool.submit(self._execute, step)] = step

    def _fits(self, step: Step) -> bool:
        """Whether the step can be done before the deadline, as far as its record knows."""
        if self._seconds_left is None:
            return True
        left = self._seconds_left()
        expected = self._planned[step.id].expected_seconds
        return left > 0 and (expected is None or expected <= left)

    def _skip(self, steps: Iterable[StepId], waiting: dict[StepId, Step], reason: str) -> None:
        for missed in sorted(steps, key=self._order.__getitem__):
            waiting.pop(missed, None)
            if missed not in self.outcome.results:
                self.outcome.skipped[missed] = reason
                self._emit(events.StepSkipped(step=missed, reason=reason))

    def _ended(self, step: Step, future: Future[StepResult], waiting: dict[StepId, Step]) -> None:
        error = future.exception()
        if error is None:
            self.outcome.results[step.id] = future.result()
            return
        if not isinstance(error, ChainbuildError):
            raise error
        self.outcome.failures[step.id] = error
        gone: Iterable[StepId] = dependents(self._graph, [step.id]) if self._keep_going else tuple(waiting)
        self._skip([missed for missed in gone if missed in waiting], waiting, f"{step.id} failed")

    # One step ---------------------------------------------------------------------------------------------------------

    def _execute(self, step: Step) -> StepResult:
        decision = self._decide(step)
        # A proof that is made again reads the parents' images, as a build does.
        proves = (
            decision.cached_record is not None
            and bool(step.test or step.traced)
            and not self._tools.finisher.verdict_stands(step, decision.cached_record)
        )
        if (decision.cached_record is None or proves) and self._mend_parents(step):
            decision = self._decide(step)
        if decision.cached_record is not None:
            result = StepResult(step=step, record=decision.cached_record, built=False)
            # What was deleted since the plan was made is a reason to build, as it was then.
            with suppress(NotFoundInRegistryError):
                if decision.source:
                    self._tools.records.bring(decision.source, step.repository, decision.cached_record)
                if step.id not in self._results_ids or self._stands_whole(result):
                    return self._reused(result)
            self._mend_parents(step)
            decision = replace(self._decide(step), cached_record=None, reason=DAMAGED)
        return self._built(decision)

    def _decide(self, step: Step) -> Decision:
        planned = self._planned[step.id]
        if planned.cached_record is not None and not any(self.outcome.results[need].built for need in step.needs):
            return planned
        return self._tools.planner.with_fresh_inputs().plan_step(step, self._facts(step))

    def _facts(self, step: Step) -> dict[StepId, ImageFacts]:
        return {need: facts_of(self.outcome.results[need].record) for need in step.needs}

    def _reused(self, result: StepResult) -> StepResult:
        record = self._tested(result) if result.step.test or result.step.traced else result.record
        result = replace(result, record=record)
        started = time.monotonic()
        try:
            self._warn(result.step, record, reused=True)
        except NotProvenError as error:
            self._failed(result.step, started, error)
            raise
        self._tools.before_name(result.step, record.image)
        put_tag(self._tools.registries, result.step.reference, record.image)
        self._emit(
            events.StepReused(
                step=result.step.id,
                image=str(result.step.reference),
                digest=str(record.image),
                saved_seconds=record.seconds,
                size=record.size,
                added=record.added,
            )
        )
        return result

    def _tested(self, result: StepResult) -> Record:
        """A step that is reused has passed its test as it is now, or has no name."""
        step = result.step
        if self._tools.finisher.verdict_stands(step, result.record):
            return result.record
        image = resolve(self._tools.registries, result.reference, step.platform)
        started = time.monotonic()
        self._emit(events.StepStarted(step=step.id, activity="test", log_path=self._tools.log_path(step.id)))
        try:
            record = self._tools.finisher.tested(step, image, result.record, self._inputs(step)[1])
        except ChainbuildError as error:
            self._failed(step, started, error)
            raise
        self._tools.records.write(step.repository, record)
        return record

    def _warn(self, step: Step, record: Record, *, reused: bool = False) -> None:
        """Emit what is doubtful about a result. Errors: `NotProvenError` if that is an error in this run."""
        warnings = record.warnings
        if not (step.test or step.traced):
            warnings = warnings.with_kind(OF_TESTS, ())  # those of a test that is gone
        if not warnings:
            return
        image = str(step.reference)
        self._emit(
            events.StepWarnings(step=step.id, image=image, warnings=warnings.first, total=warnings.total, reused=reused)
        )
        if self._strict:
            raise NotProvenError(
                f"{image} has {plural(warnings.total, 'warning')}, which --strict does not allow",
                hint="Fix what they are about, or run without --strict. The image is recorded: nothing is built again.",
                findings=tuple(str(one) for one in warnings.first),
            )

    def _failed(self, step: Step, started: float, error: ChainbuildError) -> None:
        if self._stopping:
            self._emit(events.StepSkipped(step=step.id, reason="interrupted"))
            return
        message = error.message.removeprefix(f"{step.id}: ")
        self._emit(events.StepFailed(step=step.id, seconds=time.monotonic() - started, message=message))

    def _built(self, decision: Decision) -> StepResult:
        step, started = decision.step, time.monotonic()
        activity = step.kind.value
        log_path = self._tools.log_path(step.id)
        self._emit(events.StepStarted(step=step.id, activity=activity, log_path=log_path))
        try:
            record = self._build(step, decision.components, started)
        except ChainbuildError as error:
            if isinstance(error, BuildFailedError):
                error.log_path = log_path
            self._failed(step, started, error)
            raise
        self._emit(
            events.StepFinished(
                step=step.id,
                activity=activity,
                image=str(step.reference),
                digest=str(record.image),
                seconds=record.seconds,
                size=record.size,
                added=record.added,
            )
        )
        return StepResult(step=step, record=record, built=True)

    def _build(self, step: Step, components: Components | None, started: float) -> Record:
        tools = self._tools
        if components is None:  # it was to be taken as it stands, and is damaged
            components = tools.planner.with_fresh_inputs().components(step, self._facts(step))
        pinned, images = self._inputs(step)
        staging = staging_reference(step)
        order = order_for(
            step,
            pinned,
            image=str(staging),
            sent=tools.planner.with_fresh_inputs().sent(step, self._facts(step)),
            extra=stage_args(step, *_of_chain(step, images)),
        )
        files = tools.planner.with_fresh_inputs().context_files(step, self._facts(step)) if step.handed else ()
        with with_handed(step, order, files, images, tools.registries, self._emit) as whole_order:
            image = self._run_build(step, whole_order, images)
        trail = self._trail(step, components.key) if step.kind is StepKind.PRODUCE or step.post_build_labels else ()
        finished = tools.finisher.finish(step, order, image, images, trail)
        image = finished.image
        parent = images.get(step.parent)
        record = Record(
            key=components.key,
            step=step.id,
            family=step.family,
            image=image.digest,
            identity=identity_of(image.config),
            env=tuple(f"{key}={value}" for key, value in image.config.env),
            on_build=image.config.on_build,
            size=image.size,
            added=image.size - parent.size if parent else image.size,
            unpacked=finished.unpacked,
            seconds=time.monotonic() - started,
            built_at=tools.clock(),
            components=components,
            verdicts=finished.verdicts,
            warnings=WarningList.of(finished.warnings),
            notes={**tools.notes(), **_digests(step, images), "dockerfile": order.shown, **finished.notes},
            parents={
                image.name: self.outcome.results[image.source].record.key
                for image in step.images
                if isinstance(image.source, str)
            },
        )
        # The record comes last but for the name: a run that is killed in between builds again or only names again.
        if spoiled := self._spoiled(step, components):
            text = f"{step.id}: its inputs {spoiled}, so this result is not kept for reuse"
            self._emit(events.Message(level="warning", text=text))
        else:
            tools.records.write(step.repository, record)
        self._warn(step, record)
        tools.before_name(step, image.digest)
        put_tag(tools.registries, step.reference, image.digest)
        return record

    def _spoiled(self, step: Step, components: Components) -> str:
        """What keeps the step's key from telling what was built; empty: nothing has changed since before the build."""
        try:
            now = self._tools.planner.with_fresh_inputs().components(step, self._facts(step))
        except WrongUseError:
            return "changed while it was built"
        if now.unknown_remotes:
            return "could not all be queried"
        return "changed while it was built" if now.key != components.key else ""

    def _run_build(self, step: Step, order: BuildSpec, images: Mapping[str, RemoteImage]) -> RemoteImage:
        """The step's image as it comes out of the builder, or out of the registry where that can do it alone."""
        staging = staging_reference(step)
        # What the base's ONBUILD lines would do, a builder has to do.
        if step.kind is StepKind.JOIN and step.text is not None and not images[step.parent].config.on_build:
            dockerfile = parse(step.text, order.shown)
            return join(self._tools.registries, images[step.parent], images[FILES], dockerfile, staging)
        if step.text is not None:
            step.dockerfile.write_bytes(step.text)
        built = self._tools.driver.build(order, self._emit)
        if built.digest is None:
            raise ChainbuildError(f"{step.id}: the builder made no image")
        return resolve(self._tools.registries, staging.with_digest(built.digest), step.platform)

    def _trail(self, step: Step, key: str) -> Provenance:
        """What the step stands on, the lowest first, and itself; a base that was made so brings its own trail."""
        below = set(step.needs)
        for other in reversed(self._steps.values()):
            if other.id in below:
                below.update(other.needs)
        bases = [
            crumb
            for other in (*(self._steps[need] for need in below), step)
            for image in other.images
            if image.name == CHAIN_IMAGE and isinstance(image.source, ImageReference)
            for crumb in read_provenance(self._tools.found[str(image.source), image.platform.oci].image.config)
        ]
        crumbs = [
            ProvenanceStep(step=need, key=self.outcome.results[need].record.key)
            for need in self._steps
            if need in below
        ]
        return tuple(dict.fromkeys((*bases, *crumbs, ProvenanceStep(step=step.id, key=key))))

    def _inputs(self, step: Step) -> tuple[dict[str, str], dict[str, RemoteImage]]:
        """What the builder is given for each image input, and the images behind them."""
        pinned: dict[str, str] = {}
        images: dict[str, RemoteImage] = {}
        for wanted in step.images:
            if isinstance(wanted.source, str):
                need = self.outcome.results[wanted.source]
                images[wanted.name] = resolve(self._tools.registries, need.reference, need.step.platform)
                pinned[wanted.name] = images[wanted.name].reference.pinned
            else:
                found = self._tools.found[str(wanted.source), wanted.platform.oci]
                images[wanted.name], pinned[wanted.name] = found.image, found.pinned
        return pinned, images

    def _mend_parents(self, step: Step) -> bool:
        """Build again what the step stands on and the registry has lost a part of. Whether anything was built."""
        mended = False
        with self._repair:
            for need in sorted(step.needs, key=self._order.__getitem__):
                result = self.outcome.results[need]
                if result.built:
                    continue
                if self._stands_whole(result):
                    # What it stands on may have been mended, and have come out with other content.
                    decision = self._decide(result.step)
                    if decision.cached_record is not None:
                        continue
                else:
                    self._mend_parents(result.step)
                    decision = replace(self._decide(result.step), cached_record=None, reason=DAMAGED)
                self.outcome.results[need] = self._built(decision)
                mended = True
        return mended

    def _stands_whole(self, result: StepResult) -> bool:
        return is_intact(self._tools.registries, result.reference, result.step.platform)


def _of_chain(step: Step, images: Mapping[str, RemoteImage]) -> tuple[Mapping[str, str], str]:
    """The environment and the USER of the chain's image, for the minimize stage."""
    chain = images.get(CHAIN_IMAGE)
    return (dict(chain.config.env), chain.config.user) if chain and step.kind is StepKind.MINIMIZE else ({}, "")


def _digests(step: Step, images: Mapping[str, RemoteImage]) -> dict[str, str]:
    """What the images from outside were: of one that follows the builder's platform, the index."""
    return {
        digest_note(wanted.name): EMPTY
        if wanted.source.is_scratch
        else str((wanted.on_builder and images[wanted.name].index_digest) or images[wanted.name].digest)
        for wanted in step.images
        if isinstance(wanted.source, ImageReference)
    }
