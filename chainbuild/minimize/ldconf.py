"""Where the loaders of a root file system look by default: ``ld.so.conf``, what is built into them, musl's path."""

from __future__ import annotations

import re

from chainbuild.minimize.abi import Abi
from chainbuild.minimize.root import Tree, join, parent

LD_SO_CONF = "/etc/ld.so.conf"
_MAX_DEPTH = 16
_BUILT_IN = re.compile(rb"(?:/[A-Za-z0-9_./+-]{1,200}/\x00){2,8}")
_MUSL_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")


def configured_folders(tree: Tree, conf: str = LD_SO_CONF) -> tuple[str, ...]:
    """The folders that ``ldconfig`` takes from ``conf`` and what it includes, in order (ldconfig(8)).

    The text is as it stands in the files; folders need not exist, and one may come more than once.
    """
    found: list[str] = []
    _parse(tree, conf, found, set(), 0)
    return tuple(found)


def _parse(tree: Tree, conf: str, found: list[str], seen: set[str], depth: int) -> None:
    where = tree.resolve(conf)
    content = None if where is None or where in seen or depth > _MAX_DEPTH else tree.read(where)
    if where is None or content is None:
        return
    seen.add(where)
    for raw in content.decode("utf-8", "surrogateescape").split("\n"):
        line = raw.partition("#")[0].strip()
        words = line.split()
        if not words:
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                full = pattern if pattern.startswith("/") else join(parent(conf), pattern)
                for included in tree.glob(full):
                    _parse(tree, included, found, seen, depth + 1)
        elif words[0] != "hwcap" and line.startswith("/"):
            found.append(line.partition("=")[0].rstrip())


def built_in_folders(tree: Tree, loader: str, abi: Abi) -> tuple[str, ...]:
    """The folders that glibc's loader at ``loader`` searches last, read from the loader's own bytes.

    The list is a run of strings that end in a slash, compiled into it (``system_dirs`` in elf/dl-load.c); where
    it cannot be seen, the customary folders of the interface are given.
    """
    content = tree.read(loader)
    for match in _BUILT_IN.finditer(content or b""):
        folders = [part.decode("ascii").rstrip("/") for part in match[0].split(b"\0") if part]
        if any(folder.startswith("/usr/lib") for folder in folders):
            return tuple(folders)
    usual = [f"/lib/{abi.triplet}", f"/usr/lib/{abi.triplet}"] if abi.triplet else []
    if abi.bits == 64:
        usual += ["/lib64", "/usr/lib64"]
    return (*usual, "/lib", "/usr/lib")


def ldconfig_built_in(tree: Tree, loader_folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders that ``ldconfig`` adds after those of its configuration."""
    wide = tuple(folder for folder in loader_folders if folder.endswith("/lib64") and tree.is_folder(folder))
    return (*wide, "/lib", "/usr/lib")


def musl_folders(tree: Tree, abi: Abi) -> tuple[str, ...]:
    """musl's search path: ``/etc/ld-musl-ARCH.path`` (newlines or colons) or what is built in."""
    content = tree.read(musl_path_file(abi))
    if content is None:
        return _MUSL_DEFAULT
    return tuple(part for part in re.split("[\n:]", content.decode("utf-8", "surrogateescape")) if part)


def musl_path_file(abi: Abi) -> str:
    """Where musl's loader reads its search path."""
    return f"/etc/ld-musl-{abi.musl}.path"
