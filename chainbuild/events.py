"""Events of a run, as values. Execution emits them; the terminal, JSON lines and log files listen.

Times are seconds since the epoch (`at`) or seconds (`seconds`); sizes are bytes. JSON has the text of a step's id,
`platform/option/NN-descriptor` (stages: `platform/option/minimize`, `platform/option/production`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import asdict

from chainbuild.patterns import regex
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning

SCHEMA: Final = "chainbuild.events/1"

Level = Literal["info", "note", "warning", "error"]
"""The level of a message. `chainbuild.ui.messages` decides how each one looks."""

Phase = Literal["export", "push", "check"]
"""What follows when an image is built: it is exported (compressed), pushed, and then checked, recorded and tagged."""

_WORD_START: Final = regex(r"(?<!^)(?=[A-Z])")


class Event(Struct, frozen=True, kw_only=True):
    """The base class of all events, with the time of the event."""

    at: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        """Return the event as a JSON object with `schema` and a snake_case `event`, for `--json`."""
        body = {key: _plain(value) for key, value in asdict(self).items()}
        return {"schema": SCHEMA, "event": name_of(type(self)), **body}

    def as_json_line(self) -> str:
        """Return one line of `--json` output. It never contains a terminal escape sequence."""
        return json.dumps(self.as_json(), ensure_ascii=True, separators=(",", ":"))


def name_of(kind: type[Event]) -> str:
    """Return the name of a type of events in JSON: `step_started`."""
    return _WORD_START.sub("_", kind.__name__).lower()


class PlannedStep(Struct, frozen=True, kw_only=True):
    """A step as announced at the start of a run: `action` as in the plan, `reason` says why."""

    step: StepId
    action: str
    reason: str
    image: str
    expected_seconds: float | None = None
    needs: tuple[StepId, ...] = ()
    """The steps of the run that must be done first."""


class RunStarted(Event, frozen=True, kw_only=True):
    """The plan that the run is about to execute, in order, and the folder of the logs."""

    steps: tuple[PlannedStep, ...]
    log_folder: Path | None = None


class Message(Event, frozen=True, kw_only=True):
    """A message that belongs to no step, such as a started registry, a resolved base, or a warning."""

    level: Level = "info"
    text: str


class StepStarted(Event, frozen=True, kw_only=True):
    """Work on a step begins. `activity` is a word or two, such as "build" or "verify"."""

    step: StepId
    activity: str
    log_path: Path | None = None


class StepPhase(Event, frozen=True, kw_only=True):
    """A step enters the next phase of its work. Before the first phase, it is built or tested (see `StepStarted`)."""

    step: StepId
    phase: Phase


class StepProgress(Event, frozen=True, kw_only=True):
    """What the builder is doing now, and the progress of a transfer (bytes; total 0: unknown)."""

    step: StepId
    doing: str
    current: int = 0
    total: int = 0


class LogLine(Event, frozen=True, kw_only=True):
    """One complete line of build output; `vertex` is the instruction that printed it."""

    step: StepId
    vertex: str
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"


class StepFinished(Event, frozen=True, kw_only=True):
    """A step was built and pushed. `size`: size of its compressed image; `added`: what it adds to its parent."""

    step: StepId
    activity: str
    image: str
    digest: str
    seconds: float
    size: int = 0
    added: int = 0


class StepReused(Event, frozen=True, kw_only=True):
    """A step was not built because the registry holds its result under the same key."""

    step: StepId
    image: str
    digest: str
    saved_seconds: float = 0.0
    size: int = 0
    added: int = 0


class StepFailed(Event, frozen=True, kw_only=True):
    """A step failed. The details follow at the end of the run."""

    step: StepId
    seconds: float
    message: str


class StepSkipped(Event, frozen=True, kw_only=True):
    """A step was not attempted; `reason` says why (its parent failed, the deadline, an interrupt)."""

    step: StepId
    reason: str


class Verdict(Event, frozen=True, kw_only=True):
    """The verdict of a proof on an image: `proof` is "libraries", "configuration", "imports" or "test".

    `findings` are lines that say what is wrong. Doubtful results come as `StepWarnings`.
    """

    step: StepId
    proof: str
    passed: bool
    summary: str
    findings: tuple[str, ...] = ()


class StepWarnings(Event, frozen=True, kw_only=True):
    """The warnings of a step (see `step_warnings`): the first ones, and their total number.

    Emitted before the end of the step. A `reused` step has warnings, too: its record keeps them.
    """

    step: StepId
    image: str
    warnings: tuple[StepWarning, ...]
    total: int
    reused: bool = False


class ImageResult(Struct, frozen=True, kw_only=True):
    """A final image of a run, with its unpacked size and that of the chain before it was minimized."""

    name: str
    platform: str
    registry_name: str
    local_name: str = ""
    digest: str = ""
    size: int = 0
    chain_size: int = 0
    compressed_size: int = 0
    compressed_chain_size: int = 0
    index_name: str = ""
    """The multi-platform index that the image is in."""
    index_platforms: tuple[str, ...] = ()
    """The platforms of that index, also those that other runs built."""


class RunFinished(Event, frozen=True, kw_only=True):
    """The end of a run: its duration and its final images."""

    seconds: float
    succeeded: bool
    results: tuple[ImageResult, ...] = ()


class RunPhase(Event, frozen=True, kw_only=True):
    """All steps have ended, and the run updates the indexes, pushes its results, or loads them into the local store."""

    phase: Literal["index", "push", "load"]


class RunFailed(Event, frozen=True, kw_only=True):
    """An error or an interrupt ended the run, apart from failures of steps. Only the journal of a run has this event."""

    message: str
    exit_code: int
    interrupted: bool = False


def label(level: Level) -> str:
    """Return what a message of this level begins with."""
    return "" if level == "info" else f"{level}: "


def labelled(level: Level, text: str) -> str:
    """Return a text that begins with its level, for logs and for findings of a verdict."""
    return f"{label(level)}{text}"


Emit = Callable[[Event], None]
_PACE: Final = 0.2
"""Minimum seconds between two progress events of one transfer."""


def paced(emit: Emit, step: StepId, doing: str) -> Callable[[int, int], None]:
    """Return a callback for a transfer's progress (bytes so far, total bytes) that emits events at a limited rate."""
    last = 0.0

    def report(current: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if current >= total or now - last >= _PACE:
            last = now
            emit(StepProgress(step=step, doing=doing, current=current, total=total))

    return report


def _plain(value: object) -> object:
    if isinstance(value, Path | StepId):
        return str(value)
    if isinstance(value, Struct):
        return _plain(asdict(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
