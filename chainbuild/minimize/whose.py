"""Find files that are missing elsewhere in a root file system, and the packages that own them; nothing is run.

The questions are a JSON list of `{"kind": KIND, "name": NAME, "folders": […]}`, answered in the same order
(`chainbuild.whose/1`). `library` is a name that a loader looks for, or a path; `path` is a path; `module` is the dotted
name of a Python module, searched in `folders` and then in every folder with a name that Python uses; `folder` is a
folder, whose content is returned.
"""

# Paths here are strings of an image, which may contain bytes that are not valid text

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from chainbuild.minimize.lists import literal
from chainbuild.minimize.packages import Ownership, owned
from chainbuild.minimize.pythons import STARTS
from chainbuild.minimize.root import RootFileSystem, base, join, parent
from chainbuild.minimize.select import is_wide

WHOSE_SCHEMA = "chainbuild.whose/1"
MOST_FILES = 3
"""The most files that are returned for a name."""
_PYTHON = re.compile(r"python3(\.[0-9]+t?)?")
_OF_PYTHON = re.compile(r"python3(\.[0-9]+t?)?|(site|dist)-packages")


def answers(tree: RootFileSystem, questions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document: for each question the files that match, each with its package's kind, name and version."""
    requests = [
        (str(question["kind"]), str(question["name"]), [str(path) for path in question.get("folders", ())])
        for question in questions
    ]
    by_name, homes = _find_by_name(tree, {name for kind, name, _ in requests if kind == "library" and "/" not in name})
    ownership = owned(tree)
    results = []
    for kind, name, folders in requests:
        if kind == "module":
            paths = _module(tree, name, [*folders, *homes])
            if name == STARTS:  # if it is missing, the whole standard library is
                paths = [parent(parent(path)) for path in paths]
        elif kind == "folder":
            home = tree.resolve(name) if name.startswith("/") else None
            paths = [join(home, file) for file in tree.names(home)] if home is not None and tree.is_folder(home) else []
        elif "/" in name:
            paths = [_home(tree, path) for path in (tree.resolve(name, follow=False),) if path and name.startswith("/")]
        else:
            paths = by_name.get(name, []) if kind == "library" else []
        files = [_describe(tree, ownership, path) for path in paths[:MOST_FILES]]
        results.append({"kind": kind, "name": name, "files": files})
    return {"schema": WHOSE_SCHEMA, "answers": results}


def _home(tree: RootFileSystem, path: str) -> str:
    """Return the folder of an installed Python for its interpreter; any other path, and a system path, unchanged."""
    real = tree.resolve(path) or path
    home = parent(parent(real))
    if base(parent(real)) != "bin" or not _PYTHON.fullmatch(base(real)) or is_wide(home):
        return path
    return home if any(tree.glob(f"{literal(home)}/lib/python3*/{STARTS}")) else path


def _find_by_name(tree: RootFileSystem, names: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files with these names anywhere, and Python's folders; the shortest paths first.

    So the system's library comes before a package's private copy.
    """
    paths_of: dict[str, list[str]] = {}
    homes: list[str] = []
    for path, entry in tree.scan():
        if entry.is_dir(follow_symlinks=False):
            if _OF_PYTHON.fullmatch(entry.name):
                homes.append(path)
        elif entry.name in names and tree.is_file(path):
            paths_of.setdefault(entry.name, []).append(path)
    return {name: sorted(paths, key=_nearest) for name, paths in paths_of.items()}, sorted(homes, key=_nearest)


def _nearest(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _module(tree: RootFileSystem, name: str, folders: Iterable[str]) -> list[str]:
    """Return the file of a module, otherwise the folder of a package."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    for folder in folders:
        place = "/".join((folder.rstrip("/"), *parts))
        for path in (f"{place}/__init__.py", f"{place}.py", f"{place}/__init__.pyc", f"{place}.pyc"):
            if tree.is_file(path):
                return [path]
        above = tree.resolve(place.rpartition("/")[0] or "/")
        for file in tree.names(above) if above is not None and tree.is_folder(above) else ():
            if file.endswith(".so") and file.partition(".")[0] == parts[-1]:
                return [join(above or "/", file)]
        if tree.is_folder(place):
            return [place]
    return []


def _describe(tree: RootFileSystem, ownership: Ownership, path: str) -> dict[str, str]:
    """Return a file with its package, whose record may list the name itself or the target of a link."""
    real = tree.resolve(path, follow=False) or path
    key = ownership.owner(real) or ownership.owner(tree.resolve(path) or "")
    if not key and tree.is_folder(path):
        key = next((owner for file, owner in ownership.files.items() if file.startswith(f"{real}/")), "")
    package = ownership.packages.get(key)
    node = tree.stat(real)
    return {
        "path": real,
        "type": node.kind if node is not None else "",
        "kind": package.kind if package else "",
        "package": package.name if package else "",
        "version": package.version if package else "",
    }
