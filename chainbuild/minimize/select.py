"""Which files of the chain's image go into the result as they are: the documented folders, and what links lead to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chainbuild.minimize.root import Node, Root, Tree, join, parent

KEPT_BY_DEFAULT = (
    "/usr/local/lib",
    "/usr/local/include",
    "/usr/local/bin",
    "/opt/venv",
    "/usr/lib/python*",
    "/usr/bin/python*",
    "/etc/ssl",
)

_WIDE = frozenset(
    ("/usr/local", "/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/share", "/usr/bin", "/usr/sbin", "/usr/include",
     "/usr/libexec", "/usr/src", "/var/lib", "/var/cache", "/etc/alternatives")
)  # fmt: skip
"""Folders that belong to the whole system: a link to one of them is kept, what is in the folder is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A file, folder or link of the chain's image, free of links above it, and why it is kept.

    ``because`` is the path of the file that it is kept for, where there is one.
    """

    path: str
    node: Node
    reason: str
    because: str = ""


@dataclass(kw_only=True, slots=True)
class Selection:
    """What is kept, by path, and what is not although something pointed at it."""

    kept: dict[str, Kept] = field(default_factory=dict)
    special: dict[str, None] = field(default_factory=dict)
    """Devices, sockets and pipes, which are left out."""
    dangling: list[tuple[str, str]] = field(default_factory=list)
    """Links that lead nowhere: the link and its target."""
    too_wide: list[tuple[str, str]] = field(default_factory=list)
    """Links to folders of the whole system, which were not followed: the link and the folder."""
    nothing: list[str] = field(default_factory=list)
    """Patterns that name nothing."""


def select(chain: Root, production: Tree, additional: Iterable[str] = ()) -> Selection:
    """The selection of ``chain`` for ``production``: the documented folders and the patterns in ``additional``.

    What a kept link leads to is kept too, unless ``production`` has something there.
    """
    selection = Selection()
    links: list[str] = []
    for pattern in KEPT_BY_DEFAULT:
        for path in chain.glob(pattern):
            _keep(chain, selection, links, path, f"documented folder {pattern}")
    for pattern in additional:
        matches = chain.glob(pattern if pattern.startswith("/") else f"/{pattern}")
        for path in matches:
            _keep(chain, selection, links, path, f"additional file {pattern}")
        if not matches:
            selection.nothing.append(pattern)
    _follow_all(chain, production, selection, links)
    return selection


def keep_also(chain: Root, production: Tree, selection: Selection, top: str, reason: str, because: str) -> list[str]:
    """Keeps ``top`` (free of links above it), what is below it and what links there lead to; gives what is new.

    What ``production`` has at the same path is its own, and is not taken.
    """
    before = set(selection.kept)
    links: list[str] = []
    _keep(chain, selection, links, top, reason, because, production)
    _follow_all(chain, production, selection, links)
    return [path for path in selection.kept if path not in before]


def _follow_all(chain: Root, production: Tree, selection: Selection, links: list[str]) -> None:
    done: set[str] = set()
    while links:
        link = links.pop()
        if link not in done:
            done.add(link)
            _follow(chain, production, selection, links, link)
    selection.dangling.sort()
    selection.too_wide.sort()


def _keep(
    chain: Root,
    selection: Selection,
    links: list[str],
    top: str,
    reason: str,
    because: str = "",
    unless: Tree | None = None,
) -> None:
    for path, node in chain.walk(top):
        if path in selection.kept or (unless is not None and unless.resolve(path, follow=False) is not None):
            continue
        if node.kind == "special":
            selection.special[path] = None
            continue
        selection.kept[path] = Kept(path=path, node=node, reason=reason, because=because)
        if node.kind == "link":
            links.append(path)


def _follow(chain: Root, production: Tree, selection: Selection, links: list[str], link: str) -> None:
    """Keeps what the kept ``link`` points at, one step; a link found there is followed in its turn."""
    target = selection.kept[link].node.target
    aim = target if target.startswith("/") else join(parent(link), target)
    there = chain.resolve(aim, follow=False)
    node = None if there is None else chain.entry(there)
    if there is None or node is None:
        if production.resolve(aim) is None:
            selection.dangling.append((link, target))
        return
    if there in selection.kept or production.resolve(aim) is not None:
        return
    if node.kind == "dir" and (there.count("/") < 2 or there in _WIDE or f"{link}/".startswith(f"{there}/")):
        selection.too_wide.append((link, there))
        return
    _keep(chain, selection, links, there, f"target of the link {link}", link)
