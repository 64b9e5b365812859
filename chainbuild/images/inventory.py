"""What the chain registry holds, for people: images with age and size, the trail of one, why a step would be built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct

from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError
from chainbuild.images.provenance import ProvenanceStep, read_provenance
from chainbuild.model import CHAIN_IMAGE
from chainbuild.records.garbage import is_readable
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of, resolve
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

_AT_ONCE: Final = 8
_T = TypeVar("_T")
_STAGES: Final = frozenset({"minimize", "production"})


class Listed(Struct, frozen=True, kw_only=True):
    """A tag of the chain registry on one platform. Sizes are compressed bytes; `added` is over its base (-1: unknown).

    The base of a step is the step before it; that of a result is what its whole chain is based on.

    `built_at` is seconds since the epoch, 0 if no one wrote it down.
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
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for name in names:
            if not name.startswith(prefix):
                continue
            place = ImageReference(records.chain.host, name)
            tags = sorted(client.tags(name))
            by_image = _records_by_image(records, place, tags, pool)
            references = [place.with_tag(tag) for tag in tags if is_readable(tag)]
            for rows in pool.map(lambda one: tuple(_look(records.registries, one)), references):
                listed += [_with_record(row, by_image) for row in rows]
    return tuple(listed)


def _records_by_image(
    store: RecordStore, place: ImageReference, tags: list[str], pool: ThreadPoolExecutor
) -> dict[str, Record]:
    keys = [tag for tag in tags if is_key(tag)]
    found = pool.map(lambda key: store.read(place, key), keys)
    return {str(record.image): record for record in found if record}


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
        registries.notice(f"left out {reference}: {error}")
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
    """Return what an image adds over its base: a layer's of several steps over what the first one is based on."""
    option, _, name = record.step.rpartition("/")
    if name in _STAGES or f"-{name}-" in tag:
        return record.added
    by_key = {one.key: one for one in records.values()}
    added, seen = record.added, {record.key}
    parent = by_key.get(record.parents.get(CHAIN_IMAGE, ""))
    while parent and parent.step.rpartition("/")[0] == option and parent.key not in seen:
        added += parent.added
        seen.add(parent.key)
        parent = by_key.get(parent.parents.get(CHAIN_IMAGE, ""))
    return added


class Crumb(Struct, frozen=True, kw_only=True):
    """A step of an image's trail; `record` is None if the chain registry has none that counts, and `refusal` says why.

    `signer` names the trusted key that signed the record.
    """

    step: str
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
            f"nothing is known of how {image.reference} was made",
            hint="It has no trail in its labels, and the chain registry has no record of it.",
        )
    places = (*_with_those_above(place), records.chain.records)
    found = [_crumb(records, places, one) for one in crumbs]
    own = found[-1].record
    if own is not None and own.image != image.digest:
        # Labels are anybody's to write: the record decides, and it is about another image.
        why = f"its record is that of another image ({own.image.short})"
        found[-1] = replace(found[-1], record=None, refusal=why, signer="")
    return tuple(found)


def _with_those_above(place: ImageReference) -> tuple[ImageReference, ...]:
    """Return the repository and those that it is in: images that are released as `repo/rel/x` have their records in `repo`."""
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
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        records = {
            record.key: record
            for record in pool.map(lambda key: store.read(place, key), filter(is_key, tags))
            if record
        }
    own = next((record for record in records.values() if record.image == image.digest), None)
    met: set[str] = set()
    seen: dict[str, ProvenanceStep] = {}
    # Parents first; by hand, because a chain may be longer than Python's stack.
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
