"""The end of a run: the outcome of each step, the last lines of failures, and the resulting images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from chainbuild import events
from chainbuild.patterns import regex
from chainbuild.text import (
    clip,
    duration,
    escaped,
    plural,
    share,
    short_digest,
    short_instruction,
    size,
    visible,
    visible_lines,
)
from chainbuild.ui.board import Board, Row
from chainbuild.ui.event_lines import warning_lines
from chainbuild.ui.styles import Style
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span

STATE_STYLES: Final[dict[str, Style]] = {
    "done": "good",
    "reused": "good",
    "running": "busy",
    "failed": "bad",
    "skipped": "warn",
    "waiting": "dim",
}
_STEP_COLUMNS: Final = (
    Column(heading="step"),
    Column(heading="action"),
    Column(heading="time", right=True),
    Column(heading="size", right=True),
    Column(heading="added", right=True),
    Column(heading="note"),
)
_UNFINISHED: Final = {"waiting": "not started", "running": "interrupted"}
_UNTOUCHED_ROWS: Final = 4
# Lines that state a cause, and lines of programs that only pass a failure on (make, pip, cmake, the builder).
_SAYS_WHY: Final = regex(
    r"\berror\b|\bfatal\b|\bE: |cannot |can't |could not |not found|no such |undefined |denied|killed|segmentation|"
    r"exception|illegal instruction|no space left|unable to ",
    re.IGNORECASE,
)
_PASSES_ON: Final = regex(r"\*\*\*|did not complete successfully|exit (code|status)|^Traceback", re.IGNORECASE)


def step_table(board: Board, now: float, width: int | None) -> list[Line]:
    """Return one row per step, grouped by platform and option."""
    rows: list[Sequence[Span] | None] = []
    for group, members in board.groups().items():
        rows.append((Span(escaped(group) or "steps", "bold"),))
        for _, alike in groupby(members, key=lambda row: (row.state, row.message)):
            rows += _rows_of(list(alike), now)
    return table(_STEP_COLUMNS, rows, width)


def _rows_of(rows: list[Row], now: float) -> list[Sequence[Span]]:
    """Return one row per step; many steps that were not started share one row."""
    first, last = rows[0], rows[-1]
    if first.state not in {"waiting", "skipped"} or len(rows) <= _UNTOUCHED_ROWS:
        return [_step_row(row, now) for row in rows]
    head, *cells_of_first = _step_row(first, now)
    return [(Span(f"{head.text} … {escaped(last.name)} ({len(rows)})"), *cells_of_first)]


def _step_row(row: Row, now: float) -> Sequence[Span]:
    took = duration(row.elapsed(now)) if row.state in {"done", "failed", "running"} else ""
    note = f"saved {duration(row.saved)}" if row.saved else " ".join(visible_lines(row.message)).strip()
    if row.state == "failed":
        note = ""  # shown above the table, with the output
    elif row.state == "running":
        note = f"stopped during {short_instruction(row.doing, 50)}" if row.doing else "not finished"
    return (
        Span(f"  {escaped(row.name)}"),
        Span(_UNFINISHED.get(row.state, row.done_word), STATE_STYLES[row.state]),
        Span(took),
        Span(size(row.size) if row.size else ""),
        Span(size(row.added) if row.added else ""),
        Span(note, "dim"),
    )


def result_lines(results: Sequence[events.ImageResult]) -> list[Line]:
    """Return the final images of a run, and the indexes over several platforms.

    These lines are the command's result and go to stdout.
    """
    lines: list[Line] = []
    for result in results:
        names = [name for name in (result.local_name, result.registry_name) if name] or [result.name]
        lines.append((Span(escaped(names[0]), "bold"),))
        facts = [("registry", name) for name in names[1:]]
        if not result.local_name:
            facts.append(("local", "not in the local image store"))
        facts += [("digest", short_digest(result.digest))] if result.digest else []
        facts += [("size", text)] if (text := _sizes(result)) else []
        lines += _facts(facts)
    indexes = {result.index_name: result.index_platforms for result in results if len(result.index_platforms) > 1}
    for name, platforms in indexes.items():
        lines.append((Span(escaped(name), "bold"),))
        lines += _facts([("index of", ", ".join(platforms))])
    return lines


def _facts(facts: Sequence[tuple[str, str]]) -> list[Line]:
    return [(Span(f"  {label:<10}", "dim"), Span(escaped(text))) for label, text in facts]


def _sizes(result: events.ImageResult) -> str:
    parts = []
    if result.size:
        parts.append(size(result.size))
        if result.chain_size:
            parts.append(f"{share(result.size, result.chain_size)} of the chain's {size(result.chain_size)}")
    if result.compressed_size:
        text = f"compressed {size(result.compressed_size)}"
        if result.compressed_chain_size:
            text += f" of {size(result.compressed_chain_size)}"
        parts.append(text)
    return ", ".join(parts)


def summed_warnings(board: Board) -> list[Line]:
    """Return a few warnings of each step, below a line with their total."""
    total = sum(event.total for event in board.warnings.values())
    lines: list[Line] = [(Span(plural(total, "warning"), "warn"),)]
    for event in board.warnings.values():
        lines.append((Span(f"  {escaped(str(event.step))}"),))
        lines += [(Span("    "), *line) for line in warning_lines(event)]
    return lines


def closing_lines(board: Board, seconds: float) -> list[Line]:
    """Return how the run ended, how many seconds the user waited for it, and the folder of the logs."""
    finished = board.finished
    counts = ", ".join(count_words(board))
    saved = sum(row.saved for row in board.rows.values())
    tail = f": {counts}" if counts else ""
    tail += f" ({duration(saved)} saved)" if saved else ""
    if finished and finished.succeeded:
        head = Span(f"done in {duration(seconds)}", "good")
    else:
        failed = finished and any(row.state == "failed" for row in board.rows.values())
        head = Span(f"{'failed' if failed else 'stopped'} after {duration(seconds)}", "bad")
    lines: list[Line] = [(head, Span(tail))]
    if board.log_folder:
        lines.append((Span("logs: ", "dim"), Span(escaped(str(board.log_folder)), "dim")))
    return lines


def count_words(board: Board) -> list[str]:
    """Return the number of steps in each state: `5 built`, `3 reused`, `1 failed`."""
    counts: dict[str, int] = {}
    for row in board.rows.values():
        word = _UNFINISHED.get(row.state, row.done_word)
        counts[word] = counts.get(word, 0) + 1
    return [f"{count} {word}" for word, count in counts.items()]


def failure_lines(
    head: str, tail: Sequence[str], log_path: Path | None, width: int | None, *, where: str = ""
) -> list[Line]:
    """Return a failure with the framed last lines of its output; the most likely cause is marked."""
    shown = [visible(line) for line in tail]
    lines: list[Line] = [(Span(line, "bad"),) for line in visible_lines(head)] if head else []
    if where:
        lines.append((Span("  at ", "dim"), Span(escaped(where))))
    if shown:
        guilty = failing_line(shown)
        rule = "─" * min((width or 80) - 4, 76)
        lines.append((Span(f"  ┌{rule}", "dim"),))
        for index, text in enumerate(shown):
            body = clip(text, width - 7) if width else text  # the ellipsis may take three columns
            mark = Span("  ▸ ", "bad") if index == guilty else Span("  │ ", "dim")
            lines.append((mark, Span(body, "bad" if index == guilty else "")))
        lines.append((Span(f"  └{rule}", "dim"),))
    if log_path:
        lines.append((Span("  log: ", "dim"), Span(escaped(str(log_path)))))
    return lines


def failing_line(lines: Sequence[str]) -> int:
    """Return the index of the line that most likely states the cause: the last one with an error of its own.

    Otherwise the last line with text; negative if there is none.
    """
    for index in reversed(range(len(lines))):
        if _SAYS_WHY.search(lines[index]) and not _PASSES_ON.search(lines[index]):
            return index
    return next((index for index in reversed(range(len(lines))) if lines[index].strip()), -1)


def opening_lines(board: Board) -> list[Line]:
    """Return what the run is about to do."""
    reused = sum(row.action == "reuse" for row in board.rows.values())
    todo = len(board.rows) - reused
    parts = [f"{plural(todo, 'step')} to do" if todo else "nothing to build"]
    if reused:
        parts.append(f"{reused} to reuse")
    remaining = board.remaining(board.started_at)
    if remaining:
        parts.append(f"expected about {duration(remaining)}")
    return [(Span(", ".join(parts)),)]
