"""Layers as requested, and their Dockerfiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile
from chainbuild.errors import Problem
from chainbuild.layouts.numbered_names import PLAIN
from chainbuild.model import BuildArg, Graph, Secret
from chainbuild.patterns import regex
from chainbuild.references import ChainRegistry, ImageReference, Platform

TAKER: Final = "layer"
"""The name in the args files and the test of a plain Dockerfile."""
_UNFIT = regex(r"[^A-Za-z0-9_.-]+")
_NAMED: Final = (
    regex(r"[Dd]ockerfile[-_.](?P<name>.+)"),
    regex(r"(?P<name>.+)[-_.][Dd]ockerfile"),
)


class LayerFolder(Struct, frozen=True, kw_only=True):
    """A folder to build as an image; `path` and `line` are where it was requested."""

    name: str
    folder: Path
    image: ImageReference
    """Its full name, with a tag."""
    base: ImageReference | None = None
    """The image that is its base; None: the base layer, else the base in the Dockerfile."""
    base_layer: str = ""
    """The name of the earlier layer that is its base, if any."""
    base_arg: str = ""
    """The ARG that takes the base; detected if empty."""
    base_said: str = "--base"
    build_args: tuple[BuildArg, ...] = ()
    context: Path | None = None
    tags: tuple[str, ...] = ()
    """Additional tags of the image."""
    dockerfile: str = ""
    """The name of its only Dockerfile, which is in `folder`. Empty: `Dockerfile`, or numbered ones."""
    image_key: str = ""
    """The key that selects `Dockerfile.<key>` files; then the folder is the last of those that are searched."""
    packages: tuple[str, ...] = ()
    """Packages with comment headers; then the folder is where they are searched."""
    skip_packages: tuple[str, ...] = ()
    """Packages that are left out although others depend on them."""
    search_dirs: tuple[Path, ...] = ()
    """Folders that are searched for Dockerfiles of the key, or for packages, before `folder`."""
    tests: bool = True
    path: str = ""
    line: int = 0

    def problem(self, message: str, hint: str) -> Problem:
        """Return a problem at the place where the layer was requested."""
        return Problem(path=self.path, line=self.line, message=message, hint=hint)


class LayerRequest(Struct, frozen=True, kw_only=True):
    """Layers to build, each after its base layer; `registry` is where their images are pushed."""

    root: Path
    layers: tuple[LayerFolder, ...]
    platforms: tuple[Platform, ...]
    registry: ChainRegistry
    build_platform: Platform
    build_args: tuple[BuildArg, ...] = ()
    """For every layer that declares them."""
    build_contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


class LayerBase(Struct, frozen=True, kw_only=True):
    """The base of a layer, for messages: an image, or another layer's name (neither: no base), and what sets it.

    `by_default`: it is set only by the Dockerfile.
    """

    layer: str
    base: ImageReference | None
    base_layer: str = ""
    how: str
    by_default: bool = False


class Layers(Struct, frozen=True, kw_only=True):
    """The graph, and the base of each layer (on the first platform)."""

    graph: Graph
    layer_bases: tuple[LayerBase, ...]


def layer_name(folder: Path, dockerfile: str = "") -> str:
    """Return the default name of a layer, in characters that a tag may have.

    It is the name of its folder, or what a Dockerfile's name has besides `Dockerfile`: `base` of `Dockerfile.base`.
    """
    return name_of_dockerfile(dockerfile) or fitting_name(folder.resolve().name) or TAKER


def name_of_dockerfile(file_name: str) -> str:
    """Return what the name of a Dockerfile has besides `Dockerfile`, in characters that a tag may have."""
    match = next((match for pattern in _NAMED if (match := pattern.fullmatch(file_name))), None)
    return fitting_name(match["name"] if match else file_name.removesuffix(PLAIN))


def fitting_name(text: str) -> str:
    """Return a text in characters that a tag may have."""
    return _UNFIT.sub("-", text).strip("-.")


class Piece(Struct, frozen=True, kw_only=True):
    """A Dockerfile of a layer: `taker` is the name in its args files and its test.

    `base_arg` is the ARG that takes the image of the Dockerfile before it; empty if there is none before it.
    """

    number: int
    name: str
    taker: str
    path: Path
    facts: Dockerfile
    context: Path
    files: Path
    """The folder of its args files and its test."""
    base_arg: str = ""
    args: tuple[BuildArg, ...] = ()
    """Args that the layout sets unless the user does."""
