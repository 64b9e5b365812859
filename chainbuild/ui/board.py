"""Where every step of a run stands, from the events so far. No screen, no clock: the views read it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.progress import LogTail
from chainbuild.text import past

State = Literal["waiting", "running", "done", "reused", "failed", "skipped"]


class Row(Struct, kw_only=True):
    """A step and what is known of it now. Times are seconds since the epoch or seconds, sizes bytes."""

    step: str
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
    tails: dict[str, LogTail] = field(default_factory=dict)
    """What the vertices printed last; the one that printed last of all comes last."""

    @property
    def group(self) -> str:
        """`platform/option`: what is shown under one heading."""
        return self.step.rpartition("/")[0]

    @property
    def name(self) -> str:
        """`NN-descriptor`, or the stage."""
        return self.step.rpartition("/")[2]

    @property
    def platform(self) -> str:
        return self.step.partition("/")[0]

    @property
    def done_word(self) -> str:
        """How it ended: `built`, `minimized`, `reused`, `failed`, `skipped`; else `waiting` or `running`."""
        if self.state != "done":
            return self.state
        return past(self.activity if self.action in {"", "reuse"} else self.action)

    @property
    def over(self) -> bool:
        return self.state not in {"waiting", "running"}

    def elapsed(self, now: float) -> float:
        """Seconds of work on it; still counting while it runs."""
        return max(now - self.started_at, 0.0) if self.state == "running" else self.seconds

    def tail(self) -> tuple[str, ...]:
        """The last lines of the instruction that printed last: the one that failed, the others were cancelled."""
        # Lines of no instruction are the client's own: what it says of a failure quotes the file, not the output.
        vertex = next((name for name in reversed(self.tails) if name), "")
        return self.tails[vertex].lines() if vertex in self.tails else ()

    def heard(self, event: events.LogLine) -> None:
        """Take in a line."""
        self.last_line = event.text
        tail = self.tails.pop(event.vertex, None) or LogTail()
        tail.add(event.text, stderr=event.stream == "stderr")
        self.tails[event.vertex] = tail


class Board(Struct, kw_only=True):
    """All steps of a run in the plan's order. Not thread-safe: a view guards it."""

    rows: dict[str, Row] = field(default_factory=dict)
    started_at: float = 0.0
    log_folder: Path | None = None
    finished: events.RunFinished | None = None
    warnings: dict[str, events.StepWarnings] = field(default_factory=dict)
    """The warnings of each step that has some, as they came last."""

    def row(self, step: str) -> Row:
        """The row of a step; one that the plan did not announce is added."""
        if step not in self.rows:
            self.rows[step] = Row(step=step)
        return self.rows[step]

    def groups(self) -> dict[str, list[Row]]:
        """The rows under `platform/option`, both in the order of the plan."""
        found: dict[str, list[Row]] = {}
        for row in self.rows.values():
            found.setdefault(row.group, []).append(row)
        return found

    def count(self, *states: State) -> int:
        return sum(row.state in states for row in self.rows.values())

    def remaining(self, now: float) -> float | None:
        """Seconds that the rest should take, platforms side by side; None where a step to do was never timed."""
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
        """Take in what happened."""
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
                if not row.over:  # a builder's last words may come after the step failed
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
        """A step that is worked on a second time (built, later published) counts on from the seconds it had."""
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
