"""Layers as somebody asked for them, and their folders as they are: one plain Dockerfile, or numbered ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile
from chainbuild.dockerfile.images import check_base_arg
from chainbuild.errors import Problem
from chainbuild.layouts.numbered_folder import BASE, ChainFolder, Numbered, read_option
from chainbuild.model import BuildArg, Graph, Secret
from chainbuild.references import ChainRegistry, ImageReference, Platform

PLAIN: Final = "Dockerfile"
TAKER: Final = "layer"
"""What the args files and the test of a plain Dockerfile are called after."""
_NUMBERED = re.compile(r"[0-9]+-Dockerfile-[^~#]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


class LayerFolder(Struct, frozen=True, kw_only=True):
    """A folder that becomes an image, as somebody asked for it; `path` and `line` are where it is said."""

    name: str
    folder: Path
    image: ImageReference
    """Its full name, with a tag."""
    base: ImageReference | str | None = None
    """An image, or the name of an earlier layer; None: what the Dockerfile says."""
    base_arg: str = ""
    """The ARG that takes the base; found where empty."""
    base_said: str = "--base"
    build_args: tuple[BuildArg, ...] = ()
    context: Path | None = None
    tests: bool = True
    path: str = ""
    line: int = 0


class LayerRequest(Struct, frozen=True, kw_only=True):
    """Layers to be built, each after the ones that it stands on; `registry` is where their images go."""

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
    """What a layer stands on, for people: an image or the name of a layer (None: nothing), and who says so.

    `by_default`: nobody but the Dockerfile does.
    """

    layer: str
    base: ImageReference | str | None
    how: str
    by_default: bool = False


class Layers(Struct, frozen=True, kw_only=True):
    """The graph, and what each layer stands on (on the first platform)."""

    graph: Graph
    standings: tuple[LayerBase, ...]


def layer_name(folder: Path) -> str:
    """What a layer is called that has no other name: as its folder, in letters that a tag may have."""
    return _UNFIT.sub("-", folder.resolve().name).strip("-.") or TAKER


class Piece(Struct, frozen=True, kw_only=True):
    """A Dockerfile of a layer: `taker` is what its args files and its test are called after."""

    number: int
    name: str
    taker: str
    path: Path
    facts: Dockerfile


def read_pieces(tree: ChainFolder, layer: LayerFolder, platforms: tuple[Platform, ...]) -> tuple[Piece, ...]:
    """The Dockerfiles of a layer, in order; everything that is wrong with the folder goes to the tree."""
    folder = layer.folder
    if not folder.is_dir():
        tree.problems.append(
            Problem(
                path=layer.path,
                line=layer.line,
                message=f"there is no folder {str(folder)!r}",
                hint="A layer is a folder with a Dockerfile.",
            )
        )
        return ()
    plain = folder / PLAIN
    numbered = sorted(entry.name for entry in folder.iterdir() if _NUMBERED.fullmatch(entry.name))
    if plain.exists() and numbered:
        tree.problem(
            folder,
            f"has both a plain {PLAIN} and numbered ones ({numbered[0]}, …)",
            "A layer is built from one Dockerfile, or from NN-Dockerfile-<descriptor> files.",
        )
        return ()
    if numbered:
        found = read_option(tree, str(folder), platforms)
        return tuple(_numbered(tree, item, layer) for item in found)
    if not plain.is_file():
        tree.problem(folder, "has no Dockerfile", _where_else(folder))
        return ()
    facts = tree.read_dockerfile(plain)
    if facts is None:
        return ()
    if layer.base_arg:
        problem = check_base_arg(facts, layer.base_arg)
        tree.problems += [problem] if problem else []
    return (Piece(number=0, name=layer.name, taker=TAKER, path=plain, facts=facts),)


def _numbered(tree: ChainFolder, item: Numbered, layer: LayerFolder) -> Piece:
    if layer.base_arg not in {"", BASE}:
        tree.problem(
            item.path, f"numbered Dockerfiles take their base as {BASE}", f"Leave the name {layer.base_arg} out."
        )
    name = f"{item.prefix}-{item.descriptor}"
    return Piece(number=item.number, name=name, taker=item.descriptor, path=item.path, facts=item.facts)


def _where_else(folder: Path) -> str:
    near = sorted(entry.parent.name for entry in folder.glob(f"*/{PLAIN}"))
    here = f"These folders in it have one: {', '.join(near[:8])}." if near else ""
    return here or "A layer is a folder with one plain Dockerfile, or with NN-Dockerfile-<descriptor> files."
