"""Read the events of a run from its journal, `events.jsonl`, as far as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, ValidationError
from msgspec.structs import asdict

from chainbuild import events, limits
from chainbuild.builder.progress import StepTail
from chainbuild.errors import DamagedContentError, WrongUseError
from chainbuild.step_id import StepId
from chainbuild.values import convert

_KINDS: Final[Mapping[str, type[events.Event]]] = {
    events.name_of(kind): kind
    for kind in (
        events.RunStarted,
        events.RunPhase,
        events.RunFinished,
        events.RunFailed,
        events.Message,
        events.StepStarted,
        events.StepPhase,
        events.StepFinished,
        events.StepReused,
        events.StepFailed,
        events.StepSkipped,
        events.StepWarnings,
        events.Verdict,
    )
}
"""The events that a report needs. Progress and output of builds are by far the most lines of a journal."""
_LEFT_OUT: Final = ('"event":"log_line"', '"event":"step_progress"')
_LONGEST: Final = 32 << 20
"""The most characters of a line: the first event has every step of a run."""
_LATEST: Final = 253402300799
"""The latest time of an event: the end of the year 9999."""
_HEAD: Final = 80
"""How much of a line has the name of its event."""


class Journal(Struct, frozen=True, kw_only=True):
    """The events of a run, in order, the last lines that failed steps printed, and the number of unreadable lines."""

    events: tuple[events.Event, ...]
    tails: Mapping[StepId, tuple[str, ...]]
    damaged: int = 0


def read_journal(path: Path) -> Journal:
    """Read a journal. Lines that are cut off or of another version are left out.

    Errors: `WrongUseError` if it is missing, unreadable or has no event.
    """
    try:
        read, damaged = _events(path)
        failed = {event.step for event in read if isinstance(event, events.StepFailed)}
        tails = _tails(path, failed) if failed else {}
    except OSError as error:
        raise WrongUseError(
            f"cannot read {path}: {error.strerror}", hint="Name the folder of a run below .chainbuild/logs."
        ) from error
    if not read:
        raise WrongUseError(f"{path} has no events of a run", hint="Name the folder of a run below .chainbuild/logs.")
    return Journal(events=tuple(read), tails=tails, damaged=damaged)


def _events(path: Path) -> tuple[list[events.Event], int]:
    read: list[events.Event] = []
    damaged = 0
    for line in _lines(path):
        head = line[:_HEAD]
        if any(name in head for name in _LEFT_OUT):
            continue
        try:
            document = limits.read_object(line.encode(), "an event", has_file_names=True)
            kind = _KINDS.get(document["event"])
            if kind is not None:
                read.append(convert(_with_ids(document), kind, make=lambda kind, text: kind(text)))
                if not 0 <= read[-1].at <= _LATEST:
                    damaged += 1
                    read.pop()
        except (ValueError, KeyError, TypeError, ValidationError, RecursionError, DamagedContentError):
            damaged += 1
    return read, damaged


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a journal. The rest of a line that is too long is a line of its own, which is not read."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_LONGEST):
            if line.strip():
                yield line


def _with_ids(document: dict[str, Any]) -> dict[str, Any]:
    """Return an event's document with the fields of ids of steps instead of their text form."""
    if isinstance(document.get("step"), str):
        document["step"] = _id(document["step"])
    for step in document.get("steps") or ():
        step["step"] = _id(step["step"])
        step["needs"] = [_id(need) for need in step.get("needs") or ()]
    return document


def _id(text: str) -> dict[str, str]:
    return dict(asdict(StepId.parse(text)))


def _tails(path: Path, steps: Iterable[StepId]) -> dict[StepId, tuple[str, ...]]:
    """Return the last lines that some steps printed: those of the instruction that printed last."""
    names = {json.dumps(str(step)): step for step in steps}
    tails: dict[StepId, StepTail] = {}
    for line in _lines(path):
        if _LEFT_OUT[0] not in line[:_HEAD]:
            continue
        step = next((step for name, step in names.items() if f'"step":{name}' in line), None)
        if step is None:
            continue
        try:
            document = json.loads(line)
            vertex, text, stderr = str(document["vertex"]), str(document["text"]), document["stream"] == "stderr"
        except (ValueError, KeyError, TypeError):
            continue
        tails.setdefault(step, StepTail()).add(vertex, text, stderr=stderr)
    return {step: tail.lines() for step, tail in tails.items()}
