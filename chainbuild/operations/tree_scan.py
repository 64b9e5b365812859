"""Find what a tree has to build, at all depths: options, layers, image keys, packages, science layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.dockerfile import Dockerfile, base_arg_used, parse
from chainbuild.dockerfile.images import BaseImage, base_arg_candidates, find_base_image
from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_keys import is_platform_key, keys_in
from chainbuild.layouts.layer_folder import fitting_name, layer_name, name_of_dockerfile
from chainbuild.layouts.numbered_folder import BASE, STAGES
from chainbuild.layouts.numbered_names import LEFT_OVER, PLAIN, NumberedName, numbered_names
from chainbuild.layouts.package_headers import Package, find_packages
from chainbuild.layouts.tree_search import folders_below
from chainbuild.patterns import regex
from chainbuild.references import ImageReference, Platform
from chainbuild.values import replace

SCIENCE: Final = "sciserver-image.json"
IMAGE_TYPE: Final = "casa_distro_docker.yaml"
_NAMED: Final = regex(r"^[Dd]ockerfile[-_.]|[-_.][Dd]ockerfile$")
_TEMPLATES: Final = (
    ".in",
    ".j2",
    ".jinja",
    ".jinja2",
    ".m4",
    ".template",
    ".tmpl",
    ".tpl",
    ".md",
    ".sh",
    ".py",
    ".txt",
)
_VERSION: Final = regex(r"v?[0-9]+(?:[._-][0-9]+)*")


class ScannedLayer(Struct, frozen=True, kw_only=True):
    """A folder with a plain Dockerfile. If it is a variant, `variant_of` is the folder of the layer around it.

    `dockerfile` is the name of the Dockerfile if it is another one.
    """

    folder: str
    dockerfile: str = ""
    name: str
    base_image: BaseImage | None
    variant_of: str = ""

    @property
    def place(self) -> str:
        """The folder, or the path of the Dockerfile if it has a name of its own."""
        return place_of(self.folder, self.dockerfile)

    @property
    def base_reference(self) -> ImageReference | None:
        """The base image that the Dockerfile names; None if it names none that can be parsed."""
        try:
            return ImageReference.parse(self.base_image.reference) if self.base_image else None
        except WrongUseError:
            return None


class KeyedFolder(Struct, frozen=True, kw_only=True):
    """A folder with `Dockerfile.<key>` files. `above` are the keys of those that are based on `BASE_IMAGE`."""

    folder: str
    keys: tuple[str, ...]
    above: tuple[str, ...]


class TreeScan(Struct, frozen=True, kw_only=True):
    """What was found; folders are relative to the root."""

    root: Path
    options: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    """Folders with the Dockerfiles of stages."""
    layers: tuple[ScannedLayer, ...] = ()
    named: tuple[ScannedLayer, ...] = ()
    """Dockerfiles with names of their own, such as `Dockerfile.dev`, which may be layers."""
    keyed: tuple[KeyedFolder, ...] = ()
    packages: tuple[Package, ...] = ()
    """Packages with dependencies in their headers, and those that they depend on."""
    science: int = 0
    """Number of science and compatibility layers."""
    image_types: int = 0
    """Number of folders of image types."""
    without_manifest: tuple[str, ...] = ()
    """Dockerfiles in folders of image types that have no manifest."""
    unused: tuple[str, ...] = ()
    """Numbered Dockerfiles that form no chain."""

    @property
    def has_only_named(self) -> bool:
        """True if the tree has nothing else than Dockerfiles with names of their own."""
        return not (self.options or self.layers or self.keyed or self.packages or self.science or self.image_types)


def place_of(folder: str, dockerfile: str = "") -> str:
    """Return a folder, or the path of a Dockerfile in it."""
    return f"{folder}/{dockerfile}".removeprefix("./") if dockerfile else folder


def option_folders(root: Path) -> tuple[str, ...]:
    """Return the folders that are options: those with numbered Dockerfiles that take a base image."""
    return tuple(_shown(root, folder) for folder in folders_below(root) if _option_steps(folder))


def scan_tree(root: Path) -> TreeScan:
    """Find what a tree has to build. Errors: `LimitError` if it has too many folders."""
    folders = list(folders_below(root))
    steps = {folder: found for folder in folders if (found := _option_steps(folder))}
    parts = {
        folder / name.file.rpartition("/")[0] for folder, names in steps.items() for name in names if name.in_folder
    }
    science = [folder for folder in folders if (folder / SCIENCE).is_file()]
    types = [folder for folder in folders if (folder / IMAGE_TYPE).is_file()]
    packages = _packages(root)
    taken = {*steps, *parts, *science, *types, *(package.path.parent for package in packages)}
    plain = [folder for folder in folders if (folder / PLAIN).is_file() and folder not in taken]
    roots_of_types = {folder.parent.parent for folder in types}
    no_type = [folder for folder in plain if folder != root and folder.parent.parent in roots_of_types]
    keyed = {folder: item for folder in folders if folder not in steps and (item := _keyed(root, folder))}
    layers = _layers(root, [folder for folder in plain if folder not in no_type])
    other = [folder for folder in folders if folder not in {*parts, *science, *types, *no_type, *keyed}]
    return TreeScan(
        root=root,
        options=tuple(_shown(root, folder) for folder in steps),
        stages=tuple(_shown(root, folder) for folder in folders if _stage_names(folder)),
        layers=layers,
        named=_named(root, other, {layer.name for layer in layers}),
        keyed=tuple(keyed.values()),
        packages=packages,
        science=len(science),
        image_types=len(types),
        without_manifest=tuple(f"{_shown(root, folder)}/{PLAIN}" for folder in no_type),
        unused=tuple(
            f"{_shown(root, folder)}/{name.file}"
            for folder in folders
            if folder not in steps
            for name in _names_in(folder)
            if not name.in_folder and name.descriptor not in STAGES
        ),
    )


def _shown(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _option_steps(folder: Path) -> tuple[NumberedName, ...]:
    """Return the numbered Dockerfiles of an option; empty if the folder has none, or only those of stages.

    Folders with numbers, and names of a number alone (`Dockerfile.18`), are steps only if there are several, and all but
    the first take a base image as an ARG.
    """
    names = [name for name in _names_in(folder) if name.descriptor not in STAGES]
    doubtful = all(name.in_folder or not name.descriptor for name in names)
    if doubtful:
        takes = [_takes_base(folder / name.file) for name in names]
        return tuple(names) if len(takes) > 1 and all(takes[1:]) else ()
    return tuple(names)


def _stage_names(folder: Path) -> list[NumberedName]:
    return [name for name in _names_in(folder) if name.descriptor in STAGES]


def _names_in(folder: Path) -> tuple[NumberedName, ...]:
    """Return the numbered Dockerfiles of a folder; none if it cannot be read."""
    try:
        return numbered_names(folder)
    except OSError:
        return ()


def _takes_base(path: Path) -> bool:
    """Return whether an ARG can take the base image of a Dockerfile."""
    facts = _parsed(path)
    platform = Platform.of_this_machine()
    return bool(facts and (base_arg_used(facts, BASE) or base_arg_candidates(facts, platform=platform)))


def _uses_base_image(path: Path) -> bool:
    facts = _parsed(path)
    return bool(facts and base_arg_used(facts, BASE))


def _parsed(path: Path) -> Dockerfile | None:
    try:
        return parse(limits.read_tree_file(path), path.name)
    except OSError:
        return None


# Layers ---------------------------------------------------------------------------------------------------------------


def _layers(root: Path, folders: Sequence[Path]) -> tuple[ScannedLayer, ...]:
    own = [_own_name(root, folder) for folder in folders]
    layers: dict[Path, ScannedLayer] = {}
    for folder, name in zip(folders, own, strict=True):
        layer = ScannedLayer(folder=_shown(root, folder), name=name, base_image=_base_image(folder / PLAIN))
        outer = layers.get(folder.parent) if folder.parent != root else None
        if outer and outer.base_reference and outer.base_reference == layer.base_reference:
            layer = replace(layer, name=f"{outer.name}-{layer_name(folder)}", variant_of=outer.folder)
        elif own.count(layer.name) > 1:
            layer = replace(layer, name=fitting_name(layer.folder) or layer.name)
        layers[folder] = layer
    return tuple(sorted(layers.values(), key=lambda layer: (layer.folder == ".", layer.folder)))


def _named(root: Path, folders: Sequence[Path], taken: Collection[str]) -> tuple[ScannedLayer, ...]:
    """Return the Dockerfiles with names of their own; `taken` are names of other layers."""
    files = [path for folder in folders for path in _named_files(folder)]
    names = [layer_name(path.parent, path.name) for path in files]
    layers = []
    for path, name in zip(files, names, strict=True):
        folder = _shown(root, path.parent)
        own = name if name not in taken and names.count(name) == 1 else fitting_name(f"{folder}-{name}") or name
        layers.append(ScannedLayer(folder=folder, dockerfile=path.name, name=own, base_image=_base_image(path)))
    return tuple(layers)


def _named_files(folder: Path) -> list[Path]:
    try:
        files = [path for path in sorted(folder.iterdir()) if _NAMED.search(path.name) and path.is_file()]
    except OSError:
        return []
    numbered = {name.file for name in _names_in(folder)}
    return [
        path
        for path in files
        if path.name not in numbered
        and not path.name.endswith((*LEFT_OVER, *_TEMPLATES))
        and name_of_dockerfile(path.name) not in {"", *STAGES}
    ]


def _own_name(root: Path, folder: Path) -> str:
    name = layer_name(folder)
    around = versioned(_shown(root, folder))
    return f"{fitting_name(around)}-{name}" if around else name


def versioned(folder: str) -> str:
    """Return the name of the folder around a folder that is called by a version, as `runtime/21`; else an empty string."""
    around, _, last = folder.rpartition("/")
    return around.rpartition("/")[2] if _VERSION.fullmatch(last) else ""


def _base_image(path: Path) -> BaseImage | None:
    native, facts = Platform.of_this_machine(), _parsed(path)
    return find_base_image(facts, args={}, platform=native, build_platform=native) if facts else None


# Image keys and packages ----------------------------------------------------------------------------------------------


def _keyed(root: Path, folder: Path) -> KeyedFolder | None:
    """Return a folder of `Dockerfile.<key>` files that form chains: some take a base image, and another is the lowest."""
    keys = keys_in([folder])
    above = tuple(key for key in keys if not is_platform_key(key) and _uses_base_image(folder / f"{PLAIN}.{key}"))
    if not above or len(above) == len(keys):
        return None
    return KeyedFolder(folder=_shown(root, folder), keys=keys, above=above)


def _packages(root: Path) -> tuple[Package, ...]:
    """Return the packages of which one depends on another; Dockerfiles without a header are no packages."""
    packages = find_packages([root])
    users = [package for package in packages.every if package.depends]
    if not any(packages.find(name) for package in users for name in package.depends):
        return ()
    used = {item.path for package in users for name in package.depends if (item := packages.find(name))}
    return tuple(package for package in packages.every if package.depends or package.path in used)


def common_folder(root: Path, paths: Iterable[Path]) -> str:
    """Return the lowest folder that contains all paths, relative to the root."""
    parts = [path.relative_to(root).parent.parts for path in paths]
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return "/".join(common) or "."
