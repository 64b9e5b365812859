"""Books: all records of a chain in one document, so that a plan asks a handful of questions however long the chain is.

A book lies at the tag `k1-book-<option>-<platform>`, and each image in it also has a tag of its digest. One list of the
repository's tags then tells which records and images still stand: a registry that deletes a manifest takes its tags
along. What a book or the list does not tell is asked for in the ordinary way, so a missing, old or damaged book costs
time and nothing else. A look at a registry ages: it is for one plan, never for the hours that building takes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Final

from chainbuild.errors import LoginNeededError, RegistryError, UnreachableError
from chainbuild.keys import Components
from chainbuild.model import Chain, StepId
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.images import put_tag
from chainbuild.registry.pool import Registries
from chainbuild.registry.records import Record

SCHEMA: Final = "chainbuild.book/1"
ARTIFACT_TYPE: Final = "application/vnd.chainbuild.book.v1+json"
_NO_COMPONENTS: Final = Components(dockerfile="", platform="")
_WRITERS: Final = 8
# A page has up to 1,000 tags. A repository with many more than its books tell of is not listed to the end.
_STEPS_A_PAGE: Final = 50
_LEAST_PAGES: Final = 3


class Books:
    """The books of some chains, as they and their repositories were when they were first asked for. Not thread-safe."""

    def __init__(self, registries: Registries, chains: Iterable[Chain]) -> None:
        self._registries = registries
        self._places = tuple(dict.fromkeys(book_reference(chain) for chain in chains))
        self._read: dict[ImageReference, dict[str, Record]] | None = None
        self._tags: dict[ImageReference, frozenset[str]] = {}

    def standing(self, repository: ImageReference, components: Components) -> Record | None:
        """The record of a key whose record and image both still stand; None where that has to be asked."""
        key = components.key
        for place, records in self._books().items():
            if key in records and (place.registry, place.repository) == (repository.registry, repository.repository):
                record = records[key]
                tags = self._tags_of(repository)
                if key in tags and image_tag(record.image) in tags:
                    return replace(record, components=components)
        return None

    def keep(self, chain: Chain, records: Collection[Record]) -> None:
        """Let the chain's book tell of these records, besides those of other steps. Nothing is sent where it does already.

        Whoever may only read the registry, or loses it here, goes without a book: that is no error.
        """
        with suppress(RegistryError):
            self._keep(book_reference(chain), records)

    def _keep(self, place: ImageReference, records: Collection[Record]) -> None:
        known = self._books().get(place, {})
        steps = {record.step for record in records}
        whole = (*records, *(record for record in known.values() if record.step not in steps))
        documents = _documents(whole)
        if documents == _documents(known.values()):
            return
        tags = self._tags_of(ImageReference(place.registry, place.repository), every=len(whole))
        untagged = {record.image for record in records if image_tag(record.image) not in tags}
        with ThreadPoolExecutor(max_workers=_WRITERS) as threads:
            for _ in threads.map(lambda image: self._tag(place, image), untagged):
                pass
        # The book comes last: it never tells of an image that has no tag.
        _write(self._registries, place, documents)

    def _tag(self, repository: ImageReference, image: Digest) -> None:
        put_tag(self._registries, repository.with_tag(image_tag(image)), image)

    def _books(self) -> Mapping[ImageReference, dict[str, Record]]:
        if self._read is None:
            self._read = {place: self._book(place) for place in self._places}
        return self._read

    def _book(self, place: ImageReference) -> dict[str, Record]:
        try:
            artifact = read_artifact(self._registries, place, ARTIFACT_TYPE)
            return read_book(artifact.content) if artifact else {}
        except (UnreachableError, LoginNeededError):
            raise
        except (RegistryError, ValueError):
            return {}

    def _tags_of(self, repository: ImageReference, *, every: int = 0) -> frozenset[str]:
        if repository not in self._tags:
            steps = max([every, *map(len, self._books().values())])
            client = self._registries.client(repository)
            pages = _LEAST_PAGES + steps // _STEPS_A_PAGE
            try:
                self._tags[repository] = frozenset(client.some_tags(repository.repository, pages=pages))
            except (UnreachableError, LoginNeededError):
                raise
            except RegistryError:
                # A registry that does not list its tags: everything is asked for by its name.
                self._tags[repository] = frozenset()
        return self._tags[repository]


def forget(registries: Registries, repository: ImageReference, step: StepId) -> None:
    """Empty the book of a step's chain: a record that it may tell of is about to become another one.

    A run that is killed after that leaves no book that is older than the records.
    """
    platform, option = step.split("/")[:2]
    _write(registries, repository.with_tag(book_tag(option, platform)), [])


def _write(registries: Registries, place: ImageReference, documents: list[dict[str, object]]) -> None:
    content = json.dumps({"schema": SCHEMA, "records": documents}, sort_keys=True, separators=(",", ":")).encode()
    put_artifact(registries, place, artifact_type=ARTIFACT_TYPE, content=content)


def _documents(records: Iterable[Record]) -> list[dict[str, object]]:
    return [document_of(record) for record in sorted(records, key=lambda record: record.step)]


def document_of(record: Record) -> dict[str, object]:
    """A record as a book has it: without its components, of which the key is the digest."""
    document = record.as_json()
    del document["components"]
    return document


def read_book(content: bytes) -> dict[str, Record]:
    """The records of a book by key; their components are left open. Errors: `ValueError` on anything else."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        records = [Record.read(one, _NO_COMPONENTS) for one in document["records"]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a book: {error!r}") from error
    return {record.key: record for record in records}


def image_tag(image: Digest) -> str:
    """The tag of an image that is named by its digest."""
    return f"k1-image-{image.hex}"


def book_reference(chain: Chain) -> ImageReference:
    """Where the book of a chain lies."""
    return chain.result.repository.with_tag(book_tag(chain.option, chain.platform.name))


def book_tag(option: str, platform: str) -> str:
    """The tag of a book; long names are cut and told apart by a hash."""
    tag = f"k1-book-{option}-{platform}"
    return tag if len(tag) <= 128 else f"{tag[:111]}-{hashlib.sha256(tag.encode()).hexdigest()[:16]}"
