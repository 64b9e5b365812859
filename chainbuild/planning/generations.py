"""Whether the images of an index belong together: those that a run leaves in it against what the tree gives now.

An index over platforms is often filled by several runs, one for each platform. An image that stays in it is *current* if
the present tree, for that platform, would reuse exactly this image as the result; else the index mixes generations, and
whoever pulls it on the other platform gets something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from chainbuild.errors import ChainbuildError
from chainbuild.model import Chain, Graph
from chainbuild.planning.planner import Plan
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform

GraphFor = Callable[[Sequence[Platform]], Graph]
"""Reads the same request for other platforms. Errors: `WrongUseError` if the tree has none for them."""


class StaleImage(Struct, frozen=True, kw_only=True):
    """An image that an index keeps although the tree gives another one, or nobody can tell. `built_at`: 0 if unknown."""

    index: ImageReference
    platform: Platform
    image: Digest
    built_at: float
    reason: str

    def __str__(self) -> str:
        when = time.strftime(" of %Y-%m-%d %H:%M UTC", time.gmtime(self.built_at)) if self.built_at else ""
        return f"{self.index} keeps {self.platform.oci}{when} ({self.image.short}), {self.reason}"


class Generations:
    """Compares images of other platforms with what the tree gives for them. Plans are made when first needed."""

    def __init__(self, records: RecordStore, graph_for: GraphFor | None, plan_of: Callable[[Graph], Plan]) -> None:
        self._records = records
        self._graph_for = graph_for
        self._plan_of = plan_of
        self._plans: dict[str, Plan | str] = {}

    def stale(self, chain: Chain, index: ImageReference, platform: Platform, image: Digest) -> StaleImage | None:
        """Return what is to be said of an image that the index of a chain keeps; None if it is current."""
        reason = self._reason(chain, platform, image)
        if not reason:
            return None
        record = self._records.of_image(chain.result.repository, image).record
        built_at = record.built_at if record else 0.0
        return StaleImage(index=index, platform=platform, image=image, built_at=built_at, reason=reason)

    def _reason(self, chain: Chain, platform: Platform, image: Digest) -> str:
        plan = self._plan(platform)
        if isinstance(plan, str):
            return f"and whether that was built from the same inputs is not known: {plan}"
        twins = [one for one in plan.graph.chains if one.index == chain.index and one.option == chain.option]
        if not twins:
            return "and whether that was built from the same inputs is not known: the tree has no such chain for it"
        decision = next(one for one in plan.decisions if one.step.id == twins[-1].result.id)
        if decision.cached_record is None:
            return f"built from other inputs ({decision.step.name}: {decision.reason})"
        if decision.cached_record.image != image:
            return f"which is not the image of the present inputs ({decision.cached_record.image.short})"
        return ""

    def _plan(self, platform: Platform) -> Plan | str:
        """Return the plan for a platform, or why there is none."""
        if platform.oci not in self._plans:
            self._plans[platform.oci] = self._planned(platform)
        return self._plans[platform.oci]

    def _planned(self, platform: Platform) -> Plan | str:
        if self._graph_for is None:
            return "this kind of run cannot tell"
        try:
            return self._plan_of(self._graph_for([platform]))
        except ChainbuildError as error:
            return error.message.splitlines()[0]
