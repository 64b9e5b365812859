"""Select the files of the chain's image that the result keeps as they are: the documented folders, and link targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from chainbuild.minimize.root import FileTree, Node, RootFileSystem, join, parent

KEPT_BY_DEFAULT = (
    "/usr/local/lib",
    "/usr/local/include",
    "/usr/local/bin",
    "/opt/venv",
    "/usr/lib/python*",
    "/usr/bin/python*",
    "/etc/ssl",
)

_WIDE = re.compile(
    r"/[^/]*"
    r"|/usr/(?:local|lib\w*|share|s?bin|games|include|libexec|src)"
    r"|/usr/lib/[^/]+-linux-[^/]+"
    r"|/usr/local/(?:lib\w*|share|s?bin|etc|include|libexec|src)"
    r"|/var/(?:lib|cache|log|spool|opt|backups|mail)|/etc/alternatives"
)


def is_wide(folder: str) -> bool:
    """Return whether a folder belongs to the whole system: a link to it is kept, but not its content."""
    return _WIDE.fullmatch(folder) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A file, folder or link of the chain's image, with no links above it, and why it is kept.

    `because` is the path of the file for which it is kept, if any.
    """

    path: str
    node: Node
    reason: str
    because: str = ""


@dataclass(kw_only=True, slots=True)
class KeptFiles:
    """The kept files by path, and what is not kept although something refers to it."""

    kept: dict[str, Kept] = field(default_factory=dict)
    special: dict[str, None] = field(default_factory=dict)
    """Devices, sockets and pipes, which are left out."""
    dangling: list[tuple[str, str]] = field(default_factory=list)
    """Links whose target is missing: the link and its target."""
    too_wide: list[tuple[str, str]] = field(default_factory=list)
    """Links to folders of the whole system, which were not followed: the link and the folder."""
    unmatched: list[tuple[str, str]] = field(default_factory=list)
    """Patterns that match nothing although they must: the argument and the pattern."""


def select(
    chain: RootFileSystem, production: FileTree, additional: Iterable[str] = (), optional: Collection[str] = frozenset()
) -> KeptFiles:
    """Select from `chain` the documented folders and the patterns in `additional`, for `production`.

    The target of a kept link is kept too, unless `production` has it, and so are the links on the way to a kept file,
    so that the file is found by the same path. Patterns in `optional` may match nothing.
    """
    selection = KeptFiles()
    links: list[str] = []
    for pattern in KEPT_BY_DEFAULT:
        for path in chain.glob(pattern):
            _keep(chain, selection, links, path, f"documented folder {pattern}")
    for pattern in additional:
        passed: dict[str, None] = {}
        matches = chain.glob(pattern if pattern.startswith("/") else f"/{pattern}", passed)
        for path in matches:
            _keep(chain, selection, links, path, f"additional file {pattern}")
        for link in passed:
            _keep_passage(chain, production, selection, link, f"on the way to what ADDITIONAL_FILES names as {pattern}")
        if not matches and pattern not in optional:
            selection.unmatched.append(("ADDITIONAL_FILES", pattern))
    _follow_all(chain, production, selection, links)
    return selection


def keep_also(
    chain: RootFileSystem,
    production: FileTree,
    selection: KeptFiles,
    path: str,
    reason: str,
    because: str,
    leave: Callable[[str], bool] | None = None,
) -> int:
    """Keep the file at `path`, everything below it and the targets of links there; return how many paths are new.

    Links among the folders above it are kept as well, so that it is found by the same path. What `production` has at
    the same path is not replaced. Paths below `path` for which `leave` returns True are not kept, unless something else
    refers to them.
    """
    top = chain.resolve(path, follow=False)
    if top is None:
        return 0
    before = len(selection.kept)
    links: list[str] = []
    _keep(chain, selection, links, top, reason, because, production, leave)
    for link in chain.links(path, follow=False):
        _keep_passage(chain, production, selection, link, f"on the way to {path}", because)
    _follow_all(chain, production, selection, links)
    return len(selection.kept) - before


def _keep_passage(
    chain: RootFileSystem, production: FileTree, selection: KeptFiles, link: str, reason: str, because: str = ""
) -> None:
    """Keep a link to a folder as part of a path; other files in that folder are not kept for it."""
    node = chain.entry(link)
    if node is not None and link not in selection.kept and production.resolve(link, follow=False) is None:
        selection.kept[link] = Kept(path=link, node=node, reason=reason, because=because)


def _follow_all(chain: RootFileSystem, production: FileTree, selection: KeptFiles, links: list[str]) -> None:
    followed: set[str] = set()
    folders: set[str] = set()
    while links:
        link = links.pop()
        if link not in followed:
            followed.add(link)
            _follow(chain, production, selection, (links, folders), link)
    selection.dangling.sort()
    selection.too_wide.sort()


def _keep(
    chain: RootFileSystem,
    selection: KeptFiles,
    links: list[str],
    top: str,
    reason: str,
    because: str = "",
    unless: FileTree | None = None,
    leave: Callable[[str], bool] | None = None,
) -> None:
    for path, node in chain.walk(top, leave=leave):
        if path in selection.kept or (unless is not None and unless.resolve(path, follow=False) is not None):
            continue
        if node.kind == "special":
            selection.special[path] = None
            continue
        selection.kept[path] = Kept(path=path, node=node, reason=reason, because=because)
        if node.kind == "link":
            links.append(path)


def _follow(
    chain: RootFileSystem, production: FileTree, selection: KeptFiles, todo: tuple[list[str], set[str]], link: str
) -> None:
    """Keep the direct target of the kept `link`; a link found there is followed later.

    `todo` has the links that are still to be followed, and the folders that links have led to.
    """
    links, folders = todo
    target = selection.kept[link].node.target
    aim = target if target.startswith("/") else join(parent(link), target)
    place = chain.resolve(aim, follow=False)
    node = None if place is None else chain.entry(place)
    provided = production.stat(aim)
    if place is None or node is None:
        if provided is None:
            selection.dangling.append((link, target))
        return
    for passed in chain.links(aim, follow=False):
        _keep_passage(chain, production, selection, passed, f"on the way to the target of {link}", link)
    if place in selection.kept or place in folders or (provided is not None and {provided.kind, node.kind} != {"dir"}):
        return
    if node.kind == "dir" and (is_wide(place) or f"{link}/".startswith(f"{place}/")):
        if provided is None:
            selection.too_wide.append((link, place))
        return
    if node.kind == "dir":
        folders.add(place)
    _keep(chain, selection, links, place, f"target of the link {link}", link, production)
