"""Layers as requested, and their folders: one plain Dockerfile, or numbered Dockerfiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile
from chainbuild.dockerfile.images import check_base_arg
from chainbuild.errors import Problem
from chainbuild.layouts.numbered_folder import ChainFolder, Numbered, read_option
from chainbuild.layouts.numbered_names import PLAIN, has_numbered, numbered_names
from chainbuild.model import BuildArg, Graph, Secret
from chainbuild.patterns import regex
from chainbuild.references import ChainRegistry, ImageReference, Platform

TAKER: Final = "layer"
"""The name in the args files and the test of a plain Dockerfile."""
_UNFIT = regex(r"[^A-Za-z0-9_.-]+")


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
    tests: bool = True
    path: str = ""
    line: int = 0


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


def layer_name(folder: Path) -> str:
    """Return the default name of a layer: the name of its folder, in characters that a tag may have."""
    return _UNFIT.sub("-", folder.resolve().name).strip("-.") or TAKER


class Piece(Struct, frozen=True, kw_only=True):
    """A Dockerfile of a layer: `taker` is the name in its args files and its test.

    `base_arg` is the ARG that takes the image of the Dockerfile before it. Empty: there is none before it.
    """

    number: int
    name: str
    taker: str
    path: Path
    facts: Dockerfile
    context: Path
    base_arg: str = ""


def read_pieces(tree: ChainFolder, layer: LayerFolder, platforms: tuple[Platform, ...]) -> tuple[Piece, ...]:
    """Return the Dockerfiles of a layer, in order; problems of the folder go to the tree."""
    folder = layer.folder
    if not folder.is_dir():
        tree.problems.append(
            Problem(
                path=layer.path,
                line=layer.line,
                message=f"no such folder: {str(folder)!r}",
                hint="A layer is a folder with a Dockerfile.",
            )
        )
        return ()
    plain = folder / PLAIN
    if plain.exists() and has_numbered(folder):
        tree.problem(
            folder,
            f"has both a plain {PLAIN} and numbered ones ({numbered_names(folder)[0].file}, …)",
            "Keep one Dockerfile, or only NN-Dockerfile-<descriptor> files.",
        )
        return ()
    if has_numbered(folder):
        result = read_option(tree, str(folder), platforms, layer.base_arg)
        return tuple(_numbered(item, layer) for item in result)
    if not plain.is_file():
        tree.problem(folder, "has no Dockerfile", _where_else(folder))
        return ()
    facts = tree.read_dockerfile(plain)
    if facts is None:
        return ()
    if layer.base_arg:
        problem = check_base_arg(facts, layer.base_arg)
        tree.problems += [problem] if problem else []
    context = layer.context or folder
    return (Piece(number=0, name=layer.name, taker=TAKER, path=plain, facts=facts, context=context),)


def _numbered(item: Numbered, layer: LayerFolder) -> Piece:
    name = item.name
    return Piece(
        number=name.number,
        name=name.step,
        taker=name.taker,
        path=item.path,
        facts=item.facts,
        context=layer.context or item.context or layer.folder,
        base_arg=item.base_arg,
    )


def _where_else(folder: Path) -> str:
    near = sorted(entry.parent.name for entry in folder.glob(f"*/{PLAIN}"))
    subfolders = f"These subfolders have one: {', '.join(near[:8])}." if near else ""
    return subfolders or "A layer is a folder with one plain Dockerfile, or with NN-Dockerfile-<descriptor> files."
