"""How a run ended: what there is now, what failed and what was never tried."""

from __future__ import annotations

from msgspec import Struct, field

from chainbuild.errors import ChainbuildError
from chainbuild.model import Step, StepId
from chainbuild.records.record import Record
from chainbuild.references import ImageReference

DEADLINE = "it does not fit before the deadline"


class StepResult(Struct, frozen=True, kw_only=True):
    """What a step ended in: its record, and whether it was built in this run."""

    step: Step
    record: Record
    built: bool

    @property
    def reference(self) -> ImageReference:
        """The image in the chain registry, pinned."""
        return self.step.reference.with_digest(self.record.image)


class RunOutcome(Struct):
    """How a run ended: what is there, what failed and what was never tried."""

    results: dict[StepId, StepResult] = field(default_factory=dict)
    failures: dict[StepId, ChainbuildError] = field(default_factory=dict)
    skipped: dict[StepId, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether every step ended well."""
        return not self.failures and not self.skipped

    @property
    def left(self) -> tuple[StepId, ...]:
        """What the deadline left for the next run."""
        return tuple(step for step, reason in self.skipped.items() if reason == DEADLINE)
