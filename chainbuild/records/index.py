"""Record indexes, and this machine's memory of used records.

The memory protects against replayed records. A signature tells who wrote a record, not that it is the newest of its key:
after `--refresh` the older record, whose image has older packages, still has a valid signature, and anyone with write access
to the registry could restore it. The user's machine remembers when the newest build of each key began, and rejects a record
of the same key that was built before. Without the memory nothing is rebuilt, but an older record is not noticed.

An index holds all records of a chain in one signed document, so that a plan needs few requests however long the chain is.
Each signing key has its own index, at a tag of the chain's repository, and each image in it also has a tag made of its
digest. The list of the repository's tags then tells which records and images still exist: a registry that deletes a
manifest deletes its tags as well. Whoever signs an index has checked its records against their images. Anything that the
index or the list lacks is queried as usual, so a missing, old or damaged index costs time and nothing else. An index is
used for one plan, never for the hours that building takes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import (
    DamagedContentError,
    LoginNeededError,
    NotReadyError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.host.user_folders import private_folder, read_private, state_home, write_private
from chainbuild.in_parallel import in_parallel
from chainbuild.model import Chain
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.records.tags import image_tag, index_tag
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.images import put_tag
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.trust.envelope import MEDIA_TYPE, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError
from chainbuild.values import replace

_SCHEMA: Final = "chainbuild.seen/1"
_MOST: Final = 20_000
_LARGEST: Final = 8 << 20
_TOLERANCE: Final = 0.002
"""In seconds: records store milliseconds."""


class SeenRecords:
    """The start of the newest build of each key that this machine used in a chain registry. Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        """`path`: the file; None to remember nothing."""
        self._path = path
        self._times: dict[str, float] | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, chain: ChainRegistry) -> SeenRecords:
        """Return the memory of a chain registry; an empty one if the user has no folder for it."""
        name = hashlib.sha256(str(chain).encode()).hexdigest()[:32]
        try:
            return cls(state_home() / "records" / f"{name}.json")
        except NotReadyError:
            return cls(None)

    def is_older(self, record: Record) -> bool:
        """Return whether a record was built before the build of the newest record that this machine has used began.

        Two runs may build a step at the same time, and either of their records may end up in the registry. Their content
        is equally new, so both are accepted.
        """
        return self.is_before(record.key, record.built_at)

    def is_before(self, name: str, when: float) -> bool:
        """Return whether this machine has used a newer entry of that name; `when` is in seconds since the epoch."""
        return when + _TOLERANCE < self._known().get(name, 0.0)

    def remember(self, records: Iterable[Record]) -> None:
        """Remember records that were used or written. A folder that cannot be written to is no error."""
        # The start of the build: see `is_older`.
        self.remember_times({record.key: record.built_at - max(record.seconds, 0.0) for record in records})

    def remember_times(self, times: Mapping[str, float]) -> None:
        """Remember the times of used entries, by name. A folder that cannot be written to is no error."""
        seen = self._known()
        newer = {name: round(when, 3) for name, when in times.items() if when > seen.get(name, 0.0) + _TOLERANCE}
        if not newer or self._path is None:
            return
        with self._lock, suppress(NotReadyError):
            # Another run may have written in the meantime.
            stored = _read(self._path)
            merged = {
                key: max(stored.get(key, 0.0), seen.get(key, 0.0), newer.get(key, 0.0))
                for key in {*stored, *seen, *newer}
            }
            newest = sorted(merged.items(), key=lambda item: item[1])[-_MOST:]
            self._times = dict(newest)
            private_folder(self._path.parent)
            document = {"schema": _SCHEMA, "built_at": self._times}
            write_private(self._path, json.dumps(document, separators=(",", ":")).encode())

    def _known(self) -> dict[str, float]:
        with self._lock:
            if self._times is None:
                self._times = _read(self._path) if self._path else {}
            return self._times


def _read(path: Path) -> dict[str, float]:
    """Read the memory; unreadable content counts as empty."""
    try:
        document = json.loads(read_private(path, _LARGEST) or b"{}")
        if document.get("schema") != _SCHEMA:
            return {}
        return {str(key): float(when) for key, when in document["built_at"].items()}
    except (NotReadyError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


SCHEMA: Final = "chainbuild.index/2"
PAYLOAD_TYPE: Final = "application/vnd.chainbuild.index.v2+json"
_NO_COMPONENTS: Final = Components(dockerfile="", platform="")
_MOST_MARKS: Final = 300
"""Three tags per TAG. Dropped marks are queried again."""
# A page has up to 1,000 tags. The list is cut off if a repository has many more tags than its indexes explain.
_STEPS_A_PAGE: Final = 50
_LEAST_PAGES: Final = 3


class _Document(Struct, frozen=True, kw_only=True):
    """An index: records by key, and marks of stage statements (see `images.stage_statement_store`) by tag."""

    records: dict[str, Record] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)


Update = tuple[Chain, Collection[Record], Mapping[str, str]]
"""What to write into the index of a chain (see `RecordIndex.update`)."""


class RecordIndex:
    """The indexes of some chains, read on first use. Not thread-safe."""

    def __init__(
        self, registries: Registries, chains: Iterable[Chain], keyring: KeyRing, seen: SeenRecords | None = None
    ) -> None:
        self._registries = registries
        self._chains = tuple(chains)
        self._keyring = keyring
        self._seen = seen or SeenRecords(None)
        self._read: dict[ImageReference, _Document] | None = None
        self._tags: dict[ImageReference, frozenset[str]] = {}
        self._emptied: set[ImageReference] = set()

    def lookup(self, repository: ImageReference, components: Components) -> Record | None:
        """Return the record of a key if it and its image still exist; None if the registry must be queried."""
        key = components.key
        for place, document in self._indexes().items():
            if key in document.records and (place.registry, place.repository) == (
                repository.registry,
                repository.repository,
            ):
                record = document.records[key]
                if self._seen.is_older(record):
                    continue
                tags = self._tags_of(repository)
                if key in tags and image_tag(record.image) in tags:
                    return replace(record, components=components)
        return None

    def asked(self, chain: Chain) -> Mapping[str, frozenset[str]]:
        """Return the marks of the stage statements that trusted keys have made for a chain, by tag."""
        marks_by_tag: dict[str, set[str]] = {}
        for key in self._keyring.trusted:
            place = _place(chain.result.repository, key.id, chain.option, chain.platform.name)
            for tag, mark in self._indexes().get(place, _Document()).asked.items():
                marks_by_tag.setdefault(tag, set()).add(mark)
        return {tag: frozenset(marks) for tag, marks in marks_by_tag.items()}

    def forget(self, chain: Chain) -> None:
        """Empty the chain's own index before its content changes. Errors: `RegistryError`."""
        self._emptied.add(self._own_place(chain))
        clear_index(self._registries, chain.result.repository, chain.result.id, self._keyring)

    def update(self, chain: Chain, records: Collection[Record], asked: Mapping[str, str] | None = None) -> None:
        """Write these records and the marks of `asked` into the chain's own index; records of other steps are kept.

        Nothing is sent if nothing changed. It is no error if the registry is read-only for the user or fails: there is no
        index then.
        """
        with suppress(RegistryError):
            self._update(self._own_place(chain), records, asked or {})

    def update_all(self, updates: Collection[Update]) -> None:
        """Update the indexes of several chains, each of which has an index of its own."""
        with suppress(RegistryError):
            self._indexes()
        in_parallel(lambda update: self.update(*update), updates)

    def _update(self, place: ImageReference, records: Collection[Record], asked: Mapping[str, str]) -> None:
        previous = self._indexes().get(place, _Document())
        steps = {record.step for record in records}
        merged = (*records, *(record for record in previous.records.values() if record.step not in steps))
        documents = _documents(merged)
        marks = dict(previous.asked)
        if asked.items() - marks.items():
            # The newest come last, and the oldest are dropped.
            marks = {tag: mark for tag, mark in marks.items() if tag not in asked} | dict(asked)
            marks = dict(list(marks.items())[-_MOST_MARKS:])
        if (
            place not in self._emptied
            and documents == _documents(previous.records.values())
            and marks == previous.asked
        ):
            return
        tags = self._tags_of(ImageReference(place.registry, place.repository), every=len(merged))
        untagged = {record.image for record in records if image_tag(record.image) not in tags}
        in_parallel(lambda image: self._tag(place, image), untagged)
        # Write the index last: it never lists an image without a tag.
        _write(self._registries, place, documents, self._keyring, marks)

    def _tag(self, repository: ImageReference, image: Digest) -> None:
        put_tag(self._registries, repository.with_tag(image_tag(image)), image)

    def _own_place(self, chain: Chain) -> ImageReference:
        return _place(chain.result.repository, self._keyring.signing_key.public.id, chain.option, chain.platform.name)

    def _indexes(self) -> Mapping[ImageReference, _Document]:
        if self._read is None:
            places = dict.fromkeys(
                _place(chain.result.repository, key.id, chain.option, chain.platform.name)
                for chain in self._chains
                for key in self._keyring.trusted
            )
            self._read = dict(zip(places, in_parallel(self._index, places), strict=True))
        return self._read

    def _index(self, place: ImageReference) -> _Document:
        try:
            artifact = read_artifact(self._registries, place, PAYLOAD_TYPE)
            if artifact is None:
                return _Document()
            payload = self._keyring.open(artifact.content, PAYLOAD_TYPE).payload
            return _Document(records=read_index(payload), asked=_read_marks(payload))
        except (DamagedContentError, EnvelopeError, UntrustedError, ValueError):
            return _Document()

    def _tags_of(self, repository: ImageReference, *, every: int = 0) -> frozenset[str]:
        if repository not in self._tags:
            steps = max([every, *(len(document.records) for document in self._indexes().values())])
            client = self._registries.client(repository)
            pages = _LEAST_PAGES + steps // _STEPS_A_PAGE
            try:
                self._tags[repository] = frozenset(client.some_tags(repository.repository, pages=pages))
            except (UnreachableError, LoginNeededError, RegistryBusyError):
                raise
            except RegistryError:
                # The registry does not list its tags: query every record by name.
                self._tags[repository] = frozenset()
        return self._tags[repository]


def clear_index(registries: Registries, repository: ImageReference, step: StepId, keyring: KeyRing) -> None:
    """Empty the user's own index of a step's chain."""
    if not step.option:  # records of other images, which are in no chain
        return
    place = _place(repository, keyring.signing_key.public.id, step.option, step.platform)
    _write(registries, place, [], keyring)


def _place(repository: ImageReference, key_id: str, option: str, platform: str) -> ImageReference:
    return repository.with_tag(index_tag(key_id, option, platform))


def _write(
    registries: Registries,
    place: ImageReference,
    documents: list[dict[str, object]],
    keyring: KeyRing,
    marks: Mapping[str, str] | None = None,
) -> None:
    # Marks are ordered by age.
    document = {"schema": SCHEMA, "records": documents, "asked": list((marks or {}).items())}
    payload = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    content = keyring.sign(payload, PAYLOAD_TYPE).raw
    put_artifact(registries, place, artifact_type=PAYLOAD_TYPE, media_type=MEDIA_TYPE, content=content)


def _documents(records: Iterable[Record]) -> list[dict[str, object]]:
    return [document_of(record) for record in sorted(records, key=lambda record: str(record.step))]


def document_of(record: Record) -> dict[str, object]:
    """Return a record as stored in an index: without its components, of which the key is the digest."""
    document = record.as_json()
    del document["components"]
    return document


def read_index(content: bytes) -> dict[str, Record]:
    """Return the records of an index by key, without components. Errors: `ValueError` on anything else."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        records = [Record.read(row, _NO_COMPONENTS) for row in document["records"]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an index: {error!r}") from error
    return {record.key: record for record in records}


def _read_marks(content: bytes) -> dict[str, str]:
    """Return the marks of an index; an older version has none. Errors: `ValueError`."""
    try:
        return {str(tag): str(mark) for tag, mark in json.loads(content).get("asked", ())}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not an index: {error!r}") from error


def chains_by_index(chains: Iterable[Chain]) -> Mapping[tuple[ImageReference, str, str], tuple[Chain, ...]]:
    """Group chains that share an index: those of one repository, option and platform."""
    shared: dict[tuple[ImageReference, str, str], tuple[Chain, ...]] = {}
    for chain in chains:
        name = (chain.result.repository, chain.option, chain.platform.name)
        shared[name] = (*shared.get(name, ()), chain)
    return shared
