"""Read a tree of science and compat layers: every layer, the images that it reads, and every problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import Problem, WrongUseError
from chainbuild.images.compose_layers import can_be_joined
from chainbuild.layouts.science.compat import (
    MergedDockerfile,
    check_dockerfile,
    check_includes,
    merged_dockerfile,
    order_of,
    unknown_compat,
)
from chainbuild.layouts.science.from_lines import SCI, LayerImages, OldVersion, Reader, on_final
from chainbuild.layouts.science.layer_graph import LayerGraph, grow
from chainbuild.layouts.science.manifests import (
    COMPAT,
    DOCKERFILE,
    MANIFEST,
    SCIENCE,
    CompatLayer,
    Described,
    ScienceLayer,
    describe,
    read_compat_manifest,
    read_dockerfile,
    science_layer,
)
from chainbuild.references import ImageReference, Platform

Spot = tuple[str, str]
"""A science target or an `image:version`, and an OCI platform."""


class ScienceRepositories(Struct, frozen=True, kw_only=True):
    """The repositories of a tree: REPO, its repository in the chain registry, and that of its old versions."""

    repo: ImageReference
    home: ImageReference
    released: ImageReference


class ScienceTree(Struct, frozen=True, kw_only=True):
    """The tree. `science_bases` and `compat_bases` have the images that each layer and each final image reads."""

    root: Path
    layer_graph: LayerGraph
    compat: Mapping[str, CompatLayer]
    science_bases: Mapping[Spot, LayerImages]
    merged: Mapping[str, MergedDockerfile]
    """The merged Dockerfile of each `image:version` that has compat layers."""
    compat_bases: Mapping[Spot, LayerImages]
    joined: Mapping[str, tuple[MergedDockerfile, Mapping[str, LayerImages]]]
    """The compat layers that are joined to final layers without a build: their Dockerfile, and what it reads by platform."""
    old: tuple[OldVersion, ...]
    """Uses of versions that no layer builds any more and that are not allowed."""

    def compat_of(self, release: str) -> tuple[CompatLayer, ...]:
        """Return the compat layers of a final image, lowest first."""
        name = self.layer_graph.by_target[self.layer_graph.finals[release]].said.compat
        return order_of(name, self.compat) if name else ()


def read_tree(
    root: Path,
    platforms: tuple[Platform, ...],
    place: ScienceRepositories,
    *,
    build_platform: Platform,
    allowed: frozenset[str] = frozenset(),
) -> ScienceTree:
    """Read the tree. `allowed` are `image:version` (or `target:version`) that may be used although no layer builds them.

    Errors: `WrongUseError` with every problem, except for orphans, which are in the tree.
    """
    problems: list[Problem] = []
    layers = _read_science(root, problems)
    compat = _read_compat(root, problems)
    if not layers and not problems:
        hint = f"Add a folder {SCIENCE}/NAME with a {MANIFEST} and a Dockerfile, or give another tree with --root."
        problems.append(Problem(message=f"no science layer in {str(root)!r}", hint=hint))
    check_includes(compat, problems)
    problems += [result for layer in layers if (result := unknown_compat(layer.said, compat))]
    by_target = _by_target(layers, problems)
    if problems:
        raise WrongUseError(problems)
    reader = Reader(
        [layer.said for layer in layers],
        repo=place.repo,
        released=place.released,
        allowed=allowed,
        build_platform=build_platform,
    )
    reader.learn([layer.dockerfile for layer in layers], platforms[0])
    bases = _science_bases(layers, reader, platforms)
    for read in bases.values():
        problems += read.problems
    below = {
        target: tuple(dict.fromkeys(base for platform in platforms for base in bases[target, platform.oci].targets))
        for target in by_target
    }
    layer_graph = grow(layers, below, problems)
    if layer_graph is None or problems:
        raise WrongUseError(problems)
    return _with_compat(root, layer_graph, compat, bases, reader, platforms)


def _with_compat(
    root: Path,
    layer_graph: LayerGraph,
    compat: Mapping[str, CompatLayer],
    science_bases: dict[Spot, LayerImages],
    reader: Reader,
    platforms: tuple[Platform, ...],
) -> ScienceTree:
    merged: dict[str, MergedDockerfile] = {}
    compat_bases: dict[Spot, LayerImages] = {}
    joined: dict[str, tuple[MergedDockerfile, Mapping[str, LayerImages]]] = {}
    read: dict[Spot, LayerImages] = {}
    for release, target in layer_graph.finals.items():
        value = layer_graph.by_target[target].said
        if value.compat is None:
            continue
        parts = order_of(value.compat, compat)
        merged[release] = merged_dockerfile(f"{SCI}/{value.layer}", release, parts)
        if (value.compat, platforms[0].oci) not in read:
            piece = merged_dockerfile("scratch", None, parts)
            dockerfile = piece.parsed(f"{COMPAT}/{value.compat}/{DOCKERFILE}")
            results = {platform.oci: reader.read(dockerfile, platform) for platform in platforms}
            read |= {(value.compat, oci): bases for oci, bases in results.items()}
            if can_be_joined(dockerfile):
                joined[value.compat] = piece, results
        for platform in platforms:
            # All images with a compat layer read the same images, except for their base.
            spot = value.compat, platform.oci
            compat_bases[release, platform.oci] = on_final(value, platform, read[spot])
    problems = [problem for bases in read.values() for problem in bases.problems]
    if problems:
        raise WrongUseError(problems)
    old = (item for results in (*science_bases.values(), *compat_bases.values()) for item in results.old)
    return ScienceTree(
        root=root,
        layer_graph=layer_graph,
        compat=compat,
        science_bases=science_bases,
        merged=merged,
        compat_bases=compat_bases,
        joined=joined,
        old=tuple(dict.fromkeys(old)),
    )


def merged_name(release: str) -> str:
    """Return the path of a merged Dockerfile for messages."""
    return f"Dockerfile of {release}"


def _science_bases(
    layers: list[ScienceLayer], reader: Reader, platforms: tuple[Platform, ...]
) -> dict[Spot, LayerImages]:
    return {
        (layer.target, platform.oci): reader.read(layer.dockerfile, platform)
        for platform in platforms
        for layer in layers
    }


def _folders(root: Path, kind: str, problems: list[Problem]) -> Iterator[tuple[str, Path, bytes]]:
    """Yield the folders of layers of a kind, sorted by name, with the bytes of their manifests."""
    try:
        entries = sorted((root / kind).iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(Problem(path=kind, message=f"cannot be read: {error.strerror}", hint="Make it a folder."))
        return
    for folder in entries:
        try:
            yield f"{kind}/{folder.name}", folder, limits.read_tree_file(folder / MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            shown = f"{kind}/{folder.name}/{MANIFEST}"
            problems.append(Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="Make it readable."))


def _read_science(root: Path, problems: list[Problem]) -> list[ScienceLayer]:
    layers = []
    for folder, path, raw in _folders(root, SCIENCE, problems):
        value = describe(raw, folder, problems)
        layer = science_layer(value, path, problems) if value else None
        if layer:
            layers.append(layer)
    return layers


def _read_compat(root: Path, problems: list[Problem]) -> dict[str, CompatLayer]:
    layers: dict[str, CompatLayer] = {}
    for folder, path, raw in _folders(root, COMPAT, problems):
        includes, lines = read_compat_manifest(raw, f"{folder}/{MANIFEST}", problems)
        dockerfile = read_dockerfile(path, f"{folder}/{DOCKERFILE}", f"{folder}/{MANIFEST}", problems)
        layer = CompatLayer(
            name=path.name,
            path=path,
            includes=includes,
            lines=lines,
            text=(dockerfile or b"").decode("utf-8", "surrogateescape"),
        )
        if dockerfile is not None:
            check_dockerfile(layer, problems)
        layers[path.name] = layer
    return layers


def _by_target(layers: list[ScienceLayer], problems: list[Problem]) -> dict[str, ScienceLayer]:
    by_target: dict[str, ScienceLayer] = {}
    for layer in layers:
        other = by_target.setdefault(layer.target, layer)
        if other is not layer:
            problems.append(
                Problem(
                    path=layer.said.manifest,
                    line=layer.said.lines.get("target", 0),
                    message=f"duplicate target {layer.target!r}, used by {other.said.folder}",
                    hint="Set a different target for each layer.",
                )
            )
    _check_names(layers, lambda value: value.image, problems)
    return by_target


def _check_names(layers: list[ScienceLayer], name_of: Callable[[Described], str], problems: list[Problem]) -> None:
    """Report two spellings of a version: 2 and 2.0 of the same image would be two images that look like one."""
    seen: dict[tuple[str, tuple[int, ...]], Described] = {}
    for value in (layer.said for layer in layers):
        other = seen.setdefault((name_of(value), value.version.numbers), value)
        if other.version != value.version:
            problems.append(
                Problem(
                    path=value.manifest,
                    line=value.lines.get("version", 0),
                    message=f"{value.release} and {other.release} ({other.folder}) are the same number",
                    hint="Write the version the same way in both.",
                )
            )
