"""Which results of the chain registry are old: readable tags by what made them, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.collect import Garbage, find_garbage, is_readable
from chainbuild.registry.oci import Index
from chainbuild.registry.pool import Registries
from chainbuild.registry.records import Record, RecordStore, is_key


def find_all_garbage(
    registries: Registries, chain: ChainRegistry, *, keep: int, repository: str = "", managed: bool = True
) -> tuple[Garbage, ...]:
    """What can go from every repository of the chain registry (or from one), when the newest `keep` TAGs stay.

    Every repository is looked at (in a registry that others use too: only the one that is named): they share blobs.

    A TAG here is a run's TAG of one option: all images that carry it, on every platform, stay or go together.
    """
    client = registries.client(chain.host)
    found = []
    for name in sorted(client.repositories()) if managed else [repository]:
        place = ImageReference(chain.host, name)
        tags = client.tags(name)
        wanted = repository in {"", name} and any(is_key(tag) for tag in tags)
        results = _by_option(registries, client, place, tags) if wanted else {}
        garbage = find_garbage(registries, place, dropped=_old(results, keep))
        found.append(garbage if wanted else _untouched(garbage))
    return tuple(found)


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
    registries: Registries, client: RegistryClient, place: ImageReference, tags: Iterable[str]
) -> dict[str, dict[str, tuple[float, list[str]]]]:
    """Per option, per TAG: when its newest image was built, and its tags."""
    store = RecordStore(registries)
    records = [record for tag in tags if is_key(tag) and (record := store.read(place, tag))]
    by_image: dict[str, list[Record]] = {}
    for record in records:
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
