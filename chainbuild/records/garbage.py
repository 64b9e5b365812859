"""Garbage of the chain registry: what a retention rule keeps, and what nothing that is kept needs.

Garbage collection of the chain registry: what nothing that is kept needs, previewed and then deleted.

A registry's own clean-up deletes the children of an index (distribution/distribution#3178). This one walks everything
that is kept first: index, image, the record of an image, the records and images of its parents, and what is attached
to any of them: a bill of materials goes with its image, neither before nor after it. Deleting a manifest frees its blobs
only when the registry itself collects (`registry garbage-collect`), which the managed one is made to do.

Which results of the chain registry are old: readable tags by what made them, the newest first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import NotFoundInRegistryError, WrongUseError
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore, claimed_record, read_copy
from chainbuild.records.tags import is_key, is_local_tag, is_machine_tag
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.artifacts import referrers, subject_of
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.oci import Index, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

BUILT_AS: Final = "built as"
"""The note of a record that has the digest which the builder gave, where the image got another config after that.

Nothing else knows of that manifest, and as long as it lies there its layers do.
"""
_AT_ONCE: Final = 8


class Held(Struct, frozen=True, kw_only=True):
    """A manifest of a repository: the tags that point at it, the blobs (digest to bytes) and manifests that it needs."""

    digest: Digest
    tags: tuple[str, ...]
    blobs: Mapping[Digest, int]
    children: tuple[Digest, ...] = ()
    record: Record | None = None


class Garbage(Struct, frozen=True, kw_only=True):
    """What of one repository can go, manifests with their tags; and what stays."""

    repository: ImageReference
    manifests: tuple[Held, ...]
    kept_tags: tuple[str, ...]
    kept_blobs: frozenset[Digest]

    def freed(self, kept_elsewhere: Collection[Digest] = ()) -> int:
        """The bytes of blobs that nothing kept needs; registries keep a blob once for all repositories."""
        return sum(self.freed_blobs(kept_elsewhere).values())

    def freed_blobs(self, kept_elsewhere: Collection[Digest] = ()) -> dict[Digest, int]:
        """The blobs that nothing kept needs, with their bytes."""
        gone = {blob: size for held in self.manifests for blob, size in held.blobs.items()}
        kept = self.kept_blobs.union(kept_elsewhere)
        return {blob: size for blob, size in gone.items() if blob not in kept}

    @staticmethod
    def freed_by_all(garbages: Iterable[Garbage]) -> int:
        """The bytes that go when all of it goes: a blob that several repositories lose is counted once."""
        every = tuple(garbages)
        kept = frozenset[Digest]().union(*(one.kept_blobs for one in every))
        freed: dict[Digest, int] = {}
        for one in every:
            freed |= one.freed_blobs(kept)
        return sum(freed.values())


class _Repository(Struct):
    """One repository as it stands."""

    place: ImageReference
    held: dict[Digest, Held] = field(default_factory=dict)
    by_tag: dict[str, Digest] = field(default_factory=dict)


def find_garbage(registries: Registries, repository: ImageReference, *, dropped: Collection[str]) -> Garbage:
    """What can go from a repository when the tags in `dropped` go; nothing is changed.

    Every other readable tag stays with all that it needs, and so do images of the local store that were handed over.
    """
    there = _read(registries, repository)
    kept_tags = tuple(tag for tag in there.by_tag if _is_root(tag) and tag not in dropped)
    keep_digests = _needed(there, [there.by_tag[tag] for tag in kept_tags])
    gone = tuple(held for digest, held in there.held.items() if digest not in keep_digests)
    gone += _attached_to(registries, repository, gone, frozenset(there.held))
    kept = {blob for digest in keep_digests if digest in there.held for blob in there.held[digest].blobs}
    return Garbage(
        repository=repository, manifests=gone, kept_tags=tuple(sorted(kept_tags)), kept_blobs=frozenset(kept)
    )


def is_readable(tag: str) -> bool:
    """Whether a tag is a name for people: neither machine data nor the list of what is attached to an image."""
    return not is_machine_tag(tag) and subject_of(tag) is None


def _is_root(tag: str) -> bool:
    return is_readable(tag) or is_local_tag(tag)


def _needed(there: _Repository, roots: Iterable[Digest]) -> frozenset[Digest]:
    """Everything that the roots need: children, the records of kept images, what those stand on, and what is attached."""
    # Steps of two options may share a key: each has its own newest record of it.
    of_key: dict[str, list[Digest]] = {}
    of_image: dict[Digest, list[Digest]] = {}
    for tag, digest in there.by_tag.items():
        if subject := subject_of(tag):
            of_image.setdefault(subject, []).append(digest)
    for digest, one in there.held.items():
        if one.record:
            of_image.setdefault(one.record.image, []).append(digest)
            of_key.setdefault(one.record.key, []).append(digest)
    kept: set[Digest] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest in kept:
            continue
        kept.add(digest)
        if digest not in there.held:
            continue
        held = there.held[digest]
        todo += [*held.children, *of_image.get(digest, ())]
        if held.record:
            todo.append(held.record.image)
            todo += [parent for key in held.record.parents.values() for parent in of_key.get(key, ())]
    return frozenset(kept)


def _attached_to(
    registries: Registries, repository: ImageReference, gone: Iterable[Held], known: frozenset[Digest]
) -> tuple[Held, ...]:
    """What is attached to manifests that go, in a registry that keeps the list itself: nothing of that has a tag."""
    client = registries.client(repository)
    found: dict[Digest, Held] = {}
    for held in gone:
        if client.referrers(repository.repository, held.digest) is None:
            break
        for row in referrers(registries, repository.with_digest(held.digest)):
            if row.digest not in known:
                for _, attached in _below(registries, client, repository, [("", row.digest)]):
                    found[attached.digest] = attached
    return tuple(found.values())


def collect(registries: Registries, garbage: Garbage) -> None:
    """Delete the manifests; indexes go before what they name, so that none is ever left without a child."""
    client = registries.client(garbage.repository)
    for held in sorted(garbage.manifests, key=lambda one: not one.children):
        client.delete_manifest(garbage.repository.repository, held.digest)


def _read(registries: Registries, repository: ImageReference) -> _Repository:
    client = registries.client(repository)
    there = _Repository(place=repository)
    tags = client.tags(repository.repository)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for found in pool.map(lambda tag: _hold(registries, client, repository, tag), tags):
            for tag, held in found:
                before = there.held.get(held.digest)
                names = (*(before.tags if before else ()), *((tag,) if tag else ()))
                there.held[held.digest] = Held(
                    digest=held.digest, tags=names, blobs=held.blobs, children=held.children, record=held.record
                )
                if tag:
                    there.by_tag[tag] = held.digest
    return there


def _hold(
    registries: Registries, client: RegistryClient, repository: ImageReference, tag: str
) -> list[tuple[str, Held]]:
    """The manifest under a tag, and those below it; nothing where it has just gone.

    A tag that tells what is attached to an image brings that image along, which may have no tag of its own.
    """
    todo: list[tuple[str, str | Digest]] = [(tag, tag)]
    if subject := subject_of(tag):
        todo.append(("", subject))
    return _below(registries, client, repository, todo)


def _below(
    registries: Registries, client: RegistryClient, repository: ImageReference, todo: list[tuple[str, str | Digest]]
) -> list[tuple[str, Held]]:
    found: list[tuple[str, Held]] = []
    seen: set[Digest] = set()
    while todo:
        name, reference = todo.pop()
        if not name and reference in seen:
            continue
        try:
            raw = client.manifest(repository.repository, reference)
        except NotFoundInRegistryError:
            continue
        seen.add(raw.digest)
        if raw.is_index:
            children = tuple(child.digest for child in Index.of(raw).manifests)
            found.append((name, Held(digest=raw.digest, tags=(), blobs={}, children=children)))
            todo += [("", child) for child in children]
            continue
        manifest = Manifest.of(raw)
        blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        # Whoever signed it: what another user's record needs stays, too.
        record = claimed_record(registries, repository.with_digest(raw.digest), manifest.artifact_type)
        found.append((name, Held(digest=raw.digest, tags=(), blobs=blobs, record=record)))
        if record is not None:
            todo.append(("", record.image))
            with suppress(WrongUseError):
                todo += [("", Digest(digest)) for digest in (record.notes.get(BUILT_AS),) if digest]
    return found


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
