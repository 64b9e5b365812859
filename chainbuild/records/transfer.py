"""Records and their images taken along from one chain registry to another: verified, and only what is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec import Struct, field

from chainbuild.records.record import Lookup
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.images import copy_image
from chainbuild.registry.referrers import copy_attached

_AT_ONCE: Final = 8


class Transfer(Struct):
    """What became of the records. `refused` has the reasons for those that were left behind, by step or key."""

    copied: list[str] = field(default_factory=list)
    present: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def copy_records(
    source: RecordStore,
    target: RecordStore,
    *,
    only: Collection[str] = (),
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Transfer:
    """Copy what the source registry has records of, and that counts there, into the target registry.

    `only`: repositories as the user calls them, without the registry's path. A record keeps its signatures and gets the
    user's own: whoever copies vouches for what was checked. Errors: those of the registries.
    """
    result = Transfer()
    for name, found in _records(source):
        record, repository = found.record, found.repository
        relative = _relative(source.chain, repository)
        if only and relative not in only:
            continue
        if record is None or found.envelope is None:
            result.refused[name] = found.refusal
            continue
        here = ImageReference(source.chain.host, repository)
        there = ImageReference(target.chain.host, _below(target.chain, relative))
        known = target.look_up(there, record.key).record
        if known and known.image == record.image and not target.misfit(there, known):
            result.present += 1
            continue
        why = source.misfit(here, record)
        if why:
            result.refused[record.step] = why
            continue
        if not dry_run:
            tell(f"{relative}: {record.step} ({record.image.short})")
            copy_image(source.registries, here.with_digest(record.image), there)
            copy_attached(source.registries, here.with_digest(record.image), there)
            last = target.last(there, record.family).record
            target.keep(there, record, found.envelope, newest=last is None or last.built_at <= record.built_at)
        result.copied.append(f"{relative}: {record.step}")
    return result


def _records(source: RecordStore) -> Iterator[tuple[str, Lookup]]:
    """Every record of a chain registry with its key: those that count oldest first, then the others."""
    copies = source.chain.records
    keys = [tag for tag in source.registries.client(copies).tags(copies.repository) if is_key(tag)]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        found = dict(zip(keys, threads.map(lambda key: source.look_up(copies, key), keys), strict=True))
    yield from sorted(found.items(), key=lambda item: item[1].record.built_at if item[1].record else float("inf"))


def _relative(chain: ChainRegistry, repository: str) -> str:
    return repository.removeprefix(f"{chain.prefix}/") if chain.prefix else repository


def _below(chain: ChainRegistry, relative: str) -> str:
    return f"{chain.prefix}/{relative}" if chain.prefix else relative
