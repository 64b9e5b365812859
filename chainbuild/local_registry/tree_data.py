"""Import the data that earlier versions kept in `registry/` of a tree, once, into the user's data folder.

The folder may have come with a foreign tree, so its content is untrusted: links and special files are not followed, names
must match the distribution's storage layout, each blob is copied and checked against its digest, and existing tags are not
changed. Names of Docker Hub's own images (`debian`) are skipped, because other trees would take them for the real ones.
Imported records are unsigned, so they decide nothing.

The tree's folder is not changed. An interrupted import is completed by the next one; a marker in the user's data lists the
finished imports and the repositories that received content.

The layout is that of the distribution project's filesystem driver (registry/storage/paths.go):
`blobs/sha256/AB/ABCD…/data`, and below `repositories/NAME` the links `_layers/sha256/HEX/link`,
`_manifests/revisions/sha256/HEX/link`, `_manifests/tags/TAG/current/link` and `…/TAG/index/sha256/HEX/link`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.host.user_folders import private_folder, read_private, write_private
from chainbuild.local_registry.login import OWN_FOLDER
from chainbuild.local_registry.untrusted_folder import HEX, UntrustedFolder
from chainbuild.patterns import regex
from chainbuild.text import plural, size

TREE_FOLDER: Final = "registry"
_STORE: Final = ("docker", "registry", "v2")
_MARKERS: Final = "taken-over"
_ASIDE: Final = "taking-over"
_LOCK_SECONDS: Final = 600.0
_MOST_MARKER_BYTES: Final = 64_000_000
_SPARE_BYTES: Final = 1_000_000_000
"""Bytes that must remain free on the disk."""
_MOST_ENTRIES: Final = 2_000_000
_LONGEST_NAME: Final = 255

_COMPONENT: Final = regex(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class _TooManyError(Exception):
    """The limit of entries, more than any tree's registry has."""


class TakenOver(Struct, kw_only=True):
    """What was added to the user's data, and what was skipped."""

    blobs: int = 0
    bytes: int = 0
    tags: int = 0
    repositories: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    """Repositories whose names belong to Docker Hub's own images."""
    damaged: int = 0
    """The number of blobs that do not match their digest or cannot be read."""


def take_over(tree: Path, data: Path, emit: Emit, *, shown: str = "") -> TakenOver | None:
    """Add the content of a tree's `registry/` to the data of the user's registry; None if there is nothing to do.

    Needs a lease on the registry with that data. If the import fails, that is a warning, not an error: the next run
    that builds tries again.
    """
    source = tree / TREE_FOLDER
    marker = data / OWN_FOLDER / _MARKERS / hashlib.sha256(os.fsencode(os.path.realpath(source))).hexdigest()[:32]
    if marker.exists() or _is_within(data, source):
        return None
    root = UntrustedFolder.open(source)
    if root is None:
        return None
    with closing(root), root.below(*_STORE) as store:
        if store is None:
            return None
        try:
            with _alone(data, emit):
                if marker.exists():
                    return None
                done = _Taking(store, data, emit, shown or str(source)).run()
                private_folder(marker.parent)
                document = {"from": str(source), "at": time.time(), "repositories": sorted(done.repositories)}
                write_private(marker, json.dumps(document).encode())
        except (OSError, NotReadyError, _TooManyError) as error:
            text = f"could not import the images in {source}: {getattr(error, 'message', None) or error}"
            emit(Message(level="warning", text=text))
            return None
    _tell(done, source, data, emit)
    return done


def repositories_from_trees(data: Path) -> dict[str, str]:
    """Return the repositories of a data folder that were imported from a tree's `registry/`, with that folder's path."""
    origins: dict[str, str] = {}
    folder = data / OWN_FOLDER / _MARKERS
    for marker in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(OSError, ValueError, KeyError, TypeError, NotReadyError):
            document = json.loads(read_private(marker, _MOST_MARKER_BYTES) or b"")
            origins |= {str(name): str(document["from"]) for name in document["repositories"]}
    return origins


def _is_within(data: Path, source: Path) -> bool:
    """Return whether the user's registry data is in this folder."""
    place, folder = Path(os.path.realpath(data)), Path(os.path.realpath(source))
    return place == folder or folder in place.parents or place in folder.parents


def _tell(done: TakenOver, source: Path, data: Path, emit: Emit) -> None:
    if done.left_out:
        names = ", ".join(sorted(done.left_out)[:5])
        emit(
            Message(
                level="warning", text=f"skipped, because other trees would take them for Docker Hub's images: {names}"
            )
        )
    if done.damaged:
        text = f"{plural(done.damaged, 'blob')} in {source} could not be read or did not match the digest; skipped"
        emit(Message(level="warning", text=text))
    summary = (
        f"imported {plural(done.tags, 'tag')} of {plural(len(done.repositories), 'repository', 'repositories')} and "
        f"{plural(done.blobs, 'blob')} ({size(done.bytes)})"
    )
    command = "rm -r" if _is_own(source / _STORE[0]) else "sudo rm -r"
    if not done.blobs and not done.tags:
        return
    text = f"{summary} from {source} into {data}. The old folder is no longer used; to delete it: {command} {source}"
    emit(Message(text=text))


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return True


@contextmanager
def _alone(data: Path, emit: Emit) -> Iterator[None]:
    """Hold the lock for adding to the data. Errors: `NotReadyError` if another one takes too long."""
    path = private_folder(data / OWN_FOLDER) / f"{_ASIDE}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        began, is_reported = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > _LOCK_SECONDS:
                    raise NotReadyError("another run is importing images") from None
                if not is_reported:
                    is_reported = True
                    emit(Message(text="waiting for another run that imports the images of a tree"))
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


class _Taking:
    """An import: blobs first, then the links to them, tags last."""

    def __init__(self, store: UntrustedFolder, data: Path, emit: Emit, shown: str) -> None:
        self._store = store
        self._target = data.joinpath(*_STORE)
        self._aside = data / OWN_FOLDER / _ASIDE
        self._emit = emit
        self._shown = shown
        self._entries = 0
        self._done = TakenOver()

    def run(self) -> TakenOver:
        """Import everything. Errors: `OSError`, `NotReadyError`."""
        # Remove the files of a killed import.
        shutil.rmtree(self._aside, ignore_errors=True)
        private_folder(self._aside)
        try:
            missing = [(digest, length) for digest, length in self._blobs() if not self._has(digest)]
            self._check_space(sum(length for _, length in missing))
            if missing:
                total = size(sum(length for _, length in missing))
                self._emit(Message(text=f"importing the images in {self._shown} ({total})"))
            for digest, _ in missing:
                self._take_blob(digest)
            with self._store.below("repositories") as repositories:
                if repositories is not None:
                    self._repositories(repositories, "")
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
        return self._done

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._aside).free
        if needed + _SPARE_BYTES > free:
            raise NotReadyError(f"{size(needed)} required, but only {size(free)} free on the disk of {self._aside}")

    def _counted(self, names: Iterator[str]) -> Iterator[str]:
        for name in names:
            self._entries += 1
            if self._entries > _MOST_ENTRIES:
                raise _TooManyError(f"more than {_MOST_ENTRIES} entries")
            yield name

    # Blobs ------------------------------------------------------------------------------------------------------------

    def _blobs(self) -> Iterator[tuple[str, int]]:
        """Yield the digests (hexadecimal) that the tree's folder has, and how long they are."""
        with self._store.below("blobs", "sha256") as folder:
            for start in self._counted(folder.names()) if folder else ():
                with folder.below(start) if folder else _nothing() as prefix:
                    for digest in self._counted(prefix.names()) if prefix else ():
                        if HEX.fullmatch(digest) and digest.startswith(start) and len(start) == 2:
                            with prefix.below(digest) if prefix else _nothing() as place:
                                length = place.length("data") if place else None
                            if length is not None:
                                yield digest, length

    def _blob_path(self, digest: str) -> Path:
        return self._target / "blobs" / "sha256" / digest[:2] / digest / "data"

    def _has(self, digest: str) -> bool:
        return self._blob_path(digest).exists()

    def _take_blob(self, digest: str) -> None:
        copy = self._aside / digest
        with self._store.below("blobs", "sha256", digest[:2], digest) as place:
            found = place.copy("data", copy) if place else ""
        if found != digest:
            self._done.damaged += 1
            copy.unlink(missing_ok=True)
            return
        self._done.blobs += 1
        self._done.bytes += copy.stat().st_size
        target = self._blob_path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy.replace(target)

    # Names ------------------------------------------------------------------------------------------------------------

    def _repositories(self, folder: UntrustedFolder, name: str) -> None:
        for entry in self._counted(folder.names()):
            if entry in {"_layers", "_manifests"}:
                continue
            below = f"{name}/{entry}" if name else entry
            if len(below) > _LONGEST_NAME or not _COMPONENT.fullmatch(entry):
                continue
            with folder.below(entry) as repository:
                if repository is not None:
                    self._repository(repository, below)
                    self._repositories(repository, below)

    def _repository(self, folder: UntrustedFolder, name: str) -> None:
        with folder.below("_manifests") as manifests:
            if manifests is None:
                return
            if "/" not in name or name.startswith("library/"):
                self._done.left_out.add(name)
                return
            target = self._target / "repositories" / name
            with folder.below("_layers", "sha256") as layers:
                self._links(layers, target / "_layers" / "sha256")
            with manifests.below("revisions", "sha256") as revisions:
                self._links(revisions, target / "_manifests" / "revisions" / "sha256")
            with manifests.below("tags") as tags:
                for tag in self._counted(tags.names()) if tags else ():
                    if tags and _TAG.fullmatch(tag):
                        with tags.below(tag) as place:
                            self._tag(place, name, tag)

    def _links(self, folder: UntrustedFolder | None, target: Path) -> None:
        """Add the links of a folder whose blobs exist."""
        for digest in self._counted(folder.names()) if folder else ():
            if folder and HEX.fullmatch(digest) and self._has(digest) and not (target / digest / "link").exists():
                with folder.below(digest) as place:
                    if place and place.link("link") == digest:
                        self._write_link(target / digest / "link", digest)

    def _tag(self, folder: UntrustedFolder | None, name: str, tag: str) -> None:
        target = self._target / "repositories" / name / "_manifests"
        if folder is None or (target / "tags" / tag / "current" / "link").exists():
            return
        with folder.below("current") as current:
            digest = current.link("link") if current else ""
        if not digest or not (target / "revisions" / "sha256" / digest / "link").exists():
            return
        with folder.below("index", "sha256") as index:
            self._links(index, target / "tags" / tag / "index" / "sha256")
        self._write_link(target / "tags" / tag / "index" / "sha256" / digest / "link", digest)
        self._write_link(target / "tags" / tag / "current" / "link", digest)
        self._done.tags += 1
        self._done.repositories.add(name)

    def _write_link(self, path: Path, digest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._aside / "link"
        aside.write_text(f"sha256:{digest}", encoding="ascii")
        aside.replace(path)


# ---- a folder that is not believed --------------------------------------------------------------------------------------


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
