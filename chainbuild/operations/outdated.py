"""Find outdated packages: of all steps and results of a project, or of single images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.execution.outdated_steps import inventory_reader, survey_steps
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import Session
from chainbuild.images.inventory import trail_of
from chainbuild.once import Once
from chainbuild.operations.named_images import NamedImage, find_named_image
from chainbuild.outdated.inventory import InventoryReader
from chainbuild.outdated.lineage import Lineages, Made
from chainbuild.outdated.model import State
from chainbuild.outdated.rule import violations_of
from chainbuild.outdated.sources import Sources
from chainbuild.outdated.survey import Row, Survey, examine
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.requests.build import BuildRequest
from chainbuild.values import replace

SHOWN = (State.OUTDATED, State.HELD, State.PINNED, State.GONE, State.AHEAD, State.UNKNOWN)
"""The states that are listed; packages in all others are as new as their sources."""


class Outdated(Struct, frozen=True, kw_only=True):
    """The packages with updates, and the steps that would be renewed. `only_security`: other updates are not counted."""

    survey: Survey
    only_security: bool
    images: tuple[str, ...]
    """The names of the examined images."""
    unbuilt: tuple[str, ...] = ()
    """The steps that have no image yet."""

    @property
    def updates(self) -> tuple[Row, ...]:
        """The rows of packages with updates."""
        rows = self.survey.of_state(State.OUTDATED)
        return tuple(row for row in rows if row.finding.security or not self.only_security)

    @property
    def others(self) -> tuple[Row, ...]:
        """The rows of packages in another state than current and outdated."""
        rows = self.survey.of_state(*(state for state in SHOWN if state is not State.OUTDATED))
        return tuple(row for row in rows if row.finding.security or not self.only_security)

    @property
    def rebuilt(self) -> tuple[tuple[str, str], ...]:
        """The steps that `--refresh-outdated` would renew, each with its reason."""
        reasons = self.survey.renewals(security=self.only_security).reasons
        return tuple((str(step), reason) for step, reason in reasons.items())

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document without its schema."""
        return {
            "only_security": self.only_security,
            "images": list(self.images),
            "unbuilt": list(self.unbuilt),
            "packages": [row.as_json() for row in (*self.updates, *self.others)],
            "rebuilt": [{"step": step, "reason": reason} for step, reason in self.rebuilt],
            "sources": [source.as_json() for source in self.survey.sources],
            "problems": list(self.survey.problems),
            "transfers": asdict(self.survey.transfers),
        }


def outdated_in_project(
    session: Session, request: BuildRequest, platform: Platform | None = None, *, security: bool
) -> Outdated:
    """Examine the newest image of every step of a run, on all platforms or on one. Nothing is built.

    Errors: those of a plan; `RegistryError`.
    """
    quiet = replace(session, emit=lambda _: None)
    plan = plan_run(request.graph, quiet, replace(request.options, outdated="")).plan
    decisions = [one for one in plan.decisions if platform is None or one.step.platform.same_as(platform)]
    survey = survey_steps(decisions, session)
    built = [str(one.step.id) for one in decisions if one.cached_record or one.previous_record]
    unbuilt = [str(one.step.id) for one in decisions if not (one.cached_record or one.previous_record)]
    return Outdated(survey=survey, only_security=security, images=tuple(built), unbuilt=tuple(unbuilt))


def outdated_images(session: Session, images: Sequence[NamedImage], *, security: bool) -> Outdated:
    """Examine images. The chain registry's records say which step brought a package. Errors: `RegistryError`."""
    found = [(str(named), find_named_image(session, named).image) for named in images]
    survey = _survey(session.records, *_opened(session), found)
    return Outdated(survey=survey, only_security=security, images=tuple(name for name, _ in found))


def examiner(session: Session) -> Callable[[RemoteImage, bool], Sequence[str]]:
    """Return what examines images for the rule `no-outdated` of a policy; see `outdated.rule`. Each list is read once."""
    opened: Once[str, tuple[InventoryReader, Sources]] = Once()

    def examine(image: RemoteImage, security: bool) -> Sequence[str]:
        reader, sources = opened.get("", lambda: _opened(session))
        survey = _survey(session.records, reader, sources.apart(), [(image.reference.repository, image)])
        return violations_of(survey, security=security)

    return examine


def _opened(session: Session) -> tuple[InventoryReader, Sources]:
    return inventory_reader(session), Sources(session.backends.indices(), clock=session.backends.clock)


def _survey(
    known: RecordStore, reader: InventoryReader, sources: Sources, found: Sequence[tuple[str, RemoteImage]]
) -> Survey:
    """Examine images with their names. The chain registry's records say which step brought a package."""
    records: dict[str, tuple[Record, RemoteImage]] = {}
    tops: list[str] = []
    for _, image in found:
        trail = _trail(known, image)
        records |= {record.key: (record, of_step) for record, of_step in trail}
        tops.append(trail[-1][0].key if trail else "")
    lineages = Lineages(reader, records)
    made: list[tuple[str, Made]] = [
        (name, lineages.of_key(top) if top else lineages.outside(image, name))
        for (name, image), top in zip(found, tops, strict=True)
    ]
    return examine(lineages, made, sources)


def _trail(records: RecordStore, image: RemoteImage) -> list[tuple[Record, RemoteImage]]:
    """Return the records of an image's steps with their images, as far as the registry has them; the image's own last."""
    try:
        crumbs = trail_of(records, image)
    except NotFoundInRegistryError:
        return []
    if crumbs[-1].record is None:
        return []
    known = [crumb.record for crumb in crumbs if crumb.record is not None]
    place = image.reference if records.chain.holds(image.reference) else records.chain.place(image.reference)
    return [*_resolved(records, known[:-1], place, image), (known[-1], image)]


def _resolved(
    records: RecordStore, known: Iterable[Record], place: ImageReference, image: RemoteImage
) -> Iterable[tuple[Record, RemoteImage]]:
    for record in known:
        try:
            yield record, resolve(records.registries, place.with_digest(record.image), image.platform)
        except NotFoundInRegistryError:
            continue
