"""The timeline of a run, computed from its events: for each step its phases, what it waited for, and how it ended.

Times are seconds since the epoch. A run that was killed, or still goes on, ends with its last event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, field

from chainbuild import events
from chainbuild.run_report.journal import Journal
from chainbuild.step_id import StepId

State = Literal["done", "reused", "failed", "skipped", "stopped", "waiting"]
"""How a step ended: `stopped` if the run ended during its work, `waiting` if the run ended before it."""
Outcome = Literal["succeeded", "failed", "interrupted", "unfinished"]

BUILD: Final = "build"
CHECK: Final = "check"
WAIT: Final = "wait"
PHASES: Final = (WAIT, BUILD, "export", "push", CHECK)
_TESTS: Final = frozenset({"test", "verify", "trace"})
"""Activities that check an image instead of building it."""
_SHORTEST_WAIT: Final = 0.05


class Span(Struct, frozen=True, kw_only=True):
    """A piece of time. `name` is one of `PHASES`, or that of a phase of the run."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The length, 0 if the clock was set back meanwhile."""
        return max(self.end - self.start, 0.0)


class Wait(Struct, frozen=True, kw_only=True):
    """A time in which a step waited: for another step, or for a reason in words if `step` is None."""

    span: Span
    step: StepId | None = None
    reason: str = ""


class StepTimeline(Struct, kw_only=True):
    """A step of a run. `number` is its place in the plan, from 0; sizes are bytes."""

    step: StepId
    number: int
    action: str = ""
    reason: str = ""
    expected: float | None = None
    needs: tuple[StepId, ...] = ()
    state: State = "waiting"
    activity: str = ""
    spans: list[Span] = field(default_factory=list)
    """The phases of its work, in order of time; without `wait`."""
    waits: tuple[Wait, ...] = ()
    ended: float | None = None
    image: str = ""
    digest: str = ""
    size: int = 0
    added: int = 0
    saved: float = 0.0
    message: str = ""
    log_path: Path | None = None
    verdicts: list[events.Verdict] = field(default_factory=list)
    warnings: events.StepWarnings | None = None
    tail: tuple[str, ...] = ()

    @property
    def started(self) -> float | None:
        """When work on it began; None if it never did."""
        return self.spans[0].start if self.spans else None

    @property
    def seconds(self) -> float:
        """The time of work on it."""
        return sum(span.seconds for span in self.spans)

    @property
    def waited(self) -> float:
        """The time between the beginning of the run and its own, in which it waited for something."""
        return sum(wait.span.seconds for wait in self.waits)

    def seconds_of(self, phase: str) -> float:
        """Return the time of a phase."""
        return self.waited if phase == WAIT else sum(span.seconds for span in self.spans if span.name == phase)


class Timeline(Struct, frozen=True, kw_only=True):
    """A run."""

    started: float
    """When the first event was emitted; the plan was made before `planned`."""
    planned: float
    ended: float
    outcome: Outcome
    message: str
    steps: Mapping[StepId, StepTimeline]
    phases: tuple[Span, ...]
    """What the run did after its steps: `index`, `push`, `load`."""
    results: tuple[events.ImageResult, ...]
    messages: tuple[events.Message, ...]
    log_folder: Path | None
    damaged: int

    @property
    def seconds(self) -> float:
        """The duration of the run."""
        return max(self.ended - self.started, 0.0)

    def count(self, *states: State) -> int:
        """Return the number of steps that ended so."""
        return sum(step.state in states for step in self.steps.values())

    def by_platform(self) -> Mapping[str, tuple[StepTimeline, ...]]:
        """Return the steps by platform, in the order of the plan."""
        groups: dict[str, tuple[StepTimeline, ...]] = {}
        for step in self.steps.values():
            groups[step.step.platform] = (*groups.get(step.step.platform, ()), step)
        return groups

    def longest_path(self) -> tuple[StepTimeline, ...]:
        """Return the steps that decided how long the run took: the one that ended last, and what each one waited for."""
        worked = [step for step in self.steps.values() if step.spans]
        current = max(worked, key=lambda step: step.spans[-1].end, default=None)
        path: list[StepTimeline] = []
        while current is not None and current not in path:
            path.append(current)
            below = [self.steps[need] for need in current.needs if need in self.steps and self.steps[need].spans]
            current = max(below, key=lambda step: step.spans[-1].end, default=None)
        return tuple(reversed(path))


def timeline_of(journal: Journal) -> Timeline:
    """Return the timeline of a run."""
    # A build of several steps in one solve reports some events late, with the time at which they happened.
    ordered = sorted(journal.events, key=lambda event: event.at)
    started, last = ordered[0].at, ordered[-1].at
    run = _Run()
    for event in ordered:
        run.apply(event)
    for step in run.steps.values():
        _close(step, last)
        if step.state == "waiting" and step.spans:
            step.state = "stopped"
        step.tail = journal.tails.get(step.step, ())
    run.close_phase(last)
    planned = run.planned if run.planned is not None else started
    _add_waits(run.steps, planned)
    return Timeline(
        started=started,
        planned=planned,
        ended=last,
        outcome=run.outcome,
        message=run.message,
        steps=run.steps,
        phases=tuple(run.phases),
        results=run.results,
        messages=tuple(event for event in ordered if isinstance(event, events.Message)),
        log_folder=run.log_folder,
        damaged=journal.damaged,
    )


class _Run(Struct, kw_only=True):
    """The state of a run while its events are applied in order of time."""

    steps: dict[StepId, StepTimeline] = field(default_factory=dict)
    planned: float | None = None
    outcome: Outcome = "unfinished"
    message: str = ""
    phases: list[Span] = field(default_factory=list)
    results: tuple[events.ImageResult, ...] = ()
    log_folder: Path | None = None

    def step(self, step: StepId) -> StepTimeline:
        """Return a step, which the plan need not have announced."""
        return self.steps.setdefault(step, StepTimeline(step=step, number=len(self.steps)))

    def apply(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self.planned, self.log_folder = event.at, event.log_folder
                for planned in event.steps:
                    step = self.step(planned.step)
                    step.action, step.reason, step.image = planned.action, planned.reason, planned.image
                    step.expected, step.needs = planned.expected_seconds, planned.needs
            case events.RunPhase():
                self.close_phase(event.at)
                self.phases.append(Span(name=event.phase, start=event.at, end=event.at))
            case events.RunFinished():
                self.outcome = "succeeded" if event.succeeded else "failed"
                self.results = event.results
            case events.RunFailed():
                self.outcome = "interrupted" if event.interrupted else "failed"
                self.message = event.message
            case _:
                self._apply_to_step(event)

    def close_phase(self, at: float) -> None:
        """End the phase of the run that is open."""
        if self.phases and self.phases[-1].end == self.phases[-1].start:
            self.phases[-1] = Span(name=self.phases[-1].name, start=self.phases[-1].start, end=at)

    def _apply_to_step(self, event: events.Event) -> None:
        match event:
            case events.StepStarted():
                step = self.step(event.step)
                _close(step, event.at)
                step.activity, step.log_path = event.activity, event.log_path or step.log_path
                step.spans.append(_open(CHECK if event.activity in _TESTS else BUILD, event.at))
                step.ended, step.state = None, "waiting"
            case events.StepPhase():
                step = self.step(event.step)
                if step.ended is None and step.spans:
                    _close(step, event.at)
                    step.spans.append(_open(event.phase, event.at))
            case events.StepFinished() | events.StepReused():
                step = self._end(event.step, event.at, "done" if isinstance(event, events.StepFinished) else "reused")
                step.image, step.digest = event.image, event.digest
                step.size, step.added = event.size or step.size, event.added or step.added
                if isinstance(event, events.StepReused):
                    step.saved = event.saved_seconds
            case events.StepFailed():
                self._end(event.step, event.at, "failed").message = event.message
            case events.StepSkipped():
                began = self.step(event.step).spans
                self._end(event.step, event.at, "stopped" if began else "skipped").message = event.reason
            case events.Verdict():
                self.step(event.step).verdicts.append(event)
            case events.StepWarnings():
                self.step(event.step).warnings = event
            case _:
                return

    def _end(self, step: StepId, at: float, state: State) -> StepTimeline:
        ended = self.step(step)
        _close(ended, at)
        ended.state, ended.ended = state, at
        return ended


_OPEN: Final = -1.0


def _open(name: str, at: float) -> Span:
    return Span(name=name, start=at, end=_OPEN)


def _close(step: StepTimeline, at: float) -> None:
    """End the phase of a step that is open."""
    if step.spans and step.spans[-1].end == _OPEN:
        last = step.spans[-1]
        step.spans[-1] = Span(name=last.name, start=last.start, end=max(at, last.start))


# What steps waited for ------------------------------------------------------------------------------------------------


def _add_waits(steps: Mapping[StepId, StepTimeline], planned: float) -> None:
    """Set what each step that was started waited for since the plan was made.

    Journals of earlier versions do not say what a step needs, and so not what it waited for.
    """
    if not any(step.needs for step in steps.values()):
        return
    began = min((step.started for step in steps.values() if step.started is not None), default=planned)
    for step in steps.values():
        if step.started is not None:
            step.waits = tuple(_waits(step, [steps[need] for need in step.needs if need in steps], planned, began))


def _waits(step: StepTimeline, needs: Sequence[StepTimeline], planned: float, began: float) -> Iterable[Wait]:
    """Yield the waits of a step: for the preparation of the run, for its needs, then for a free job."""
    start = step.started or planned
    last = max((need for need in needs if need.ended is not None), key=lambda need: need.ended or 0.0, default=None)
    ready = max(planned, min(last.ended or planned, start)) if last else planned
    if last is not None and ready - planned >= _SHORTEST_WAIT:
        yield Wait(span=Span(name=WAIT, start=planned, end=ready), step=last.step)
    elif min(began, start) - ready >= _SHORTEST_WAIT:
        yield Wait(span=Span(name=WAIT, start=ready, end=min(began, start)), reason="the preparation of the run")
        ready = min(began, start)
    if start - ready >= _SHORTEST_WAIT:
        yield Wait(span=Span(name=WAIT, start=ready, end=start), reason="a free job")
