"""Garbage collection of the chain registry: find what nothing kept needs, show it, and delete it.

A registry's own clean-up deletes the children of an index (distribution/distribution#3178). This one first follows
everything that is kept: index, image, the record of an image, the records and images of its parents, and their
attachments. An attachment such as a bill of materials is deleted together with its image. Deleting a manifest frees blobs
only when the registry itself collects garbage (`registry garbage-collect`); chainbuild starts that in the managed one.

Results are kept by TAG, the newest first; a TAG is derived from the readable tags.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import NotFoundInRegistryError, WrongUseError
from chainbuild.in_parallel import in_parallel
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore, claimed_record, read_copy
from chainbuild.records.tags import is_key, is_local_tag, is_machine_tag, packages_layer
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.oci import Index, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers, subject_of
from chainbuild.step_id import MINIMIZE, PRODUCTION
from chainbuild.values import replace

BUILT_AS: Final = "built as"
"""The note of a record with the digest that the builder returned, if the image got another config afterwards.

No tag points at that manifest, but its layers are kept as long as it exists.
"""


class Held(Struct, frozen=True, kw_only=True):
    """A manifest of a repository: the tags that point at it, the blobs (digest to bytes) and manifests that it needs."""

    digest: Digest
    tags: tuple[str, ...]
    blobs: Mapping[Digest, int]
    children: tuple[Digest, ...] = ()
    record: Record | None = None


class Garbage(Struct, frozen=True, kw_only=True):
    """The manifests of a repository that can be deleted, with their tags; and what is kept."""

    repository: ImageReference
    manifests: tuple[Held, ...]
    kept_tags: tuple[str, ...]
    kept_blobs: frozenset[Digest]

    def freed(self, kept_elsewhere: Collection[Digest] = ()) -> int:
        """Return the bytes that deletion frees; a registry stores a blob once for all repositories."""
        return sum(self.freed_blobs(kept_elsewhere).values())

    def freed_blobs(self, kept_elsewhere: Collection[Digest] = ()) -> dict[Digest, int]:
        """Return the blobs that deletion frees, with their sizes in bytes."""
        gone = {blob: size for held in self.manifests for blob, size in held.blobs.items()}
        kept = self.kept_blobs.union(kept_elsewhere)
        return {blob: size for blob, size in gone.items() if blob not in kept}

    @staticmethod
    def freed_by_all(garbages: Iterable[Garbage]) -> int:
        """Return the bytes that deleting all of it frees; a blob shared by several repositories is counted once."""
        every = tuple(garbages)
        kept = Garbage.kept_by_any(every)
        freed: dict[Digest, int] = {}
        for garbage in every:
            freed |= garbage.freed_blobs(kept)
        return sum(freed.values())

    @staticmethod
    def kept_by_any(garbages: Iterable[Garbage]) -> frozenset[Digest]:
        """Return the blobs that one of the repositories keeps."""
        return frozenset[Digest]().union(*(garbage.kept_blobs for garbage in garbages))


class _Repository(Struct):
    """The content of a repository."""

    place: ImageReference
    held: dict[Digest, Held] = field(default_factory=dict)
    by_tag: dict[str, Digest] = field(default_factory=dict)


def find_garbage(registries: Registries, repository: ImageReference, *, dropped: Collection[str]) -> Garbage:
    """Find what can be deleted from a repository if the tags in `dropped` are deleted. Changes nothing.

    Every other readable tag is kept with everything it needs, and so are copies of local images.
    """
    state = _read(registries, repository)
    kept_tags = tuple(tag for tag in state.by_tag if _is_root(tag) and tag not in dropped)
    keep_digests = _needed(state, [state.by_tag[tag] for tag in kept_tags])
    keep_digests |= _package_lists(state, keep_digests)
    gone = tuple(held for digest, held in state.held.items() if digest not in keep_digests)
    gone += _attached_to(registries, repository, gone, frozenset(state.held))
    kept = _blobs(state, keep_digests)
    return Garbage(repository=repository, manifests=gone, kept_tags=tuple(sorted(kept_tags)), kept_blobs=kept)


def is_readable(tag: str) -> bool:
    """Return whether a tag is for people: neither machine data nor the list of an image's attachments."""
    return not is_machine_tag(tag) and subject_of(tag) is None


def _is_root(tag: str) -> bool:
    return is_readable(tag) or is_local_tag(tag)


def _needed(state: _Repository, roots: Iterable[Digest]) -> frozenset[Digest]:
    """Return everything that the roots need: children, records of kept images, their parents, and attachments."""
    # Steps of two options may share a key; each option has its own record.
    of_key: dict[str, list[Digest]] = {}
    of_image: dict[Digest, list[Digest]] = {}
    for tag, digest in state.by_tag.items():
        if subject := subject_of(tag):
            of_image.setdefault(subject, []).append(digest)
    for digest, held in state.held.items():
        if held.record:
            of_image.setdefault(held.record.image, []).append(digest)
            of_key.setdefault(held.record.key, []).append(digest)
    kept: set[Digest] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest in kept:
            continue
        kept.add(digest)
        if digest not in state.held:
            continue
        held = state.held[digest]
        todo += [*held.children, *of_image.get(digest, ())]
        if held.record:
            todo.append(held.record.image)
            todo += [parent for key in held.record.parents.values() for parent in of_key.get(key, ())]
    return frozenset(kept)


def _package_lists(state: _Repository, kept: Collection[Digest]) -> frozenset[Digest]:
    """Return the extracts of layers that something kept has."""
    layers = _blobs(state, kept)
    return frozenset(digest for tag, digest in state.by_tag.items() if packages_layer(tag) in layers)


def _blobs(state: _Repository, manifests: Iterable[Digest]) -> frozenset[Digest]:
    return frozenset(blob for digest in manifests if digest in state.held for blob in state.held[digest].blobs)


def _attached_to(
    registries: Registries, repository: ImageReference, deleted: Iterable[Held], known: frozenset[Digest]
) -> tuple[Held, ...]:
    """Return the attachments of deleted manifests in a registry with the referrers API if they have no tag."""
    client = registries.client(repository)
    attached_manifests: dict[Digest, Held] = {}
    for held in deleted:
        if client.referrers(repository.repository, held.digest) is None:
            break
        for row in referrers(registries, repository.with_digest(held.digest)):
            if row.digest not in known:
                for _, attached in _below(registries, client, repository, [("", row.digest)]):
                    attached_manifests[attached.digest] = attached
    return tuple(attached_manifests.values())


def collect(registries: Registries, garbage: Garbage) -> None:
    """Delete the manifests, indexes first, so that no index ever lacks a child."""
    client = registries.client(garbage.repository)
    for held in sorted(garbage.manifests, key=lambda held: not held.children):
        client.delete_manifest(garbage.repository.repository, held.digest)


def _read(registries: Registries, repository: ImageReference) -> _Repository:
    client = registries.client(repository)
    state = _Repository(place=repository)
    tags = client.tags(repository.repository)
    for manifests in in_parallel(lambda tag: _hold(registries, client, repository, tag), tags):
        for tag, held in manifests:
            before = state.held.get(held.digest)
            names = (*(before.tags if before else ()), *((tag,) if tag else ()))
            state.held[held.digest] = Held(
                digest=held.digest, tags=names, blobs=held.blobs, children=held.children, record=held.record
            )
            if tag:
                state.by_tag[tag] = held.digest
    return state


def _hold(
    registries: Registries, client: RegistryClient, repository: ImageReference, tag: str
) -> list[tuple[str, Held]]:
    """Return the manifest under a tag and those below it; nothing if it has just been deleted.

    For a tag that lists the attachments of an image, include that image, which may have no tag.
    """
    todo: list[tuple[str, str | Digest]] = [(tag, tag)]
    if subject := subject_of(tag):
        todo.append(("", subject))
    return _below(registries, client, repository, todo)


def _below(
    registries: Registries, client: RegistryClient, repository: ImageReference, todo: list[tuple[str, str | Digest]]
) -> list[tuple[str, Held]]:
    manifests: list[tuple[str, Held]] = []
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
            manifests.append((name, Held(digest=raw.digest, tags=(), blobs={}, children=children)))
            todo += [("", child) for child in children]
            continue
        manifest = Manifest.of(raw)
        blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        # Whoever signed it: keep what other users' records need as well.
        record = claimed_record(registries, repository.with_digest(raw.digest), manifest.artifact_type)
        manifests.append((name, Held(digest=raw.digest, tags=(), blobs=blobs, record=record)))
        if record is not None:
            todo.append(("", record.image))
            with suppress(WrongUseError):
                todo += [("", Digest(digest)) for digest in (record.notes.get(BUILT_AS),) if digest]
    return manifests


def find_all_garbage(
    records: RecordStore,
    *,
    keep: int,
    repository: str = "",
    managed: bool = True,
) -> tuple[Garbage, ...]:
    """Find what can be deleted from all repositories of the chain registry (or from one) if the newest `keep` TAGs stay.

    All repositories are read, because they share blobs (in a registry shared with others, only the named one). A TAG is a
    run's TAG of one option: its images on all platforms are kept or deleted together.
    """
    client = records.registries.client(records.chain.host)
    garbages = []
    names = sorted(client.repositories()) if managed else [repository]
    for name in names:
        if name == records.chain.records.repository:
            continue
        place = ImageReference(records.chain.host, name)
        tags = client.tags(name)
        is_selected = repository in {"", name} and any(is_key(tag) for tag in tags)
        results = _by_option(records, client, place, tags) if is_selected else {}
        garbage = find_garbage(records.registries, place, dropped=_old(results, keep))
        garbages.append(garbage if is_selected else _untouched(garbage))
    return (*garbages, _old_copies(records.registries, records.chain, garbages, only="" if managed else repository))


def _old_copies(registries: Registries, chain: ChainRegistry, garbages: Sequence[Garbage], *, only: str) -> Garbage:
    """Return the copies of records whose images are, or will be, deleted. `only`: restrict to that repository."""
    going = {(garbage.repository.repository, held.digest) for garbage in garbages for held in garbage.manifests}
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
    """Return the garbage of a repository from which nothing is deleted: all its blobs are kept."""
    blobs = frozenset(blob for held in garbage.manifests for blob in held.blobs)
    return replace(garbage, manifests=(), kept_blobs=garbage.kept_blobs | blobs)


def _old(results: Mapping[str, Mapping[str, tuple[float, list[str]]]], keep: int) -> frozenset[str]:
    """Return the readable tags of all but the newest `keep` TAGs of every option."""
    dropped: list[str] = []
    for runs in results.values():
        newest_first = sorted(runs, key=lambda run: (runs[run][0], run), reverse=True)
        for run in newest_first[keep:]:
            dropped += runs[run][1]
    return frozenset(dropped)


def _by_option(
    records: RecordStore, client: RegistryClient, place: ImageReference, tags: Iterable[str]
) -> dict[str, dict[str, tuple[float, list[str]]]]:
    """Return, by option and TAG, the build time of its newest image and its tags."""
    by_image: dict[str, list[Record]] = {}
    for record in (record for tag in tags if is_key(tag) and (record := records.read(place, tag))):
        by_image.setdefault(str(record.image), []).append(record)
    by_option: dict[str, dict[str, tuple[float, list[str]]]] = {}
    for tag in tags:
        if not is_readable(tag):
            continue
        try:
            raw = client.manifest(place.repository, tag)
        except NotFoundInRegistryError:  # another run has just deleted it
            continue
        digests = [str(raw.digest)]
        if raw.is_index:
            digests = [str(child.digest) for child in Index.of(raw).images]
        for record in (each for digest in digests for each in by_image.get(digest, ())):
            option, run = _run_of(tag, record, is_index=raw.is_index)
            if run:
                when, names = by_option.setdefault(option, {}).get(run, (0.0, []))
                by_option[option][run] = (max(when, record.built_at), [*names, tag])
                break
    return by_option


def _run_of(tag: str, record: Record, *, is_index: bool) -> tuple[str, str]:
    """Return the option and the TAG that a readable tag was made from; the TAG is empty if chainbuild did not set it."""
    platform, option, name = record.step.platform, record.step.option, record.step.name
    suffix = {
        PRODUCTION: f"-{option}" if is_index else f"-{option}-{platform}",
        MINIMIZE: f"-{option}-minimized-{platform}",
    }.get(name, f"-{option}-{name}-{platform}")
    return option, tag.removesuffix(suffix) if option and name and tag.endswith(suffix) else ""
