"""Execute a graph: decide, build, prove, record and tag every step as soon as its parents are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from chainbuild import events
from chainbuild.builder.build_spec import BuildSpec, build_spec_for, stage_args, staging_reference
from chainbuild.dockerfile import parse
from chainbuild.errors import BuildFailedError, ChainbuildError, NotFoundInRegistryError, NotProvenError, WrongUseError
from chainbuild.execution.crash_retry import CrashRetry
from chainbuild.execution.group_builder import GroupBuilder, StepWork
from chainbuild.execution.groups import candidates
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import DEADLINE, RunOutcome, StepResult
from chainbuild.execution.repair import DAMAGED, ParentRepair
from chainbuild.execution.running import Postponed, Running
from chainbuild.execution.services import ExecutionServices
from chainbuild.execution.step_inputs import StepInputs, image_notes, of_chain
from chainbuild.execution.step_reports import StepReports
from chainbuild.model import Step, StepKind, dependents
from chainbuild.planning.decisions import Decision, ImageFacts, Plan
from chainbuild.records.keys import Components
from chainbuild.records.record import REFRESHED, Record
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import RemoteImage, images_of_tags, put_tag, resolve
from chainbuild.step_id import StepId
from chainbuild.step_warnings import WarningList
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
        # With builds, these would be old when the last step is reused.
        self._asks_ahead = not plan.builds
        self._tags: Mapping[ImageReference, Digest] = {}
        self._services = services
        self._emit = services.emit
        self._jobs = options.jobs or max(1, len({chain.platform.oci for chain in plan.graph.chains}))
        self._reports = StepReports(services, strict=options.strict)
        self._builds = CrashRetry(services.driver, services.emit, lambda: self._reports.stopping)
        self.outcome = RunOutcome()
        self._order = {step: place for place, step in enumerate(self._steps)}
        self._inputs = StepInputs(services, self.outcome, self._steps)
        self._rebased: Callable[[Decision], StepResult | None] = lambda _: None
        if options.rebase:
            # Imported late: few runs rebase a step.
            from chainbuild.execution.rebasing import StepRebaser

            self._rebased = StepRebaser(services, self.outcome, self._inputs, self._reports).rebased
        self._groups = GroupBuilder(
            services,
            self.outcome,
            StepWork(
                reuse_or_decide=self._reused_or_decided,
                execute=self._execute,
                built=self._built,
                decide=self._decide,
                inputs=self._inputs,
                spec=self._spec,
                recorded=self._recorded,
                reports=self._reports,
                fits=self._fits,
                newest=lambda step: self._planned[step].previous_record,
                tries_again=self._builds.tries_again,
            ),
        )
        self._repair = ParentRepair(
            services.registries, self.outcome, self._order, decide=self._decide, build=self._built
        )

    def run(self) -> RunOutcome:
        """Run every step; failures are in the outcome. Any exception but a `ChainbuildError` ends the run at once."""
        if self._asks_ahead:
            self._tags = images_of_tags(self._services.registries, [step.reference for step in self._graph])
        waiting = dict(self._steps)
        running = Running()
        pool = ThreadPoolExecutor(max_workers=self._jobs, thread_name_prefix="step")
        try:
            while waiting or running:
                self._start_ready(pool, waiting, running)
                if not running:
                    break
                for step, future in running.ended(WAKE_SECONDS):
                    self._ended(step, future, waiting)
        except KeyboardInterrupt:
            self._reports.stopping = True
            # Let the builds end while the registry and the logs are still open.
            self._services.driver.stop()
            running.wait(STOP_SECONDS)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.outcome

    def _start_ready(self, pool: ThreadPoolExecutor, waiting: dict[StepId, Step], running: Running) -> None:
        for step in list(waiting.values()):
            if running.tasks >= self._jobs:
                return
            if step.id in waiting and all(need in self.outcome.results for need in step.needs):
                if not self._fits([step.id]):
                    del waiting[step.id]
                    self._skip([step.id, *dependents(self._graph, [step.id])], waiting, DEADLINE)
                    continue
                rebased = self._planned[step.id].rebase
                group = (step,) if rebased else candidates(step, waiting, self._services.planner.updates)
                for member in group:
                    del waiting[member.id]
                running.start(pool, group, self._execute, self._groups.run)

    def _fits(self, steps: Sequence[StepId]) -> bool:
        """Return whether steps fit before the deadline, judged by the durations of their last builds.

        A step that was never built fits, but only alone.
        """
        if self._options.seconds_left is None:
            return True
        expected = [self._planned[step].build_seconds for step in steps]
        if len(steps) > 1 and None in expected:
            return False
        left = self._options.seconds_left()
        return left > 0 and sum(seconds or 0.0 for seconds in expected) <= left

    def _skip(self, steps: Iterable[StepId], waiting: dict[StepId, Step], reason: str) -> None:
        for missed in sorted(steps, key=self._order.__getitem__):
            waiting.pop(missed, None)
            if missed not in self.outcome.results:
                self.outcome.skipped[missed] = reason
                self._emit(events.StepSkipped(step=missed, reason=reason))

    def _ended(self, step: Step, future: Future[StepResult], waiting: dict[StepId, Step]) -> None:
        error = future.exception()
        if isinstance(error, Postponed):
            later = sorted((*waiting.values(), step), key=lambda one: self._order[one.id])
            waiting.clear()
            waiting.update({one.id: one for one in later})
            return
        if error is None:
            self.outcome.results[step.id] = future.result()
            return
        if not isinstance(error, ChainbuildError):
            raise error
        self.outcome.failures[step.id] = error
        gone: Iterable[StepId] = dependents(self._graph, [step.id]) if self._options.keep_going else tuple(waiting)
        self._skip([missed for missed in gone if missed in waiting], waiting, f"{step.id} failed")

    # One step ---------------------------------------------------------------------------------------------------------

    def _execute(self, step: Step, began: float | None = None) -> StepResult:
        ready = self._reused_or_decided(step)
        if isinstance(ready, StepResult):
            return ready
        return self._rebased(ready) or self._built(ready, began)

    def _reused_or_decided(self, step: Step) -> StepResult | Decision:
        """Reuse a step if possible; otherwise return the decision to build it."""
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
        return decision

    def _decide(self, step: Step) -> Decision:
        planned = self._planned[step.id]
        if planned.cached_record is not None and not any(self.outcome.results[need].built for need in step.needs):
            return planned
        return self._services.planner.with_fresh_inputs().plan_step(step, self._inputs.facts(step))

    def _reused(self, result: StepResult) -> StepResult:
        record = self._tested(result) if result.step.test or result.step.traced else result.record
        result = replace(result, record=record)
        started = time.monotonic()
        try:
            self._reports.warn(result.step, record, reused=True)
        except NotProvenError as error:
            self._reports.failed(result.step, started, error)
            raise
        self._services.before_name(result)
        if self._tags.get(result.step.reference) != record.image:
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
        self._reports.started(step, "test")
        try:
            record = self._services.finisher.tested(step, image, result.record, self._inputs.images(step)[1])
        except ChainbuildError as error:
            self._reports.failed(step, started, error)
            raise
        self._services.records.write(step.repository, record)
        return record

    def _built(self, decision: Decision, began: float | None = None) -> StepResult:
        """Build a step. `began`: the monotonic time at which it was reported as started, if it was."""
        step, started = decision.step, time.monotonic() if began is None else began
        if began is None:
            self._reports.started(step)
        try:
            record = self._build(step, decision.components, started)
        except ChainbuildError as error:
            self._reports.failed(step, started, error)
            raise
        return self._reports.finished(step, record)

    def _build(self, step: Step, components: Components | None, started: float) -> Record:
        # Imported late: most runs build nothing.
        from chainbuild.builder.handed_files import with_handed

        services, facts = self._services, self._inputs.facts(step)
        if components is None:  # a pinned step whose image is damaged
            components = services.planner.with_fresh_inputs().components(step, facts)
        pinned, images = self._inputs.images(step)
        spec = self._spec(step, pinned, images, facts)
        files = services.planner.with_fresh_inputs().context_files(step, facts) if step.handed else ()
        with with_handed(step, spec, files, images, services.registries, self._emit) as whole_spec:
            image = self._run_build(step, whole_spec, images)
        return self._recorded(step, components, spec, image, images, started)

    def _spec(
        self,
        step: Step,
        pinned: Mapping[str, str],
        images: Mapping[str, RemoteImage],
        facts: Mapping[StepId, ImageFacts],
    ) -> BuildSpec:
        """Make a step ready for the builder, alone or in a group. `facts` are those of its parent steps."""
        if step.text is not None:
            step.dockerfile.write_bytes(step.text)
        spec = build_spec_for(
            step,
            pinned,
            image=str(staging_reference(step)),
            sent=self._services.planner.with_fresh_inputs().sent(step, facts),
            extra=stage_args(step, *of_chain(step, images)),
        )
        if self._services.planner.updates(step.id):
            # What the builder has cached was made with the older lists of packages.
            spec = replace(spec, no_cache=True)
        return self._services.acceleration.applied(step, spec)

    def _recorded(
        self,
        step: Step,
        components: Components,
        spec: BuildSpec,
        image: RemoteImage,
        images: Mapping[str, RemoteImage],
        started: float,
    ) -> Record:
        """Finish, record and tag the image that the builder made. `images` are those that it was built from."""
        services = self._services
        self._emit(events.StepPhase(step=step.id, phase="check"))
        labelled = step.kind is StepKind.PRODUCE or step.post_build_labels
        provenance = self._inputs.provenance(step, components.key) if labelled else ()
        finished_image = services.finisher.finish(step, spec, image, images, provenance)
        image = finished_image.image
        parent = images.get(step.parent)
        updates = services.planner.updates(step.id)
        refreshed = {REFRESHED: updates} if updates else {}
        notes = {
            **finished_image.notes,
            **refreshed,
            **services.acceleration.notes(step),
            **self._builds.notes(step.id),
        }
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
            notes={**services.notes(), **image_notes(step, images), "dockerfile": spec.shown, **notes},
            parents=self._inputs.keys(step),
        )
        # Write the record just before the tag: a run killed in between only repeats the build or the tag.
        if change := self._input_change(step, components):
            text = f"{step.id}: its inputs {change}, so the result will not be reused"
            self._emit(events.Message(level="warning", text=text))
        else:
            services.records.write(step.repository, record)
        self._reports.warn(step, record)
        services.before_name(StepResult(step=step, record=record, built=True))
        put_tag(services.registries, step.reference, image.digest, known=image.manifest)
        return record

    def _input_change(self, step: Step, components: Components) -> str:
        """Return how the inputs changed during the build, so that the key does not match the image; empty if not."""
        try:
            now = self._services.planner.with_fresh_inputs().components(step, self._inputs.facts(step))
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
            from chainbuild.images.compose_layers import FILES, join

            dockerfile = parse(step.text, spec.shown)
            return join(self._services.registries, images[step.parent], images[FILES], dockerfile, staging)
        try:
            built = self._builds.build(spec)
        except BuildFailedError:
            self.outcome.failed_builds[step.id] = (spec,)
            raise
        if built.digest is None:
            raise ChainbuildError(f"{step.id}: the builder returned no image")
        return resolve(self._services.registries, staging.with_digest(built.digest), step.platform)
