"""The paths of `dependencies`: where they lead, and what is told of one that leads nowhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Final

from chainbuild.errors import Problem
from chainbuild.layouts.image_types.manifest import ImageTypeManifest
from chainbuild.text import perhaps_you_meant

_SHOWN: Final = 8


def place_of(spot: str, dependency: str) -> str | None:
    """Where a dependency's path leads from the image type at `spot` (`casa-dev/ubuntu-22.04`); None: out of all roots.

    The roots lie on top of each other: a path means the same place in each of them. Empty: all image types.
    """
    if PurePosixPath(dependency).is_absolute():
        return None
    parts = spot.split("/")
    for part in PurePosixPath(dependency).parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def lies_beneath(spot: str, place: str) -> bool:
    """Whether an image type is at a place, or below it; `` is every place."""
    return not place or spot == place or spot.startswith(f"{place}/")


def relative_path(spot: str, other: str) -> str:
    """The path by which one image type names another (or a type with all its systems)."""
    return "../" * len(spot.split("/")) + other


def check_dependencies(spot: str, manifest: ImageTypeManifest, spots: Collection[str], problems: list[Problem]) -> None:
    """Every path of an image type's dependencies stands for another image type; `spots` are all that there are."""
    for line, path in manifest.dependencies:
        place = place_of(spot, path)
        beneath = () if place is None else tuple(one for one in spots if lies_beneath(one, place))
        if place is None:
            told, hint = "leads out of the folders of image types", "It is a path from this folder, as ../../casa-dev."
        elif not beneath:
            told, hint = f"matches nothing: there is no image type {place!r}", _nearest(spot, place, spots)
        elif set(beneath) == {spot}:
            told, hint = "is this image type itself", "An image type comes after others; leave this out."
        else:
            continue
        problem = Problem(path=manifest.shown, line=line, message=f"dependency {path!r} {told}", hint=hint)
        problems.append(problem)


def _nearest(spot: str, place: str, spots: Iterable[str]) -> str:
    known = sorted(spots)
    kinds = sorted({one.partition("/")[0] for one in known})
    hint = perhaps_you_meant(place, [*known, *kinds], lambda near: repr(relative_path(spot, near)))
    return f"{hint}Here are: {few(known)}."


def few(words: Iterable[str]) -> str:
    """The first ones, and how many more there are."""
    known = list(words)
    return ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
