"""The steps that a run is working on: a future for each, and a task of the thread pool for each step or group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from chainbuild.execution.outcome import StepResult
from chainbuild.model import Step

Results = Sequence[Future[StepResult]]


class Postponed(Exception):  # noqa: N818 - not an error
    """The step was not executed with its group, and is to be started on its own when its parents have ended."""


class Running:
    """The steps in work. Only the main thread uses it; a task sets the results of its steps."""

    def __init__(self) -> None:
        self._steps: dict[Future[StepResult], Step] = {}
        self._groups: set[Future[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._steps or self._groups)

    @property
    def tasks(self) -> int:
        """Return the number of tasks in work; the steps of a group are one."""
        return sum(not isinstance(future, _OfGroup) for future in self._steps) + len(self._groups)

    def start(
        self,
        pool: ThreadPoolExecutor,
        steps: Sequence[Step],
        execute: Callable[[Step], StepResult],
        execute_group: Callable[[Sequence[Step], Results], None],
    ) -> None:
        """Start a step or a group. `execute_group` sets the result of each step, or an exception."""
        if len(steps) == 1:
            self._steps[pool.submit(execute, steps[0])] = steps[0]
            return
        results = [_OfGroup() for _ in steps]
        self._steps.update(zip(results, steps, strict=True))
        self._groups.add(pool.submit(execute_group, steps, results))

    def ended(self, seconds: float) -> list[tuple[Step, Future[StepResult]]]:
        """Wait for something to end, at most so long, and remove and return the steps that have ended.

        Postponed steps come first: what follows from a failure applies to them, too. Errors: whatever ended a group.
        """
        wait(self._all(), timeout=seconds, return_when=FIRST_COMPLETED)
        # A group sets the results of its steps in this order, those of postponed steps before that of a failed one.
        futures = [future for future in reversed(self._steps) if future.done()]
        for group in [group for group in self._groups if group.done()]:
            self._groups.remove(group)
            group.result()
        futures.sort(key=lambda future: not isinstance(future.exception(), Postponed))
        return [(self._steps.pop(future), future) for future in futures]

    def _all(self) -> list[Future[Any]]:
        return [*self._steps, *self._groups]

    def wait(self, seconds: float) -> None:
        """Wait until everything has ended, at most so long."""
        wait(self._all(), timeout=seconds)


class _OfGroup(Future[StepResult]):
    """The future of a step of a group."""
