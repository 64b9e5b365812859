"""The outcome of a run: results, failures and skipped steps."""

from __future__ import annotations

from msgspec import Struct, field

from chainbuild.errors import ChainbuildError
from chainbuild.model import Step
from chainbuild.records.record import Record
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId

DEADLINE = "not enough time before the deadline"


class StepResult(Struct, frozen=True, kw_only=True):
    """The result of a step: its record, and whether this run built it."""

    step: Step
    record: Record
    built: bool

    @property
    def reference(self) -> ImageReference:
        """Return the image in the chain registry, pinned by digest."""
        return self.step.reference.with_digest(self.record.image)


class RunOutcome(Struct):
    """The outcome of a run: results, failures, and skipped steps with the reason."""

    results: dict[StepId, StepResult] = field(default_factory=dict)
    failures: dict[StepId, ChainbuildError] = field(default_factory=dict)
    skipped: dict[StepId, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Return whether every step succeeded."""
        return not self.failures and not self.skipped

    @property
    def left(self) -> tuple[StepId, ...]:
        """Return the steps that the deadline left for the next run."""
        return tuple(step for step, reason in self.skipped.items() if reason == DEADLINE)
