"""What a run reports about its steps: that one has started, its warnings, its failure, and its end."""

from __future__ import annotations

import time

from chainbuild import events
from chainbuild.errors import BuildFailedError, ChainbuildError, NotProvenError
from chainbuild.execution.outcome import StepResult
from chainbuild.execution.services import ExecutionServices
from chainbuild.model import Step
from chainbuild.records.record import Record
from chainbuild.step_warnings import OF_TESTS
from chainbuild.text import plural


class StepReports:
    """Emits the events of the steps of a run. `stopping`: the user has interrupted it, so nothing counts as failed."""

    def __init__(self, services: ExecutionServices, *, strict: bool) -> None:
        """`strict`: warnings are errors."""
        self._services = services
        self._strict = strict
        self.stopping = False

    def started(self, step: Step, activity: str = "", at: float | None = None) -> None:
        """Report that work on a step has begun, now or at a time in seconds since the epoch."""
        self._services.emit(
            events.StepStarted(
                at=time.time() if at is None else at,
                step=step.id,
                activity=activity or step.kind.value,
                log_path=self._services.log_path(step.id),
            )
        )

    def warn(self, step: Step, record: Record, *, reused: bool = False) -> None:
        """Report the warnings about a result. Errors: `NotProvenError` if warnings are errors in this run."""
        warnings = record.warnings
        if not (step.test or step.traced):
            warnings = warnings.with_kind(OF_TESTS, ())  # those of a test that is gone
        if not warnings:
            return
        image = str(step.reference)
        self._services.emit(
            events.StepWarnings(step=step.id, image=image, warnings=warnings.first, total=warnings.total, reused=reused)
        )
        if self._strict:
            raise NotProvenError(
                f"{image} has {plural(warnings.total, 'warning')}, which --strict does not allow",
                hint="Fix their causes, or run without --strict. The image is recorded, so nothing is rebuilt.",
                findings=tuple(str(one) for one in warnings.first),
            )

    def failed(self, step: Step, started: float, error: ChainbuildError) -> None:
        """Report the failure of a step that began at a monotonic time."""
        if isinstance(error, BuildFailedError) and not error.log_path:
            error.log_path = self._services.log_path(step.id)
        if self.stopping:
            self._services.emit(events.StepSkipped(step=step.id, reason="interrupted"))
            return
        message = error.message.removeprefix(f"{step.id}: ")
        self._services.emit(events.StepFailed(step=step.id, seconds=time.monotonic() - started, message=message))

    def finished(self, step: Step, record: Record, activity: str = "", seconds: float | None = None) -> StepResult:
        """Report that a step has a new image, and return it. `seconds`: how long it took, if not what its record says."""
        self._services.emit(
            events.StepFinished(
                step=step.id,
                activity=activity or step.kind.value,
                image=str(step.reference),
                digest=str(record.image),
                seconds=record.seconds if seconds is None else seconds,
                size=record.size,
                added=record.added,
            )
        )
        return StepResult(step=step, record=record, built=True)
