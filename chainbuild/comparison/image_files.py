"""Look up files of an image in its layers, without pulling it: from the top, and only as many layers as are needed."""

from __future__ import annotations

import posixpath
from pathlib import Path

from msgspec import Struct

from chainbuild import limits
from chainbuild.comparison.contents import Entry, LayeredRoot, layer_entries
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.minimize.root import Node, RootFileSystem, join, parent
from chainbuild.registry.contents import OPAQUE, WHITEOUT, save_file
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries

Rows = tuple[tuple[str, Entry], ...]


class Found(Struct, frozen=True, kw_only=True):
    """An entry of an image: its path, free of links, and the number of its layer; None if that is not known."""

    path: str
    entry: Entry
    layer: int | None


class _Layer(Struct, frozen=True, kw_only=True):
    """The members of a layer, and what it deletes from the layers below."""

    entries: dict[str, Entry]
    deleted: frozenset[str]
    opaque: frozenset[str]
    is_complete: bool
    """True if the folders of every member are members, too; a folder may be a link in a lower layer otherwise."""

    @classmethod
    def of(cls, rows: Rows) -> _Layer:
        entries: dict[str, Entry] = {"/": Entry(kind="dir")}
        deleted, opaque = set(), set()
        for path, entry in rows:
            name = posixpath.basename(path)
            if name == OPAQUE:
                opaque.add(parent(path))
            elif name.startswith(WHITEOUT):
                deleted.add(join(parent(path), name.removeprefix(WHITEOUT)))
            else:
                entries[path] = entries.get(entry.target, entry) if entry.kind == "hard" else entry
        folders = {parent(path) for path, _ in rows}
        complete = all((folder := entries.get(path)) is not None and folder.kind == "dir" for path in folders)
        return cls(entries=entries, deleted=frozenset(deleted), opaque=frozenset(opaque), is_complete=complete)

    def hides(self, path: str) -> bool:
        """Return whether a path of a lower layer is not in the image, because this layer deletes or replaces it."""
        while path != "/":
            above = parent(path)
            if path in self.deleted or above in self.opaque:
                return True
            entry = self.entries.get(above)
            if entry is not None and entry.kind != "dir":
                return True
            path = above
        return False


class ImageFiles(RootFileSystem):
    """The files of an image in a registry. Layers are read when they are needed, once each.

    Errors of all methods: those of the registry; `LimitError` if the image has too many files to hold in memory.
    """

    def __init__(self, registries: Registries, image: RemoteImage) -> None:
        super().__init__("")
        self._registries = registries
        self._image = image
        self._budget = limits.Budget(limits.ALL_MEMBERS, str(image.reference))
        self._rows: dict[int, Rows] = {}
        self._layers: dict[int, _Layer] = {}
        self._all: LayeredRoot | None = None

    def entry(self, path: str) -> Node | None:
        found = self._look_up(path)
        if found is None:
            return None
        return Node(kind=found.entry.kind, target=found.entry.target, size=found.entry.size, data=b"")

    def find(self, path: str, *, follow: bool = True) -> Found | None:
        """Return the entry at a path, after following links within the image; None if there is none."""
        real = self.resolve(path, follow=follow)
        return None if real is None else self._look_up(real)

    def whole(self) -> LayeredRoot:
        """Return all files. Reads the layers that were not read before."""
        if self._all is None:
            numbers = range(len(self._image.layers))
            rows = in_parallel(self._read, numbers, at_once=STREAMS)
            self._all = LayeredRoot(rows, str(self._image.reference))
        return self._all

    def save(self, found: Found, target: Path) -> None:
        """Write the content of a regular file to `target`. Errors: also those of `save_file`."""
        layers = None if found.layer is None else found.layer + 1
        save_file(self._registries, self._image, found.path, target, layers=layers)

    def _read(self, number: int) -> Rows:
        if number not in self._rows:
            entries = layer_entries(
                self._registries, self._image, self._image.layers[number], self._budget, digests=False
            )
            self._rows[number] = tuple(entries)
        return self._rows[number]

    def _layer(self, number: int) -> _Layer:
        if number not in self._layers:
            self._layers[number] = _Layer.of(self._read(number))
        return self._layers[number]

    def _look_up(self, path: str, below: int | None = None) -> Found | None:
        """Return the entry at a path that is free of links, in all layers or in those below a number."""
        for number in reversed(range(len(self._image.layers) if below is None else below)):
            layer = self._layer(number) if self._all is None else None
            if layer is None or not layer.is_complete:
                entry = self.whole().files.get(path)
                return None if entry is None else Found(path=path, entry=entry, layer=None)
            entry = layer.entries.get(path)
            if entry is not None and entry.kind == "hard":
                # Another name of a file in a lower layer.
                file = self._look_up(entry.target, number)
                return Found(path=path, entry=file.entry if file else Entry(kind="special"), layer=number)
            if entry is not None:
                return Found(path=path, entry=entry, layer=number)
            if layer.hides(path):
                return None
        return None
