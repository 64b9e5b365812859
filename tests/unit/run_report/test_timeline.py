"""The timeline of a run: phases, waits, and the state of each step, however the run ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild import events
from chainbuild.run_report.timeline import StepTimeline, Timeline
from tests.unit.run_report.runs import ARM, AT, BASE, BLAS, SLIM, began, built, finished, reused, timeline


def phases(step: StepTimeline) -> list[tuple[str, float, float]]:
    return [(span.name, span.start - AT, span.end - AT) for span in step.spans]


def waits(step: StepTimeline) -> list[tuple[str, float]]:
    return [(str(wait.step or wait.reason), round(wait.span.seconds, 3)) for wait in step.waits]


def states(run: Timeline) -> list[str]:
    return [step.state for step in run.steps.values()]


def test_step_has_its_phases(tmp_path: Path) -> None:
    run = timeline(
        tmp_path, began(BASE), built(BASE, 1.0, ("export", 5.0), ("push", 7.0), ("check", 8.0), end=9.0), finished(9.5)
    )
    (step,) = run.steps.values()
    assert phases(step) == [("build", 1.0, 5.0), ("export", 5.0, 7.0), ("push", 7.0, 8.0), ("check", 8.0, 9.0)]
    assert (step.state, step.seconds, step.seconds_of("export"), step.size) == ("done", 8.0, 2.0, 98_000_000)
    assert (run.outcome, run.seconds, len(run.results)) == ("succeeded", 9.5, 1)


def test_step_waits_for_the_step_below_and_then_for_a_job(tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE, BLAS), built(BASE, 2.0, end=5.0), built(BLAS, 7.0, end=9.0), finished(9.0))
    base, blas = run.steps.values()
    assert waits(base) == [("the preparation of the run", 2.0)]
    assert waits(blas) == [("amd64/stock/10-base", 5.0), ("a free job", 2.0)]
    assert blas.waited == 7.0


def test_step_of_another_platform_waits_for_a_job(tmp_path: Path) -> None:
    run = timeline(
        tmp_path,
        began(BASE, BLAS, ARM, needs={BLAS: (BASE,)}),
        built(BASE, 1.0, end=5.0),
        built(ARM, 5.0, end=9.0),
        built(BLAS, 9.0, end=10.0),
        finished(10.0),
    )
    assert waits(run.steps[ARM]) == [("the preparation of the run", 1.0), ("a free job", 4.0)]
    assert list(run.by_platform()) == ["amd64", "aarch64"]


def test_steps_of_one_solve_overlap(tmp_path: Path) -> None:
    """A step begins while the image below it is still exported; its events are reported later."""
    first = built(BASE, 1.0, ("export", 3.0), end=6.0)
    second = built(BLAS, 3.0, ("export", 8.0), end=9.0)
    run = timeline(tmp_path, began(BASE, BLAS), first, second, finished(9.0))
    assert waits(run.steps[BLAS]) == [("amd64/stock/10-base", 3.0)]
    assert phases(run.steps[BLAS]) == [("build", 3.0, 8.0), ("export", 8.0, 9.0)]


def test_reused_step_takes_no_time(tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE, BLAS), reused(BASE, 0.5), built(BLAS, 0.6, end=2.0), finished(2.0))
    assert states(run) == ["reused", "done"]
    assert (run.steps[BASE].spans, run.steps[BASE].saved, run.count("reused", "done")) == ([], 190.0, 2)


def test_test_of_a_reused_step_is_a_check(tmp_path: Path) -> None:
    test = events.StepStarted(at=AT + 1.0, step=BASE, activity="test")
    run = timeline(tmp_path, began(BASE), test, reused(BASE, 3.0), finished(3.0))
    assert phases(run.steps[BASE]) == [("check", 1.0, 3.0)]


def test_step_that_is_built_again_keeps_both_times(tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE), built(BASE, 1.0, end=2.0), built(BASE, 5.0, end=7.0), finished(7.0))
    assert phases(run.steps[BASE]) == [("build", 1.0, 2.0), ("build", 5.0, 7.0)]
    assert run.steps[BASE].seconds == 3.0


def test_failed_run_has_the_failure_and_what_was_skipped(tmp_path: Path) -> None:
    start = events.StepStarted(at=AT, step=BASE, activity="build")
    line = events.LogLine(at=AT, step=BASE, vertex="RUN make", text="error: x")
    failed = events.StepFailed(at=AT + 3.0, step=BASE, seconds=3.0, message="RUN make failed")
    skipped = events.StepSkipped(at=AT + 3.0, step=BLAS, reason="10-base failed")
    run = timeline(tmp_path, began(BASE, BLAS), start, line, failed, skipped, finished(3.0, succeeded=False))
    assert (run.outcome, states(run)) == ("failed", ["failed", "skipped"])
    assert (run.steps[BASE].message, run.steps[BASE].tail) == ("RUN make failed", ("error: x",))
    assert run.steps[BLAS].message == "10-base failed"


def test_late_phase_of_a_failed_step_is_ignored(tmp_path: Path) -> None:
    start = events.StepStarted(at=AT, step=BASE, activity="build")
    failed = events.StepFailed(at=AT + 3.0, step=BASE, seconds=3.0, message="no")
    late = events.StepPhase(at=AT + 4.0, step=BASE, phase="push")
    run = timeline(tmp_path, began(BASE), start, failed, late)
    assert phases(run.steps[BASE]) == [("build", 0.0, 3.0)]


def test_interrupted_run_says_so(tmp_path: Path) -> None:
    start = events.StepStarted(at=AT + 1.0, step=BASE, activity="build")
    skipped = events.StepSkipped(at=AT + 3.0, step=BASE, reason="interrupted")
    end = events.RunFailed(at=AT + 3.5, message="interrupted", exit_code=130, interrupted=True)
    run = timeline(tmp_path, began(BASE, BLAS), start, skipped, end)
    assert (run.outcome, run.message, states(run)) == ("interrupted", "interrupted", ["stopped", "waiting"])


def test_killed_run_ends_with_its_last_event(tmp_path: Path) -> None:
    start = events.StepStarted(at=AT + 1.0, step=BASE, activity="build")
    phase = events.StepPhase(at=AT + 4.0, step=BASE, phase="export")
    run = timeline(tmp_path, began(BASE, BLAS), start, phase)
    assert (run.outcome, run.ended - AT, states(run)) == ("unfinished", 4.0, ["stopped", "waiting"])
    assert phases(run.steps[BASE]) == [("build", 1.0, 4.0), ("export", 4.0, 4.0)]


def test_error_after_the_steps_is_the_message_of_the_run(tmp_path: Path) -> None:
    push = events.RunPhase(at=AT + 2.0, phase="push")
    end = events.RunFailed(at=AT + 5.0, message="ghcr.io needs a login", exit_code=4)
    run = timeline(tmp_path, began(BASE), built(BASE, 0.0, end=1.0), push, end)
    assert (run.outcome, run.message) == ("failed", "ghcr.io needs a login")
    assert [(span.name, span.seconds) for span in run.phases] == [("push", 3.0)]


def test_phases_of_the_run_follow_one_another(tmp_path: Path) -> None:
    names = ("index", "push", "load")
    after = [events.RunPhase(at=AT + 2.0 + number, phase=name) for number, name in enumerate(names)]  # type: ignore[arg-type]
    run = timeline(tmp_path, began(BASE), built(BASE, 0.0, end=1.0), after, finished(6.0))
    assert [(span.name, span.seconds) for span in run.phases] == [("index", 1.0), ("push", 1.0), ("load", 2.0)]


def test_longest_path_leads_to_the_step_that_ended_last(tmp_path: Path) -> None:
    run = timeline(
        tmp_path,
        began(BASE, BLAS, SLIM, ARM, needs={BLAS: (BASE,), SLIM: (BLAS,)}),
        built(BASE, 0.0, end=1.0),
        built(ARM, 0.0, end=5.0),
        built(BLAS, 1.0, end=4.0),
        built(SLIM, 4.0, end=9.0),
        finished(9.0),
    )
    assert [step.step for step in run.longest_path()] == [BASE, BLAS, SLIM]


def test_journal_without_needs_has_no_waits(tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE, BLAS, needs={}), built(BASE, 1.0, end=2.0), built(BLAS, 2.0, end=3.0))
    assert [step.waits for step in run.steps.values()] == [(), ()]


@pytest.mark.parametrize("back", [0.0, 100.0])
def test_clock_that_is_set_back_gives_no_negative_times(back: float, tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE), built(BASE, 50.0, ("export", 60.0 - back), end=55.0), finished(56.0 - back))
    assert all(span.seconds >= 0 for step in run.steps.values() for span in step.spans)
