"""Find images that an index keeps although the tree would build other ones now.

Several runs, one per platform, often fill one index. An image that stays in the index is *current* if the present tree,
for that platform, would reuse exactly this image as the result. Otherwise the index mixes generations, and users of the
other platform pull an image of other inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from chainbuild.errors import ChainbuildError
from chainbuild.model import Chain, Graph, published
from chainbuild.planning.decisions import Plan
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform

GraphFor = Callable[[Sequence[Platform]], Graph]
"""Read the same request for other platforms. Errors: `WrongUseError` if the tree does not support them."""


class StaleImage(Struct, frozen=True, kw_only=True):
    """An image that an index keeps and that is, or may be, out of date. `built_at`: seconds since the epoch; 0 if unknown."""

    index: ImageReference
    platform: Platform
    image: Digest
    built_at: float
    reason: str

    def __str__(self) -> str:
        when = time.strftime(" of %Y-%m-%d %H:%M UTC", time.gmtime(self.built_at)) if self.built_at else ""
        return f"{self.index} keeps {self.platform.oci}{when} ({self.image.short}), {self.reason}"


class Generations:
    """Compares an index's images of other platforms with the tree. Plans are made on first use."""

    def __init__(self, records: RecordStore, graph_for: GraphFor | None, plan_of: Callable[[Graph], Plan]) -> None:
        self._records = records
        self._graph_for = graph_for
        self._plan_of = plan_of
        self._plans: dict[str, Plan | str] = {}

    def stale(self, chain: Chain, index: ImageReference, platform: Platform, image: Digest) -> StaleImage | None:
        """Return the warning for an image that a chain's index keeps; None if the image is current."""
        reason = self._reason(chain, platform, image)
        if not reason:
            return None
        record = self._records.of_image(chain.result.repository, image).record
        built_at = record.built_at if record else 0.0
        return StaleImage(index=index, platform=platform, image=image, built_at=built_at, reason=reason)

    def _reason(self, chain: Chain, platform: Platform, image: Digest) -> str:
        plan = self._plan(platform)
        if isinstance(plan, str):
            return f"and it is unknown whether it was built from the same inputs: {plan}"
        index = chain.publication.index if chain.publication else None
        matching = [
            other
            for other, names in published(plan.graph.chains)
            if names.index == index and other.option == chain.option
        ]
        if not matching:
            return "and it is unknown whether it was built from the same inputs: the tree has no such chain for this platform"
        decision = next(other for other in plan.decisions if other.step.id == matching[-1].result.id)
        if decision.cached_record is None:
            return f"built from other inputs ({decision.step.name}: {decision.reason})"
        if decision.cached_record.image != image:
            return f"which is not the image of the current inputs ({decision.cached_record.image.short})"
        return ""

    def _plan(self, platform: Platform) -> Plan | str:
        """Return the plan for a platform, or why there is none."""
        if platform.oci not in self._plans:
            self._plans[platform.oci] = self._planned(platform)
        return self._plans[platform.oci]

    def _planned(self, platform: Platform) -> Plan | str:
        if self._graph_for is None:
            return "this command does not read other platforms"
        try:
            return self._plan_of(self._graph_for([platform]))
        except ChainbuildError as error:
            return error.message.splitlines()[0]
