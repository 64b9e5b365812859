"""Copy records and images to another chain registry, and adopt those of earlier versions.

Copied records and images are verified, and only missing ones are copied.

Adopting reads records from before they were signed (`chainbuild.record/1`), checks them, and signs them on the user's
behalf; nothing else reads them. A record is rejected, and its step is built again, if its old key was incomplete: content
from the network was not part of it, nor images that share a stage's name, which could replace that stage in the build.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import DamagedContentError
from chainbuild.in_parallel import in_parallel
from chainbuild.patterns import regex
from chainbuild.records.keys import Components
from chainbuild.records.record import UNSIGNED_ARTIFACT_TYPE, Lookup, Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.artifacts import copy_attached, read_artifact
from chainbuild.registry.images import copy_image
from chainbuild.step_id import StepId


class Transfer(Struct):
    """The result of a transfer. `refused` has the reasons for records that were not copied, by step or key."""

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
    """Copy the source registry's valid records and their images into the target registry.

    `only`: repositories as the user names them, without the registry's path. A record keeps its signatures and is also
    signed by the user, who vouches for what was checked. Errors: those of the registries.
    """
    result = Transfer()
    for name, lookup in _records(source):
        record, repository = lookup.record, lookup.repository
        relative = _relative(source.chain, repository)
        if only and relative not in only:
            continue
        if record is None or lookup.envelope is None:
            result.refused[name] = lookup.refusal
            continue
        source_repository = ImageReference(source.chain.host, repository)
        target_repository = ImageReference(target.chain.host, _below(target.chain, relative))
        existing = target.look_up(target_repository, record.key).record
        if existing and existing.image == record.image and not target.misfit(target_repository, existing):
            result.present += 1
            continue
        why = source.misfit(source_repository, record)
        if why:
            result.refused[str(record.step)] = why
            continue
        if not dry_run:
            tell(f"{relative}: {record.step} ({record.image.short})")
            copy_image(source.registries, source_repository.with_digest(record.image), target_repository)
            copy_attached(source.registries, source_repository.with_digest(record.image), target_repository)
            last = target.last(target_repository, record.family).record
            target.keep(
                target_repository, record, lookup.envelope, newest=last is None or last.built_at <= record.built_at
            )
        result.copied.append(f"{relative}: {record.step}")
    return result


def _records(source: RecordStore) -> Iterator[tuple[str, Lookup]]:
    """Yield every record of a chain registry with its key: the valid ones, oldest first, then the others."""
    copies = source.chain.records
    keys = [tag for tag in source.registries.client(copies).tags(copies.repository) if is_key(tag)]
    lookups = dict(zip(keys, in_parallel(lambda key: source.look_up(copies, key), keys), strict=True))
    yield from sorted(lookups.items(), key=lambda item: item[1].record.built_at if item[1].record else float("inf"))


def _relative(chain: ChainRegistry, repository: str) -> str:
    return repository.removeprefix(f"{chain.prefix}/") if chain.prefix else repository


def _below(chain: ChainRegistry, relative: str) -> str:
    return f"{chain.prefix}/{relative}" if chain.prefix else relative


_SCHEMA: Final = "chainbuild.record/1"
_REMOTE: Final = regex(r"(?im)^\s*(?:ONBUILD\s+)?ADD\b.*(?:://|git@|github\.com/|\$)")


def adopt_unsigned(
    records: RecordStore, repository: ImageReference, *, dry_run: bool = False
) -> Iterator[tuple[str, str]]:
    """Sign a repository's unsigned records under the keys that their inputs have now.

    Yields each record's step and the reason why it was not signed (empty if it was).
    """
    for tag in filter(is_key, records.registries.client(repository).tags(repository.repository)):
        try:
            artifact = read_artifact(records.registries, repository.with_tag(tag), UNSIGNED_ARTIFACT_TYPE)
        except DamagedContentError:
            yield tag, "the record is damaged"
            continue
        if artifact is None:
            continue
        try:
            record = read_unsigned(artifact.content)
        except ValueError:
            yield tag, "the record cannot be read"
            continue
        why = _objection(record) or records.misfit(repository, record)
        if not why and not dry_run and records.read(repository, record.key) is None:
            newest = records.last(repository, record.family).record
            records.write(repository, record, newest=newest is None or newest.built_at <= record.built_at)
        yield str(record.step), why


def read_unsigned(raw: bytes) -> Record:
    """Read a record of the old format. Errors: `ValueError`."""
    try:
        document: dict[str, Any] = json.loads(raw)
        if document["schema"] != _SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        components = Components.from_json({"remotes": {}, **document["components"]})
        step = StepId.parse(document["step"])
        if not step.option:
            raise ValueError(f"step {str(step)!r}")
        family = f"{step.option}-{step.name}-{step.platform}"
        return Record.read({**document, "key": components.key, "family": family}, components)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def _objection(record: Record) -> str:
    """Return why an old key does not identify the image; empty if it does."""
    components = record.components
    if _REMOTE.search(components.dockerfile):
        return "its Dockerfile downloads content that its key did not cover"
    if any(not text.startswith("sha256:") for text in components.contexts.values()):
        return "it has a remote context that its key did not cover"
    dockerfile = parse(components.dockerfile.encode("utf-8", "surrogateescape"), str(record.step))
    stages = {normal_context_name(stage.name) for stage in dockerfile.stages if stage.name}
    inputs = {normal_context_name(name) for name in components.images}
    if stages & inputs:
        return f"its stage {min(stages & inputs)!r} has the name of an image, which may have replaced it"
    return ""
