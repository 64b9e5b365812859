"""The views of a run: plain lines, a live view, or JSON lines. `emit` takes events from any thread.

Views are context managers: however a run ends, the terminal is restored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from chainbuild import events
from chainbuild.step_id import StepId
from chainbuild.text import duration, going_on, short_instruction
from chainbuild.ui.board import Board
from chainbuild.ui.event_lines import happening, log_line, prefix
from chainbuild.ui.layout import Frame, live_lines
from chainbuild.ui.summary import closing_lines, failure_lines, opening_lines, result_lines, step_table, summed_warnings
from chainbuild.ui.terminal import Line, Span, Terminal

if TYPE_CHECKING:
    from chainbuild.ui.screen import Screen

HEARTBEAT_SECONDS: Final = 60.0
_BEAT_CHECK_SECONDS: Final = 5.0
_DOING: Final = 120
"""The most columns of an instruction in a line; the log has all of it."""
_HEARTBEAT_DOING: Final = 40

Clock = Callable[[], float]


class View(Protocol):
    """A listener that shows a run."""

    def emit(self, event: events.Event) -> None:
        """Take an event. Thread-safe."""

    def shown_tails(self) -> frozenset[tuple[str, ...]]:
        """Return the log tails that were already shown, so that an error need not repeat them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonView:
    """Write each event as one line of JSON to stdout, and nothing else."""

    def __init__(self, out: Terminal) -> None:
        self._out = out

    def emit(self, event: events.Event) -> None:
        self._out.write_raw(event.as_json_line() + "\n")

    def shown_tails(self) -> frozenset[tuple[str, ...]]:
        return frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is no state to restore."""


class _BoardView:
    """What the views for people share: a board, and the summary at the end."""

    def __init__(self, out: Terminal, err: Terminal, *, verbosity: int = 0, clock: Clock = time.time) -> None:
        self.out, self.err = out, err
        self.board = Board()
        self.lock = threading.RLock()
        self._verbosity = verbosity
        self._clock = clock
        self._tails: set[tuple[str, ...]] = set()
        self._began = clock()
        self._has_summary = False

    def shown_tails(self) -> frozenset[tuple[str, ...]]:
        return frozenset(self._tails)

    def __enter__(self) -> Self:
        return self

    def _sum_up(self) -> None:
        with self.lock:
            self._tails |= write_summary(self.board, self.out, self.err, self._clock())
            self._has_summary = True

    def _close(self) -> None:
        """Print how the run ended: last of all, because the user also waits for the registry to stop."""
        if not self._has_summary:
            return
        with self.lock:
            now, finished = self._clock(), self.board.finished
            ran = finished.seconds if finished else now - self.board.started_at
            self.err.write(closing_lines(self.board, max(now - self._began, ran)))
            self._has_summary = False


class PlainView(_BoardView):
    """Print a line per event, for pipes and CI; with `verbosity` 1 or more also the build output.

    A step without output for a minute gets a heartbeat line, because some CI systems end silent jobs.
    """

    def __init__(self, out: Terminal, err: Terminal, *, verbosity: int = 0, clock: Clock = time.time) -> None:
        super().__init__(out, err, verbosity=verbosity, clock=clock)
        self._last_line_at: dict[StepId, float] = {}
        self._reported: set[tuple[StepId, str]] = set()
        self._end = threading.Event()
        self._heart: threading.Thread | None = None

    def emit(self, event: events.Event) -> None:
        with self.lock:
            self.board.apply(event)
            if isinstance(event, events.StepStarted):
                self._start_heart()
            lines = self._lines(event)
            if lines and (step := getattr(event, "step", None)) is not None:
                self._last_line_at[step] = self._clock()
            if lines:
                self.err.write(lines)
        if isinstance(event, events.RunFinished):
            self._stop_heart()
            self._sum_up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print the summary even if the run did not finish, and how the run ended."""
        self._stop_heart()
        if self.board.finished is None and any(row.started_at for row in self.board.rows.values()):
            self._sum_up()
        self._close()

    def beat(self) -> None:
        """Print a heartbeat line for each running step without output for a minute."""
        with self.lock:
            now = self._clock()
            for row in self.board.rows.values():
                last_line_at = self._last_line_at.get(row.step, row.started_at)
                if row.state == "running" and now - last_line_at >= HEARTBEAT_SECONDS:
                    self._last_line_at[row.step] = now
                    doing = f", {short_instruction(row.doing, _HEARTBEAT_DOING)}" if row.doing else ""
                    expected = f", expected {duration(row.expected)}" if row.expected else ""
                    elapsed = duration(row.elapsed(now))
                    self.err.write(
                        [(*prefix(row.step), Span(f"still {going_on(row.activity)}, {elapsed}{doing}{expected}"))]
                    )

    def _lines(self, event: events.Event) -> Sequence[Line]:
        match event:
            case events.RunStarted():
                return opening_lines(self.board)
            case events.StepProgress():
                return self._progress(event)
            case events.LogLine():
                if self._verbosity < 1:
                    return ()
                return [log_line(event, self.board.row(event.step))]
            case _:
                return happening(event, self.board)

    def _progress(self, event: events.StepProgress) -> Sequence[Line]:
        """Report each instruction once: the builder alternates between those that run in parallel."""
        if (event.step, event.doing) in self._reported or not event.doing:
            return ()
        self._reported.add((event.step, event.doing))
        elapsed = duration(self.board.row(event.step).elapsed(event.at))
        return [(*prefix(event.step), Span(f"{elapsed} ", "dim"), Span(short_instruction(event.doing, _DOING)))]

    def _start_heart(self) -> None:
        if self._heart is None:
            self._heart = threading.Thread(target=self._live_on, name="heartbeat", daemon=True)
            self._heart.start()

    def _live_on(self) -> None:
        while not self._end.wait(_BEAT_CHECK_SECONDS):
            self.beat()

    def _stop_heart(self) -> None:
        self._end.set()
        if self._heart is not None and self._heart is not threading.current_thread():
            self._heart.join()


class LiveView(_BoardView):
    """Redraw a table of all steps at the bottom of a terminal, and print important lines above it."""

    def __init__(self, out: Terminal, err: Terminal, *, verbosity: int = 0, clock: Clock = time.time) -> None:
        super().__init__(out, err, verbosity=verbosity, clock=clock)
        # The lock is not held while writing to the screen, whose own thread takes it.
        self._screen: Screen | None = None
        self._ended = False

    def emit(self, event: events.Event) -> None:
        with self.lock:
            self.board.apply(event)
            lines = self._lines(event)
            if isinstance(event, events.StepStarted) and self._screen is None and not self._ended:
                self._open_screen()
            screen = self._screen
        if lines and screen:
            screen.above(self._fit(lines))
        elif lines:
            self.err.write(lines)
        if isinstance(event, events.RunFinished):
            self._close_screen()
            self._sum_up()

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the live part for the current size of the terminal."""
        frame = Frame(width=width, height=height, now=self._clock(), unicode=self.err.unicode)
        with self.lock:
            return list(self._fit(live_lines(self.board, frame)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        worked = self._screen is not None
        self._close_screen()
        if self.board.finished is None and worked:
            self._sum_up()
        self._close()

    def _lines(self, event: events.Event) -> Sequence[Line]:
        """Return the lines that must stay visible above the live part; the live part shows the rest."""
        match event:
            case events.Message() | events.StepFailed() | events.StepWarnings():
                return happening(event, self.board)
            case events.Verdict(passed=False):
                return happening(event, self.board)
            case events.LogLine() if self._verbosity >= 1:
                return [log_line(event, self.board.row(event.step))]
            case _:
                return ()

    def _fit(self, lines: Sequence[Line]) -> Sequence[Line]:
        return [tuple(Span(self.err.fit(span.text), span.style) for span in line) for line in lines]

    def _open_screen(self) -> None:
        from chainbuild.ui.screen import Screen

        self._screen = Screen(self.err.stream, self.draw)
        self._screen.start()

    def _close_screen(self) -> None:
        with self.lock:
            screen, self._screen, self._ended = self._screen, None, True
        if screen:
            screen.stop()


def write_summary(board: Board, out: Terminal, err: Terminal, now: float) -> set[tuple[str, ...]]:
    """Write the summary to stderr and the result to stdout. Return the log tails that were shown."""
    tails = set()
    for row in board.rows.values():
        if row.state == "failed":
            tail = row.tail()
            tails.add(tail)
            err.write([(), *failure_lines(f"{row.step} failed: {row.message}", tail, row.log_path, err.width)])
    if board.rows:
        err.write([(), *step_table(board, now, err.width), ()])
        if board.warnings:
            err.write([*summed_warnings(board), ()])
    if board.finished and board.finished.results:
        out.write(result_lines(board.finished.results))
        if out.is_terminal:
            err.write([()])
    return tails
