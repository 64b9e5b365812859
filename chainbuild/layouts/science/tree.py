"""A tree of science and compat layers, read: every layer, what it stands on, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

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
    """Where a tree's images go: REPO, its repository in the chain registry, and where its old versions are found."""

    repo: ImageReference
    home: ImageReference
    released: ImageReference


class ScienceTree(Struct, frozen=True, kw_only=True):
    """The tree. `science_bases` and `compat_bases` tell what each layer and each final image reads, per platform."""

    root: Path
    layer_graph: LayerGraph
    compat: Mapping[str, CompatLayer]
    science_bases: Mapping[Spot, LayerImages]
    merged: Mapping[str, MergedDockerfile]
    """The merged Dockerfile of each `image:version` that has compat layers."""
    compat_bases: Mapping[Spot, LayerImages]
    joined: Mapping[str, tuple[MergedDockerfile, Mapping[str, LayerImages]]]
    """The compat layers that are put on final layers without a build: their Dockerfile alone, what it reads by platform."""
    old: tuple[OldVersion, ...]
    """What stands on a version that nobody builds any more, and is not allowed to."""

    def compat_of(self, release: str) -> tuple[CompatLayer, ...]:
        """The compat layers of a final image, the lowest first."""
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
    """Read the tree. `allowed` are `image:version` (or `target:version`) that may be stood on although nobody builds them.

    Errors: `WrongUseError` with everything that is wrong; orphans are no error here, they are in the tree.
    """
    problems: list[Problem] = []
    layers = _read_science(root, problems)
    compat = _read_compat(root, problems)
    if not layers and not problems:
        hint = (
            f"Each science layer is a folder {SCIENCE}/NAME with a {MANIFEST} and a Dockerfile; --root names the tree."
        )
        problems.append(Problem(message=f"no science layer in {str(root)!r}", hint=hint))
    check_includes(compat, problems)
    problems += [found for layer in layers if (found := unknown_compat(layer.said, compat))]
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
        said = layer_graph.by_target[target].said
        if said.compat is None:
            continue
        parts = order_of(said.compat, compat)
        merged[release] = merged_dockerfile(f"{SCI}/{said.layer}", release, parts)
        if (said.compat, platforms[0].oci) not in read:
            piece = merged_dockerfile("scratch", None, parts)
            dockerfile = piece.parsed(f"{COMPAT}/{said.compat}/{DOCKERFILE}")
            found = {platform.oci: reader.read(dockerfile, platform) for platform in platforms}
            read |= {(said.compat, oci): bases for oci, bases in found.items()}
            if can_be_joined(dockerfile):
                joined[said.compat] = piece, found
        for platform in platforms:
            # All images of a compat layer read the same, but for the one that they stand on.
            spot = said.compat, platform.oci
            compat_bases[release, platform.oci] = on_final(said, platform, read[spot])
    problems = [problem for bases in read.values() for problem in bases.problems]
    if problems:
        raise WrongUseError(problems)
    old = (one for found in (*science_bases.values(), *compat_bases.values()) for one in found.old)
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
    """How people are told the path of a merged Dockerfile."""
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
    """The layers' folders of a kind that have a manifest, in the order of names, with the manifest's bytes."""
    try:
        entries = sorted((root / kind).iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(Problem(path=kind, message=f"cannot be read: {error.strerror}", hint="It is a folder."))
        return
    for folder in entries:
        try:
            yield f"{kind}/{folder.name}", folder, (folder / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            shown = f"{kind}/{folder.name}/{MANIFEST}"
            problems.append(Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="It is a text file."))


def _read_science(root: Path, problems: list[Problem]) -> list[ScienceLayer]:
    layers = []
    for folder, path, raw in _folders(root, SCIENCE, problems):
        said = describe(raw, folder, problems)
        layer = science_layer(said, path, problems) if said else None
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
                    message=f"the target {layer.target!r} is taken by {other.said.folder}",
                    hint="A target names one layer among all: give each its own.",
                )
            )
    _check_names(layers, lambda said: said.image, problems)
    return by_target


def _check_names(layers: list[ScienceLayer], name_of: Callable[[Described], str], problems: list[Problem]) -> None:
    """Two names for one number: 2 and 2.0 of the same image would be two images that people take for one."""
    seen: dict[tuple[str, tuple[int, ...]], Described] = {}
    for said in (layer.said for layer in layers):
        other = seen.setdefault((name_of(said), said.version.numbers), said)
        if other.version != said.version:
            problems.append(
                Problem(
                    path=said.manifest,
                    line=said.lines.get("version", 0),
                    message=f"{said.release} and {other.release} ({other.folder}) are the same number",
                    hint="Write the version the same way in both.",
                )
            )
