"""Read the Dockerfiles of a layer: one plain file, numbered files, those of an image key, or those of packages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from chainbuild.dockerfile.images import check_base_arg
from chainbuild.layouts.image_keys import read_keyed
from chainbuild.layouts.layer_folder import TAKER, LayerFolder, Piece, name_of_dockerfile
from chainbuild.layouts.numbered_folder import ChainFolder, Numbered, read_option
from chainbuild.layouts.numbered_names import PLAIN, has_numbered, numbered_names
from chainbuild.layouts.packages import note_dependencies, read_packages
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

_CHAIN: Final = regex(r"[0-9]+-Dockerfile-.+")


def read_pieces(tree: ChainFolder, layer: LayerFolder, platform: Platform) -> tuple[Piece, ...]:
    """Return the Dockerfiles of a layer, in order; problems of the folder go to the tree."""
    folder = layer.folder
    if not folder.is_dir():
        tree.problems.append(
            layer.problem(f"no such folder: {str(folder)!r}", "A layer is a folder with a Dockerfile.")
        )
        return ()
    if layer.image_key or layer.packages:
        pieces = read_keyed(tree, layer, platform) if layer.image_key else read_packages(tree, layer, platform)
        _check_base_arg(tree, layer, pieces)
        return pieces
    if layer.dockerfile:
        return _named(tree, layer)
    plain = folder / PLAIN
    if plain.exists():
        return _plain(tree, layer, plain) if _is_alone(tree, folder) else ()
    if has_numbered(folder):
        # The base of the first Dockerfile is set as that of a plain one.
        result = read_option(tree, str(folder), (platform,), layer.base_arg, accept_base=lambda _: True)
        return tuple(_numbered(item, layer) for item in result)
    tree.problem(folder, "has no Dockerfile", _where_else(folder))
    return ()


def _is_alone(tree: ChainFolder, folder: Path) -> bool:
    """Return whether a plain Dockerfile is the only one that a folder can be meant to build.

    Next to it, `NN-Dockerfile-x` is a problem. Other numbered names are often those of variants: a note names them.
    """
    names = [name.file for name in numbered_names(folder) if not name.in_folder]
    chain = [name for name in names if _CHAIN.fullmatch(name)]
    if chain:
        tree.problem(
            folder,
            f"has both a plain {PLAIN} and numbered ones ({chain[0]}, …)",
            "Keep one Dockerfile, or only NN-Dockerfile-<descriptor> files.",
        )
    elif names:
        tree.notes.append(f"{tree.shown(folder)}: {PLAIN} is built, not {', '.join(names)}")
    return not chain


def _named(tree: ChainFolder, layer: LayerFolder) -> tuple[Piece, ...]:
    """Return the Dockerfile that the user names. Its args files and its test have its name, too."""
    path = layer.folder / layer.dockerfile
    if not path.is_file():
        others = sorted(other.name for other in layer.folder.glob("*[Dd]ockerfile*") if other.is_file())
        hint = f"The folder has {', '.join(others[:8])}." if others else "Check the name."
        text = f"no such Dockerfile in {tree.shown(layer.folder)}: {layer.dockerfile!r}"
        tree.problems.append(layer.problem(text, perhaps_you_meant(layer.dockerfile, others).strip() or hint))
        return ()
    return _plain(tree, layer, path, name_of_dockerfile(layer.dockerfile) or TAKER)


def _plain(tree: ChainFolder, layer: LayerFolder, path: Path, taker: str = TAKER) -> tuple[Piece, ...]:
    facts = tree.read_dockerfile(path)
    if facts is None:
        return ()
    context = layer.context or layer.folder
    piece = Piece(number=0, name=layer.name, taker=taker, path=path, facts=facts, context=context, files=layer.folder)
    _check_base_arg(tree, layer, (piece,))
    note_dependencies(tree, path)
    return (piece,)


def _check_base_arg(tree: ChainFolder, layer: LayerFolder, pieces: tuple[Piece, ...]) -> None:
    """Check that the ARG that the user names takes the base image in the first Dockerfile."""
    problem = check_base_arg(pieces[0].facts, layer.base_arg) if layer.base_arg and pieces else None
    tree.problems += [problem] if problem else []


def _numbered(item: Numbered, layer: LayerFolder) -> Piece:
    name = item.name
    return Piece(
        number=name.number,
        name=name.step,
        taker=name.taker,
        path=item.path,
        facts=item.facts,
        context=layer.context or item.context or layer.folder,
        files=layer.folder,
        base_arg=item.base_arg,
    )


def _where_else(folder: Path) -> str:
    near = sorted(entry.parent.name for entry in folder.glob(f"*/{PLAIN}"))
    subfolders = f"These subfolders have one: {', '.join(near[:8])}." if near else ""
    return subfolders or "A layer is a folder with one plain Dockerfile, or with NN-Dockerfile-<descriptor> files."
