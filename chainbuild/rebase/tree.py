"""The file tree of an image from its layers, with what a dynamic loader reads of its ELF files, and what a layer changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct, field

from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.root import Node


class LayerContent(Struct, frozen=True, kw_only=True):
    """The content of a layer: its members in order, and by digest of content its ELF files and its scripts' interpreters.

    The entries of files that a rebase may have to merge have `data`.
    """

    rows: tuple[tuple[str, Entry], ...] = ()
    elves: Mapping[bytes, Elf] = field(default_factory=dict)
    scripts: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentNode(Node):
    """A file that exists only in a layer, with the digest of its content."""

    content: bytes = b""


class ImageTree(LayeredRoot):
    """The files of an image. `written` and `deleted` are the paths that the layers since `extended` changed."""

    def __init__(self, layers: Iterable[LayerContent] = (), name: str = "the image") -> None:
        super().__init__((), name)
        self.name = name
        self.elves: dict[bytes, Elf] = {}
        self.scripts: dict[bytes, tuple[str, ...]] = {}
        self.written: dict[str, Entry] = {}
        self.deleted: dict[str, None] = {}
        self._touched: list[str] = []
        self._add(layers)

    def extended(self, layers: Iterable[LayerContent]) -> ImageTree:
        """Return a new tree with more layers on top, which knows what they change."""
        tree = ImageTree(name=self.name)
        tree.take(self)
        tree.elves, tree.scripts = dict(self.elves), dict(self.scripts)
        tree._add(layers)
        return tree

    def put(self, path: str, entry: Entry) -> None:
        super().put(path, entry)
        self._touched.append(path)
        self.deleted.pop(path, None)

    def remove(self, path: str) -> None:
        if path in self.files:
            self.deleted[path] = None
        super().remove(path)

    def entry(self, path: str) -> Node | None:
        entry = self.files.get(path)
        if entry is None:
            return None
        return ContentNode(
            kind=entry.kind, target=entry.target, size=entry.size, data=entry.data or b"", content=entry.content
        )

    def elf(self, path: str) -> Elf | None:
        """Return what the loader reads of the file at a path, which is free of links; None if it is no ELF file."""
        entry = self.files.get(path)
        return self.elves.get(entry.content) if entry is not None and entry.kind == "file" else None

    def data(self, path: str) -> bytes | None:
        """Return the kept content of the regular file at a path, which is free of links; None if there is none."""
        entry = self.files.get(path)
        return entry.data if entry is not None and entry.kind == "file" else None

    def _add(self, layers: Iterable[LayerContent]) -> None:
        for layer in layers:
            self.elves.update(layer.elves)
            self.scripts.update(layer.scripts)
            self.add_layer(layer.rows)
        self.written = {path: self.files[path] for path in self._touched if path in self.files}


class TreeElfReader(ElfReader):
    """Returns what was read of the ELF files of a tree when its layers were read."""

    def __init__(self, tree: ImageTree) -> None:
        super().__init__()
        self._tree = tree

    def read_node(self, node: Node) -> Elf | None:
        return self._tree.elves.get(node.content) if isinstance(node, ContentNode) and node.content else None
