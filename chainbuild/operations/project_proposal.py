"""Propose a project for a tree: its options in order, its layers with their bases and contexts, and what is only guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import args_in_froms, find_base_image
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.image_keys import is_platform_key
from chainbuild.layouts.layer_folder import fitting_name, layer_name
from chainbuild.layouts.numbered_names import numbered_names
from chainbuild.layouts.package_headers import Package, Packages
from chainbuild.layouts.tree_search import files_below
from chainbuild.operations.base_layers import names_image, safe_name
from chainbuild.operations.init_check import CheckedPart, PartChecker
from chainbuild.operations.layer_proposals import DEFAULT_BASE, ProposedLayer, propose_layers
from chainbuild.operations.option_order import OptionOrder, order_of
from chainbuild.operations.tree_scan import KeyedFolder, TreeScan, common_folder
from chainbuild.references import ImageReference, Platform
from chainbuild.toposort import topological_order
from chainbuild.values import replace

_TEXTS: Final = (".md", ".sh", ".rst", ".yml", ".yaml")
_MOST_TEXTS: Final = 300
"""How many files are searched for the image keys that a tree uses."""


class Guess(Struct, frozen=True, kw_only=True):
    """A value that nothing in the tree decides: `text` is the question, and `why` the reason to ask.

    `key` is that of the project file; `folder` is the place of the layer that it belongs to, if any.
    """

    key: str
    folder: str = ""
    text: str
    value: str
    why: str

    @property
    def shown(self) -> str:
        """The value with its place and the reason, for a message."""
        place = f"{self.folder}: " if self.folder else ""
        return f"{place}{self.key}: {self.value} ({self.why})"


class Proposal(Struct, frozen=True, kw_only=True):
    """What the new file has. Folders are relative to the root."""

    options: OptionOrder
    option_base: str = ""
    """The base image that the first Dockerfile of the first option names."""
    option_base_arg: str = ""
    """The ARG that takes the base image, if it cannot be detected in every Dockerfile."""
    option_context: str = ""
    option_problems: tuple[Problem, ...] = ()
    layers: tuple[ProposedLayer, ...] = ()
    unused: tuple[str, ...] = ()
    """Dockerfiles with names of their own that no other Dockerfile is based on, nor they on another one."""
    guesses: tuple[Guess, ...] = ()


def propose(scan: TreeScan, team: str, typed: Sequence[str] = ()) -> Proposal:
    """Propose a project. `team` is the first part of image names; `typed` are options in an order that the user gave."""
    checker = PartChecker(scan.root)
    order = order_of(scan.root, scan.options)
    if typed:
        rest = tuple(option for option in order.options if option not in typed)
        order = OptionOrder(options=(*typed, *rest), reasons=order.reasons, sure=True)
    base = _first_base(scan.root, order.options)
    options, base_arg = _checked_options(scan.root, order.options, base, checker)
    guesses: list[Guess] = []
    plain, unused = propose_layers(scan, team)
    layers = [
        *plain,
        *_keyed_layers(scan, team, guesses),
        *_package_layers(scan, team, guesses),
    ]
    layers = [_checked(scan.root, layer, checker) for layer in _with_own_names(layers, order.options)]
    layers = _on_kept_bases(layers)
    guesses = [*(_guess_of_base(layer) for layer in layers if layer.base_is_guessed), *guesses]
    kept = {layer.place for layer in layers if not layer.problems}
    return Proposal(
        options=order,
        option_base=base,
        option_base_arg=base_arg,
        option_context=_relative(scan.root, options.context),
        option_problems=options.problems,
        layers=tuple(layers),
        unused=unused,
        guesses=tuple(guess for guess in guesses if guess.folder in kept),
    )


def _checked_options(root: Path, options: Sequence[str], base: str, checker: PartChecker) -> tuple[CheckedPart, str]:
    """Check the options. Return also the ARG that takes their base image, if they have fewer problems with it."""
    if not options:
        return CheckedPart(), ""
    detected = checker.check_options(options, base)
    base_arg = _common_base_arg(root, options) if detected.problems else ""
    named = checker.check_options(options, base, base_arg) if base_arg else detected
    return (named, base_arg) if len(named.problems) < len(detected.problems) else (detected, "")


def _relative(root: Path, context: Path | None) -> str:
    if context is None:
        return ""
    root = root.resolve()
    if context.is_relative_to(root):
        return context.relative_to(root).as_posix()
    return "/".join([".."] * root.parents.index(context) + [".."])


def _first_base(root: Path, options: Sequence[str]) -> str:
    """Return the base image of the first step, if its Dockerfile names one; else an empty string."""
    names = numbered_names(root / options[0]) if options else ()
    if not names:
        return ""
    native = Platform.of_this_machine()
    try:
        facts = parse(limits.read_tree_file(root / options[0] / names[0].file), names[0].file)
    except OSError:
        return ""
    base = find_base_image(facts, args={}, platform=native, build_platform=native)
    return base.reference if base and names_image(base.reference) and _is_image(base.reference) else ""


def _common_base_arg(root: Path, options: Sequence[str]) -> str:
    """Return the only ARG that a FROM of every Dockerfile but the first consists of; empty if there is none or several."""
    files = [root / option / name.file for option in options for name in numbered_names(root / option)]
    common: set[str] | None = None
    for path in files[1:]:
        try:
            names = {arg.name for arg in args_in_froms(parse(limits.read_tree_file(path), path.name))}
        except OSError:
            continue
        common = names if common is None else common & names
    return common.pop() if common and len(common) == 1 else ""


def _is_image(text: str) -> bool:
    try:
        ImageReference.parse(text)
    except WrongUseError:
        return False
    return True


# Layers of image keys and packages ------------------------------------------------------------------------------------


def _keyed_layers(scan: TreeScan, team: str, guesses: list[Guess]) -> list[ProposedLayer]:
    layers = []
    for item in scan.keyed:
        name = layer_name(scan.root / item.folder)
        key, others = _key_of(scan.root, item)
        layers.append(
            ProposedLayer(
                folder=item.folder, name=name, image=f"{team}/{safe_name(name)}:latest", image_key=key, note=others
            )
        )
        why = f"its Dockerfiles have the keys {', '.join(item.keys)}"
        guesses.append(
            Guess(key="image-key", folder=item.folder, text=f"Image key of {item.folder}", value=key, why=why)
        )
    return layers


def _key_of(root: Path, item: KeyedFolder) -> tuple[str, str]:
    """Return the longest key that the tree's texts use, else the first key of a Dockerfile that takes a base image."""
    choices = "|".join(re.escape(key) for key in sorted(item.keys, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])(?:{choices})(?:\.(?:{choices}))*(?![\w/-])")
    used: Counter[str] = Counter()
    for count, path in enumerate(path for path in files_below(root) if path.suffix in _TEXTS):
        if count == _MOST_TEXTS:
            break
        try:
            text = limits.read_head(path, limits.TREE_FILE).decode("utf-8", "replace")
        except OSError:
            continue
        used.update(match[0] for match in pattern.finditer(text))
    keys = Counter[str]()
    for key, count in used.items():
        plain = key.partition(".")[2] if is_platform_key(key) else key
        if plain.rpartition(".")[2] in item.above:
            keys[plain] += count
    best = sorted(keys, key=lambda key: (-key.count("."), -keys[key], key)) or list(item.above)
    others = [key for key in dict.fromkeys([*best[1:], *item.above]) if key != best[0]]
    return best[0], f"other keys: {', '.join(others)}" if others else ""


def _package_layers(scan: TreeScan, team: str, guesses: list[Guess]) -> list[ProposedLayer]:
    if not scan.packages:
        return []
    main = _main_packages(scan)
    packages = Packages(main)
    used = {found.name for package in main for name in package.depends if (found := packages.find(name))}
    whole = _whole_packages(packages)
    best = next((name for name in whole if name not in used), next(iter(whole), main[0].name))
    folder = common_folder(scan.root, (package.path.parent for package in main))
    name = fitting_name(best)
    guesses.append(
        Guess(
            key="packages",
            folder=folder,
            text=f"Package of {folder} to build",
            value=best,
            why=f"{len(main)} packages with dependencies in their headers",
        )
    )
    guesses.append(
        Guess(
            key="base",
            folder=folder,
            text=f"Base image of the packages of {folder}",
            value=DEFAULT_BASE,
            why="no default",
        )
    )
    return [
        ProposedLayer(
            folder=folder, name=name, image=f"{team}/{safe_name(name)}:latest", base=DEFAULT_BASE, packages=(best,)
        )
    ]


def _main_packages(scan: TreeScan) -> tuple[Package, ...]:
    """Return the packages of the folder that has most of them: others may be copies, such as `deprecated/`."""
    tops = {package.path: package.path.relative_to(scan.root).parts[:-2][:1] for package in scan.packages}
    ((top, _),) = Counter(tops.values()).most_common(1)
    return tuple(package for package in scan.packages if tops[package.path] == top)


def _whole_packages(packages: Packages) -> list[str]:
    """Return the packages that have dependencies, all of which exist, as do those of the dependencies; none in a cycle."""
    below = {
        package.name: [packages.find(name) for name in package.depends]
        for package in packages.every
        if packages.find(package.name) is package
    }
    sound: set[str] = set()
    for name in topological_order({name: [base.name for base in bases if base] for name, bases in below.items()}):
        if all(base is not None and base.name in sound for base in below[name]):
            sound.add(name)
    return [name for name, bases in below.items() if bases and name in sound]


# Names and checks -----------------------------------------------------------------------------------------------------


def _with_own_names(layers: Iterable[ProposedLayer], options: Sequence[str]) -> list[ProposedLayer]:
    """Return the layers with names and images that no other layer and no option has."""
    names = {fitting_name(Path(option).name) for option in options}
    images: set[str] = set()
    named: list[ProposedLayer] = []
    new: dict[str, str] = {}
    for layer in layers:
        own = layer.name if layer.name not in names else f"{layer.name}-image"
        own = next(name for name in (own, *(f"{own}-{count}" for count in range(2, 10_000))) if name not in names)
        repository, _, tag = layer.image.rpartition(":")
        choices = (layer.image, *(f"{repository}-{count}:{tag}" for count in range(2, 10_000)))
        image = next(choice for choice in choices if choice not in images)
        names.add(own)
        images.add(image)
        new[layer.name] = own
        named.append(replace(layer, name=own, image=image, base_layer=new.get(layer.base_layer, layer.base_layer)))
    return named


def _checked(root: Path, layer: ProposedLayer, checker: PartChecker) -> ProposedLayer:
    result = checker.check_layer(layer.as_folder(root))
    return replace(layer, context=_relative(root, result.context), problems=result.problems)


def _on_kept_bases(layers: Sequence[ProposedLayer]) -> list[ProposedLayer]:
    """Return the layers; those whose base layer has problems are built on the image that their Dockerfile names."""
    kept = {layer.name for layer in layers if not layer.problems}
    return [
        layer
        if not layer.base_layer or layer.base_layer in kept
        else replace(layer, base=layer.instead_of or DEFAULT_BASE, base_layer="", instead_of="")
        for layer in layers
    ]


def _guess_of_base(layer: ProposedLayer) -> Guess:
    value = layer.base_layer or layer.base
    return Guess(key="base", folder=layer.place, text=f"Base image of {layer.place}", value=value, why=layer.note)
