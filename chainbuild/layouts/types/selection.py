"""Which images a command is about: globs over `name:tag`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.types.tree import Catalogue, Image
from chainbuild.wording import perhaps_you_meant


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
