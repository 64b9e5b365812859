"""Events of small runs, and the journals that they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from chainbuild import events
from chainbuild.events import Event, Phase
from chainbuild.run_report.journal import read_journal
from chainbuild.run_report.timeline import Timeline, timeline_of
from chainbuild.step_id import StepId

AT = 1_000_000.0
BASE, BLAS, SLIM = (StepId("amd64", "stock", name) for name in ("10-base", "20-blas", "production"))
ARM = StepId("aarch64", "stock", "10-base")


def image(step: StepId) -> str:
    return f"localhost:5000/team/atom:v1-{step.option}-{step.name}-{step.platform}"


def began(*steps: StepId, at: float = 0.0, needs: dict[StepId, tuple[StepId, ...]] | None = None) -> Event:
    """Return the event of a run of these steps, each of which needs the one before it unless `needs` says otherwise."""
    chain = {step: steps[max(index - 1, 0) : index] for index, step in enumerate(steps)}
    planned = [
        events.PlannedStep(
            step=step,
            action="build",
            reason="Dockerfile changed (line 8)",
            image=image(step),
            expected_seconds=12.0,
            needs=(chain if needs is None else needs).get(step, ()),
        )
        for step in steps
    ]
    return events.RunStarted(at=AT + at, steps=tuple(planned), log_folder=Path("/tree/.chainbuild/logs/run"))


def built(
    step: StepId, start: float, *phases: tuple[Phase, float], end: float, size: int = 98_000_000
) -> Sequence[Event]:
    """Return the events of a step that is built."""
    log = Path(f"/tree/.chainbuild/logs/run/{step.platform}-{step.option}-{step.name}.log")
    return (
        events.StepStarted(at=AT + start, step=step, activity="build", log_path=log),
        *(events.StepPhase(at=AT + at, step=step, phase=phase) for phase, at in phases),
        events.StepFinished(
            at=AT + end,
            step=step,
            activity="build",
            image=image(step),
            digest="sha256:" + "b" * 64,
            seconds=end - start,
            size=size,
            added=1_000_000,
        ),
    )


def reused(step: StepId, at: float) -> Event:
    digest = "sha256:" + "a" * 64
    return events.StepReused(at=AT + at, step=step, image=image(step), digest=digest, saved_seconds=190.0, size=1)


def finished(at: float, *, succeeded: bool = True) -> Event:
    results = (
        events.ImageResult(
            name="v1-stock-amd64",
            platform="amd64",
            registry_name="localhost:5000/team/atom:v1-stock-amd64",
            local_name="team/atom:v1-stock-amd64",
            digest="sha256:" + "c" * 64,
            size=81_000_000,
            chain_size=912_000_000,
        ),
    )
    return events.RunFinished(at=AT + at, seconds=at, succeeded=succeeded, results=results if succeeded else ())


def journal(folder: Path, *parts: Event | Iterable[Event]) -> Path:
    """Write the journal of a run."""
    every = [event for part in parts for event in ([part] if isinstance(part, Event) else part)]
    path = folder / "events.jsonl"
    path.write_text("".join(f"{event.as_json_line()}\n" for event in every))
    return path


def timeline(folder: Path, *parts: Event | Iterable[Event]) -> Timeline:
    """Return the timeline of a run, read from its journal."""
    return timeline_of(read_journal(journal(folder, *parts)))
