"""Image keys: `ros2_humble.realsense` selects a chain of `Dockerfile.<key>` files, which may be in several folders.

The rules are those of the scripts that Isaac ROS images are built with. The longest end of the key that has a Dockerfile is
the last step, and the rest of the key is resolved in the same way. If several folders have a Dockerfile of that name, the
first one counts. A key may begin with a platform (`x86_64.ros2_humble`); it is added if the folders have Dockerfiles of
platforms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.layouts.layer_folder import LayerFolder, Piece
from chainbuild.layouts.numbered_folder import ChainFolder, find_base_arg
from chainbuild.layouts.numbered_names import LEFT_OVER
from chainbuild.model import BuildArg
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

KEY_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*$"
_KEY: Final = regex(KEY_PATTERN)
_PREFIX: Final = "Dockerfile."
_USER: Final = "admin"
"""The USERNAME that the scripts of Isaac ROS set for every Dockerfile."""


def check_key(text: str) -> None:
    """Check the form of an image key. Errors: `WrongUseError`."""
    if not _KEY.fullmatch(text):
        raise WrongUseError(f"{text!r} is not an image key", hint="Separate names with periods: ros2_humble.realsense.")


class KeyedDockerfile(Struct, frozen=True, kw_only=True):
    """A Dockerfile and the part of the key that it was found for."""

    key: str
    path: Path


class KeyChain(Struct, frozen=True, kw_only=True):
    """The Dockerfiles of a key, the lowest first, and the part of the key for which there is none."""

    dockerfiles: tuple[KeyedDockerfile, ...]
    unresolved: str = ""


def resolve_key(key: str, folders: Sequence[Path]) -> KeyChain:
    """Return the chain of Dockerfiles that a key selects, without regard to platforms."""
    parts = key.split(".")
    chain: list[KeyedDockerfile] = []
    while parts:
        match = _longest_end(parts, folders)
        if match is None:
            break
        chain.insert(0, match)
        parts = parts[: -len(match.key.split("."))]
    return KeyChain(dockerfiles=tuple(chain), unresolved=".".join(parts))


def _longest_end(parts: Sequence[str], folders: Sequence[Path]) -> KeyedDockerfile | None:
    for start in range(len(parts)):
        key = ".".join(parts[start:])
        for folder in folders:
            path = folder / f"{_PREFIX}{key}"
            if path.is_file():
                return KeyedDockerfile(key=key, path=path)
    return None


def keys_in(folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the keys of all Dockerfiles in the folders."""
    names = (path.name for folder in folders for path in folder.glob(f"{_PREFIX}*") if path.is_file())
    keys = (name.removeprefix(_PREFIX) for name in names if not name.endswith(LEFT_OVER))
    return tuple(sorted({key for key in keys if _KEY.fullmatch(key)}))


def keys_for(key: str, platform: Platform, folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the keys to try for a platform: with each spelling of the platform in front if there are such Dockerfiles.

    Errors: `WrongUseError` if the key is for another platform.
    """
    named = _platform_of(key)
    if named is not None:
        if named.same_as(platform):
            return (key,)
        rest = key.partition(".")[2]
        raise WrongUseError(
            f"the image key {key!r} is for {named}, not for {platform}",
            hint=f"Leave out the platform: {rest}." if rest else f"Build it for {named} only.",
        )
    if not any(is_platform_key(other) for other in keys_in(folders)):
        return (key,)
    return tuple(f"{spelling}.{key}" for spelling in _machine_first(platform))


def is_platform_key(key: str) -> bool:
    """Return whether a key begins with a platform."""
    return _platform_of(key) is not None


def _platform_of(key: str) -> Platform | None:
    try:
        return Platform.parse(key.partition(".")[0])
    except WrongUseError:
        return None


def _machine_first(platform: Platform) -> list[str]:
    """Return the spellings of a platform, that of `uname -m` first."""
    return sorted(platform.spellings, key=lambda spelling: spelling not in {"x86_64", "aarch64"})


def read_keyed(tree: ChainFolder, layer: LayerFolder, platform: Platform) -> tuple[Piece, ...]:
    """Return the Dockerfiles of a layer's image key, in order; problems go to the tree."""
    folders = [*layer.search_dirs, layer.folder, *([layer.context] if layer.context else [])]
    try:
        chains = [resolve_key(key, folders) for key in keys_for(layer.image_key, platform, folders)]
    except WrongUseError as error:
        tree.problems += [layer.problem(item.message, item.hint) for item in error.problems]
        return ()
    chain = next((chain for chain in chains if not chain.unresolved), chains[0])
    if chain.unresolved:
        present = keys_in(folders)
        hint = perhaps_you_meant(chain.unresolved.rpartition(".")[2], present, str)
        hint += f"Searched: {', '.join(tree.shown(folder) for folder in folders)}."
        hint += f" Keys there: {', '.join(present)}." if present else ""
        message = f"image key {layer.image_key!r}: no {_PREFIX}{chain.unresolved} for {platform}"
        tree.problems.append(layer.problem(message, hint))
        return ()
    pieces = _pieces(tree, layer, platform, chain)
    tree.notes.append(
        f"image key {layer.image_key} for {platform}: {', '.join(tree.shown(piece.path) for piece in pieces)}"
    )
    return pieces


def _pieces(tree: ChainFolder, layer: LayerFolder, platform: Platform, chain: KeyChain) -> tuple[Piece, ...]:
    args = (
        BuildArg(name="PLATFORM", value=platform.architecture, origin="the image key"),
        BuildArg(name="USERNAME", value=_USER, origin="the image key"),
    )
    pieces: list[Piece] = []
    for number, item in enumerate(chain.dockerfiles, start=1):
        facts = tree.read_dockerfile(item.path)
        if facts is None:
            continue
        last = number == len(chain.dockerfiles)
        pieces.append(
            Piece(
                number=number,
                name=item.key,
                taker=item.key,
                path=item.path,
                facts=facts,
                files=item.path.parent,
                context=(layer.context if last else None) or item.path.parent,
                args=args,
                base_arg=find_base_arg(tree, item.path, facts, platform) if pieces else "",
            )
        )
    names = [piece.name for piece in pieces]
    repeated = sorted({name for name in names if names.count(name) > 1})
    for key in repeated:
        tree.problems.append(
            layer.problem(f"image key {layer.image_key!r}: {key} occurs twice", "Name each part once.")
        )
    return tuple(pieces) if not repeated else ()
