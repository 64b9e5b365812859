"""Copy records and images to another chain registry, and adopt those of earlier versions.

Records and their images taken along from one chain registry to another: verified, and only what is missing.

Records from before they were signed (`chainbuild.record/1`): read, checked and signed, if the user vouches for them.

Nothing reads them otherwise. What an old key cannot stand for is left behind, to be built again: content of the network,
which was not in it, and images that a stage was named after, which could take that stage's place in the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import DamagedContentError
from chainbuild.records.keys import Components
from chainbuild.records.record import UNSIGNED_ARTIFACT_TYPE, Lookup, Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.artifacts import copy_attached, read_artifact
from chainbuild.registry.images import copy_image

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


_SCHEMA: Final = "chainbuild.record/1"
_REMOTE: Final = re.compile(r"(?im)^\s*(?:ONBUILD\s+)?ADD\b.*(?:://|git@|github\.com/|\$)")


def adopt_unsigned(
    records: RecordStore, repository: ImageReference, *, dry_run: bool = False
) -> Iterator[tuple[str, str]]:
    """Sign a repository's unsigned records under the keys that their inputs have now.

    Gives for each its step, and why it was left behind (empty: it was signed).
    """
    for tag in filter(is_key, records.registries.client(repository).tags(repository.repository)):
        try:
            artifact = read_artifact(records.registries, repository.with_tag(tag), UNSIGNED_ARTIFACT_TYPE)
        except DamagedContentError:
            yield tag, "it is damaged"
            continue
        if artifact is None:
            continue
        try:
            record = read_unsigned(artifact.content)
        except ValueError:
            yield tag, "it cannot be read"
            continue
        why = _speaks_against(record) or records.misfit(repository, record)
        if not why and not dry_run and records.read(repository, record.key) is None:
            newest = records.last(repository, record.family).record
            records.write(repository, record, newest=newest is None or newest.built_at <= record.built_at)
        yield record.step, why


def read_unsigned(raw: bytes) -> Record:
    """Read an old record as one of today. Errors: `ValueError`."""
    try:
        document: dict[str, Any] = json.loads(raw)
        if document["schema"] != _SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        components = Components.from_json({"remotes": {}, **document["components"]})
        platform, option, name = document["step"].split("/", 2)
        family = f"{option}-{name}-{platform}"
        return Record.read({**document, "key": components.key, "family": family}, components)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def _speaks_against(record: Record) -> str:
    """Return why an old key does not stand for the image; empty if it does."""
    components = record.components
    if _REMOTE.search(components.dockerfile):
        return "its Dockerfile takes content from the network, which its key did not hold"
    if any(not text.startswith("sha256:") for text in components.contexts.values()):
        return "it has a context in the network, which its key did not hold"
    dockerfile = parse(components.dockerfile.encode("utf-8", "surrogateescape"), record.step)
    stages = {normal_context_name(stage.name) for stage in dockerfile.stages if stage.name}
    named = {normal_context_name(name) for name in components.images}
    if stages & named:
        return f"its stage {min(stages & named)!r} is named like an image, which may have taken its place"
    return ""
