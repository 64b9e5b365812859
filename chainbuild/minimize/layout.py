"""Where each kept file lies in the production image, whose folders may be links where the chain's are not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from chainbuild.minimize.abi import is_c_library
from chainbuild.minimize.ldcache import configured_folders
from chainbuild.minimize.notices import Notice
from chainbuild.minimize.root import FileTree, Node, Overlay, base, open_file, parent, shown
from chainbuild.minimize.select import Kept, KeptFiles

_USUAL_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_CHUNK = 1 << 20


@dataclass(kw_only=True, slots=True)
class Layout:
    """What lies where in the result: by path, what is kept there; what is left out; what cannot be."""

    placed: dict[str, Kept] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    conflicts: list[Notice] = field(default_factory=list)


def lay_out(selection: KeptFiles, production: FileTree, *, library_path: str) -> Layout:
    """The layout of ``selection`` over ``production``; its own C library keeps the only one that is searched."""
    layout = Layout()
    searched = _searched(production, library_path)
    for path in sorted(selection.kept):
        kept = selection.kept[path]
        folder = kept.node.kind == "dir"
        where = production.place_folder(path) if folder else production.place(path)
        if where is None:
            _refuse(layout, path, f"{shown(path)}: the production image has no folder where it would lie")
            continue
        where = path if where == path else where  # one text for both: there may be very many
        if not folder and is_c_library(base(path)) and parent(where) in searched and searched[parent(where)]:
            layout.dropped[path] = "it belongs to the C library, which the production image has itself"
            continue
        there = production.entry(where)
        if there is not None and folder != (there.kind == "dir"):
            text = f"{shown(path)} is a {_called(kept.node)}, but {shown(where)} of the production image is a {_called(there)}"
            _refuse(layout, path, text)
            continue
        other = layout.placed.get(where)
        if other is None:
            layout.placed[where] = kept
        elif not (folder and other.node.kind == "dir") and not _same(kept.node, other.node):
            text = (
                f"{shown(path)} and {shown(other.path)} differ and would both be {shown(where)} in the production image"
            )
            _refuse(layout, path, text)
    _check_folders(layout)
    return layout


def _refuse(layout: Layout, path: str, text: str) -> None:
    layout.conflicts.append(Notice(kind="conflict", text=text, path=path))


def lay_over(layout: Layout, overlay: Overlay) -> None:
    """Lays everything that ``layout`` has onto ``overlay``."""
    for where, kept in layout.placed.items():
        overlay.add(where, kept.node)


def _searched(production: FileTree, library_path: str) -> dict[str, bool]:
    """The folders that loaders search by default, if the production image has a C library at all."""
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
            stands = layout.placed.get(above)
            if stands is not None and stands.node.kind != "dir":
                path = layout.placed[where].path
                _refuse(
                    layout, path, f"{shown(path)} would lie below {shown(above)}, which is a {_called(stands.node)}"
                )
                break
            above = parent(above)


def _called(node: Node) -> str:
    return {"dir": "folder", "link": "symbolic link", "special": "device, socket or pipe"}.get(node.kind, "file")


def _same(first: Node, second: Node) -> bool:
    """Whether two nodes are one and the same: links by target, files by content."""
    if first.kind != second.kind or first.target != second.target or first.size != second.size:
        return False
    return first.kind == "link" or same_content(first.host, second.host)


def same_content(first: str, second: str) -> bool:
    """Whether two regular files of this machine hold the same bytes; False when one cannot be read."""
    try:
        with os.fdopen(open_file(first), "rb") as one, os.fdopen(open_file(second), "rb") as two:
            if os.path.sameopenfile(one.fileno(), two.fileno()):
                return True
            while True:
                data = one.read(_CHUNK)
                if data != two.read(_CHUNK):
                    return False
                if not data:
                    return True
    except OSError:
        return False
