"""Which results of the chain registry are old: readable tags by what made them, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore, read_copy
from chainbuild.records.tags import is_key
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.collect import Garbage, Held, find_garbage, is_readable
from chainbuild.registry.oci import Index
from chainbuild.registry.pool import Registries
from chainbuild.values import replace


def find_all_garbage(
    records: RecordStore,
    *,
    keep: int,
    repository: str = "",
    managed: bool = True,
) -> tuple[Garbage, ...]:
    """What can go from every repository of the chain registry (or from one), when the newest `keep` TAGs stay.

    Every repository is looked at (in a registry that others use too: only the one that is named): they share blobs.

    A TAG here is a run's TAG of one option: all images that carry it, on every platform, stay or go together.
    """
    client = records.registries.client(records.chain.host)
    found = []
    names = sorted(client.repositories()) if managed else [repository]
    for name in names:
        if name == records.chain.records.repository:
            continue
        place = ImageReference(records.chain.host, name)
        tags = client.tags(name)
        wanted = repository in {"", name} and any(is_key(tag) for tag in tags)
        results = _by_option(records, client, place, tags) if wanted else {}
        garbage = find_garbage(records.registries, place, dropped=_old(results, keep))
        found.append(garbage if wanted else _untouched(garbage))
    return (*found, _old_copies(records.registries, records.chain, found, only="" if managed else repository))


def _old_copies(registries: Registries, chain: ChainRegistry, found: Sequence[Garbage], *, only: str) -> Garbage:
    """The copies of records whose images go, or have gone already. `only`: those of that repository."""
    going = {(one.repository.repository, held.digest) for one in found for held in one.manifests}
    client = registries.client(chain.host)
    manifests: list[Held] = []
    kept: set[Digest] = set()
    for tag in filter(is_key, client.tags(chain.records.repository)):
        copy = read_copy(registries, chain.records.with_tag(tag))
        if copy is None:
            continue
        where = (copy.repository, copy.record.image)
        gone = where in going or (only in {"", copy.repository} and client.head(*where) is None)
        if gone:
            manifests.append(Held(digest=copy.digest, tags=(tag,), blobs=copy.blobs))
        else:
            kept.update(copy.blobs)
    return Garbage(repository=chain.records, manifests=tuple(manifests), kept_tags=(), kept_blobs=frozenset(kept))


def _untouched(garbage: Garbage) -> Garbage:
    """A repository from which nothing is taken: it keeps every blob that it has."""
    blobs = frozenset(blob for held in garbage.manifests for blob in held.blobs)
    return replace(garbage, manifests=(), kept_blobs=garbage.kept_blobs | blobs)


def _old(results: Mapping[str, Mapping[str, tuple[float, list[str]]]], keep: int) -> frozenset[str]:
    """The readable tags of every option's TAGs but the newest `keep`."""
    dropped: list[str] = []
    for runs in results.values():
        newest_first = sorted(runs, key=lambda run: (runs[run][0], run), reverse=True)
        for run in newest_first[keep:]:
            dropped += runs[run][1]
    return frozenset(dropped)


def _by_option(
    records: RecordStore, client: RegistryClient, place: ImageReference, tags: Iterable[str]
) -> dict[str, dict[str, tuple[float, list[str]]]]:
    """Per option, per TAG: when its newest image was built, and its tags."""
    by_image: dict[str, list[Record]] = {}
    for record in (record for tag in tags if is_key(tag) and (record := records.read(place, tag))):
        by_image.setdefault(str(record.image), []).append(record)
    found: dict[str, dict[str, tuple[float, list[str]]]] = {}
    for tag in tags:
        if not is_readable(tag):
            continue
        try:
            raw = client.manifest(place.repository, tag)
        except NotFoundInRegistryError:  # somebody else's run has just taken it away
            continue
        digests = [str(raw.digest)]
        if raw.is_index:
            digests = [str(child.digest) for child in Index.of(raw).images]
        for record in (one for digest in digests for one in by_image.get(digest, ())):
            option, run = _run_of(tag, record, is_index=raw.is_index)
            if run:
                when, names = found.setdefault(option, {}).get(run, (0.0, []))
                found[option][run] = (max(when, record.built_at), [*names, tag])
                break
    return found


def _run_of(tag: str, record: Record, *, is_index: bool) -> tuple[str, str]:
    """The option and the run's TAG that a readable tag was made from; the TAG is empty where it is not one of ours."""
    platform, option, name = (*record.step.split("/", 2), "", "")[:3]
    suffix = {
        "production": f"-{option}" if is_index else f"-{option}-{platform}",
        "minimize": f"-{option}-minimized-{platform}",
    }.get(name, f"-{option}-{name}-{platform}")
    return option, tag.removesuffix(suffix) if name and tag.endswith(suffix) else ""
