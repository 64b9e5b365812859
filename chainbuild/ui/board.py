"""The state of every step of a run, computed from its events. Without screen or clock; the views read it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.progress import StepTail
from chainbuild.step_id import StepId
from chainbuild.text import past

State = Literal["waiting", "running", "done", "reused", "failed", "skipped"]


class Row(Struct, kw_only=True):
    """A step and its current state. Times are seconds or seconds since the epoch; sizes are bytes."""

    step: StepId
    action: str = ""
    reason: str = ""
    expected: float | None = None
    state: State = "waiting"
    activity: str = ""
    doing: str = ""
    current: int = 0
    total: int = 0
    started_at: float = 0.0
    seconds: float = 0.0
    saved: float = 0.0
    size: int = 0
    added: int = 0
    image: str = ""
    message: str = ""
    log_path: Path | None = None
    last_line: str = ""
    output: StepTail = field(default_factory=StepTail)

    @property
    def group(self) -> str:
        """`platform/option`, the heading of the step's group."""
        return self.step.group

    @property
    def name(self) -> str:
        """`NN-descriptor`, or the name of the stage."""
        return self.step.short_name

    @property
    def platform(self) -> str:
        return self.step.platform

    @property
    def done_word(self) -> str:
        """The state as a word: `built`, `minimized`, `reused`, `failed`, `skipped`, `waiting` or `running`."""
        if self.state != "done":
            return self.state
        return past(self.activity if self.action in {"", "reuse", "rebase"} else self.action)

    @property
    def over(self) -> bool:
        return self.state not in {"waiting", "running"}

    def elapsed(self, now: float) -> float:
        """Return the seconds of work on the step so far."""
        return max(now - self.started_at, 0.0) if self.state == "running" else self.seconds

    def tail(self) -> tuple[str, ...]:
        """Return the last lines of the instruction that printed last."""
        return self.output.lines()

    def heard(self, event: events.LogLine) -> None:
        """Record a line of build output."""
        self.last_line = event.text
        self.output.add(event.vertex, event.text, stderr=event.stream == "stderr")


class Board(Struct, kw_only=True):
    """All steps of a run, in plan order. Not thread-safe: the view locks it."""

    rows: dict[StepId, Row] = field(default_factory=dict)
    started_at: float = 0.0
    log_folder: Path | None = None
    finished: events.RunFinished | None = None
    warnings: dict[StepId, events.StepWarnings] = field(default_factory=dict)
    """The latest warnings of each step that has any."""

    def row(self, step: StepId) -> Row:
        """Return the row of a step, adding one if the plan did not announce the step."""
        if step not in self.rows:
            self.rows[step] = Row(step=step)
        return self.rows[step]

    def groups(self) -> dict[str, list[Row]]:
        """Return the rows by `platform/option`, in plan order."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows.values():
            groups.setdefault(row.group, []).append(row)
        return groups

    def count(self, *states: State) -> int:
        return sum(row.state in states for row in self.rows.values())

    def remaining(self, now: float) -> float | None:
        """Return the expected remaining seconds (platforms run in parallel), or None if a duration is unknown."""
        per_platform: dict[str, float] = {}
        for row in self.rows.values():
            if row.over or row.action == "reuse":
                continue
            if row.expected is None:
                return None
            left = max(row.expected - row.elapsed(now), 0.0)
            per_platform[row.platform] = per_platform.get(row.platform, 0.0) + left
        return max(per_platform.values(), default=0.0)

    def apply(self, event: events.Event) -> None:
        """Apply an event."""
        if not self.started_at:
            self.started_at = event.at
        match event:
            case events.RunStarted():
                self._start(event)
            case events.LogLine():
                self.row(event.step).heard(event)
            case events.StepProgress():
                row = self.row(event.step)
                row.doing, row.current, row.total = event.doing, event.current, event.total
                if not row.over:  # the builder may still send progress after the step failed
                    self._run(row, event.at)
            case events.StepStarted():
                row = self.row(event.step)
                row.activity = event.activity
                row.doing, row.current, row.total, row.last_line = "", 0, 0, ""
                row.log_path = event.log_path or row.log_path
                self._run(row, event.at)
            case events.RunFinished():
                self.finished = event
            case events.StepWarnings():
                self.warnings[event.step] = event
            case _:
                self._end(event)

    def _start(self, event: events.RunStarted) -> None:
        self.started_at, self.log_folder = event.at, event.log_folder
        for planned in event.steps:
            row = self.row(planned.step)
            row.action, row.reason, row.expected = planned.action, planned.reason, planned.expected_seconds
            row.image = planned.image

    def _run(self, row: Row, at: float) -> None:
        """Mark a step as running. If it ran before (built, later published), its seconds continue to count."""
        if row.state != "running":
            row.state, row.started_at = "running", at - row.seconds

    def _end(self, event: events.Event) -> None:
        match event:
            case events.StepFinished():
                row = self.row(event.step)
                row.seconds = event.seconds if row.state != "running" else max(event.seconds, row.elapsed(event.at))
                row.state, row.activity = "done", event.activity
                row.image, row.size, row.added = event.image, event.size or row.size, event.added or row.added
            case events.StepReused():
                row = self.row(event.step)
                row.state, row.activity, row.saved = "reused", "reuse", event.saved_seconds
                row.image, row.size, row.added = event.image, event.size, event.added
            case events.StepFailed():
                row = self.row(event.step)
                row.state, row.seconds, row.message = "failed", event.seconds, event.message
            case events.StepSkipped():
                row = self.row(event.step)
                row.state, row.message = "skipped", event.reason
            case events.Verdict() if event.step in self.rows:
                row = self.rows[event.step]
                row.doing = f"{event.proof}: {event.summary}"
            case _:
                return
