"""Prove that the results of the stages stand although their inputs moved: the minimized files, and how a container starts."""

from __future__ import annotations

from collections.abc import Iterator

from chainbuild.minimize.root import join, shown
from chainbuild.minimize.startup import PATH
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.merging import named_lines, paragraphs
from chainbuild.rebase.paths import ACCOUNTS, STATUS, is_documentation, is_passing
from chainbuild.rebase.tree import ImageTree
from chainbuild.registry.config import ImageConfig

_IGNORED = frozenset({"/etc/ld.so.cache", "/etc/shadow", "/etc/gshadow", *ACCOUNTS})


def minimized_conflicts(chain: BasePair, minimized: ImageTree) -> Iterator[str]:
    """Yield why the minimize stage has to run again: what it kept, or what decides what it keeps, differs in the chain's image.

    The stage keeps folders, and what programs in them need. So it keeps the same files as long as no path appears or
    disappears and nothing changes that it kept.
    """
    kept = {entry.content for entry in minimized.files.values() if entry.kind == "file"}
    for path, (before, after) in chain.differences.items():
        if is_passing(path) or (is_documentation(path) and path not in minimized.files) or path in _IGNORED:
            continue
        if before is None or after is None:
            yield f"{shown(path)}: it was {'added to' if before is None else 'removed from'} the chain's image"
        elif path in minimized.files or before.content in kept:
            yield f"{shown(path)}: minimize kept it, and it changed in the chain's image"
        elif path.startswith("/etc/ld.so.conf"):
            yield f"{shown(path)}: it changed in the chain's image"
    for path in ACCOUNTS:
        old, new = (named_lines(tree.data(path) or b"") for tree in (chain.old, chain.new))
        if old.keys() != new.keys() or (path in minimized.files and old != new):
            yield f"{path}: its entries differ in the chain's image"
    yield from _record_conflicts(chain, minimized)


def production_conflicts(production: BasePair) -> Iterator[str]:
    """Yield the files that minimize may have left to the production image, and that the new one lacks.

    Libraries are left out: the proof of the kept files looks for them.
    """
    for path, (before, after) in production.differences.items():
        if before is None or before.kind == "dir" or after is not None or is_passing(path) or is_documentation(path):
            continue
        elf = production.old.elf(path)
        if elf is None or not elf.soname:
            yield f"{shown(path)}: minimize may have left it to the production image, which no longer has it"


def _record_conflicts(chain: BasePair, minimized: ImageTree) -> Iterator[str]:
    """Yield the packages of which minimize kept files and records, and whose records changed in the chain's image."""
    old, new = (paragraphs(tree.data(STATUS) or b"", b"Package") for tree in (chain.old, chain.new))
    records = {path.rpartition("/")[2] for path in minimized.files if path.startswith("/var/lib/dpkg/")}
    for package, text in old.items():
        if new.get(package) != text and package in records:
            yield f"package {package}: minimize kept files of it, and its version changed in the chain's image"


def startup_conflicts(old: ImageTree, new: ImageTree, config: ImageConfig) -> Iterator[str]:
    """Yield what a container with this configuration needs that the old image has and the new one lacks.

    These are the program of ENTRYPOINT, CMD and HEALTHCHECK, the paths among their arguments, USER and WORKDIR.
    """
    env = dict(config.env)
    search_path = env.get("PATH") or PATH
    folder = config.working_dir or "/"
    test = config.healthcheck.test if config.healthcheck else ()
    for field, words in (("ENTRYPOINT", config.entrypoint), ("CMD", config.cmd), ("HEALTHCHECK", test[1:])):
        for word in words or ():
            for path in _places(word, search_path, folder):
                if old.resolve(path) is not None and new.resolve(path) is None:
                    yield f"{field}: {shown(path)} is not in the new base"
    if old.is_folder(folder) and not new.is_folder(folder):
        yield f"WORKDIR: {shown(folder)} is not in the new base"
    for path, name in zip(ACCOUNTS, (*config.user.partition(":")[::2],), strict=True):
        was, now = (named_lines(tree.data(path) or b"").get(name) for tree in (old, new))
        if name and was is not None and (now is None or was.split(b":")[2:4] != now.split(b":")[2:4]):
            yield f"USER: {shown(name)} differs in {path} of the new base"


def _places(word: str, search_path: str, folder: str) -> Iterator[str]:
    if word.startswith("/"):
        yield word
    elif "/" in word:
        yield join(folder, word)
    else:
        yield from (join(place, word) for place in search_path.split(":") if place.startswith("/"))


def import_conflicts(production: BasePair) -> Iterator[str]:
    """Yield what may change which Python modules can be imported: Python's own files, or files that the new base lacks."""
    for path, (before, after) in production.differences.items():
        if is_passing(path) or is_documentation(path):
            continue
        if "/python" in path or after is None:
            yield f"{shown(path)}: it {'changed' if before and after else 'was added or removed'} in the production image"
