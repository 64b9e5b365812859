"""Propose the layers of a tree: those of plain Dockerfiles, and of Dockerfiles with other names that build on each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.images import BaseImage
from chainbuild.errors import Problem
from chainbuild.layouts.layer_folder import LayerFolder, fitting_name
from chainbuild.operations.base_layers import find_base_layer, find_numbered_before, names_image, safe_name
from chainbuild.operations.tree_scan import ScannedLayer, TreeScan, place_of, versioned
from chainbuild.references import ImageReference
from chainbuild.values import replace

DEFAULT_BASE: Final = "debian:bookworm-slim"


class ProposedLayer(Struct, frozen=True, kw_only=True):
    """A layer of the new file. `base_layer` is the name of an earlier one, `instead_of` the image that it replaces."""

    folder: str
    dockerfile: str = ""
    """The name of its Dockerfile, if it is not `Dockerfile`."""
    name: str
    image: str
    base: str = ""
    base_layer: str = ""
    instead_of: str = ""
    note: str = ""
    base_is_guessed: bool = False
    """Whether nothing in the tree decides the base. Then `note` gives the reason."""
    base_arg: str = ""
    context: str = ""
    image_key: str = ""
    packages: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Why it cannot be planned as it is."""

    @property
    def place(self) -> str:
        """The folder, or the path of the Dockerfile if it has a name of its own."""
        return place_of(self.folder, self.dockerfile)

    def as_folder(self, root: Path) -> LayerFolder:
        """Return the layer as a layout reads it, on some base image."""
        base = ImageReference.parse(self.base if self.base == "scratch" else DEFAULT_BASE)
        return LayerFolder(
            name=self.name,
            folder=(root / self.folder).resolve(),
            image=ImageReference.parse(self.image),
            base=base if self.base or self.base_layer else None,
            base_arg=self.base_arg,
            dockerfile=self.dockerfile,
            image_key=self.image_key,
            packages=self.packages,
        )


def propose_layers(scan: TreeScan, team: str) -> tuple[list[ProposedLayer], tuple[str, ...]]:
    """Return the layers, each after the layer that it is based on, and the Dockerfiles that are not used.

    `team` is the first part of image names. A Dockerfile with a name of its own is a layer if another one is based on it,
    if it is based on such a one or on one of its folder, or if the tree has nothing else.
    """
    every = (*scan.layers, *scan.named)
    by_place = {layer.place: layer for layer in every}
    images = {layer.place: _image_of(layer, by_place, team) for layer in every}
    below = {layer.place: find_base_layer(layer, every, images) for layer in every}
    named = [
        layer
        for layer in scan.named
        if scan.has_only_named
        or layer.place in below.values()
        or _is_on_sibling(layer, by_place.get(below[layer.place]))
    ]
    chosen = (*scan.layers, *named)
    guessed = {layer.place: find_numbered_before(layer, scan.layers) for layer in chosen if _is_open(layer.base_image)}
    below |= guessed
    order = _stacked(chosen, below)
    layers: list[ProposedLayer] = []
    for place in order:
        base_place = below[place] if below[place] in order[: order.index(place)] else ""
        base_layer = by_place[base_place].name if base_place else ""
        layer = _proposed(by_place[place], str(images[place]), base_layer, guessed=place in guessed)
        if layer.base_is_guessed:
            layer = replace(layer, note=_why_open(by_place[place].base_image, base_place))
        layers.append(layer)
    return layers, tuple(layer.place for layer in scan.named if layer not in named)


def _is_on_sibling(layer: ScannedLayer, base: ScannedLayer | None) -> bool:
    return base is not None and (bool(base.dockerfile) or base.folder == layer.folder)


def _proposed(scanned: ScannedLayer, image: str, base_layer: str, *, guessed: bool) -> ProposedLayer:
    found = scanned.base_image
    layer = ProposedLayer(
        folder=scanned.folder,
        dockerfile=scanned.dockerfile,
        name=scanned.name,
        image=image,
        base_layer=base_layer,
        base_arg=found.arg if found and found.declared else "",
        base_is_guessed=guessed,
    )
    reference = found.reference if found and not guessed else ""
    if base_layer:
        return replace(layer, instead_of=reference)
    if found and found.is_nothing:
        return replace(layer, base="scratch", note="as in its Dockerfile: no base image")
    return replace(layer, base=reference or DEFAULT_BASE)


def _is_open(base: BaseImage | None) -> bool:
    """Return whether a Dockerfile names no base image."""
    return base is None or not names_image(base.reference)


def _why_open(base: BaseImage | None, numbered_before: str) -> str:
    written = base.written if base else ""
    value = f"is {base.reference!r}" if base and base.reference else "has no default value"
    return f"its FROM {written} {value}" + (f"; {numbered_before} is numbered before it" if numbered_before else "")


def _image_of(layer: ScannedLayer, by_place: Mapping[str, ScannedLayer], team: str) -> ImageReference:
    """Return the image of a layer.

    A variant is a tag of the image of the layer around it. A folder called by a version is a tag of the folder around it.
    """
    outer, tags = layer, list[str]()
    while outer.variant_of:
        tags.insert(0, outer.folder.rpartition("/")[2])
        outer = by_place[outer.variant_of]
    around = "" if outer.dockerfile else versioned(outer.folder)
    if around:
        tags.insert(0, outer.folder.rpartition("/")[2])
    tag = fitting_name("-".join(tags)) or "latest"
    return ImageReference.parse(f"{team}/{safe_name(around or outer.name)}:{tag}")


def _stacked(layers: Sequence[ScannedLayer], below: Mapping[str, str]) -> list[str]:
    """Return the places of the layers in their order, but each one after the one that it is based on."""
    done: list[str] = []
    chosen = [layer.place for layer in layers]

    def put(place: str, above: tuple[str, ...]) -> None:
        base = below[place]
        if base in chosen and base not in (*above, place):
            put(base, (*above, place))
        if place not in done:
            done.append(place)

    for place in chosen:
        put(place, ())
    return done
