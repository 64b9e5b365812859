"""Account for every byte of the chain's image by package: kept, in the production image, trimmed, or left out."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field

from chainbuild.minimize.packages import Ownership
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.select import KeptFiles

STATES = ("kept", "production", "trimmed", "left")
_LARGEST = 5
_MOST_LINKS = 20_000
_SKIP = ("/proc", "/sys", "/dev")


@dataclass(kw_only=True, slots=True)
class Account:
    """The files and bytes of an owner by state, with their paths, and the largest files left out, largest first."""

    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    paths: dict[str, list[str]] = field(default_factory=lambda: {state: [] for state in STATES})
    largest: list[tuple[int, str]] = field(default_factory=list)


def accounts(
    chain: RootFileSystem,
    production: RootFileSystem,
    ownership: Ownership,
    kept: dict[str, int],
    trimmed: frozenset[str],
) -> dict[str, Account]:
    """Return the accounts of all owners; `kept` maps paths of the chain's image to the bytes kept of them.

    Bytes saved by stripping count as trimmed. The owner of a file without a package is its folder, prefixed with
    `dir:`. Each hard-linked file counts once: under the first of its names that is kept, otherwise under its first
    name.
    """
    result: dict[str, Account] = {}
    seen: set[tuple[int, int]] = set()
    later: list[tuple[str, os.stat_result]] = []
    for path, node in chain.walk("/", skip=_SKIP):
        if node.kind != "file":
            continue
        status = os.lstat(node.host)
        if status.st_nlink > 1:
            if path not in kept:
                later.append((path, status))
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        _enter(result, ownership, production, path, status.st_size, kept, trimmed)
    for path, status in later:
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            _enter(result, ownership, production, path, status.st_size, kept, trimmed)
    for account in result.values():
        account.largest.sort(key=lambda pair: (-pair[0], pair[1]))
        for paths in account.paths.values():
            paths.sort()
    return dict(sorted(result.items()))


def sizes(root: RootFileSystem, ownership: Ownership) -> dict[str, int]:
    """Return the bytes of everything in `root` by owner; hard links count once."""
    result: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for path, node in root.walk("/", skip=_SKIP):
        if node.kind == "file":
            status = os.lstat(node.host)
            if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                if status.st_nlink > 1:
                    seen.add((status.st_dev, status.st_ino))
                owner = ownership.owner(path) or folder_owner(path)
                result[owner] = result.get(owner, 0) + status.st_size
    return dict(sorted(result.items()))


def _enter(
    result: dict[str, Account],
    ownership: Ownership,
    production: RootFileSystem,
    path: str,
    size: int,
    kept: dict[str, int],
    trimmed: frozenset[str],
) -> None:
    account = result.setdefault(ownership.owner(path) or folder_owner(path), Account())
    if path in kept:
        state = "kept"
        account.bytes["trimmed"] += size - kept[path]
        size = kept[path]
    elif path in trimmed:
        state = "trimmed"
    elif production.is_file(path):
        state = "production"
    else:
        state = "left"
        push = heapq.heappush if len(account.largest) < _LARGEST else heapq.heappushpop
        push(account.largest, (size, path))
    account.files[state] += 1
    account.paths[state].append(path)
    account.bytes[state] += size


def folder_owner(path: str) -> str:
    """Return the owner of a file without a package: the folder that contains it, up to three levels deep."""
    parts = path.split("/")[1:-1]
    if parts[:2] == ["usr", "lib"] or parts[:1] == ["var"] or parts[:2] == ["usr", "local"]:
        return "dir:/" + "/".join(parts[:3])
    return "dir:/" + "/".join(parts[:2])


def links_to_files(chain: RootFileSystem, selection: KeptFiles) -> dict[str, str]:
    """Map the links of `chain` that are not kept to the regular files that they finally lead to; sorted."""
    targets: dict[str, str] = {}
    for path, node in chain.walk("/", skip=_SKIP):
        if node.kind == "link" and path not in selection.kept and len(targets) < _MOST_LINKS:
            end = chain.resolve(path)
            if end is not None and chain.is_file(end):
                targets[path] = end
    return dict(sorted(targets.items()))
