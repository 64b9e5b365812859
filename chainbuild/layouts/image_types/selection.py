"""The images that a command selects, and which of them may be published where.

Which images a command is about: globs over `name:tag`.

Where images are published, by visibility; and what keeps a private one out of the public registry.
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
    """The globs of a command line: several words, each with commas between several."""
    return tuple(dict.fromkeys(glob for word in words for glob in (part.strip() for part in word.split(",")) if glob))


def matches(image: Image, glob: str) -> bool:
    """Whether a glob is about an image: `name:tag` (aliases as well), `name` alone, or the folder `type/system`."""
    return any(fnmatchcase(word, glob) for word in (*image.ids, image.name, image.spot))


def select(catalogue: Catalogue, words: Sequence[str]) -> tuple[str, ...]:
    """The ids of the images that the globs are about, in the catalogue's order.

    Without globs: of all images but the built-in ones, which are there to be stood on; of those where there are no others.

    Errors: `WrongUseError` for every glob that is about none: a word that means nothing is never an empty plan.
    """
    globs = globs_in(words)
    images = tuple(catalogue.images.values())
    problems = [
        Problem(message=f"{glob!r} matches no image", hint=_nearest(glob, catalogue))
        for glob in globs
        if not any(matches(image, glob) for image in images)
    ]
    if words and not globs:
        problems.append(Problem(message="the globs are empty", hint="As in 'casa-dev:*', or leave them out."))
    if problems:
        raise WrongUseError(problems)
    if not globs:
        own = tuple(image.id for image in images if not image.folder.root.built_in)
        return own or tuple(image.id for image in images)
    return tuple(image.id for image in images if any(matches(image, glob) for glob in globs))


def _nearest(glob: str, catalogue: Catalogue) -> str:
    known = list(catalogue.images)
    names = [*known, *(image.name for image in catalogue.images.values()), *(i.spot for i in catalogue.images.values())]
    return perhaps_you_meant(glob, names) + (
        f"Images here: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}." if known else "None is here."
    )


ALLOW: Final = "--allow-private-base"
FLAGS: Final = {True: "--public", False: "--private"}
VARIABLES: Final = {True: "CHAINBUILD_PUBLIC_REGISTRY", False: "CHAINBUILD_PRIVATE_REGISTRY"}


class PublishTargets(Struct, frozen=True, kw_only=True):
    """The registries: where steps hand images to each other, and where images of each visibility are published."""

    chain: ChainRegistry
    public: ChainRegistry | None = None
    private: ChainRegistry | None = None

    @property
    def all(self) -> tuple[ChainRegistry, ...]:
        """Those that there are. The one that says the most of a path comes first."""
        found = [one for one in (self.chain, self.public, self.private) if one]
        return tuple(sorted(found, key=lambda one: -len(one.prefix)))

    def of(self, image: Image) -> ChainRegistry | None:
        """The registry that an image is published to."""
        return self.public if image.is_public else self.private

    def target(self, image: Image) -> ImageReference | None:
        """Where an image is published, without a tag; None where no registry is set for that."""
        place = self.of(image)
        return place.place(ImageReference.parse(image.name)) if place else None


def lies_in(reference: ImageReference, place: ChainRegistry | None) -> bool:
    """Whether a name is one of a registry's, below its path."""
    return place is not None and bool(name_in(place, reference))


def check_places(places: PublishTargets) -> Iterator[Problem]:
    """The private registry is no part of the public one."""
    public, private = places.public, places.private
    if not public or not private or host_of(public.host) != host_of(private.host):
        return
    if not public.prefix or f"{private.prefix}/".startswith(f"{public.prefix}/"):
        message = f"the private registry {private} is a part of the public one, {public}"
        hint = "Give --public and --private paths beside each other, or hosts of their own."
        yield Problem(message=message, hint=hint)


def check_chain(images: Iterable[Image], places: PublishTargets) -> Iterator[Problem]:
    """A private image is built into the chain registry: that is no part of the public one, either."""
    for image in images:
        built = places.chain.place(ImageReference.parse(image.name))
        if not image.is_public and lies_in(built, places.public):
            yield image.problem(
                f"{image.id} is private, and the chain registry {places.chain} is a part of the public one,"
                f" {places.public}",
                "Build it with another chain registry (--registry), or with the one on localhost.",
                "visibility",
            )


def check_publication(
    chosen: Iterable[str], catalogue: Catalogue, relations: Relations, places: PublishTargets, *, allow: bool
) -> Iterator[Problem]:
    """Every image has a place to go to, no private one's is public, and no public one is made of a private one.

    `allow`: public images may be.
    """
    missing: dict[bool, list[str]] = {}
    for name in chosen:
        image = catalogue.images[name]
        target = places.target(image)
        if target is None:
            missing.setdefault(image.is_public, []).append(name)
        elif not image.is_public and lies_in(target, places.public):
            hint = "Give --public and --private paths beside each other."
            message = f"{name} is private, and {target} is a part of the public registry {places.public}"
            yield image.problem(message, hint, "visibility")
        if image.is_public and not allow:
            yield from _exposures(image, catalogue, relations, places)
    for public, names in missing.items():
        kind = "public" if public else "private"
        yield Problem(
            message=f"no {kind} registry is set, and {', '.join(names)} would go there",
            hint=f"Give {FLAGS[public]} HOST[/PATH], or set {VARIABLES[public]}.",
        )


def _exposures(image: Image, catalogue: Catalogue, relations: Relations, places: PublishTargets) -> Iterator[Problem]:
    for path in private_bases(image.id, catalogue, relations, places):
        yield image.problem(
            f"{image.id} is public and made of a private image: {' of '.join(path)}",
            f"Make it private, or let it stand on another image. Where all of that may be public: {ALLOW}.",
            "visibility",
        )


def private_bases(
    image: str, catalogue: Catalogue, relations: Relations, places: PublishTargets
) -> tuple[tuple[str, ...], ...]:
    """The private images that an image is made of, each with the way to it: `a` of `b` of `secret`."""
    found: dict[str, tuple[str, ...]] = {}
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
                    found.setdefault(read.image or read.wanted.name, (*path, read.image or read.wanted.name))
                elif read.image and read.image not in seen:
                    seen.add(read.image)
                    todo.append((*path, read.image))
    return tuple(found[name] for name in sorted(found))


def _is_private(wanted: ImageInput, places: PublishTargets) -> bool:
    """An image from outside that lies in the private registry."""
    return isinstance(wanted.source, ImageReference) and lies_in(wanted.source, places.private)
