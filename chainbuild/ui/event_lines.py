"""Events as lines of a log: the output of the plain view, and of the live view above its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chainbuild import events
from chainbuild.step_id import StepId
from chainbuild.step_warnings import SHOWN
from chainbuild.text import duration, escaped, going_on, short_digest, size, visible, visible_lines
from chainbuild.ui.board import Board, Row
from chainbuild.ui.messages import message_lines
from chainbuild.ui.terminal import Line, Span


def happening(event: events.Event, board: Board) -> Sequence[Line]:
    """Return the lines of a log for an event."""
    match event:
        case events.Message():
            return message_lines(event.level, event.text)
        case events.StepStarted():
            row = board.row(event.step)
            expected = f", expected {duration(row.expected)}" if row.expected else ""
            return [(*prefix(event.step), Span(f"{going_on(event.activity)}{expected}"))]
        case events.StepFinished():
            row = board.row(event.step)
            return [
                (
                    *prefix(event.step),
                    Span(f"{duration(row.seconds)} ", "dim"),
                    Span(row.done_word, "good"),
                    Span(f"{_sizes(row)} {short_digest(event.digest)}"),
                )
            ]
        case events.StepReused():
            saved = f", saved {duration(event.saved_seconds)}" if event.saved_seconds else ""
            row = board.row(event.step)
            text = f"{_sizes(row)}{saved} {short_digest(event.digest)}"
            return [(*prefix(event.step), Span("reused", "good"), Span(text))]
        case events.StepFailed():
            first, *more = visible_lines(event.message)
            failed = (Span(f"{duration(event.seconds)} ", "dim"), Span("FAILED ", "bad"))
            return [(*prefix(event.step), *failed, Span(first)), *_indented(more)]
        case events.StepSkipped():
            return [(*prefix(event.step), Span("skipped: ", "warn"), Span(escaped(event.reason)))]
        case events.Verdict():
            word = Span("passed", "good") if event.passed else Span("FAILED", "bad")
            verdict = (Span(f"{escaped(event.proof)} "), word, Span(f": {escaped(event.summary)}"))
            return [(*prefix(event.step), *verdict), *_indented(escaped(line) for line in event.findings)]
        case events.StepWarnings():
            return [(*prefix(event.step), *line) for line in warning_lines(event)]
        case _:
            return ()


def warning_lines(event: events.StepWarnings) -> list[Line]:
    """Return one line for each of a step's first warnings, and a line that says where the others are."""
    texts = [" ".join(visible_lines(str(warning))) for warning in event.warnings[:SHOWN]]
    more = event.total - len(texts)
    if more > 0:
        texts.append(f"{more} more: see chainbuild inspect {escaped(event.image)}")
    return [line for text in texts for line in message_lines("warning", text)]


def log_line(event: events.LogLine, row: Row) -> Line:
    """Return a line of build output, prefixed with its step."""
    elapsed = duration(row.elapsed(event.at))
    return (*prefix(event.step), Span(f"{elapsed} │ ", "dim"), Span(visible(event.text)))


def prefix(step: StepId) -> Line:
    """Return the prefix of a step's lines: `[amd64/stock/20-openblas] `."""
    return (Span(f"[{escaped(str(step))}] ", "dim"),)


def _indented(texts: Iterable[str]) -> list[Line]:
    return [(Span(f"    {text}"),) for text in texts]


def _sizes(row: Row) -> str:
    if not row.size:
        return ""
    return f", {size(row.size)}" + (f" ({size(row.added)} added)" if row.added else "")
