"""The outcome of a run: results, failures and skipped steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from chainbuild.errors import ChainbuildError
from chainbuild.model import Step
from chainbuild.records.record import Record
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId

if TYPE_CHECKING:
    from chainbuild.builder.build_spec import BuildSpec

DEADLINE = "not enough time before the deadline"
FAILED_BUILDS = "failed-builds"
"""The kind of the user's file about the failed builds of a tree (see `failed_builds`)."""


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
    failed_builds: dict[StepId, tuple[BuildSpec, ...]] = field(default_factory=dict)
    """For each step at whose instruction a build failed: the specification of its build, after those of the steps below it
    that were built in the same solve."""

    @property
    def succeeded(self) -> bool:
        """Return whether every step succeeded."""
        return not self.failures and not self.skipped

    @property
    def left(self) -> tuple[StepId, ...]:
        """Return the steps that the deadline left for the next run."""
        return tuple(step for step, reason in self.skipped.items() if reason == DEADLINE)
