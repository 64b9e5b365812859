"""Find the layer of a tree that a Dockerfile is based on: by the names of images, folders and tags, or by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

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
    """Return the folder of the layer that makes this layer's base image; empty if there is none or several.

    `images` has the image of each layer, by folder. The first of these rules that finds a layer decides:

    1. Its folder ends in `NAME/TAG` or `TAG/NAME`.
    2. Its image or its folder is called `NAME`.
    3. Its folder is called `NAME` without its number, or `NAME` ends in the last parts of its path, joined by `-`.

    If a rule finds several layers, the only one that is nearest in the tree counts. A base with a digest is certain
    content, and therefore no layer.
    """
    reference = layer.base_reference
    if reference is None or reference.digest or layer.base_image is None or layer.base_image.is_nothing:
        return ""
    others = [other for other in layers if other.folder != layer.folder and not _adds_to(reference, other)]
    for found in (
        _by_path(reference, others),
        _by_name(reference, others, images),
        _by_part(reference, others),
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


def _by_path(reference: ImageReference, layers: Iterable[ScannedLayer]) -> list[str]:
    """Return the folders that end in the name and the tag of an image."""
    if not reference.tag:
        return []
    wanted = {safe_name(_last_part(reference)), safe_name(reference.tag)}
    return [layer.folder for layer in layers if {safe_name(part) for part in layer.folder.split("/")[-2:]} == wanted]


def _by_name(
    reference: ImageReference, layers: Iterable[ScannedLayer], images: Mapping[str, ImageReference]
) -> list[str]:
    last = safe_name(_last_part(reference))
    same = [
        layer.folder
        for layer in layers
        if _last_part(images[layer.folder]) == last
        or (not layer.variant_of and safe_name(layer.folder.rpartition("/")[2]) == last)
    ]
    exact = [folder for folder in same if images[folder].tag == reference.tag]
    return exact or ([] if _is_version_of_hub(reference) else [f for f in same if images[f].tag == "latest"])


def _by_part(reference: ImageReference, layers: Iterable[ScannedLayer]) -> list[str]:
    if reference.tag not in {None, "latest"}:
        return []
    last = safe_name(_last_part(reference))
    return [layer.folder for layer in layers if not layer.variant_of and _is_named_by_parts(layer.folder, last)]


def _is_named_by_parts(folder: str, name: str) -> bool:
    parts = folder.split("/")
    plain = [safe_name(_NUMBERED.sub("", part, count=1)) for part in parts]
    if name == plain[-1] and _NUMBERED.match(parts[-1]):
        return True
    joined = ["-".join(plain[-count:]) for count in range(2, len(plain) + 1)]
    return any(name == text or name.endswith(f"-{text}") for text in joined)


def _adds_to(reference: ImageReference, layer: ScannedLayer) -> bool:
    """Return whether a layer adds to an image of Docker Hub (python:3.12): then it has a name of its own."""
    base = layer.base_reference
    return reference.repository.startswith(_HUB) and base is not None and base.repository == reference.repository


def _is_version_of_hub(reference: ImageReference) -> bool:
    """Return whether it is a version of an image of Docker Hub: python:3.12 is not the layer in the folder `python`."""
    return reference.repository.startswith(_HUB) and reference.tag not in {None, "latest"}


def _nearest(folder: str, candidates: Sequence[str]) -> str:
    """Return the candidate that shares most folders with `folder`; empty if several do."""
    shared = {candidate: _shared_folders(folder, candidate) for candidate in candidates}
    best = [candidate for candidate, count in shared.items() if count == max(shared.values())]
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
