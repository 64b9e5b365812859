"""Layers of packages: what the packages depend on, and the packages themselves, become one chain of Dockerfiles."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from chainbuild import limits
from chainbuild.layouts.layer_folder import TAKER, LayerFolder, Piece, fitting_name
from chainbuild.layouts.numbered_folder import ChainFolder, find_base_arg
from chainbuild.layouts.package_headers import Package, Packages, build_order, find_packages, read_header
from chainbuild.model import BuildArg
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant


def read_packages(tree: ChainFolder, layer: LayerFolder, platform: Platform) -> tuple[Piece, ...]:
    """Return the Dockerfiles of a layer's packages and of all that they depend on, in order; problems go to the tree."""
    packages = find_packages((*layer.search_dirs, layer.folder))
    try:
        order = build_order(layer.packages, lambda name: _depends(packages, name), layer.skip_packages)
    except ValueError as error:
        tree.problems.append(
            layer.problem(f"the dependencies of packages form a cycle: {error}", "Check their headers.")
        )
        return ()
    chosen: dict[tuple[Path, str], Package] = {}
    for name in order:
        package = packages.find(name)
        if package is None:
            _report_missing(tree, layer, packages, name, order)
        else:
            chosen.setdefault((package.path, package.name), package)
    for package in chosen.values():
        _report_header(tree, package)
    _note(tree, layer, chosen.values())
    pieces: list[Piece] = []
    for number, package in enumerate(chosen.values(), start=1):
        facts = tree.read_dockerfile(package.path) if package.is_built else None
        if facts is not None:
            origin = f"the settings of the package {package.name}"
            arg = find_base_arg(tree, package.path, facts, platform) if pieces else ""
            pieces.append(
                Piece(
                    number=number,
                    name=fitting_name(package.name),
                    taker=TAKER,
                    path=package.path,
                    facts=facts,
                    context=package.path.parent,
                    files=package.path.parent,
                    base_arg=arg,
                    args=tuple(
                        BuildArg(name=key, value=value, origin=origin) for key, value in package.build_args.items()
                    ),
                )
            )
    return tuple(pieces)


def _depends(packages: Packages, name: str) -> tuple[str, ...]:
    package = packages.find(name)
    return package.depends if package else ()


def _report_header(tree: ChainFolder, package: Package) -> None:
    for line, message in package.problems:
        hint = "List names: # depends: [one, two:1.0]. A list on several lines has no other key between them."
        tree.problem(package.path, message, hint, line=line)


def _report_missing(tree: ChainFolder, layer: LayerFolder, packages: Packages, name: str, order: Iterable[str]) -> None:
    """Report a package that no header defines, at the place that needs it."""
    needing = next((item for other in order if (item := packages.find(other)) and name in item.depends), None)
    near = [item.config for item in packages.every if item.config and _mentions(item.config, name)]
    message = f"no Dockerfile below {tree.shown(layer.folder)} is the package {name!r}"
    hint = perhaps_you_meant(name, packages.names, str)
    if near:
        hint += f"{tree.shown(near[0])} may define it, but chainbuild runs no programs of a tree. "
    if needing:
        hint += f"Leave it out with --skip-package {name} (skip-packages:), or add a Dockerfile with that name."
        tree.problem(needing.path, message, hint, line=needing.line)
    else:
        hint += "A package is a folder with a Dockerfile; a comment header may give it another name."
        tree.problems.append(layer.problem(message, hint))


def _mentions(config: Path, name: str) -> bool:
    """Return whether the text of a program has a package's name, or for a version the name before it."""
    try:
        text = limits.read_head(config, limits.TREE_FILE).decode("utf-8", "replace")
    except OSError:
        return False
    return name in text or (":" in name and config.parent.name == name.partition(":")[0])


def _note(tree: ChainFolder, layer: LayerFolder, chosen: Collection[Package]) -> None:
    """Note the order of the packages, and those whose programs may set more than their headers."""
    tree.notes.append(f"packages of {layer.name}: {', '.join(package.name for package in chosen)}")
    configured = [tree.shown(package.path.parent) for package in chosen if package.config]
    if configured:
        tree.notes.append(
            f"not run: config.py of {', '.join(configured)}; set what it would set with --build-arg, or in layer-*-args"
        )


def note_dependencies(tree: ChainFolder, path: Path) -> None:
    """Note the dependencies in the header of a plain Dockerfile, because a plain layer does not build them."""
    try:
        header = read_header(limits.read_head(path, limits.PACKAGE_HEADER).decode("utf-8", "replace"))
    except OSError:
        return
    if header and header.depends:
        tree.notes.append(
            f"{tree.shown(path)} depends on {', '.join(header.depends)}; to build these first, use --package"
            f" {header.name or path.parent.name} with the folder of all packages"
        )
