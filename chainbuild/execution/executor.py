"""Execute a graph: decide, build, prove, record and tag every step as soon as its parents are done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

from chainbuild import events
from chainbuild.builder.build_spec import BuildSpec, build_spec_for, stage_args, staging_reference
from chainbuild.builder.handed_files import with_handed
from chainbuild.dockerfile import parse
from chainbuild.errors import BuildFailedError, ChainbuildError, NotFoundInRegistryError, NotProvenError, WrongUseError
from chainbuild.execution.crash_retry import CrashRetry
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import DEADLINE, RunOutcome, StepResult
from chainbuild.execution.repair import DAMAGED, ParentRepair
from chainbuild.execution.services import ExecutionServices
from chainbuild.images.compose_layers import FILES, join
from chainbuild.images.provenance import Provenance, ProvenanceStep, read_provenance
from chainbuild.images.resolver import EMPTY
from chainbuild.model import CHAIN_IMAGE, Step, StepKind, dependents
from chainbuild.planning.decisions import Decision, ImageFacts, Plan, facts_of
from chainbuild.planning.planner import digest_note
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage, put_tag, resolve
from chainbuild.step_id import StepId
from chainbuild.step_warnings import OF_TESTS, WarningList
from chainbuild.text import plural
from chainbuild.values import replace

STOP_SECONDS = 10.0
"""How long an interrupted run waits for its builds after asking them to stop."""
WAKE_SECONDS = 1.0
"""How long a run waits at a time: a signal that arrives just before a wait begins takes effect only after it."""


class Executor:
    """Executes a plan once."""

    def __init__(self, plan: Plan, services: ExecutionServices, options: ExecutionOptions) -> None:
        self._options = options
        self._graph = plan.graph
        self._planned = {decision.step.id: decision for decision in plan.decisions}
        self._results_ids = frozenset(chain.result.id for chain in plan.graph.chains)
        self._steps = dict(plan.graph.by_id)
        self._services = services
        self._emit = services.emit
        self._jobs = options.jobs or max(1, len({chain.platform.oci for chain in plan.graph.chains}))
        self._stopping = False
        self._builds = CrashRetry(services.driver, services.emit, lambda: self._stopping)
        self.outcome = RunOutcome()
        self._order = {step: place for place, step in enumerate(self._steps)}
        self._repair = ParentRepair(
            services.registries, self.outcome, self._order, decide=self._decide, build=self._built
        )

    def run(self) -> RunOutcome:
        """Run every step; failures are in the outcome. Any exception but a `ChainbuildError` ends the run at once."""
        waiting = dict(self._steps)
        running: dict[Future[StepResult], Step] = {}
        pool = ThreadPoolExecutor(max_workers=self._jobs, thread_name_prefix="step")
        try:
            while waiting or running:
                self._start_ready(pool, waiting, running)
                if not running:
                    break
                done, _ = wait(running, timeout=WAKE_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    self._ended(running.pop(future), future, waiting)
        except KeyboardInterrupt:
            self._stopping = True
            # Let the builds end while the registry and the logs are still open.
            self._services.driver.stop()
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
        """Return whether the step fits before the deadline, judged by the duration of its last build."""
        if self._options.seconds_left is None:
            return True
        left = self._options.seconds_left()
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
        gone: Iterable[StepId] = dependents(self._graph, [step.id]) if self._options.keep_going else tuple(waiting)
        self._skip([missed for missed in gone if missed in waiting], waiting, f"{step.id} failed")

    # One step ---------------------------------------------------------------------------------------------------------

    def _execute(self, step: Step) -> StepResult:
        decision = self._decide(step)
        # Repeating a proof reads the parents' images, as a build does.
        proves = (
            decision.cached_record is not None
            and bool(step.test or step.traced)
            and not self._services.finisher.verdict_stands(step, decision.cached_record)
        )
        if (decision.cached_record is None or proves) and self._repair.rebuild_parents(step):
            decision = self._decide(step)
        if decision.cached_record is not None:
            result = StepResult(step=step, record=decision.cached_record, built=False)
            # An image that was deleted after planning must be built.
            with suppress(NotFoundInRegistryError):
                if decision.source:
                    self._services.records.bring(decision.source, step.repository, decision.cached_record)
                if step.id not in self._results_ids or self._repair.is_complete(result):
                    return self._reused(result)
            self._repair.rebuild_parents(step)
            decision = replace(self._decide(step), cached_record=None, reason=DAMAGED)
        return self._built(decision)

    def _decide(self, step: Step) -> Decision:
        planned = self._planned[step.id]
        if planned.cached_record is not None and not any(self.outcome.results[need].built for need in step.needs):
            return planned
        return self._services.planner.with_fresh_inputs().plan_step(step, self._facts(step))

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
        self._services.before_name(result.step, record.image)
        put_tag(self._services.registries, result.step.reference, record.image)
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
        """Return the record of a reused step after it passed its current test; a step that fails is not tagged."""
        step = result.step
        if self._services.finisher.verdict_stands(step, result.record):
            return result.record
        image = resolve(self._services.registries, result.reference, step.platform)
        started = time.monotonic()
        self._emit(events.StepStarted(step=step.id, activity="test", log_path=self._services.log_path(step.id)))
        try:
            record = self._services.finisher.tested(step, image, result.record, self._inputs(step)[1])
        except ChainbuildError as error:
            self._failed(step, started, error)
            raise
        self._services.records.write(step.repository, record)
        return record

    def _warn(self, step: Step, record: Record, *, reused: bool = False) -> None:
        """Emit the warnings about a result. Errors: `NotProvenError` if warnings are errors in this run."""
        warnings = record.warnings
        if not (step.test or step.traced):
            warnings = warnings.with_kind(OF_TESTS, ())  # those of a test that is gone
        if not warnings:
            return
        image = str(step.reference)
        self._emit(
            events.StepWarnings(step=step.id, image=image, warnings=warnings.first, total=warnings.total, reused=reused)
        )
        if self._options.strict:
            raise NotProvenError(
                f"{image} has {plural(warnings.total, 'warning')}, which --strict does not allow",
                hint="Fix their causes, or run without --strict. The image is recorded, so nothing is rebuilt.",
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
        log_path = self._services.log_path(step.id)
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
        services = self._services
        if components is None:  # a pinned step whose image is damaged
            components = services.planner.with_fresh_inputs().components(step, self._facts(step))
        pinned, images = self._inputs(step)
        staging = staging_reference(step)
        spec = build_spec_for(
            step,
            pinned,
            image=str(staging),
            sent=services.planner.with_fresh_inputs().sent(step, self._facts(step)),
            extra=stage_args(step, *_of_chain(step, images)),
        )
        spec = services.acceleration.applied(step, spec)
        files = services.planner.with_fresh_inputs().context_files(step, self._facts(step)) if step.handed else ()
        with with_handed(step, spec, files, images, services.registries, self._emit) as whole_spec:
            image = self._run_build(step, whole_spec, images)
        provenance = (
            self._provenance(step, components.key) if step.kind is StepKind.PRODUCE or step.post_build_labels else ()
        )
        finished_image = services.finisher.finish(step, spec, image, images, provenance)
        image = finished_image.image
        parent = images.get(step.parent)
        notes = {**finished_image.notes, **services.acceleration.notes(step), **self._builds.notes(step.id)}
        record = Record.of_image(
            image,
            components,
            step=step.id,
            family=step.family,
            built_at=services.clock(),
            seconds=time.monotonic() - started,
        )
        record = replace(
            record,
            added=image.size - parent.size if parent else image.size,
            unpacked=finished_image.unpacked,
            verdicts={**finished_image.verdicts, **services.acceleration.verdicts(step)},
            warnings=WarningList.of(finished_image.warnings),
            notes={**services.notes(), **_digests(step, images), "dockerfile": spec.shown, **notes},
            parents={
                parent_image.name: self.outcome.results[need].record.key
                for parent_image in step.images
                if (need := parent_image.from_step) is not None
            },
        )
        # Write the record just before the tag: a run killed in between only repeats the build or the tag.
        if change := self._input_change(step, components):
            text = f"{step.id}: its inputs {change}, so the result will not be reused"
            self._emit(events.Message(level="warning", text=text))
        else:
            services.records.write(step.repository, record)
        self._warn(step, record)
        services.before_name(step, image.digest)
        put_tag(services.registries, step.reference, image.digest)
        return record

    def _input_change(self, step: Step, components: Components) -> str:
        """Return how the inputs changed during the build, so that the key does not match the image; empty if not."""
        try:
            now = self._services.planner.with_fresh_inputs().components(step, self._facts(step))
        except WrongUseError:
            return "changed while it was built"
        if now.unknown_remotes:
            return "could not all be queried"
        return "changed while it was built" if now.key != components.key else ""

    def _run_build(self, step: Step, spec: BuildSpec, images: Mapping[str, RemoteImage]) -> RemoteImage:
        """Build the step's image, or compose it in the registry if no builder is needed."""
        staging = staging_reference(step)
        # Only a builder can execute ONBUILD triggers of the base.
        if step.kind is StepKind.JOIN and step.text is not None and not images[step.parent].config.on_build:
            dockerfile = parse(step.text, spec.shown)
            return join(self._services.registries, images[step.parent], images[FILES], dockerfile, staging)
        if step.text is not None:
            step.dockerfile.write_bytes(step.text)
        built = self._builds.build(spec)
        if built.digest is None:
            raise ChainbuildError(f"{step.id}: the builder returned no image")
        return resolve(self._services.registries, staging.with_digest(built.digest), step.platform)

    def _provenance(self, step: Step, key: str) -> Provenance:
        """Return the step and everything below it, lowest first, including the provenance of a base built by chainbuild."""
        below = set(step.needs)
        for other in reversed(self._steps.values()):
            if other.id in below:
                below.update(other.needs)
        bases = [
            entry
            for other in (*(self._steps[need] for need in below), step)
            for image in other.images
            if image.name == CHAIN_IMAGE and image.external is not None
            for entry in read_provenance(self._services.found[str(image.source), image.platform.oci].image.config)
        ]
        entries = [
            ProvenanceStep(step=need, key=self.outcome.results[need].record.key)
            for need in self._steps
            if need in below
        ]
        return tuple(dict.fromkeys((*bases, *entries, ProvenanceStep(step=step.id, key=key))))

    def _inputs(self, step: Step) -> tuple[dict[str, str], dict[str, RemoteImage]]:
        """Return the pinned reference for each image input, and the resolved images."""
        pinned: dict[str, str] = {}
        images: dict[str, RemoteImage] = {}
        for image in step.images:
            if image.from_step is not None:
                need = self.outcome.results[image.from_step]
                images[image.name] = resolve(self._services.registries, need.reference, need.step.platform)
                pinned[image.name] = images[image.name].reference.pinned
            else:
                resolved = self._services.found[str(image.source), image.platform.oci]
                images[image.name], pinned[image.name] = resolved.image, resolved.pinned
        return pinned, images


def _of_chain(step: Step, images: Mapping[str, RemoteImage]) -> tuple[Mapping[str, str], str]:
    """Return the environment and the USER of the chain's image, for the minimize stage."""
    chain = images.get(CHAIN_IMAGE)
    return (dict(chain.config.env), chain.config.user) if chain and step.kind is StepKind.MINIMIZE else ({}, "")


def _digests(step: Step, images: Mapping[str, RemoteImage]) -> dict[str, str]:
    """Return the digests of the external images; for an image on the builder's platform, that of its index."""
    return {
        digest_note(image.name): EMPTY
        if external.is_scratch
        else str((image.on_builder and images[image.name].index_digest) or images[image.name].digest)
        for image in step.images
        if (external := image.external) is not None
    }
