"""List and print files of an image in a registry, and find what its last step added, without pulling it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from chainbuild.comparison.compare import entry_changes
from chainbuild.comparison.contents import Entry, LayeredRoot, read_layers
from chainbuild.comparison.image_files import Found, ImageFiles
from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError
from chainbuild.images.inventory import trail_of
from chainbuild.minimize.root import parent
from chainbuild.records.record import Record, base_layers
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference
from chainbuild.registry.images import RemoteImage, resolve

CHANGES: Final = ("added", "changed", "deleted")
KINDS: Final = {"dir": "folder"}
"""The names of kinds of entries for users, where they differ from those in the code."""


class Listed(Struct, frozen=True, kw_only=True):
    """An entry of a listing. `total` is the size of all files below a folder, in bytes; hard links count once."""

    path: str
    entry: Entry
    total: int = 0

    @property
    def size(self) -> int:
        """The size of a file, or of everything below a folder."""
        return self.total if self.entry.kind == "dir" else self.entry.size

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form; `target` only of links."""
        more = {"target": self.entry.target} if self.entry.kind == "link" else {}
        return {"path": self.path, **entry_as_json(self.entry), "size": self.size} | more


class Listing(Struct, frozen=True, kw_only=True):
    """The entries of a folder, and the number and the size of all files below it."""

    path: str
    entries: tuple[Listed, ...]
    files: int
    size: int

    def as_json(self, image: RemoteImage) -> dict[str, Any]:
        """Return the JSON document without its schema."""
        return {
            **_image_as_json(image),
            "path": self.path,
            "files": self.files,
            "size": self.size,
            "entries": [entry.as_json() for entry in self.entries],
        }


def _image_as_json(image: RemoteImage) -> dict[str, str]:
    return {"image": str(image.reference), "digest": str(image.digest), "platform": image.platform.oci}


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """Return the kind, the mode (octal) and the owner (`uid:gid`) of an entry."""
    return {"kind": KINDS.get(entry.kind, entry.kind), "mode": f"{entry.mode:04o}", "owner": entry.owner}


def find_file(files: ImageFiles, image: str, path: str) -> Found:
    """Return the entry at a path, which may be relative to `/`. Links are followed.

    Errors: `NotFoundInRegistryError` if there is none.
    """
    absolute = path if path.startswith("/") else f"/{path}"
    found = files.find(absolute)
    if found is not None:
        return found
    if (link := files.find(absolute, follow=False)) and link.entry.kind == "link":
        text = f"{image}: {link.path} is a link to {link.entry.target}, which does not exist"
        raise NotFoundInRegistryError(text, hint="See chainbuild files for the files that exist.")
    folder = parent(absolute.rstrip("/") or "/")
    while (above := files.find(folder)) is None:
        folder = parent(folder)
    raise NotFoundInRegistryError(
        f"{image} has no file {absolute}", hint=f"List what exists with: chainbuild files {image} {above.path}"
    )


def save_found(files: ImageFiles, found: Found, target: Path) -> None:
    """Write the content of a file. Errors: `NotAnImageError` if it is a device or a socket; those of the registry."""
    if found.entry.kind != "file":
        raise NotAnImageError(f"{found.path} is a special file without content", hint="Name a regular file.")
    files.save(found, target)


def list_folder(files: ImageFiles, path: str, *, recursive: bool = False) -> Listing:
    """List a folder (or a single file), whose path is free of links, or everything below it. Reads all layers."""
    root = files.whole()
    if root.files[path].kind != "dir":
        entry = root.files[path]
        return Listing(path=path, entries=(Listed(path=path, entry=entry),), files=1, size=entry.size)
    totals: dict[str, int] = {}
    count, seen = 0, set()
    entries = [(name, root.files[name]) for name, _ in root.walk(path)][1:]
    for name, entry in entries:
        # The names of a file with hard links share one entry.
        if entry.kind != "file" or id(entry) in seen:
            continue
        seen.add(id(entry))
        count += 1
        for folder in _folders(name, path):
            totals[folder] = totals.get(folder, 0) + entry.size
    shown = entries if recursive else [(name, entry) for name, entry in entries if parent(name) == path]
    return Listing(
        path=path,
        entries=tuple(Listed(path=name, entry=entry, total=totals.get(name, 0)) for name, entry in shown),
        files=count,
        size=totals.get(path, 0),
    )


def _folders(path: str, top: str) -> Iterator[str]:
    """Yield the folders above a path, up to `top`."""
    while path != top:
        path = parent(path)
        yield path


# What a step added ----------------------------------------------------------------------------------------------------


class FileChange(Struct, frozen=True, kw_only=True):
    """A file, link or folder that differs from the image below. None: it does not exist there."""

    path: str
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> str:
        """`added`, `changed` or `deleted`."""
        return "added" if self.before is None else "deleted" if self.after is None else "changed"

    @property
    def size(self) -> int:
        """The size in bytes of the new file, or of the deleted one."""
        return (self.after or self.before or Entry(kind="file")).size

    @property
    def words(self) -> tuple[str, ...]:
        """What changed, if both images have it."""
        return tuple(entry_changes(self.before, self.after)) if self.before and self.after else ()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form; `words` only of changed files."""
        entry = self.after or self.before or Entry(kind="file")
        more = {"words": list(self.words)} if self.words else {}
        return {"path": self.path, "change": self.kind, **entry_as_json(entry), "size": self.size} | more


class Added(Struct, frozen=True, kw_only=True):
    """What an image's last step added to the image below it.

    `compressed` is the size of its layers in a registry; `repeated` are the files that its layers have although they did not
    change, and `repeated_size` is their size. Sizes are bytes.
    """

    image: RemoteImage
    step: str
    layers: int
    compressed: int
    changes: tuple[FileChange, ...]
    repeated: int = 0
    repeated_size: int = 0

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return the number and the size of files and links by kind of change."""
        sums = dict.fromkeys(CHANGES, (0, 0))
        for change in self.changes:
            if (change.after or change.before or Entry(kind="dir")).kind != "dir":
                count, size = sums[change.kind]
                sums[change.kind] = count + 1, size + change.size
        return sums

    def folders(self, top: str = "/") -> dict[str, dict[str, int]]:
        """Return the size of changes by folder below `top` and by kind of change."""
        sums: dict[str, dict[str, int]] = {}
        for change in self.changes:
            for folder in _folders(change.path, top):
                row = sums.setdefault(folder, dict.fromkeys(CHANGES, 0))
                row[change.kind] += change.size
        return sums

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document without its schema."""
        return {
            **_image_as_json(self.image),
            "step": self.step,
            "layers": self.layers,
            "compressed": self.compressed,
            "totals": {kind: {"files": count, "size": size} for kind, (count, size) in self.totals().items()},
            "repeated": {"files": self.repeated, "size": self.repeated_size},
            "folders": [{"path": path, **row} for path, row in sorted(self.folders().items())],
            "changes": [change.as_json() for change in self.changes],
        }


def find_added(records: RecordStore, image: RemoteImage, path: str = "/") -> Added:
    """Return what the last step of an image added, changed and deleted below a path.

    Errors: `NotFoundInRegistryError` if no record says what the image is built on, or the path is in neither image;
    those of the registry.
    """
    record = _record_of(records, image)
    count = _layers_below(records, record, image)
    layers = read_layers(records.registries, image, range(len(image.layers)))
    before, after = (LayeredRoot(rows, str(image.reference)) for rows in (layers[:count], layers))
    top = _place(before, after, image, path)
    changes = tuple(change for change in _changes(before, after) if _is_below(change.path, top))
    changed = {change.path for change in changes}
    own = {name for rows in layers[count:] for name, _ in rows}
    repeated = [
        entry
        for name in own - changed
        if (entry := after.files.get(name)) is not None and entry.kind == "file" and _is_below(name, top)
    ]
    return Added(
        image=image,
        step=str(record.step),
        layers=len(image.layers) - count,
        compressed=sum(layer.size for layer in image.layers[count:]),
        changes=changes,
        repeated=len(repeated),
        repeated_size=sum(entry.size for entry in repeated),
    )


def _record_of(records: RecordStore, image: RemoteImage) -> Record:
    """Return the record of an image's last step. Errors: `NotFoundInRegistryError`."""
    hint = "Compare it with the image that it is built on: chainbuild diff BASE IMAGE."
    try:
        last = trail_of(records, image)[-1]
    except NotFoundInRegistryError as error:
        raise NotFoundInRegistryError(error.message, where=error.where, hint=hint) from None
    if last.record is None:
        reason = f" ({last.refusal})" if last.refusal else ""
        text = f"{records.chain} has no record of {last.step} that says what it is built on{reason}"
        raise NotFoundInRegistryError(text, where=str(image.reference), hint=hint)
    return last.record


def _layers_below(records: RecordStore, record: Record, image: RemoteImage) -> int:
    """Return the number of layers that an image has from the image below it."""
    place = image.reference if records.chain.holds(image.reference) else records.chain.place(image.reference)
    place = ImageReference(place.registry, place.repository)
    digests = [layer.digest for layer in image.layers]
    for key in record.parents.values():
        with suppress(NotFoundInRegistryError, DamagedContentError):
            lower = records.read(place, key)
            if lower is not None:
                below = resolve(records.registries, place.with_digest(lower.image), image.platform).layers
                if below and [layer.digest for layer in below] == digests[: len(below)]:
                    return len(below)
    return base_layers(record.added, image.layers)


def _place(before: LayeredRoot, after: LayeredRoot, image: RemoteImage, path: str) -> str:
    """Return a path without its links. Errors: `NotFoundInRegistryError` if neither image has it."""
    absolute = path if path.startswith("/") else f"/{path}"
    real = after.resolve(absolute) or before.resolve(absolute)
    if real is None:
        text = f"neither {image.reference} nor the image below it has a file {absolute}"
        raise NotFoundInRegistryError(text, hint="Omit the path to see everything that the step added.")
    return real


def _is_below(path: str, top: str) -> bool:
    return top in {"/", path} or path.startswith(f"{top}/")


def _changes(before: LayeredRoot, after: LayeredRoot) -> Iterator[FileChange]:
    """Yield what differs, by path. The files of a new or deleted folder stand for it, unless it is empty."""
    for path in sorted({*before.files, *after.files}):
        change = FileChange(path=path, before=before.files.get(path), after=after.files.get(path))
        if change.before == change.after:
            continue
        if change.before is None or change.after is None:
            entry, root = (change.after, after) if change.after else (change.before, before)
            if entry is not None and entry.kind == "dir" and root.names(path):
                continue
        yield change
