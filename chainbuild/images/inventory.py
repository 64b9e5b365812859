"""List the images of the chain registry with age and size, and the provenance of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from msgspec import Struct

from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError
from chainbuild.images.provenance import ProvenanceStep, read_provenance
from chainbuild.in_parallel import in_parallel
from chainbuild.records.garbage import is_readable
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of, resolve
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.values import replace

_T = TypeVar("_T")


class Listed(Struct, frozen=True, kw_only=True):
    """A tag of the chain registry on one platform. Sizes are compressed bytes; `added` is relative to its base (-1: unknown).

    The base of a step is the step before it; that of a result is the base of its chain.

    `built_at` is seconds since the epoch, 0 if unknown.
    """

    reference: ImageReference
    platform: Platform
    image: RemoteImage
    is_index: bool
    added: int = -1
    built_at: float = 0.0
    seconds: float = 0.0


def list_images(records: RecordStore, repository: str = "") -> tuple[Listed, ...]:
    """Return every image under a readable tag, in the order of repositories and tags."""
    client = records.registries.client(records.chain.host)
    names = [repository] if repository else sorted(client.repositories())
    prefix = f"{records.chain.prefix}/" if records.chain.prefix else ""
    listed: list[Listed] = []
    for name in names:
        if not name.startswith(prefix):
            continue
        place = ImageReference(records.chain.host, name)
        tags = sorted(client.tags(name))
        by_image = _records_by_image(records, place, tags)
        references = [place.with_tag(tag) for tag in tags if is_readable(tag)]
        for rows in in_parallel(lambda reference: tuple(_look(records.registries, reference)), references):
            listed += [_with_record(row, by_image) for row in rows]
    return tuple(listed)


def _records_by_image(store: RecordStore, place: ImageReference, tags: list[str]) -> dict[str, Record]:
    keys = [tag for tag in tags if is_key(tag)]
    lookups = in_parallel(lambda key: store.read(place, key), keys)
    return {str(record.image): record for record in lookups if record}


def _look(registries: Registries, reference: ImageReference) -> Iterator[Listed]:
    """Yield the images under a tag. What is none, or lost a part, is left out; what is damaged too, with a notice.

    Errors: those of a registry that does not answer clearly.
    """
    for platform in _readable(registries, reference, lambda: platforms_of(registries, reference)) or ():
        image = _readable(registries, reference, partial(resolve, registries, reference, platform))
        if image is not None:
            yield Listed(reference=reference, platform=platform, image=image, is_index=image.index_digest is not None)


def _readable(registries: Registries, reference: ImageReference, read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (NotFoundInRegistryError, NotAnImageError):
        return None
    except DamagedContentError as error:
        registries.notice(f"skipped {reference}: {error}")
        return None


def _with_record(row: Listed, records: Mapping[str, Record]) -> Listed:
    record = records.get(str(row.image.digest))
    if record is None:
        return row
    return replace(
        row,
        added=_added(row.reference.tag_or_latest, record, records),
        built_at=record.built_at,
        seconds=record.seconds,
    )


def _added(tag: str, record: Record, records: Mapping[str, Record]) -> int:
    """Return the bytes that an image adds to its base; for several steps, to the base of the first one."""
    if record.step.is_stage or f"-{record.step.short_name}-" in tag:
        return record.added
    by_key = {record.key: record for record in records.values()}
    added, seen = record.added, {record.key}
    parent = by_key.get(record.chain_parent)
    while parent and parent.step.group == record.step.group and parent.key not in seen:
        added += parent.added
        seen.add(parent.key)
        parent = by_key.get(parent.chain_parent)
    return added


class Crumb(Struct, frozen=True, kw_only=True):
    """A step of an image's provenance; `record` is None if the chain registry has no valid one, for the reason `refusal`.

    `signer` names the trusted key that signed the record.
    """

    step: StepId
    key: str
    record: Record | None
    refusal: str = ""
    signer: str = ""


def trail_of(records: RecordStore, image: RemoteImage) -> tuple[Crumb, ...]:
    """Return the steps that an image is based on, the lowest first: from its labels, else from the records' parents.

    Errors: `NotFoundInRegistryError` if neither knows the image.
    """
    place = image.reference if records.chain.holds(image.reference) else records.chain.place(image.reference)
    place = ImageReference(place.registry, place.repository)
    crumbs = read_provenance(image.config) or _trail_from_records(records.registries, records, place, image)
    if not crumbs:
        raise NotFoundInRegistryError(
            f"no provenance found for {image.reference}",
            hint="Its labels have no provenance, and the chain registry has no record of it.",
        )
    places = (*_with_those_above(place), records.chain.records)
    steps = [_crumb(records, places, entry) for entry in crumbs]
    last = steps[-1].record
    if last is not None and last.image != image.digest:
        # Labels are not authentic: the record decides, and it belongs to another image.
        why = f"its record belongs to another image ({last.image.short})"
        steps[-1] = replace(steps[-1], record=None, refusal=why, signer="")
    return tuple(steps)


def _with_those_above(place: ImageReference) -> tuple[ImageReference, ...]:
    """Return the repository and its parents: images released as `repo/rel/x` have their records in `repo`."""
    parts = place.repository.split("/")
    return tuple(ImageReference(place.registry, "/".join(parts[:count])) for count in range(len(parts), 0, -1))


def _crumb(store: RecordStore, places: Iterable[ImageReference], crumb: ProvenanceStep) -> Crumb:
    refusal = ""
    for place in places:
        found = store.look_up(place, crumb.key)
        if found.record:
            signer = found.signer.name if found.signer else ""
            return Crumb(step=crumb.step, key=crumb.key, record=found.record, signer=signer)
        refusal = refusal or found.refusal
    return Crumb(step=crumb.step, key=crumb.key, record=None, refusal=refusal)


def _trail_from_records(
    registries: Registries, store: RecordStore, place: ImageReference, image: RemoteImage
) -> tuple[ProvenanceStep, ...]:
    tags = registries.client(place).tags(place.repository)
    keys = [tag for tag in tags if is_key(tag)]
    records = {record.key: record for record in in_parallel(lambda key: store.read(place, key), keys) if record}
    own = next((record for record in records.values() if record.image == image.digest), None)
    met: set[str] = set()
    seen: dict[str, ProvenanceStep] = {}
    # Parents first; iterative, because a chain may be longer than Python's stack.
    todo = [(own, False)] if own else []
    while todo:
        record, parents_are_told = todo.pop()
        if parents_are_told:
            seen[record.key] = ProvenanceStep(step=record.step, key=record.key)
        elif record.key not in met:
            met.add(record.key)
            todo.append((record, True))
            todo += [(records[key], False) for key in reversed([*record.parents.values()]) if key in records]
    return tuple(seen.values())
