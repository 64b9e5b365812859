"""Rebuild the parents of a step whose images are incomplete in the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.model import Step
from chainbuild.planning.decisions import Decision
from chainbuild.registry.images import is_intact
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.values import replace

DAMAGED = "its image is damaged in the registry"


class ParentRepair:
    """Rebuilds parents, one step at a time.

    Several threads use the results of a run. The main thread adds the result of a step once, when the step has ended. Only
    a repair replaces a result after that: of a step that has ended, and while it holds the lock. So two threads never
    write the result of the same step, and a step is never rebuilt by two repairs.
    """

    def __init__(
        self,
        registries: Registries,
        outcome: RunOutcome,
        order: Mapping[StepId, int],
        *,
        decide: Callable[[Step], Decision],
        build: Callable[[Decision], StepResult],
    ) -> None:
        """`order` has the place of each step in the graph. `build` must not need the lock of another repair."""
        self._registries = registries
        self._outcome = outcome
        self._order = order
        self._decide = decide
        self._build = build
        self._lock = threading.RLock()

    def rebuild_parents(self, step: Step) -> bool:
        """Rebuild the parents whose images are incomplete. Return whether anything was built."""
        rebuilt = False
        with self._lock:
            for need in sorted(step.needs, key=self._order.__getitem__):
                result = self._outcome.results[need]
                if result.built:
                    continue
                if self.is_complete(result):
                    # Its own parents may have been rebuilt with different content.
                    decision = self._decide(result.step)
                    if decision.cached_record is not None:
                        continue
                else:
                    self.rebuild_parents(result.step)
                    decision = replace(self._decide(result.step), cached_record=None, reason=DAMAGED)
                self._outcome.results[need] = self._build(decision)
                rebuilt = True
        return rebuilt

    def is_complete(self, result: StepResult) -> bool:
        """Return whether the registry has every part of a result's image."""
        return is_intact(self._registries, result.reference, result.step.platform)
