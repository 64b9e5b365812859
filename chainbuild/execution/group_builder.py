"""Build a group of steps in one solve, and finish each image as soon as it was pushed, while the solve goes on.

A step's key is computed when its parent's image is known, as for a step that is built alone. If the step can be reused then,
or its inputs are not those that were sent to the builder, the solve is stopped, and the rest of the group is left for later.
An image is recorded only if its layers begin with those of its parent's image.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from msgspec import Struct

from chainbuild import events
from chainbuild.builder.build_spec import BuildSpec, SolveFailed, staging_reference
from chainbuild.errors import ChainbuildError, WrongUseError
from chainbuild.execution.groups import Member, chosen
from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.execution.running import Postponed, Results
from chainbuild.execution.services import ExecutionServices
from chainbuild.execution.step_inputs import StepInputs
from chainbuild.execution.step_reports import StepReports
from chainbuild.model import Step
from chainbuild.planning.decisions import Decision, ImageFacts
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.references import Digest
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from chainbuild.values import replace

_Spec = Callable[[Step, Mapping[str, str], Mapping[str, RemoteImage], Mapping[StepId, ImageFacts]], BuildSpec]
_Recorded = Callable[[Step, Components, BuildSpec, RemoteImage, Mapping[str, RemoteImage], float], Record]


class StepWork(Struct, frozen=True, kw_only=True):
    """What the executor does with a single step, for the steps of a group."""

    reuse_or_decide: Callable[[Step], StepResult | Decision]
    execute: Callable[[Step, float | None], StepResult]
    """Executes a step alone. The monotonic time at which it was reported as started is given, if it was."""
    built: Callable[[Decision], StepResult]
    decide: Callable[[Step], Decision]
    inputs: StepInputs
    spec: _Spec
    recorded: _Recorded
    reports: StepReports
    fits: Callable[[Sequence[StepId]], bool]
    newest: Callable[[StepId], Record | None]
    tries_again: Callable[[BuildSpec, ChainbuildError], bool]
    """Returns whether a step that failed in a solve is to be built once more."""


class GroupBuilder:
    """Builds groups of steps; several threads may do so at once."""

    def __init__(self, services: ExecutionServices, outcome: RunOutcome, work: StepWork) -> None:
        self._services = services
        self._outcome = outcome
        self._work = work
        self._unable = threading.Event()

    def run(self, steps: Sequence[Step], results: Results) -> None:
        """Execute the first step, and those that can be built with it. Sets every result; others are postponed."""
        run = _Run(self._outcome, steps, results)
        try:
            first = self._work.reuse_or_decide(steps[0])
            if isinstance(first, Decision):
                members = self._members(steps, first)
                specs = self._specs(members)
                if len(specs) > 1:
                    self._solve(members[: len(specs)], specs, run)
                    return
                first = self._work.built(first)
            run.settle(first)
        except ChainbuildError as error:
            run.fail(error)
        finally:
            run.postpone()

    def _members(self, steps: Sequence[Step], first: Decision) -> tuple[Member, ...]:
        if self._unable.is_set() or not self._services.driver.links(first.step.platform):
            return ()
        return chosen(
            steps,
            first,
            self._work.inputs.facts(first.step),
            self._services.planner.with_fresh_inputs(),
            newest=self._work.newest,
            fits=self._work.fits,
        )

    def _specs(self, members: Sequence[Member]) -> list[BuildSpec]:
        """Return the builds of the members, or of the first ones if a Dockerfile was changed meanwhile."""
        specs: list[BuildSpec] = []
        for member in members:
            step = member.step
            # The parent of a linked step is still to be built; its other images exist.
            pinned, images = self._work.inputs.images(step, without=step.parent if member.context else "")
            if member.context:
                pinned[step.parent] = member.context
            try:
                spec = self._work.spec(step, pinned, images, member.parents)
            except WrongUseError:
                break  # reported when the step itself is built
            specs.append(replace(spec, parent=member.context))
        return specs

    def _solve(self, members: Sequence[Member], specs: Sequence[BuildSpec], run: _Run) -> None:
        solve = _Solve(self._services, self._work, members, specs, run)
        failure = solve.follow()
        if solve.trouble:
            self._give_up(solve.trouble)
        if failure is None:
            return
        if failure.place is None or failure.place < run.ended or failure.transient:
            if self._work.reports.stopping:
                solve.fail(failure.error)
            run.settle(solve.alone())
            if not failure.transient:
                self._give_up(failure.error.message)
            return
        # What stands below the failed step is in the builder's cache, even if it was not pushed yet.
        while run.ended < failure.place:
            run.settle(solve.alone())
            if not solve.goes_on():
                return
        if self._work.tries_again(specs[failure.place], failure.error):
            run.settle(solve.alone())
            return
        self._outcome.failed_builds[specs[failure.place].step] = tuple(specs[: failure.place + 1])
        solve.fail(failure.error)

    def _give_up(self, reason: str) -> None:
        if not self._unable.is_set():
            self._unable.set()
            text = f"steps are built one at a time: the builder could not build several in one solve ({reason})"
            self._services.emit(events.Message(level="note", text=text))


class _Run:
    """The results of a group's steps, which are set in order."""

    def __init__(self, outcome: RunOutcome, steps: Sequence[Step], results: Results) -> None:
        self._outcome = outcome
        self._steps = steps
        self._results = results
        self.ended = 0
        """The number of steps that have ended."""

    def settle(self, result: StepResult) -> None:
        """Set the result of the next step, on which the step after it is built."""
        self._outcome.results[result.step.id] = result
        self._results[self.ended].set_result(result)
        self.ended += 1

    def fail(self, error: ChainbuildError) -> None:
        """Set the failure of the next step, and postpone those after it."""
        failed = self.ended
        self.ended += 1
        self.postpone()
        self._results[failed].set_exception(error)

    def postpone(self) -> None:
        """Leave the steps that have not ended for later."""
        for result in self._results[self.ended :]:
            result.set_exception(Postponed())
        self.ended = len(self._results)


class _Solve:
    """One solve of a group."""

    def __init__(
        self,
        services: ExecutionServices,
        work: StepWork,
        members: Sequence[Member],
        specs: Sequence[BuildSpec],
        run: _Run,
    ) -> None:
        self._services = services
        self._work = work
        self._members = members
        self._specs = specs
        self._run = run
        self._components = members[0].components
        self._places = {member.step.id: place for place, member in enumerate(members)}
        self._started: dict[int, tuple[float, float]] = {}
        self._made: dict[StepId, RemoteImage] = {}
        """The image of the step that has ended last."""
        self._shown = -1
        self._held: list[list[events.Event]] = [[] for _ in members]
        self._lock = threading.Lock()
        self.trouble = ""
        """Why the result of the solve is no result of its steps; empty if it is."""

    def follow(self) -> SolveFailed | None:
        """Run the solve, and finish its images in order. Returns the builder's failure, if any.

        Errors: those of finishing an image.
        """
        specs = self._specs
        pushed: dict[int, Digest] = {}
        with closing(self._services.driver.solve(specs, self._emit, self._begins)) as solve:
            for event in solve:
                if isinstance(event, SolveFailed):
                    # Nothing is missing if the solve fails after the last image.
                    return event if self._run.ended < len(self._members) else None
                pushed[event.place] = event.digest
                while self._run.ended in pushed:
                    place = self._run.ended
                    if not self._finish(place, specs[place], pushed[place]):
                        return None
                    if self._run.ended < len(self._members) and not self.goes_on():
                        return None
        return None

    def goes_on(self) -> bool:
        """Decide about the next step, whose parent has ended. Return whether it is what the builder builds."""
        member = self._members[self._run.ended]
        if self._work.reports.stopping or not self._work.fits([member.step.id]):
            return False
        decision = self._work.decide(member.step)
        if decision.cached_record is not None or decision.components is None:
            return False
        self._components = decision.components
        if not member.agrees(decision.components):
            return False
        self._show(self._run.ended)
        return True

    def alone(self) -> StepResult:
        """Execute the next step alone, after the solve has failed."""
        place = self._run.ended
        return self._work.execute(self._members[place].step, self._began(place)[0] if place <= self._shown else None)

    def fail(self, error: ChainbuildError) -> None:
        """Report the failure of the next step. Errors: always this one."""
        place = self._run.ended
        self._work.reports.failed(self._members[place].step, self._began(place)[0], error)
        raise error

    def _begins(self, place: int) -> None:
        self._started[place] = (time.monotonic(), time.time())
        if place == 0:
            self._show(place)

    def _began(self, place: int) -> tuple[float, float]:
        """Return when a build began, as monotonic and as wall-clock time."""
        return self._started.get(place) or (time.monotonic(), time.time())

    def _show(self, place: int) -> None:
        """Report that a step has started, and what its build has reported so far.

        It may still be reused until its parent's image is known, so nothing is reported before that.
        """
        with self._lock:
            if place > self._shown:
                self._shown = place
                self._work.reports.started(self._members[place].step, at=self._began(place)[1])
                for event in self._held[place]:
                    self._services.emit(event)
                self._held[place].clear()

    def _emit(self, event: events.Event) -> None:
        step = getattr(event, "step", None)
        place = self._places.get(step, -1) if isinstance(step, StepId) else -1
        with self._lock:
            if place <= self._shown:
                self._services.emit(event)
            elif not isinstance(event, events.StepProgress):
                self._held[place].append(event)

    def _finish(self, place: int, spec: BuildSpec, digest: Digest) -> bool:
        """Finish an image that was pushed. Return whether it is the result of its step, on which others can be built."""
        step, components = self._members[place].step, self._components
        try:
            image = resolve(self._services.registries, staging_reference(step).with_digest(digest), step.platform)
            _, images = self._work.inputs.images(step, known=self._made)
            if place and not _is_on(image, images[step.parent]):
                self.trouble = f"the layers of {step.id} do not begin with those of its parent"
                return False
            record = self._work.recorded(step, components, spec, image, images, self._began(place)[0])
        except ChainbuildError as error:
            self.fail(error)
        self._made = {step.id: image}
        self._run.settle(self._work.reports.finished(step, record))
        return record.image == digest


def _is_on(image: RemoteImage, parent: RemoteImage) -> bool:
    """Return whether an image is built on its parent: its layers begin with the parent's, packed and unpacked."""
    count, contents = len(parent.layers), len(parent.config.diff_ids)
    return [layer.digest for layer in image.layers[:count]] == [
        layer.digest for layer in parent.layers
    ] and image.config.diff_ids[:contents] == parent.config.diff_ids
