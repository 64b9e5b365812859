"""The relations of images: what `dependencies` list, what the Dockerfiles read, and whether the two agree.

A Dockerfile's image is one of the tree if its last part and tag match, and the part before is empty or one of our
registries, or anything if the folder's dependencies include the image: `FROM cati/casa-dev:ubuntu-22.04`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from chainbuild.dockerfile.images import named_images
from chainbuild.errors import Problem
from chainbuild.layouts.image_types.dependencies import few, place_of, relative_path
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.model import ImageInput
from chainbuild.references import DOCKER_HUB, ChainRegistry, ImageReference, Platform
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace


class Read(Struct, frozen=True, kw_only=True):
    """An image that a Dockerfile reads; `image` is its id in the tree (empty: an outside image).

    `fixed`: an image of the tree, but a specific build of it, by digest.
    """

    wanted: ImageInput
    image: str = ""
    fixed: bool = False


class Relations(Struct, frozen=True, kw_only=True):
    """The order of all images, their dependencies, and the images that their Dockerfiles read.

    `below` has by id the images that come before an image: those that it reads, and its dependencies. `reads` is by
    (id, OCI platform). `problems` has by id why an image cannot be built. `loose` reports dependencies that only affect the
    order, because no Dockerfile reads an image of them.
    """

    order: tuple[str, ...]
    below: Mapping[str, tuple[str, ...]]
    reads: Mapping[tuple[str, str], tuple[Read, ...]]
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    loose: tuple[Problem, ...] = ()

    def with_bases(self, images: Iterable[str]) -> frozenset[str]:
        """Return the images and all images that they are built from, directly or indirectly."""
        hit = set(images)
        for image in reversed(self.order):
            if image in hit:
                hit.update(self.read_by(image))
        return frozenset(hit)

    def reads_of(self, image: str, platform: Platform) -> tuple[Read, ...]:
        """Return what a Dockerfile reads on a platform; on a platform that was not read, what it reads on the first."""
        result = self.reads.get((image, platform.oci))
        if result is not None:
            return result
        other = next(reads for (name, _), reads in self.reads.items() if name == image)
        return tuple(replace(item, wanted=replace(item.wanted, platform=platform)) for item in other)

    def read_by(self, image: str) -> tuple[str, ...]:
        """Return the images of the tree that a Dockerfile reads, on any platform."""
        result = (item.image for (name, _), reads in self.reads.items() if name == image for item in reads)
        return tuple(dict.fromkeys(item for item in result if item))


def relate(
    catalogue: Catalogue,
    platforms: tuple[Platform, ...],
    *,
    ours: Iterable[ChainRegistry] = (),
    args: Mapping[str, str] | None = None,
    build_platform: Platform,
) -> Relations:
    """Return the relations of the images. `ours` are the registries that have our images under their own names."""
    reader = _Reader(catalogue, tuple(ours), args or {}, build_platform)
    places = {image.id: reader.dependencies(image) for image in catalogue.images.values()}
    below = {image: frozenset(item for _, result in value for item in result) for image, value in places.items()}
    reads = {
        (image.id, platform.oci): reader.reads(image, platform, below[image.id])
        for image in catalogue.images.values()
        for platform in platforms
    }
    relations = Relations(order=(), below={}, reads=reads)
    read = {image: frozenset(relations.read_by(image)) for image in below}
    loose = _loose(catalogue, places, relations)
    order, edges = _in_order(catalogue, {image: below[image] | read[image] for image in below}, read, reader, loose)
    problems = {
        name: tuple(dict.fromkeys((*image.problems, *reader.problems.get(name, ()))))
        for name, image in catalogue.images.items()
    }
    return Relations(order=order, below=edges, reads=reads, problems=problems, loose=tuple(loose))


Edges = Mapping[str, frozenset[str]]
"""The images that come before each image, by id."""


def _in_order(
    catalogue: Catalogue, below: Edges, read: Edges, reader: _Reader, notes: list[Problem]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the order of all images, and the edges that it follows: those of `below` that are in no cycle.

    A cycle of images that read each other is a problem of each of them. In a cycle with dependencies that nobody reads, these
    are ignored.
    """
    path, members = _cycle_in(read)
    for image in members:
        reader.problems.setdefault(image, []).append(_cycle(catalogue, path))
    edges = {image: before - members if image in members else before for image, before in below.items()}
    path, members = _cycle_in(edges)
    if path:
        hint = "Remove one of these dependencies: a Dockerfile uses none of its images. Until then, the order ignores them."
        notes.append(replace(_cycle(catalogue, path), hint=hint))
        edges = {
            image: before - (members - read[image]) if image in members else before for image, before in edges.items()
        }
    return topological_order(edges), {image: tuple(sorted(before)) for image, before in edges.items()}


def _cycle_in(edges: Edges) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return a cycle, if any, and all images that are in cycles or between two of them."""
    order = topological_order(edges)
    path = find_cycle(edges, order)
    if not path:
        return (), frozenset()
    above: dict[str, set[str]] = {image: set() for image in edges}
    for image, before in edges.items():
        for other in before:
            above[other].add(image)
    return path, frozenset(edges).difference(order, topological_order(above))


def _cycle(catalogue: Catalogue, path: tuple[str, ...]) -> Problem:
    manifest = catalogue.images[path[0]].manifest
    return Problem(
        path=manifest.shown,
        line=manifest.dependencies[0][0] if manifest.dependencies else 0,
        message=f"images depend on each other in a cycle: {' on '.join(path)}",
        hint="Base one of them on another image. (For an image of Docker Hub, write docker.io/library/NAME:TAG.)",
    )


def _loose(catalogue: Catalogue, places: Mapping[str, Places], relations: Relations) -> list[Problem]:
    """Return the dependencies whose images no Dockerfile of the folder reads: they only affect the order."""
    read: dict[str, set[str]] = {}
    for image in catalogue.images.values():
        read.setdefault(image.spot, set()).update(relations.read_by(image.id))
    results: dict[Problem, None] = {}
    for name, value in places.items():
        image = catalogue.images[name]
        for (line, path), beneath in zip(image.manifest.dependencies, (ids for _, ids in value), strict=True):
            if beneath and not read[image.spot].intersection(beneath):
                message = f"it depends on {path}, but its Dockerfile uses no image of it"
                hint = f"No FROM uses any of: {few(beneath)}. The dependency only affects the order."
                results[Problem(path=image.manifest.shown, line=line, message=message, hint=hint)] = None
    return list(results)


Places = list[tuple[str, tuple[str, ...]]]
"""The paths of `dependencies`, each with the ids of the images below it."""


class _Reader:
    """Reads dependencies and Dockerfiles, and collects problems."""

    def __init__(
        self, catalogue: Catalogue, ours: tuple[ChainRegistry, ...], args: Mapping[str, str], build_platform: Platform
    ) -> None:
        self._catalogue = catalogue
        self._by_name = catalogue.by_name
        self._names = frozenset(image.name for image in catalogue.images.values())
        self._implied = frozenset(image.name for image in catalogue.images.values() if image.manifest.implied)
        built_in = frozenset(image.name for image in catalogue.images.values() if image.folder.root.built_in)
        self._complete = self._names.difference(self._implied, built_in)
        """The names whose tags are all in the tree, so that another tag is a mistake."""
        self._ours = ours
        self._args = args
        self._build_platform = build_platform
        self.problems: dict[str, list[Problem]] = {}
        """By image id."""

    # Dependencies -----------------------------------------------------------------------------------------------------

    def dependencies(self, image: Image) -> Places:
        """Return the images below each path of the folder's dependencies, except those of the folder itself."""
        result: Places = []
        for _, path in image.manifest.dependencies:
            place = place_of(image.spot, path)
            beneath = () if place is None else self._catalogue.beneath(place)
            result.append((path, tuple(item.id for item in beneath if item.spot != image.spot)))
        return result

    # Dockerfiles ------------------------------------------------------------------------------------------------------

    def reads(self, image: Image, platform: Platform, below: frozenset[str]) -> tuple[Read, ...]:
        """Return the images that the Dockerfile reads on a platform."""
        inputs, problems = named_images(
            image.dockerfile, given=(), args=self._args, platform=platform, build_platform=self._build_platform
        )
        self.problems.setdefault(image.id, []).extend(problems)
        reads: dict[str, Read] = {}
        for requested in inputs:
            reads[requested.name] = self._read(image, requested, below)
        return tuple(reads.values())

    def _read(self, image: Image, wanted: ImageInput, below: frozenset[str]) -> Read:
        reference = wanted.external
        if reference is None:
            return Read(wanted=wanted)
        result = self._meant(image, wanted, reference, below)
        if result is None:
            return Read(wanted=wanted)
        if result.spot != image.spot and result.id not in below and not image.manifest.implied:
            path = relative_path(image.spot, result.spot)
            message = f"it uses {wanted.written}, but {image.manifest.shown} has no dependency on {result.spot}"
            self._say(image, wanted, message, f"Add this to its dependencies: {path}")
        return Read(wanted=wanted, image=result.id, fixed=reference.digest is not None)

    def _meant(
        self, image: Image, wanted: ImageInput, reference: ImageReference, below: frozenset[str]
    ) -> Image | None:
        """Return the image of the tree that a name refers to; None for an outside image or a name with a problem."""
        if wanted.written.startswith((f"{DOCKER_HUB}/library/", "index.docker.io/library/")):
            return None
        tag = reference.tag_or_latest
        for registry in self._ours:
            name = name_in(registry, reference)
            if name in self._names:
                return self._build(name, reference, below) or self._by_name.get(f"{name}:{tag}")
        name = reference.familiar_name
        covered = {self._catalogue.images[item].name for item in below}
        if image.manifest.implied:
            covered |= self._implied
        spelled = (
            name
            if name in self._names
            else next((item for item in sorted(covered) if reference.repository.endswith(f"/{item}")), None)
        )
        if spelled is None:
            return None
        result = self._build(spelled, reference, below) or self._by_name.get(f"{spelled}:{tag}")
        if result is None and reference.registry == DOCKER_HUB and spelled in self._complete:
            tags = sorted(item.partition(":")[2] for item in self._by_name if item.partition(":")[0] == spelled)
            hint = f"Its tags are: {few(tags)}. For an image of Docker Hub, write docker.io/library/…"
            self._say(image, wanted, f"FROM {wanted.written}: {spelled} has no tag {tag!r} here", hint)
        return result

    def _build(self, name: str, reference: ImageReference, below: frozenset[str]) -> Image | None:
        """Return the image for a digest without a tag. It could be any build of the name, so private images come first."""
        if reference.digest is None or reference.tag is not None:
            return None
        candidates = [image for image in self._catalogue.images.values() if image.name == name]
        return min(candidates, key=lambda item: (item.is_public, item.id not in below, item.id), default=None)

    def _say(self, image: Image, wanted: ImageInput, message: str, hint: str) -> None:
        path, _, line = wanted.origin.rpartition(":")
        problem = Problem(path=path, line=int(line), message=message, hint=hint)
        self.problems.setdefault(image.id, []).append(problem)


def name_in(registry: ChainRegistry, reference: ImageReference) -> str:
    """Return the name of an image below a registry's path; empty if it is elsewhere."""
    if host_of(registry.host) != host_of(reference.registry):
        return ""
    if not registry.prefix:
        return reference.repository
    below = f"{registry.prefix}/"
    return reference.repository.removeprefix(below) if reference.repository.startswith(below) else ""


def host_of(host: str) -> str:
    """Return a registry's host in a form that compares equal for this machine's names and for the default port."""
    name = host.lower().removesuffix(":443")
    for own in ("127.0.0.1", "[::1]"):
        if name == own or name.startswith(f"{own}:"):
            return "localhost" + name.removeprefix(own)
    return "docker.io" if name in {"index.docker.io", "registry-1.docker.io"} else name
