"""The distribution of an image, read from its layers: whether and from where native tools can come."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from chainbuild.errors import NotReadyError
from chainbuild.host.folders import write_whole
from chainbuild.host.user_folders import cache_home
from chainbuild.native.runs import ENTRIES
from chainbuild.patterns import regex
from chainbuild.registry.contents import absolute, layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.values import decode_json

_RELEASE: Final = ("/usr/lib/os-release", "/etc/os-release")
_SPECS: Final = regex(r"/usr/lib/gcc/[^/]+/specs")
_MOST: Final = 1 << 16
_VERSION: Final = 2


class Root(Struct, frozen=True, kw_only=True):
    """The root file system of an image: its distribution's ID and code name (os-release), empty if unknown.

    `own_specs`: the path of a specs file of GCC that the image has; empty if none. `own_entry`: the same of a file where
    native package tools are mounted.
    """

    distribution: str = ""
    suite: str = ""
    own_specs: str = ""
    own_entry: str = ""

    @property
    def name(self) -> str:
        """The distribution and the suite as one name, such as `debian-trixie`."""
        return f"{self.distribution}-{self.suite}"


def read_root(registries: Registries, image: RemoteImage) -> Root:
    """Return what the layers of an image say. It is remembered by the image's digest. Errors: `RegistryError`."""
    memory = _memory(image)
    known = _remembered(memory)
    if known is not None:
        return known
    releases: dict[str, str] = {}
    own_specs = own_entry = ""
    for layer in reversed(image.layers):
        for member in layer_members(registries, image.reference, layer):
            path = absolute(member.name)
            if path in _RELEASE and member.kind == "file" and member.size < _MOST and path not in releases:
                releases[path] = b"".join(member.chunks()).decode("utf-8", "replace")
            elif _SPECS.fullmatch(path):
                own_specs = path
            elif path in ENTRIES:
                own_entry = path
    text = next((releases[path] for path in _RELEASE if path in releases), "")
    values = os_release(text)
    root = Root(
        distribution=values.get("ID", ""),
        suite=values.get("VERSION_CODENAME", ""),
        own_specs=own_specs,
        own_entry=own_entry,
    )
    _remember(memory, root)
    return root


def os_release(text: str) -> Mapping[str, str]:
    """Return the variables of an os-release file (os-release(5)); lines that are no assignments are ignored."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        values[name] = words[0] if words else ""
    return {name: value for name, value in values.items() if re.fullmatch(r"[A-Za-z0-9._-]*", value)}


def _memory(image: RemoteImage) -> Path | None:
    try:
        name = hashlib.sha256(str(image.digest).encode()).hexdigest()[:32]
        return cache_home() / "roots" / f"{_VERSION}-{name}.json"
    except NotReadyError:
        return None


def _remembered(memory: Path | None) -> Root | None:
    if memory is None:
        return None
    try:
        return decode_json(memory.read_bytes(), Root)
    except (OSError, msgspec.DecodeError):
        return None


def _remember(memory: Path | None, root: Root) -> None:
    if memory is None:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, msgspec.json.encode(root))
    except OSError:
        return
