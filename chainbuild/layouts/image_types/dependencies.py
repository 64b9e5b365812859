"""Resolve the paths of `dependencies`, and report those that lead nowhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Final

from chainbuild.errors import Problem
from chainbuild.layouts.image_types.manifest import ImageTypeManifest
from chainbuild.text import perhaps_you_meant

_SHOWN: Final = 8


def place_of(spot: str, dependency: str) -> str | None:
    """Return the place of a dependency of the image type at `spot` (`casa-dev/ubuntu-22.04`); None: outside of all roots.

    The roots are layered: a path means the same place in each of them. An empty result means all image types.
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
    """Return whether an image type is at a place or below it; an empty place contains all."""
    return not place or spot == place or spot.startswith(f"{place}/")


def relative_path(spot: str, other: str) -> str:
    """Return the path from one image type to another, or to a type with all of its systems."""
    return "../" * len(spot.split("/")) + other


def check_dependencies(spot: str, manifest: ImageTypeManifest, spots: Collection[str], problems: list[Problem]) -> None:
    """Check that every path of the dependencies leads to another image type; `spots` are all existing image types."""
    for line, path in manifest.dependencies:
        place = place_of(spot, path)
        beneath = () if place is None else tuple(item for item in spots if lies_beneath(item, place))
        if place is None:
            message, hint = (
                "leads out of the folders of image types",
                "Use a path relative to this folder, for example ../../casa-dev.",
            )
        elif not beneath:
            message, hint = f"matches nothing: no such image type: {place!r}", _nearest(spot, place, spots)
        elif set(beneath) == {spot}:
            message, hint = "is this image type itself", "Remove it: an image type depends only on others."
        else:
            continue
        problem = Problem(path=manifest.shown, line=line, message=f"dependency {path!r} {message}", hint=hint)
        problems.append(problem)


def _nearest(spot: str, place: str, spots: Iterable[str]) -> str:
    available = sorted(spots)
    kinds = sorted({item.partition("/")[0] for item in available})
    hint = perhaps_you_meant(place, [*available, *kinds], lambda near: repr(relative_path(spot, near)))
    return f"{hint}Available: {few(available)}."


def few(words: Iterable[str]) -> str:
    """Return the first words of a list, and the number of the others."""
    listed = list(words)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
