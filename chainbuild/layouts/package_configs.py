"""Packages in JSON and YAML files, in the form of jetson-containers: settings of the folder's package, or of several by name.

    {"riva-client:cpp": {"dockerfile": "Dockerfile.cpp", "depends": ["cmake"]}, "riva-client:python": {…}}

A file that has any other key is not one of these: folders of packages have all kinds of JSON and YAML files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct, field

from chainbuild import limits
from chainbuild.errors import DamagedContentError

SUFFIXES: Final = (".json", ".yml", ".yaml")
_KEYS: Final = frozenset(
    {
        "alias",
        "build_args",
        "build_flags",
        "buildkit_device",
        "config",
        "depends",
        "disabled",
        "dockerfile",
        "docs",
        "group",
        "name",
        "notes",
        "path",
        "postfix",
        "prefix",
        "requires",
        "test",
    }
)


class PackageConfig(Struct, frozen=True, kw_only=True):
    """The settings of one package. `name` is empty if they are those of the folder's own package."""

    name: str = ""
    dockerfile: str = ""
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)


def read_configs(path: Path) -> tuple[PackageConfig, ...]:
    """Return the packages that a file sets; none if it is no such file, or cannot be read."""
    try:
        raw = limits.read_file(path, limits.PACKAGE_HEADER)
        values = yaml.safe_load(raw.decode("utf-8-sig"))
    except (OSError, DamagedContentError, yaml.YAMLError, UnicodeError, ValueError, RecursionError):
        return ()
    if _is_package(values):
        return (_config(str(values.get("name") or ""), values),)
    if isinstance(values, dict) and values and all(map(_is_package, values.values())):
        return tuple(_config(str(name), one) for name, one in values.items())
    return ()


def _is_package(values: Any) -> bool:
    return isinstance(values, dict) and bool(values) and _KEYS.issuperset(values)


def _config(name: str, values: Mapping[str, Any]) -> PackageConfig:
    args = values.get("build_args")
    dockerfile = values.get("dockerfile")
    return PackageConfig(
        name=name,
        dockerfile=dockerfile if isinstance(dockerfile, str) else "",
        aliases=_texts(values.get("alias")),
        depends=_texts(values.get("depends")),
        build_args={str(key): str(value) for key, value in args.items()} if isinstance(args, dict) else {},
    )


def _texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(str(item) for item in items if item is not None and not isinstance(item, dict | list) and str(item))
