"""Select images by globs over `name:tag`, and check where they may be published.

Each visibility has its registry. The checks prevent that a private image gets into the public registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.image_types.relations import Relations, host_of, name_in
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.model import ImageInput
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.text import perhaps_you_meant


def globs_in(words: Iterable[str]) -> tuple[str, ...]:
    """Split the globs of a command line at commas."""
    return tuple(dict.fromkeys(glob for word in words for glob in (part.strip() for part in word.split(",")) if glob))


def matches(image: Image, glob: str) -> bool:
    """Return whether a glob matches an image: `name:tag` (with aliases), `name`, or the folder `type/system`."""
    return any(fnmatchcase(word, glob) for word in (*image.ids, image.name, image.spot))


def select(catalogue: Catalogue, words: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the images that the globs match, in the order of the catalogue.

    Without globs: all images except the built-in ones, which serve as bases; or these if there are no others. A glob
    selects built-in images only if it matches no others.

    Errors: `WrongUseError` for every glob that matches nothing, so that a typo never results in an empty plan.
    """
    globs = globs_in(words)
    images = tuple(catalogue.images.values())
    problems = [
        Problem(message=f"{glob!r} matches no image", hint=_nearest(glob, catalogue))
        for glob in globs
        if not any(matches(image, glob) for image in images)
    ]
    if words and not globs:
        problems.append(Problem(message="the globs are empty", hint="Give a glob such as 'casa-dev:*', or none."))
    if problems:
        raise WrongUseError(problems)
    chosen: set[str] = set()
    for glob in globs or ("*",):
        hit = [image for image in images if matches(image, glob)]
        chosen.update(image.id for image in [item for item in hit if not item.folder.root.built_in] or hit)
    return tuple(image.id for image in images if image.id in chosen)


def _nearest(glob: str, catalogue: Catalogue) -> str:
    available = list(catalogue.images)
    names = [
        *available,
        *(image.name for image in catalogue.images.values()),
        *(i.spot for i in catalogue.images.values()),
    ]
    shown = f"{', '.join(available[:8])}{', …' if len(available) > 8 else ''}"
    return perhaps_you_meant(glob, names) + (f"Images: {shown}." if available else "There are no images.")


ALLOW: Final = "--allow-private-base"
FLAGS: Final = {True: "--public", False: "--private"}
VARIABLES: Final = {True: "CHAINBUILD_PUBLIC_REGISTRY", False: "CHAINBUILD_PRIVATE_REGISTRY"}


class PublishTargets(Struct, frozen=True, kw_only=True):
    """The chain registry, and the registries that images of each visibility are published to."""

    chain: ChainRegistry
    public: ChainRegistry | None = None
    private: ChainRegistry | None = None

    @property
    def all(self) -> tuple[ChainRegistry, ...]:
        """All registries that are set, the longest path first."""
        results = [item for item in (self.chain, self.public, self.private) if item]
        return tuple(sorted(results, key=lambda item: -len(item.prefix)))

    def of(self, image: Image) -> ChainRegistry | None:
        """Return the registry that an image is published to."""
        return self.public if image.is_public else self.private

    def target(self, image: Image) -> ImageReference | None:
        """Return where an image is published, without a tag; None if no registry is set for its visibility."""
        place = self.of(image)
        return place.place(ImageReference.parse(image.name)) if place else None


def lies_in(reference: ImageReference, place: ChainRegistry | None) -> bool:
    """Return whether a name is in a registry, below its path."""
    return place is not None and bool(name_in(place, reference))


def check_places(places: PublishTargets) -> Iterator[Problem]:
    """Check that the private registry is not a part of the public one."""
    public, private = places.public, places.private
    if not public or not private or host_of(public.host) != host_of(private.host):
        return
    if not public.prefix or f"{private.prefix}/".startswith(f"{public.prefix}/"):
        message = f"the private registry {private} is a part of the public registry {public}"
        hint = "Set --public and --private to separate paths or hosts."
        yield Problem(message=message, hint=hint)


def check_chain(images: Iterable[Image], places: PublishTargets) -> Iterator[Problem]:
    """Check that no private image is built into a chain registry that is a part of the public one."""
    for image in images:
        built = places.chain.place(ImageReference.parse(image.name))
        if not image.is_public and lies_in(built, places.public):
            yield image.problem(
                f"{image.id} is private, but the chain registry {places.chain} is a part of the public registry"
                f" {places.public}",
                "Use another chain registry (--registry), or the registry on localhost.",
                "visibility",
            )


def check_publication(
    chosen: Iterable[str], catalogue: Catalogue, relations: Relations, places: PublishTargets, *, allow: bool
) -> Iterator[Problem]:
    """Check that every image has a registry, that no private image gets public, and that no public image is based on one.

    `allow` skips the last check.
    """
    missing: dict[bool, list[str]] = {}
    for name in chosen:
        image = catalogue.images[name]
        target = places.target(image)
        if target is None:
            missing.setdefault(image.is_public, []).append(name)
        elif not image.is_public and lies_in(target, places.public):
            hint = "Set --public and --private to separate paths."
            message = f"{name} is private, but {target} is a part of the public registry {places.public}"
            yield image.problem(message, hint, "visibility")
        if image.is_public and not allow:
            yield from _exposures(image, catalogue, relations, places)
    for public, names in missing.items():
        kind = "public" if public else "private"
        yield Problem(
            message=f"no {kind} registry is set to publish {', '.join(names)}",
            hint=f"Give {FLAGS[public]} HOST[/PATH], or set {VARIABLES[public]}.",
        )


def _exposures(image: Image, catalogue: Catalogue, relations: Relations, places: PublishTargets) -> Iterator[Problem]:
    for path in private_bases(image.id, catalogue, relations, places):
        yield image.problem(
            f"{image.id} is public, but based on a private image: {' of '.join(path)}",
            f"Make it private, or use another base. If all of it may be public, use {ALLOW}.",
            "visibility",
        )


def private_bases(
    image: str, catalogue: Catalogue, relations: Relations, places: PublishTargets
) -> tuple[tuple[str, ...], ...]:
    """Return the private images that an image is based on, each with the path to it: `a` of `b` of `secret`."""
    results: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    todo: list[tuple[str, ...]] = [(image,)]
    while todo:
        path = todo.pop()
        for (name, _), reads in relations.reads.items():
            if name != path[-1]:
                continue
            for read in reads:
                outside = not read.image and _is_private(read.wanted, places)
                if outside or (read.image and not catalogue.images[read.image].is_public):
                    results.setdefault(read.image or read.wanted.name, (*path, read.image or read.wanted.name))
                elif read.image and read.image not in seen:
                    seen.add(read.image)
                    todo.append((*path, read.image))
    return tuple(results[name] for name in sorted(results))


def _is_private(requested: ImageInput, places: PublishTargets) -> bool:
    """Return whether an input is an outside image in the private registry."""
    return requested.external is not None and lies_in(requested.external, places.private)
