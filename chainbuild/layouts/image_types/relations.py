"""How images stand on each other: what `dependencies` say, what the Dockerfiles read, and whether the two agree.

An image that a Dockerfile reads is one of ours by its last part and tag, where what stands before that is nothing, a
registry of ours, or anything at all once the folder's dependencies say so: `FROM cati/casa-dev:ubuntu-22.04`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from chainbuild.dockerfile.images import named_images
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.image_types.dependencies import few, place_of, relative_path
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.model import ImageInput
from chainbuild.references import DOCKER_HUB, ChainRegistry, ImageReference, Platform
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace


class Read(Struct, frozen=True, kw_only=True):
    """An image that a Dockerfile reads; `image` is the id of the one of ours that it is (empty: it is from outside).

    `fixed`: one of ours, but one build of it, by digest.
    """

    wanted: ImageInput
    image: str = ""
    fixed: bool = False


class Relations(Struct, frozen=True, kw_only=True):
    """The order of all images, and for each what it comes after and what its Dockerfile reads.

    `below` has by id what `dependencies` stand for; `reads` by (id, OCI platform). `loose` are dependencies that no
    Dockerfile reads anything of, for people.
    """

    order: tuple[str, ...]
    below: Mapping[str, tuple[str, ...]]
    reads: Mapping[tuple[str, str], tuple[Read, ...]]
    loose: tuple[Problem, ...] = ()

    def with_dependencies(self, images: Iterable[str]) -> frozenset[str]:
        """The images and everything that they depend on, directly or not."""
        hit = set(images)
        for image in reversed(self.order):
            if image in hit:
                hit.update(self.below[image])
        return frozenset(hit)

    def with_bases(self, images: Iterable[str]) -> frozenset[str]:
        """The images and everything that they are made of, directly or not."""
        hit = set(images)
        for image in reversed(self.order):
            if image in hit:
                hit.update(self.read_by(image))
        return frozenset(hit)

    def reads_of(self, image: str, platform: Platform) -> tuple[Read, ...]:
        """What a Dockerfile reads on a platform; on one that nobody asked for, what it reads on the first, moved."""
        found = self.reads.get((image, platform.oci))
        if found is not None:
            return found
        other = next(reads for (name, _), reads in self.reads.items() if name == image)
        return tuple(replace(one, wanted=replace(one.wanted, platform=platform)) for one in other)

    def read_by(self, image: str) -> tuple[str, ...]:
        """The images of ours that a Dockerfile reads, on any platform."""
        found = (one.image for (name, _), reads in self.reads.items() if name == image for one in reads)
        return tuple(dict.fromkeys(one for one in found if one))


def relate(
    catalogue: Catalogue,
    platforms: tuple[Platform, ...],
    *,
    ours: Iterable[ChainRegistry] = (),
    args: Mapping[str, str] | None = None,
    build_platform: Platform,
) -> Relations:
    """How the images stand on each other. `ours` are the registries that have our images under their own names.

    Errors: `WrongUseError` with everything that does not fit.
    """
    reader = _Reader(catalogue, tuple(ours), args or {}, build_platform)
    places = {image.id: reader.dependencies(image) for image in catalogue.images.values()}
    below = {image: frozenset(one for _, found in said for one in found) for image, said in places.items()}
    reads = {
        (image.id, platform.oci): reader.reads(image, platform, below[image.id])
        for image in catalogue.images.values()
        for platform in platforms
    }
    relations = Relations(order=(), below={}, reads=reads)
    # Images of one folder need no dependencies to stand on each other.
    edges = {image: tuple(sorted(below[image].union(relations.read_by(image)))) for image in below}
    order = topological_order(edges)
    path = find_cycle(edges, order)
    if path:
        reader.problems.append(_circle(catalogue, path))
    if reader.problems:
        raise WrongUseError(reader.problems)
    return replace(relations, order=order, below=edges, loose=_loose(catalogue, places, relations))


def _circle(catalogue: Catalogue, path: tuple[str, ...]) -> Problem:
    manifest = catalogue.images[path[0]].manifest
    return Problem(
        path=manifest.shown,
        line=manifest.dependencies[0][0] if manifest.dependencies else 0,
        message=f"images stand on each other in a circle: {' on '.join(path)}",
        hint="One of them has to stand on another image. (One of Docker Hub's own is docker.io/library/NAME:TAG.)",
    )


def _loose(catalogue: Catalogue, places: Mapping[str, Places], relations: Relations) -> tuple[Problem, ...]:
    """Dependencies whose images no Dockerfile of the folder reads: they only say what comes first."""
    read: dict[str, set[str]] = {}
    for image in catalogue.images.values():
        read.setdefault(image.spot, set()).update(relations.read_by(image.id))
    found: dict[Problem, None] = {}
    for name, said in places.items():
        image = catalogue.images[name]
        for (line, path), beneath in zip(image.manifest.dependencies, (ids for _, ids in said), strict=True):
            if beneath and not read[image.spot].intersection(beneath):
                message = f"it depends on {path}, and its Dockerfile reads no image of that"
                hint = f"No FROM names one of: {few(beneath)}. It only comes after them."
                found[Problem(path=image.manifest.shown, line=line, message=message, hint=hint)] = None
    return tuple(found)


Places = list[tuple[str, tuple[str, ...]]]
"""The paths of `dependencies`, each with the ids of the images beneath it."""


class _Reader:
    """Reads dependencies and Dockerfiles, and collects what is wrong on the way."""

    def __init__(
        self, catalogue: Catalogue, ours: tuple[ChainRegistry, ...], args: Mapping[str, str], build_platform: Platform
    ) -> None:
        self._catalogue = catalogue
        self._by_name = catalogue.by_name
        self._names = frozenset(image.name for image in catalogue.images.values())
        self._ours = ours
        self._args = args
        self._build_platform = build_platform
        self.problems: list[Problem] = []

    # Dependencies -----------------------------------------------------------------------------------------------------

    def dependencies(self, image: Image) -> Places:
        """What stands beneath each path of an image's folder, but for what that makes itself."""
        found: Places = []
        for _, path in image.manifest.dependencies:
            place = place_of(image.spot, path)
            beneath = () if place is None else self._catalogue.beneath(place)
            found.append((path, tuple(one.id for one in beneath if one.spot != image.spot)))
        return found

    # Dockerfiles ------------------------------------------------------------------------------------------------------

    def reads(self, image: Image, platform: Platform, below: frozenset[str]) -> tuple[Read, ...]:
        """What the Dockerfile reads on a platform."""
        inputs, problems = named_images(
            image.dockerfile, given=(), args=self._args, platform=platform, build_platform=self._build_platform
        )
        self.problems += problems
        reads: dict[str, Read] = {}
        for wanted in inputs:
            reads[wanted.name] = self._read(image, wanted, below)
        return tuple(reads.values())

    def _read(self, image: Image, wanted: ImageInput, below: frozenset[str]) -> Read:
        reference = wanted.source
        if not isinstance(reference, ImageReference):
            return Read(wanted=wanted)
        found = self._meant(wanted, reference, below)
        if found is None:
            return Read(wanted=wanted)
        if found.spot != image.spot and found.id not in below:
            path = relative_path(image.spot, found.spot)
            message = f"it reads {wanted.written}, and {image.manifest.shown} has no dependency on {found.spot}"
            self._say(wanted, message, f"Add to its dependencies: {path}")
        return Read(wanted=wanted, image=found.id, fixed=reference.digest is not None)

    def _meant(self, wanted: ImageInput, reference: ImageReference, below: frozenset[str]) -> Image | None:
        """The image of ours that a name means; None for one from outside (or a name that was told to be wrong)."""
        if wanted.written.startswith((f"{DOCKER_HUB}/library/", "index.docker.io/library/")):
            return None
        tag = reference.tag_or_latest
        for registry in self._ours:
            name = name_in(registry, reference)
            if name in self._names:
                return self._build(name, reference, below) or self._by_name.get(f"{name}:{tag}")
        name = reference.familiar_name
        covered = {self._catalogue.images[one].name for one in below}
        spelled = (
            name
            if name in self._names
            else next((one for one in sorted(covered) if reference.repository.endswith(f"/{one}")), None)
        )
        if spelled is None:
            return None
        found = self._build(spelled, reference, below) or self._by_name.get(f"{spelled}:{tag}")
        if found is None and reference.registry == DOCKER_HUB:
            tags = sorted(one.partition(":")[2] for one in self._by_name if one.partition(":")[0] == spelled)
            hint = f"Its tags here are: {few(tags)}. One of Docker Hub's own is written docker.io/library/…"
            self._say(wanted, f"FROM {wanted.written}: {spelled} has no tag {tag!r} here", hint)
        return found

    def _build(self, name: str, reference: ImageReference, below: frozenset[str]) -> Image | None:
        """The image that a digest without a tag is a build of: nobody can tell which, so a private one comes first."""
        if reference.digest is None or reference.tag is not None:
            return None
        known = [image for image in self._catalogue.images.values() if image.name == name]
        return min(known, key=lambda one: (one.is_public, one.id not in below, one.id), default=None)

    def _say(self, wanted: ImageInput, message: str, hint: str) -> None:
        path, _, line = wanted.origin.rpartition(":")
        self.problems.append(Problem(path=path, line=int(line), message=message, hint=hint))


def name_in(registry: ChainRegistry, reference: ImageReference) -> str:
    """What an image is called below a registry's path; empty where it is not there."""
    if host_of(registry.host) != host_of(reference.registry):
        return ""
    if not registry.prefix:
        return reference.repository
    below = f"{registry.prefix}/"
    return reference.repository.removeprefix(below) if reference.repository.startswith(below) else ""


def host_of(host: str) -> str:
    """A registry's host, so that two spellings of one compare the same: of this machine, and of the usual port."""
    name = host.lower().removesuffix(":443")
    for own in ("127.0.0.1", "[::1]"):
        if name == own or name.startswith(f"{own}:"):
            return "localhost" + name.removeprefix(own)
    return "docker.io" if name in {"index.docker.io", "registry-1.docker.io"} else name
