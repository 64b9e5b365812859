"""A file tree with changes on top of another one."""

from __future__ import annotations

from chainbuild.minimize.root import FileTree, Node, base, parent


class Overlay(FileTree):
    """`lower` with added entries, as the image will be once a layer is added."""

    def __init__(self, lower: FileTree) -> None:
        super().__init__()
        self.lower = lower
        self.added: dict[str, Node] = {}
        self._inside: dict[str, set[str]] = {}

    def add(self, path: str, node: Node) -> None:
        """Add `node` at `path`, which is free of links; missing parent folders are created."""
        self.added[path] = node
        self._placed = {"/": "/"}
        current = path
        while current != "/":
            above = parent(current)
            names = self._inside.setdefault(above, set())
            if base(current) in names:
                break
            names.add(base(current))
            current = above

    def remove(self, path: str) -> None:
        """Remove the entry that was added at `path`."""
        if self.added.pop(path, None) is not None:
            self._placed = {"/": "/"}
            self._inside[parent(path)].discard(base(path))

    def entry(self, path: str) -> Node | None:
        node = self.added.get(path)
        if node is not None and node.kind != "dir":
            return node
        return self.lower.entry(path) or node or (Node(kind="dir") if path in self._inside else None)

    def names(self, folder: str) -> list[str]:
        lower = self.lower.entry(folder)
        below = self.lower.names(folder) if lower is not None and lower.kind == "dir" else []
        over = self._inside.get(folder)
        return sorted(over.union(below)) if over else below
