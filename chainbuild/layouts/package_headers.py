"""Packages: Dockerfiles whose comment headers name them and list what they depend on, in the form of jetson-containers.

#---
# name: torchvision
# alias: vision
# depends: [python, pytorch:2.8]
#---

A package is a folder with a Dockerfile. Its name is that of the folder unless the header sets one. Headers are the only
source: a `config.py`, in which a package may define more names and arguments, is a program and is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import yaml
from msgspec import Struct

from chainbuild import limits
from chainbuild.layouts.tree_search import files_below
from chainbuild.yamlspec.nodes import compose

_FENCE: Final = "#---"
_CONFIG: Final = "config.py"
_PASSES: Final = 250
"""How often an order is expanded before its dependencies count as a cycle."""


class Package(Struct, frozen=True, kw_only=True):
    """A package. `line` is that of its dependencies; `config` is a program that may change what the header sets."""

    name: str
    path: Path
    """Its Dockerfile."""
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    line: int = 1
    config: Path | None = None


class Packages:
    """All packages below some folders. If two have the same name or alias, the one in the first folder counts."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self.every = tuple(packages)
        self._by_name: dict[str, Package] = {}
        for package in self.every:
            self._by_name.setdefault(package.name, package)
        for package in self.every:
            for alias in package.aliases:
                self._by_name.setdefault(alias, package)

    @property
    def names(self) -> tuple[str, ...]:
        """All names and aliases."""
        return tuple(sorted(self._by_name))

    def find(self, name: str) -> Package | None:
        """Return the package with a name or an alias."""
        return self._by_name.get(name)


class Header(Struct, frozen=True, kw_only=True):
    """The settings in the comment header of a Dockerfile. `line` is that of its dependencies."""

    name: str = ""
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    line: int = 1


def read_header(text: str) -> Header | None:
    """Return the header of a Dockerfile; None if it has none, or one that is not YAML."""
    inside = False
    lines: list[str] = []  # with an empty line for each line outside, so that lines keep their numbers
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        fence = line.startswith(_FENCE)
        inside = not inside if fence else inside
        lines.append(line[1:] if inside and not fence else "")
    try:
        node = compose("\n".join(lines).encode())
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return None
    if not isinstance(node, yaml.MappingNode):
        return None
    values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    depends = values.get("depends")
    return Header(
        name=next(iter(_texts(values.get("name"))), ""),
        aliases=_texts(values.get("alias")),
        depends=_texts(depends),
        line=depends.start_mark.line + 1 if depends else 1,
    )


def _texts(node: yaml.Node | None) -> tuple[str, ...]:
    """Return the strings of a list, or a single string."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return tuple(item.value for item in nodes if isinstance(item, yaml.ScalarNode) and item.value)


def find_packages(folders: Iterable[Path]) -> Packages:
    """Return the packages below the folders, at all depths. Dockerfiles that cannot be read are left out."""
    return Packages(package for folder in folders for path in files_below(folder) if (package := _package(path)))


def _package(path: Path) -> Package | None:
    if path.name.lower() != "dockerfile":
        return None
    try:
        header = read_header(limits.read_head(path, limits.PACKAGE_HEADER).decode("utf-8", "replace"))
    except OSError:
        return None
    header = header or Header()
    return Package(
        name=header.name or path.parent.name,
        path=path,
        aliases=header.aliases,
        depends=header.depends,
        line=header.line,
        config=path.parent / _CONFIG if (path.parent / _CONFIG).is_file() else None,
    )


def build_order(
    names: Sequence[str], depends_of: Callable[[str], Sequence[str]], skip: Iterable[str] = ()
) -> list[str]:
    """Return the names with everything that they depend on, each after its dependencies.

    The order is that of jetson-containers: dependencies are put right before what needs them, and `name:version` replaces
    a plain `name`. Errors: `ValueError` if the dependencies have a cycle.
    """
    left_out = frozenset(skip)
    order = list(names)
    for _ in range(_PASSES):
        before = list(order)
        if not _expand(order, depends_of):
            order = [name for name in order if name not in left_out]
        if order == before:
            return order
    raise ValueError(", ".join(order[:10]))


def _expand(order: list[str], depends_of: Callable[[str], Sequence[str]]) -> bool:
    """Put the direct dependencies of all names into the order. True: a name was replaced or moved, so begin again."""
    first, last = _places(order)
    for name in tuple(order):
        for dependency in depends_of(name):
            plain = dependency.partition(":")[0]
            at = last.get(dependency, -1)
            if at < 0 and plain in first:
                order[first[plain]] = dependency
                return True
            here = first[name]
            if at < 0:
                order.insert(here, dependency)
                first, last = _places(order)
            elif at > here:
                order.insert(here, order.pop(at))
                return True
    return False


def _places(order: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the first place of each name, and the last one of what meets a dependency: the name, or a version of it."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, name in enumerate(order):
        first.setdefault(name, place)
        last[name] = last[name.partition(":")[0]] = place
    return first, last
