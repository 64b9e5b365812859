"""Find the steps of a plan whose packages have newer versions in the sources of their images."""

from __future__ import annotations

from collections.abc import Iterable

from chainbuild.errors import DamagedContentError, NotFoundInRegistryError
from chainbuild.execution.session import Session
from chainbuild.in_parallel import in_parallel
from chainbuild.outdated.inventory import InventoryReader
from chainbuild.outdated.layers import LayerReader
from chainbuild.outdated.lineage import Lineages, Made
from chainbuild.outdated.shared_extracts import SharedExtracts
from chainbuild.outdated.sources import Sources
from chainbuild.outdated.survey import Renewals, Survey, examine
from chainbuild.planning.decisions import Decision, Plan
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage, resolve


def find_renewals(plan: Plan, session: Session, *, security: bool) -> Renewals:
    """Return the steps that would gain updates. `security`: only security updates count. Errors: `RegistryError`.

    A source that could not be used is a warning: what it has is unknown.
    """
    # A step whose parent is not built yet may still be reused: early cut-off decides.
    open_ones = [decision for decision in plan.decisions if decision.cached_record or decision.components is None]
    survey = survey_steps(open_ones, session)
    for source in survey.unusable:
        session.warn(f"updates from {source.name} are unknown: {source.reason}")
    return survey.renewals(security=security)


def inventory_reader(session: Session) -> InventoryReader:
    """Return a reader of the packages of images."""
    records = session.records
    shared = SharedExtracts(session.registries, records.chain, records.keyring)
    return InventoryReader(LayerReader(session.registries, shared=shared))


def survey_steps(decisions: Iterable[Decision], session: Session) -> Survey:
    """Examine the image of each step: the one to reuse, else the one that was built last. Errors: `RegistryError`."""
    pairs = [pair for pair in in_parallel(lambda decision: _image(decision, session), decisions) if pair]
    records = {record.key: (record, image) for record, image in pairs}
    bases = {
        decision.step.id: str(base)
        for decision in decisions
        for image in decision.step.images
        if image.name == decision.step.parent and (base := image.external) is not None
    }
    lineages = Lineages(inventory_reader(session), records, bases)
    images: list[tuple[str, Made]] = []
    for record, _ in pairs:
        try:
            images.append((str(record.step), lineages.of_key(record.key)))
        except DamagedContentError as error:
            session.warn(f"updates of {record.step} are unknown: {error.message}")
    return examine(lineages, images, Sources(session.backends.indices(), clock=session.backends.clock))


def _image(decision: Decision, session: Session) -> tuple[Record, RemoteImage] | None:
    """Return the record of a step and its image; None if it was never built, or the image is gone or damaged."""
    record = decision.cached_record or decision.previous_record
    if record is None:
        return None
    place = decision.source or decision.step.repository
    try:
        return record, resolve(session.registries, place.with_digest(record.image), decision.step.platform)
    except (NotFoundInRegistryError, DamagedContentError):
        return None
