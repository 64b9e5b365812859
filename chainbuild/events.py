"""What happens during a run, as values. The execution emits them; the terminal, JSON lines and the log files listen.

Times are seconds since the epoch (`at`) or plain seconds (`seconds`); sizes are bytes. A step is named by its id,
`platform/option/NN-descriptor` (stages: `platform/option/minimize`, `platform/option/production`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import asdict

from chainbuild.step_warnings import StepWarning

SCHEMA: Final = "chainbuild.events/1"

_WORD_START: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Event(Struct, frozen=True, kw_only=True):
    """The root: when it happened."""

    at: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        """The event as a JSON object with `schema` and a snake_case `event`, for `--json`."""
        body = {key: _plain(value) for key, value in asdict(self).items()}
        return {"schema": SCHEMA, "event": _WORD_START.sub("_", type(self).__name__).lower(), **body}

    def as_json_line(self) -> str:
        """One line of `--json` output; never holds an escape sequence of a terminal."""
        return json.dumps(self.as_json(), ensure_ascii=True, separators=(",", ":"))


class PlannedStep(Struct, frozen=True, kw_only=True):
    """A step as the run announces it: `action` is the plan's word, `reason` says why."""

    step: str
    action: str
    reason: str
    image: str
    expected_seconds: float | None = None


class RunStarted(Event, frozen=True, kw_only=True):
    """The plan that is going to be executed, in order, and where the logs go."""

    steps: tuple[PlannedStep, ...]
    log_folder: Path | None = None


class Message(Event, frozen=True, kw_only=True):
    """Something worth a line that belongs to no step (registry started, base resolved, a warning)."""

    level: Literal["info", "warning", "error"] = "info"
    text: str


class StepStarted(Event, frozen=True, kw_only=True):
    """Work on a step begins: `activity` in a word or two, as "build", "verify"."""

    step: str
    activity: str
    log_path: Path | None = None


class StepProgress(Event, frozen=True, kw_only=True):
    """What the builder is doing now, and how far a transfer has come (bytes; total 0: unknown)."""

    step: str
    doing: str
    current: int = 0
    total: int = 0


class LogLine(Event, frozen=True, kw_only=True):
    """One line that the build printed, whole; `vertex` is the instruction that printed it."""

    step: str
    vertex: str
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"


class StepFinished(Event, frozen=True, kw_only=True):
    """A step was built and is in the registry. `size`: its compressed image; `added`: what it adds to its parent."""

    step: str
    activity: str
    image: str
    digest: str
    seconds: float
    size: int = 0
    added: int = 0


class StepReused(Event, frozen=True, kw_only=True):
    """A step was not built: the registry holds its result under its key."""

    step: str
    image: str
    digest: str
    saved_seconds: float = 0.0
    size: int = 0
    added: int = 0


class StepFailed(Event, frozen=True, kw_only=True):
    """A step failed; the run says the rest at its end."""

    step: str
    seconds: float
    message: str


class StepSkipped(Event, frozen=True, kw_only=True):
    """A step was not tried; `reason` says why (its parent failed, the deadline, an interrupt)."""

    step: str
    reason: str


class Verdict(Event, frozen=True, kw_only=True):
    """What a proof said of an image: `proof` is "libraries", "configuration", "imports", "test".

    `findings` are lines for people: what is wrong. What is only doubtful comes as `StepWarnings`.
    """

    step: str
    proof: str
    passed: bool
    summary: str
    findings: tuple[str, ...] = ()


class StepWarnings(Event, frozen=True, kw_only=True):
    """What is doubtful about a step's result (see `step_warnings`): the first warnings, and how many there are.

    It comes before the step's end, for a step that is `reused` as well: the record has kept them.
    """

    step: str
    image: str
    warnings: tuple[StepWarning, ...]
    total: int
    reused: bool = False


class ImageResult(Struct, frozen=True, kw_only=True):
    """One image that a run ends in, with its unpacked size and that of the unminimised chain."""

    name: str
    platform: str
    registry_name: str
    local_name: str = ""
    digest: str = ""
    size: int = 0
    chain_size: int = 0
    compressed_size: int = 0
    compressed_chain_size: int = 0


class RunFinished(Event, frozen=True, kw_only=True):
    """The end of a run: how long it took and what there is now."""

    seconds: float
    succeeded: bool
    results: tuple[ImageResult, ...] = ()


Emit = Callable[[Event], None]
_PACE: Final = 0.2
"""Seconds between two words about one transfer."""


def paced(emit: Emit, step: str, doing: str) -> Callable[[int, int], None]:
    """What takes a transfer's bytes so far and in all, and tells of them now and then."""
    last = 0.0

    def told(here: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if here >= total or now - last >= _PACE:
            last = now
            emit(StepProgress(step=step, doing=doing, current=here, total=total))

    return told


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Struct):
        return _plain(asdict(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
