"""What a person may have meant by a pattern that matches nothing: the nearest paths of the tree.

All look-ups are bounded: so many names of a folder are compared, and so many entries of a tree are looked at.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from chainbuild.minimize.lists import literal, unescaped
from chainbuild.minimize.root import FileTree, base, join

MOST = 3
"""How many paths are suggested for a pattern."""
_MOST_NAMES = 4000
_MOST_ENTRIES = 300_000
_LONGEST = 256
_SKIP = frozenset(("/proc", "/sys", "/dev"))


def nearest(tree: FileTree, patterns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return for each pattern that matches nothing up to three paths of `tree`, the likeliest first.

    The longest folder of the pattern that exists is looked at for names that are close to the part after it. What has the
    rest of the pattern there comes first, then files of the pattern's last name anywhere, then close names without the rest.
    If there is nothing of all that, it is the folder.
    """
    found = {pattern: _close(tree, pattern) for pattern in patterns}
    elsewhere = _elsewhere(tree, [pattern for pattern, close in found.items() if len(close.whole) < MOST])
    return {
        pattern: tuple(dict.fromkeys((*close.whole, *elsewhere.get(pattern, ()), *close.names)))[:MOST]
        or (close.folder,)
        for pattern, close in found.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Close:
    """The longest existing folder of a pattern; paths below it that fit nearly, and what is called nearly so there."""

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
    wanted = _plain(parts[depth])[:_LONGEST]
    names = [name for name in tree.names(folder)[:_MOST_NAMES] if len(name) <= _LONGEST]
    lower = {name.lower(): name for name in reversed(names)}
    close = [join(folder, lower[name]) for name in difflib.get_close_matches(wanted.lower(), lower, n=MOST)]
    rest = "/".join(parts[depth + 1 :])
    if not rest:
        return _Close(folder=folder, whole=tuple(close))
    whole = [path for start in close for path in tree.glob(f"{literal(start)}/{rest}")]
    return _Close(folder=folder, whole=tuple(whole[:MOST]), names=() if whole else tuple(close))


def _elsewhere(tree: FileTree, patterns: list[str]) -> dict[str, list[str]]:
    """Where files and folders of the last names of the patterns are, those with the shortest paths first."""
    wanted = {pattern: unescaped(base(pattern.rstrip("/"))) for pattern in patterns}
    wanted = {pattern: name for pattern, name in wanted.items() if _plain(name[0])}
    found: dict[str, list[str]] = {}
    plain: dict[str, list[str]] = {}
    for pattern, (name, wild) in wanted.items():
        if not wild:
            plain.setdefault(name, []).append(pattern)
    wild_ones = [(pattern, name) for pattern, (name, wild) in wanted.items() if wild and _plain(name)]
    for count, (path, _) in enumerate(tree.walk("/", skip=_SKIP) if wanted else ()):
        if count >= _MOST_ENTRIES:
            break
        for pattern in plain.get(base(path), ()):
            found.setdefault(pattern, []).append(path)
        for pattern, name in wild_ones:
            if fnmatch.fnmatchcase(base(path), name):
                found.setdefault(pattern, []).append(path)
    return {pattern: sorted(paths, key=lambda path: (path.count("/"), path))[:MOST] for pattern, paths in found.items()}


def _plain(part: str) -> str:
    """A part of a pattern without its wildcards, to be compared with names."""
    return "".join(c for c in part if c not in "*?[]\\")
