"""Find the layer of a tree that a Dockerfile is based on: by the names of images, folders and tags, or by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from chainbuild.layouts.layer_folder import name_of_dockerfile
from chainbuild.operations.official_images import OFFICIAL
from chainbuild.operations.tree_scan import ScannedLayer
from chainbuild.patterns import regex
from chainbuild.references import ImageReference

_UNFIT: Final = regex(r"[^a-z0-9]+")
_NUMBERED: Final = regex(r"([0-9]+)[-_.](?=[^0-9])")
"""The number that a folder's name begins with. `3.12` is a version, not a number."""
_NO_IMAGE: Final = frozenset(
    {
        "undefined",
        "unset",
        "none",
        "null",
        "nil",
        "invalid",
        "override",
        "override-me",
        "changeme",
        "placeholder",
        "todo",
    }
)
_HUB: Final = "library/"


def safe_name(text: str) -> str:
    """Return the text as a valid part of a repository name."""
    return _UNFIT.sub("-", text.lower()).strip("-") or "project"


def names_image(text: str) -> bool:
    """Return whether a base names an image, and is not a word like `undefined` that a build script always replaces."""
    return bool(text) and text.lower().strip("_-") not in _NO_IMAGE


def find_base_layer(layer: ScannedLayer, layers: Sequence[ScannedLayer], images: Mapping[str, ImageReference]) -> str:
    """Return the place of the layer that makes this layer's base image; empty if there is none or several.

    `images` has the image of each layer, by place. The first of these rules that finds a layer decides:

    1. Its folder ends in `NAME/TAG` or `TAG/NAME`.
    2. Its image or its folder is called `NAME`.
    3. Its Dockerfile is in the same folder and called by `TAG` or by the end of `NAME`: `Dockerfile.base`.
    4. Its folder is called `NAME` without its number, or `NAME` ends in the last parts of its path, joined by `-`.

    If a rule finds several layers, the only one that is nearest in the tree counts. A base with a digest is certain
    content, and therefore no layer.
    """
    reference = layer.base_reference
    if reference is None or reference.digest or layer.base_image is None or layer.base_image.is_nothing:
        return ""
    others = [other for other in layers if other.place != layer.place and not _adds_to(reference, other)]
    plain = [other for other in others if not other.dockerfile]
    siblings = [other for other in others if other.dockerfile and other.folder == layer.folder]
    for found in (
        _by_path(reference, plain),
        _by_name(reference, others, images),
        _by_dockerfile(reference, siblings),
        _by_part(reference, plain),
    ):
        if found:
            return _nearest(layer.folder, found)
    return ""


def find_numbered_before(layer: ScannedLayer, layers: Sequence[ScannedLayer]) -> str:
    """Return the folder with the next lower number: of `05-web/21`, `04-build/21` or else `04-build`; empty if none."""
    own = _split_at_number(layer.folder)
    if own is None:
        return ""
    before, number, rest = own
    lower: dict[tuple[int, bool], list[str]] = {}
    for other in layers:
        parts = _split_at_number(other.folder)
        if parts and parts[0] == before and parts[1] < number and parts[2] in {rest, ""}:
            lower.setdefault((parts[1], parts[2] == rest), []).append(other.folder)
    best = lower[max(lower)] if lower else []
    return best[0] if len(best) == 1 else ""


def _split_at_number(folder: str) -> tuple[str, int, str] | None:
    """Return the path before the last numbered part, its number, and the path after it."""
    parts = folder.split("/")
    for index in range(len(parts) - 1, -1, -1):
        match = _NUMBERED.match(parts[index])
        if match:
            return "/".join(parts[:index]), int(match[1]), "/".join(parts[index + 1 :])
    return None


# Rules ----------------------------------------------------------------------------------------------------------------


def _by_path(reference: ImageReference, layers: Iterable[ScannedLayer]) -> list[ScannedLayer]:
    """Return the layers whose folders end in the name and the tag of an image."""
    if not reference.tag:
        return []
    wanted = {safe_name(_last_part(reference)), safe_name(reference.tag)}
    return [layer for layer in layers if {safe_name(part) for part in layer.folder.split("/")[-2:]} == wanted]


def _by_name(
    reference: ImageReference, layers: Iterable[ScannedLayer], images: Mapping[str, ImageReference]
) -> list[ScannedLayer]:
    last = safe_name(_last_part(reference))
    same = [
        layer
        for layer in layers
        if _last_part(images[layer.place]) == last
        or (not layer.variant_of and safe_name(layer.place.rpartition("/")[2]) == last)
    ]
    exact = [layer for layer in same if images[layer.place].tag == reference.tag]
    if exact or _is_version_of_hub(reference):
        return exact
    return [layer for layer in same if images[layer.place].tag == "latest"]


def _by_dockerfile(reference: ImageReference, siblings: Iterable[ScannedLayer]) -> list[ScannedLayer]:
    last = safe_name(_last_part(reference))
    tag = "" if reference.repository.startswith(_HUB) else safe_name(reference.tag_or_latest)
    return [
        layer
        for layer in siblings
        if (name := safe_name(name_of_dockerfile(layer.dockerfile))) == tag or last.endswith(f"-{name}")
    ]


def _by_part(reference: ImageReference, layers: Iterable[ScannedLayer]) -> list[ScannedLayer]:
    if _is_version_of_hub(reference):
        return []
    last = safe_name(_last_part(reference))
    own = [layer for layer in layers if not layer.variant_of]
    numbered = [layer for layer in own if last == _without_number(layer.folder)]
    if numbered or reference.tag not in {None, "latest"}:
        return numbered
    return [layer for layer in own if _is_named_by_parts(layer.folder, last)]


def _without_number(folder: str) -> str:
    """Return the name of a folder without the number that it begins with; empty if it begins with none."""
    last = folder.rpartition("/")[2]
    return safe_name(_NUMBERED.sub("", last, count=1)) if _NUMBERED.match(last) else ""


def _is_named_by_parts(folder: str, name: str) -> bool:
    plain = [safe_name(_NUMBERED.sub("", part, count=1)) for part in folder.split("/")]
    joined = ["-".join(plain[-count:]) for count in range(2, len(plain) + 1)]
    return any(name == text or name.endswith(f"-{text}") for text in joined)


def _adds_to(reference: ImageReference, layer: ScannedLayer) -> bool:
    """Return whether a layer adds to an image of Docker Hub (python:3.12): then it has a name of its own."""
    base = layer.base_reference
    return reference.repository.startswith(_HUB) and base is not None and base.repository == reference.repository


def _is_version_of_hub(reference: ImageReference) -> bool:
    """Return whether it is a version of an official image: python:3.12 is not the layer in the folder `python`."""
    name = reference.repository.removeprefix(_HUB)
    return name in OFFICIAL and name != reference.repository and reference.tag not in {None, "latest"}


def _nearest(folder: str, candidates: Sequence[ScannedLayer]) -> str:
    """Return the place of the candidate that shares most folders with `folder`; empty if several do."""
    shared = {layer.place: _shared_folders(folder, layer.folder) for layer in candidates}
    best = [place for place, count in shared.items() if count == max(shared.values())]
    return best[0] if len(best) == 1 else ""


def _shared_folders(one: str, other: str) -> int:
    count = 0
    for mine, theirs in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _last_part(image: ImageReference) -> str:
    return image.repository.rpartition("/")[2]
