"""Decide where each kept file goes in the production image, whose folders may be links where the chain's are not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from chainbuild.minimize.abi import is_c_library
from chainbuild.minimize.ldcache import configured_folders
from chainbuild.minimize.notices import Notice
from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.root import FileTree, Node, base, open_file, parent, shown
from chainbuild.minimize.select import Kept, KeptFiles

_USUAL_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_CHUNK = 1 << 20


@dataclass(kw_only=True, slots=True)
class Layout:
    """The layout of the result: what is kept at each path, what is left out, and what conflicts."""

    placed: dict[str, Kept] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    conflicts: list[Notice] = field(default_factory=list)


def lay_out(selection: KeptFiles, production: FileTree, *, library_path: str) -> Layout:
    """Lay out `selection` over `production`; a C library of the production image remains the only one searched."""
    layout = Layout()
    searched = _searched_folders(production, library_path)
    for path in sorted(selection.kept):
        kept = selection.kept[path]
        folder = kept.node.kind == "dir"
        where = production.place_folder(path) if folder else production.place(path)
        if where is None:
            _refuse(layout, path, f"{shown(path)}: the production image has no folder for it")
            continue
        where = path if where == path else where  # share one string: there may be very many
        if not folder and is_c_library(base(path)) and parent(where) in searched and searched[parent(where)]:
            layout.dropped[path] = "it belongs to the C library, which the production image has itself"
            continue
        existing = production.entry(where)
        if existing is not None and folder != (existing.kind == "dir"):
            kinds = _kind_of(kept.node), _kind_of(existing)
            text = f"{shown(path)} is a {kinds[0]}, but {shown(where)} of the production image is a {kinds[1]}"
            _refuse(layout, path, text)
            continue
        earlier = layout.placed.get(where)
        if earlier is None:
            layout.placed[where] = kept
        elif not (folder and earlier.node.kind == "dir") and not _same(kept.node, earlier.node):
            text = (
                f"{shown(path)} and {shown(earlier.path)} differ, but the production image has {shown(where)} for both"
            )
            _refuse(layout, path, text)
    _check_folders(layout)
    return layout


def _refuse(layout: Layout, path: str, text: str) -> None:
    layout.conflicts.append(Notice(kind="conflict", text=text, path=path))


def lay_over(layout: Layout, overlay: Overlay) -> None:
    """Add everything in `layout` to `overlay`."""
    for where, kept in layout.placed.items():
        overlay.add(where, kept.node)


def _searched_folders(production: FileTree, library_path: str) -> dict[str, bool]:
    """Return the folders that loaders search by default, and whether the production image has a C library."""
    folders = [*configured_folders(production), *library_path.split(":"), *_USUAL_FOLDERS]
    real = {production.place_folder(folder) or folder for folder in folders if folder.startswith("/")}
    has = any(
        is_c_library(name) and not name.startswith("libnss")
        for folder in real
        if production.is_folder(folder)
        for name in production.names(folder)
    )
    return dict.fromkeys(real, has)


def _check_folders(layout: Layout) -> None:
    for where in sorted(layout.placed):
        above = parent(where)
        while above != "/":
            obstacle = layout.placed.get(above)
            if obstacle is not None and obstacle.node.kind != "dir":
                path = layout.placed[where].path
                _refuse(
                    layout, path, f"{shown(path)} would be below {shown(above)}, which is a {_kind_of(obstacle.node)}"
                )
                break
            above = parent(above)


def _kind_of(node: Node) -> str:
    return {"dir": "folder", "link": "symbolic link", "special": "device, socket or pipe"}.get(node.kind, "file")


def _same(first: Node, second: Node) -> bool:
    """Return whether two nodes are identical: links by target, files by content."""
    if first.kind != second.kind or first.target != second.target or first.size != second.size:
        return False
    return first.kind == "link" or same_content(first.host, second.host)


def same_content(first: str, second: str) -> bool:
    """Return whether two regular files of this machine have the same content; False if one cannot be read."""
    try:
        with os.fdopen(open_file(first), "rb") as left, os.fdopen(open_file(second), "rb") as right:
            if os.path.sameopenfile(left.fileno(), right.fileno()):
                return True
            while True:
                data = left.read(_CHUNK)
                if data != right.read(_CHUNK):
                    return False
                if not data:
                    return True
    except OSError:
        return False
