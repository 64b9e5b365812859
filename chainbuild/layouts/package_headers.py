"""Packages: Dockerfiles whose comment headers name them and list what they depend on, in the form of jetson-containers.

#---
# name: torchvision
# alias: vision
# depends: [python, pytorch:2.8]
#---

A package is a folder with a Dockerfile. Its name is that of the folder unless the header sets one. JSON and YAML files beside
it may set the same, and define more packages (see `package_configs`). A `config.py`, in which a package may define more names
and arguments, is a program and is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import yaml
from msgspec import Struct, field

from chainbuild import limits
from chainbuild.layouts.package_configs import SUFFIXES, PackageConfig, read_configs
from chainbuild.layouts.tree_search import files_below
from chainbuild.patterns import regex
from chainbuild.values import replace
from chainbuild.yamlspec.nodes import compose

_FENCE: Final = "#---"
_CONFIG: Final = "config.py"
_SETTING: Final = regex(r"\s*(?:name|alias|depends)\s*:.*")
_PASSES: Final = 250
"""How often an order is expanded before its dependencies count as a cycle."""


class Package(Struct, frozen=True, kw_only=True):
    """A package. `line` is that of its dependencies; `config` is a program that may change what the header sets.

    `problems` are the lines and messages of what its header does not say clearly.
    """

    name: str
    path: Path
    """Its Dockerfile, or the file that defines it."""
    is_built: bool = True
    """False if it has no Dockerfile: then it only stands for what it depends on."""
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    line: int = 1
    config: Path | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()


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
    """The settings in the comment header of a Dockerfile. `line` is that of its dependencies; `problems` as in `Package`."""

    name: str = ""
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    line: int = 1
    problems: tuple[tuple[int, str], ...] = ()


def read_header(text: str) -> Header | None:
    """Return the header of a Dockerfile; None if it has none. Comments between lines of `#---` may also be plain text."""
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
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        return _unclear(lines, getattr(error, "problem", None) or "wrong characters")
    if not isinstance(node, yaml.MappingNode):
        return _unclear(lines, "no keys with values")
    values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    depends = values.get("depends")
    nested = [item for item in _nodes(depends) if not isinstance(item, yaml.ScalarNode)]
    return Header(
        name=next(iter(_texts(values.get("name"))), ""),
        aliases=_texts(values.get("alias")),
        depends=_texts(depends),
        line=depends.start_mark.line + 1 if depends else 1,
        problems=tuple(
            (item.start_mark.line + 1, "depends: has something that is not the name of a package") for item in nested
        ),
    )


def _unclear(lines: Sequence[str], why: str) -> Header | None:
    """Return a header with a problem, if its text has a setting that would be lost; else None: it is plain text."""
    number = next((number for number, line in enumerate(lines, start=1) if _SETTING.fullmatch(line)), 0)
    return Header(problems=((number, f"the comment header is not YAML: {why}"),)) if number else None


def _texts(node: yaml.Node | None) -> tuple[str, ...]:
    """Return the strings of a list, or a single string."""
    return tuple(item.value for item in _nodes(node) if isinstance(item, yaml.ScalarNode) and item.value)


def _nodes(node: yaml.Node | None) -> Sequence[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node] if node is not None else []


def find_packages(folders: Iterable[Path]) -> Packages:
    """Return the packages below the folders, at all depths. Dockerfiles that cannot be read are left out."""
    return Packages(
        package
        for folder in folders
        for place, files in groupby(files_below(folder), key=lambda path: path.parent)
        for package in _packages(place, tuple(files))
    )


def _packages(folder: Path, files: Sequence[Path]) -> Iterator[Package]:
    """Yield the packages of one folder."""
    plain = next((path for path in files if path.name.lower() == "dockerfile"), None)
    own = _package(plain) if plain else None
    more: list[Package] = []
    for path in files:
        for config in read_configs(path) if path.suffix in SUFFIXES else ():
            if config.name in {"", folder.name, own.name if own else ""}:
                own = _configured(own or Package(name=folder.name, path=path, is_built=False), config)
            else:
                base = own or Package(name=config.name, path=path, is_built=False)
                more.append(_configured(replace(base, name=config.name, aliases=()), config))
    yield from (*((own,) if own else ()), *more)


def _configured(package: Package, config: PackageConfig) -> Package:
    """Return the package with the settings of a file, which replace those of the header."""
    dockerfile = package.path.parent / config.dockerfile if config.dockerfile else package.path
    return replace(
        package,
        path=dockerfile,
        is_built=package.is_built or bool(config.dockerfile),
        aliases=config.aliases or package.aliases,
        depends=config.depends or package.depends,
        build_args={**package.build_args, **config.build_args},
    )


def _package(path: Path) -> Package | None:
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
        problems=header.problems,
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
