"""Lay out the live view: the lines to show for a run, given the columns and rows of the terminal. Pure.

Everything is shown while it fits. If it does not, the finished steps collapse first, then the steps that are far from
starting, then whole idle groups, then the log lines. Running and failed steps are hidden last.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from chainbuild.step_id import StepId
from chainbuild.text import cells, clip, duration, escaped, going_on, plural, short_instruction, size, visible
from chainbuild.ui.board import Board, Row
from chainbuild.ui.summary import STATE_STYLES
from chainbuild.ui.terminal import ASCII_SPINNER, SPINNER, Line, Span, plain_text, to_ascii

_MARKS: Final = {"waiting": "·", "done": "✓", "reused": "↺", "failed": "✗", "skipped": "⊘"}
_FRAMES_PER_SECOND: Final = 4
_WIDEST_NAME: Final = 32
_LONGEST_LOG_LINE: Final = 2000
_SHORTEST_DOING: Final = 10


class _Detail(Struct, frozen=True, kw_only=True):
    """How much is shown: finished and waiting rows per group (None: all), log lines, idle groups."""

    finished: int | None = None
    waiting: int | None = None
    logs: bool = True
    resting: bool = True


_DETAILS: Final = (
    _Detail(),
    *(_Detail(finished=count) for count in (8, 4, 2, 1, 0)),
    *(_Detail(finished=0, waiting=count) for count in (8, 4, 2, 1)),
    _Detail(finished=0, waiting=0),
    _Detail(finished=0, waiting=0, resting=False),
    _Detail(finished=0, waiting=0, resting=False, logs=False),
)


class Frame(Struct, frozen=True, kw_only=True):
    """The size of the terminal, and the time to draw."""

    width: int
    height: int
    now: float
    unicode: bool = True

    @property
    def spinner(self) -> str:
        frames = SPINNER if self.unicode else ASCII_SPINNER
        return frames[int(self.now * _FRAMES_PER_SECOND) % len(frames)]


def live_lines(board: Board, frame: Frame) -> list[Line]:
    """Return the lines to show, within the height and width of the frame."""
    width, height = max(frame.width, 20), max(frame.height, 3)
    groups = board.groups()
    names = min(max((cells(escaped(row.name)) for row in board.rows.values()), default=0), _WIDEST_NAME, width // 3)
    painter = _Painter(width=width, names=names, frame=frame)
    footer = painter.footer(board)
    lines: list[Line] = []
    for detail in _DETAILS:
        lines = [line for group, rows in groups.items() for line in painter.group(group, rows, detail)]
        if len(lines) + 1 <= height:
            return [*lines, footer]
    hidden = len(lines) - (height - 2)
    more = (Span(painter.cut(f"  … and {plural(hidden, 'line')} more", width), "dim"),)
    return [*_most_telling(lines, height - 2), more, footer]


def _most_telling(lines: list[Line], count: int) -> list[Line]:
    """Return the lines of running and failed steps, then other lines up to `count`, in their original order."""
    ranks = {"busy": 0, "bad": 0}
    rank = [min((ranks.get(span.style, 1) for span in line), default=1) for line in lines]
    kept = sorted(sorted(range(len(lines)), key=lambda index: (rank[index], index))[:count])
    return [lines[index] for index in kept]


class _Painter(Struct, frozen=True, kw_only=True):
    width: int
    names: int
    frame: Frame
    painted: dict[StepId, list[Line]] = field(default_factory=dict)
    """The laid-out rows of this frame by step: each is computed once, although several detail levels are tried."""

    def cut(self, text: str, room: int) -> str:
        """Shorten a text to `room` columns, in ASCII if the terminal needs it."""
        if self.frame.unicode:
            return clip(text, room)
        return clip(to_ascii(text), room, ellipsis="...")

    def mark(self, state: str) -> str:
        mark = self.frame.spinner if state == "running" else _MARKS[state]
        return mark if self.frame.unicode else to_ascii(mark)

    def group(self, title: str, rows: list[Row], detail: _Detail) -> list[Line]:
        finished = [row for row in rows if row.state in {"done", "reused"}]
        waiting = [row for row in rows if row.state in {"waiting", "skipped"}]
        resting = not any(row.state in {"running", "failed"} for row in rows)
        lines = [self.heading(title, rows)]
        if resting and not detail.resting:
            return lines
        hidden_finished = _but_last(finished, detail.finished)
        hidden_waiting = _but_first(waiting, detail.waiting)
        hidden = {id(row) for row in (*hidden_finished, *hidden_waiting)}
        if hidden_finished:
            lines.append(self.collapsed(hidden_finished, "done"))
        for row in rows:
            if id(row) not in hidden:
                lines += self.row(row, logs=detail.logs)
        if hidden_waiting:
            lines.append(self.collapsed(hidden_waiting, "to come"))
        return lines

    def heading(self, title: str, rows: list[Row]) -> Line:
        done = sum(row.state in {"done", "reused"} for row in rows)
        failed = [Span(", failed", "bad")] if any(row.state == "failed" for row in rows) else []
        left = Span(self.cut(escaped(title) or "steps", self.width - 24), "bold")
        return self.spread([left], [Span(f"{done} of {len(rows)} done", "dim"), *failed])

    def collapsed(self, rows: list[Row], word: str) -> Line:
        mark = self.mark("done" if word == "done" else "waiting")
        names = rows[0].name if len(rows) == 1 else f"{rows[0].name} … {rows[-1].name}"
        text = self.cut(f"{len(rows)} {word}: {escaped(names)}", self.width - 5)
        return (Span(f"  {mark} ", "good" if word == "done" else "dim"), Span(text, "dim"))

    def row(self, row: Row, *, logs: bool) -> list[Line]:
        if row.step not in self.painted:
            self.painted[row.step] = self.paint_row(row)
        return self.painted[row.step] if logs else self.painted[row.step][:1]

    def paint_row(self, row: Row) -> list[Line]:
        mark, style = self.mark(row.state), STATE_STYLES[row.state]
        name = self.cut(escaped(row.name), self.names)
        name += " " * (self.names - cells(name))
        left = [
            Span(f"  {mark} ", style),
            Span(name, "dim" if row.state in {"waiting", "skipped"} else ""),
            Span("  "),
        ]
        right = self.timing(row)
        room = self.width - sum(cells(span.text) for span in (*left, *right)) - 2
        left += self.doing(row, room)
        lines = [self.spread(left, right)]
        last = visible(row.last_line[-_LONGEST_LOG_LINE:]) if row.state == "running" else ""
        if last.strip():
            lines.append((Span("      "), Span(self.cut(last.strip(), self.width - 7), "dim")))
        return lines

    def doing(self, row: Row, room: int) -> list[Span]:
        match row.state:
            case "running":
                moved = ""
                if row.current > 0:
                    moved = f"  {size(row.current)}" + (f" of {size(row.total)}" if row.total else "")
                if room - cells(moved) < _SHORTEST_DOING:
                    moved = ""
                what = short_instruction(row.doing) or going_on(row.activity)
                return [Span(self.cut(what, room - cells(moved))), Span(moved, "busy")]
            case "failed" | "skipped":
                text = f"{row.state}: {escaped(row.message)}" if row.message else row.state
                return [Span(self.cut(text, room), "bad" if row.state == "failed" else "dim")]
            case "waiting":
                return []
            case _:
                sizes = size(row.size) if row.size else ""
                added = f"(+{size(row.added)})" if row.added else ""
                return [Span(self.cut(" ".join(part for part in (row.done_word, sizes, added) if part), room), "dim")]

    def timing(self, row: Row) -> list[Span]:
        match row.state:
            case "running":
                expected = f" of ~{duration(row.expected)}" if row.expected and self.width >= 60 else ""
                return [Span(duration(row.elapsed(self.frame.now)), "busy"), Span(expected, "dim")]
            case "waiting":
                return [Span(f"~{duration(row.expected)}" if row.expected else "", "dim")]
            case "reused":
                return [Span(f"saved {duration(row.saved)}" if row.saved else "", "dim")]
            case "skipped":
                return []
            case _:
                return [Span(duration(row.seconds), "dim")]

    def footer(self, board: Board) -> Line:
        now = self.frame.now
        parts = [f"{board.count('done', 'reused')} of {plural(len(board.rows), 'step')} done"]
        if failed := board.count("failed"):
            parts.append(f"{failed} failed")
        remaining = board.remaining(now)
        if remaining and remaining >= 1:
            parts.append(f"about {duration(remaining)} left")
        if board.log_folder and self.width >= 100:
            parts.append(f"logs: {escaped(str(board.log_folder))}")
        head = duration(max(now - board.started_at, 0.0))
        return (
            Span(head, "bold"),
            Span(self.cut("  " + ", ".join(parts), self.width - len(head) - 1), "dim"),
        )

    def spread(self, left: list[Span], right: list[Span]) -> Line:
        """Return a line with text at both ends. The last column stays free, because the terminal would wrap there."""
        gap = self.width - 1 - cells(plain_text((*left, *right)))
        if not any(span.text for span in right):
            return tuple(left)
        return (*left, Span(" " * max(gap, 1)), *right)


def _but_last(rows: list[Row], count: int | None) -> list[Row]:
    """Return all but the last `count` rows; nothing if that is a single row, since hiding it would save no line."""
    hidden = [] if count is None else rows[: len(rows) - count] if count else rows
    return hidden if len(hidden) > 1 else []


def _but_first(rows: list[Row], count: int | None) -> list[Row]:
    hidden = [] if count is None else rows[count:]
    return hidden if len(hidden) > 1 else []
