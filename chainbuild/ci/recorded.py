"""What the steps of a graph took last time, from the records in the chain registry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from chainbuild.model import Graph, StepId
from chainbuild.records.record import Lookup
from chainbuild.references import ImageReference

_AT_ONCE: Final = 8


class LastRecords(Protocol):
    """What is asked of the records; `records.store.RecordStore` is the real one."""

    def last(self, repository: ImageReference, family: str) -> Lookup:
        """The newest record of a step."""


def recorded_seconds(graph: Graph, records: LastRecords) -> dict[StepId, float]:
    """The seconds of every step that has a record.

    Errors: `UnreachableError`, `LoginNeededError`: a registry that does not answer is not one without records.
    """
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = pool.map(lambda step: (step.id, records.last(step.repository, step.family).record), graph)
        return {step: record.seconds for step, record in found if record is not None}
