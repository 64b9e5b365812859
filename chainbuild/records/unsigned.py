"""Records from before they were signed (`chainbuild.record/1`): read, checked and signed, if the user vouches for them.

Nothing reads them otherwise. What an old key cannot stand for is left behind, to be built again: content of the network,
which was not in it, and images that a stage was named after, which could take that stage's place in the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import DamagedContentError
from chainbuild.keys import Components
from chainbuild.records.record import UNSIGNED_ARTIFACT_TYPE, Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_key
from chainbuild.references import ImageReference
from chainbuild.registry.artifacts import read_artifact

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
