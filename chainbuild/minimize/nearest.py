"""Suggest paths for a pattern that matches nothing: the nearest paths of the tree.

All searches are limited, in the names of a folder that are compared and the entries of a tree that are read.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from chainbuild.minimize.lists import literal, unescaped
from chainbuild.minimize.root import FileTree, base, join

MOST = 3
"""The most paths that are suggested for a pattern."""
_MOST_NAMES = 4000
_MOST_ENTRIES = 300_000
_LONGEST = 256
_SKIP = frozenset(("/proc", "/sys", "/dev"))


def nearest(tree: FileTree, patterns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return up to three paths of `tree` for each pattern that matches nothing, the likeliest first.

    The longest existing folder of the pattern is searched for names that are similar to the next part. Names below
    which the rest of the pattern exists come first, then files with the pattern's last name anywhere, then similar
    names without the rest. If there is none of these, the folder itself is suggested.
    """
    suggestions = {pattern: _close(tree, pattern) for pattern in patterns}
    elsewhere = _elsewhere(tree, [pattern for pattern, close in suggestions.items() if len(close.whole) < MOST])
    return {
        pattern: tuple(dict.fromkeys((*close.whole, *elsewhere.get(pattern, ()), *close.names)))[:MOST]
        or (close.folder,)
        for pattern, close in suggestions.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Close:
    """The longest existing folder of a pattern, complete paths below it that are similar, and similar names in it."""

    folder: str
    whole: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def _close(tree: FileTree, pattern: str) -> _Close:
    parts = [part for part in pattern.split("/") if part]
    folder, depth = "/", 0
    while depth < len(parts):
        deeper = next((path for path in tree.glob("/".join(parts[: depth + 1])) if tree.is_folder(path)), None)
        if deeper is None:
            break
        folder, depth = tree.resolve(deeper) or deeper, depth + 1
    if depth == len(parts):
        return _Close(folder=folder)
    missing = _plain(parts[depth])[:_LONGEST]
    names = [name for name in tree.names(folder)[:_MOST_NAMES] if len(name) <= _LONGEST]
    lower = {name.lower(): name for name in reversed(names)}
    close = [join(folder, lower[name]) for name in difflib.get_close_matches(missing.lower(), lower, n=MOST)]
    rest = "/".join(parts[depth + 1 :])
    if not rest:
        return _Close(folder=folder, whole=tuple(close))
    whole = [path for start in close for path in tree.glob(f"{literal(start)}/{rest}")]
    return _Close(folder=folder, whole=tuple(whole[:MOST]), names=() if whole else tuple(close))


def _elsewhere(tree: FileTree, patterns: list[str]) -> dict[str, list[str]]:
    """Return the paths of files and folders with the patterns' last names, shortest paths first."""
    targets = {pattern: unescaped(base(pattern.rstrip("/"))) for pattern in patterns}
    targets = {pattern: name for pattern, name in targets.items() if _plain(name[0])}
    hits: dict[str, list[str]] = {}
    plain: dict[str, list[str]] = {}
    for pattern, (name, wild) in targets.items():
        if not wild:
            plain.setdefault(name, []).append(pattern)
    wild_ones = [(pattern, name) for pattern, (name, wild) in targets.items() if wild and _plain(name)]
    for count, (path, _) in enumerate(tree.walk("/", skip=_SKIP) if targets else ()):
        if count >= _MOST_ENTRIES:
            break
        for pattern in plain.get(base(path), ()):
            hits.setdefault(pattern, []).append(path)
        for pattern, name in wild_ones:
            if fnmatch.fnmatchcase(base(path), name):
                hits.setdefault(pattern, []).append(path)
    return {pattern: sorted(paths, key=lambda path: (path.count("/"), path))[:MOST] for pattern, paths in hits.items()}


def _plain(part: str) -> str:
    """Return a part of a pattern without wildcards, for comparison with names."""
    return "".join(c for c in part if c not in "*?[]\\")
