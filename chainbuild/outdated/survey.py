"""Examine images: the packages that have newer versions, what brought them, and which steps would gain something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.outdated.lineage import Lineages, Made, pinned_by_step, update_name, was_tried
from chainbuild.outdated.model import Finding, SourceReport, State
from chainbuild.outdated.sources import Sources
from chainbuild.step_id import StepId
from chainbuild.text import plural


class Row(Struct, frozen=True, kw_only=True):
    """A package of one or more images. `brought_by` is the name of the step or image that brought it.

    `renews`: the step that would gain the update, None if none would; `tried`: it was renewed for the update before, and did
    not get it. `images` are the names of the examined images that have the package.
    """

    platform: str
    finding: Finding
    brought_by: str
    renews: StepId | None = None
    tried: bool = False
    images: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        package, finding = self.finding.package, self.finding
        return {
            "platform": self.platform,
            "kind": package.kind,
            "name": package.name,
            "arch": package.arch,
            "installed": package.version,
            "state": finding.state.value,
            "available": finding.candidate,
            "security": finding.security,
            "source": finding.origin,
            "note": finding.note,
            "step": self.brought_by,
            "renews": str(self.renews) if self.renews else None,
            "tried": self.tried,
            "images": list(self.images),
        }


class Renewals(Struct, frozen=True, kw_only=True):
    """Why steps are renewed: the reason for the plan, and the updates for the note of the new record.

    A rebuild uses the newest lists, so the note has all updates of the step, also those that were not its reason.
    """

    reasons: Mapping[StepId, str]
    updates: Mapping[StepId, str]


class Transfers(Struct, frozen=True, kw_only=True):
    """What was transferred: requests to sources and bytes of their answers; layers that were read, and their bytes."""

    requests: int = 0
    received: int = 0
    layers: int = 0
    layer_bytes: int = 0


class Survey(Struct, frozen=True, kw_only=True):
    """The result for a number of images. `sources` are those that were asked."""

    rows: tuple[Row, ...]
    sources: tuple[SourceReport, ...] = ()
    problems: tuple[str, ...] = ()
    transfers: Transfers = Transfers()

    def of_state(self, *states: State) -> tuple[Row, ...]:
        """Return the rows with one of these states."""
        return tuple(row for row in self.rows if row.finding.state in states)

    @property
    def unusable(self) -> tuple[SourceReport, ...]:
        """The sources that could not be used."""
        return tuple(source for source in self.sources if not source.state.is_used)

    def renewals(self, *, security: bool = False) -> Renewals:
        """Return the steps that would gain something. `security`: only security updates count."""
        gains: dict[StepId, dict[str, Finding]] = {}
        updates: dict[StepId, set[str]] = {}
        for row in self.of_state(State.OUTDATED):
            if row.renews is None:
                continue
            updates.setdefault(row.renews, set()).add(update_name(row.finding))
            if not row.tried and (row.finding.security or not security):
                gains.setdefault(row.renews, {})[update_name(row.finding)] = row.finding
        return Renewals(
            reasons={step: reason_of(tuple(found.values())) for step, found in gains.items()},
            updates={step: " ".join(sorted(updates[step])) for step in gains},
        )


def reason_of(findings: Sequence[Finding]) -> str:
    """Return the reason for a renewal: the most important update, and the number of the others."""
    first, *others = sorted(findings, key=lambda finding: (not finding.security, finding.package.name))
    count = sum(bool(finding.security) for finding in others)
    of_security = f" ({count} security)" if count else ""
    return first.change + (f"; and {plural(len(others), 'more package')}{of_security}" if others else "")


def examine(lineages: Lineages, images: Iterable[tuple[str, Made]], sources: Sources) -> Survey:
    """Compare the packages of images with their sources. `images` have their names. Errors: `RegistryError`.

    Packages that are current have no row. One that several images have from the same step has one row.
    """
    named = list(images)
    compared = in_parallel(lambda pair: sources.compare(pair[1].inventory), named, at_once=STREAMS)
    rows: dict[tuple[object, ...], Row] = {}
    for (name, made), findings in zip(named, compared, strict=True):
        for finding in findings:
            if finding.state is State.CURRENT:
                continue
            origin = lineages.origin(made, finding.package)
            finding = pinned_by_step(finding, origin.brought_by)  # noqa: PLW2901
            step = origin.renews.step if origin.renews else None
            brought_by, platform = origin.brought_by.name, made.image.platform.name
            key = (platform, brought_by, step, finding.package.identity, finding.package.place, finding.state)
            earlier = rows.get(key)
            rows[key] = Row(
                platform=platform,
                finding=finding,
                brought_by=brought_by,
                renews=step if finding.state is State.OUTDATED else None,
                tried=origin.renews is not None and was_tried(finding, origin.renews),
                images=(*(earlier.images if earlier else ()), name),
            )
    layers = lineages.reader.layers
    return Survey(
        rows=tuple(rows.values()),
        sources=sources.asked.reports,
        problems=sources.asked.problems,
        transfers=Transfers(
            requests=sources.fetcher.requests,
            received=sources.fetcher.received,
            layers=layers.read_layers,
            layer_bytes=layers.read_bytes,
        ),
    )
