"""Journals are read as they were written, also those of killed runs, of other versions, and with very long output."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild import events
from chainbuild.errors import WrongUseError
from chainbuild.run_report.journal import read_journal
from chainbuild.step_warnings import StepWarning
from tests.unit.run_report.runs import AT, BASE, BLAS, began, built, finished, image, journal, reused


def line(step: object, text: str, vertex: str = "RUN make") -> events.LogLine:
    return events.LogLine(at=AT, step=step, vertex=vertex, text=text)  # type: ignore[arg-type]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    warning = StepWarning(kind="data", text="a file is missing", path="/x")
    every = (
        events.Message(at=AT, level="warning", text="a\nb"),
        began(BASE, BLAS),
        reused(BASE, 0.1),
        *built(BLAS, 0.2, ("export", 1.0), ("push", 2.0), ("check", 3.0), end=4.0),
        events.StepFailed(at=AT, step=BASE, seconds=1.0, message="no"),
        events.StepSkipped(at=AT, step=BLAS, reason="interrupted"),
        events.StepWarnings(at=AT, step=BLAS, image=image(BLAS), warnings=(warning,), total=7),
        events.Verdict(at=AT, step=BLAS, proof="libraries", passed=False, summary="1 missing", findings=("libx",)),
        events.RunPhase(at=AT, phase="load"),
        events.RunFailed(at=AT, message="lost", exit_code=4),
        finished(5.0),
    )
    read = read_journal(journal(tmp_path, every))
    assert read.events == every
    assert read.damaged == 0


def test_unreadable_lines_are_counted_and_unknown_events_are_not(tmp_path: Path) -> None:
    path = journal(tmp_path, began(BASE), built(BASE, 0.0, end=1.0))
    text = path.read_text()
    other = '{"schema":"chainbuild.events/2","event":"from_the_future","at":1}\n'
    path.write_text(f'{other}[1]\n{{"event":"step_started"}}\n\n{text[:-30]}')
    read = read_journal(path)
    assert (len(read.events), read.damaged) == (2, 3)


@pytest.mark.parametrize("content", [None, "", "no json\n"])
def test_journal_without_events_is_an_error(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WrongUseError, match=r"events\.jsonl"):
        read_journal(path)


def test_tail_is_that_of_the_instruction_that_printed_last(tmp_path: Path) -> None:
    printed = [line(BASE, f"line {number}") for number in range(100)]
    others = [line(BASE, "other", "RUN other"), line(BLAS, "of another step"), line(BASE, "excerpt", "")]
    failed = events.StepFailed(at=AT, step=BASE, seconds=1.0, message="no")
    read = read_journal(journal(tmp_path, others, printed, failed))
    assert read.tails == {BASE: tuple(f"line {number}" for number in range(70, 100))}


@pytest.mark.parametrize("at", ["NaN", "Infinity", "1e400", "1e308", "-1", "9" * 5000])
def test_events_at_impossible_times_are_damaged(tmp_path: Path, at: str) -> None:
    path = journal(tmp_path, (events.Message(at=AT, text="a"),))
    with path.open("a") as file:
        file.write(f'{{"event":"message","at":{at},"text":"b"}}\n')
    read = read_journal(path)
    assert [event.at for event in read.events] == [AT]
    assert read.damaged == 1
