"""Find the image that a user names: a reference, a step of the last run, a layer of the project, or an id.

Every name that chainbuild prints is one of these. Without a platform, this machine's is preferred; an image that exists for
one other platform only is found as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, TypeVar

from msgspec import Struct

from chainbuild.errors import (
    DamagedContentError,
    LoginNeededError,
    NotAnImageError,
    NotFoundInRegistryError,
    NotReadyError,
    RegistryError,
    UnreachableError,
    WrongUseError,
)
from chainbuild.events import Message
from chainbuild.execution.session import Session
from chainbuild.images.inventory import list_images
from chainbuild.images.resolver import ResolvedImage
from chainbuild.model import Graph, Step
from chainbuild.operations.why import steps_named
from chainbuild.patterns import regex
from chainbuild.references import DOCKER_HUB, ImageReference, Platform
from chainbuild.registry.images import platforms_of, resolve
from chainbuild.requests.layer import local_names, registry_names
from chainbuild.step_id import StepId

T = TypeVar("T")

_ID: Final = regex(r"(?:sha256:)?([0-9a-f]{12,64})")
_STEP: Final = regex(r"(?:[^:@]*/)?[0-9]+-[^/:@]+")
"""What looks like the name or the id of a numbered step."""


class NamedImage(Struct, frozen=True, kw_only=True):
    """What a user names. `platform` is None if it was not chosen; `step` if the name is not that of a step."""

    reference: ImageReference
    platform: Platform | None = None
    step: StepId | None = None
    id: str = ""
    """The first hex digits of the digest, if that is all that was given."""

    def __str__(self) -> str:
        return str(self.step) if self.step else self.id or str(self.reference)


class TreeNames(Struct, frozen=True, kw_only=True):
    """The names that mean something in the user's tree. Both functions are called only for names without `:` and `@`."""

    graph: Callable[[], Graph]
    """Returns the graph of the last run, or of the project. Errors: `WrongUseError`."""
    layer: Callable[[str], ImageReference | None]
    """Returns the image of the project's layer with that name."""


# What is named --------------------------------------------------------------------------------------------------------


def read_named_image(text: str, platform: Platform | None, names: TreeNames) -> NamedImage:
    """Read what the user wrote. Errors: `WrongUseError` if it is no name, or the name of several steps."""
    if match := _ID.fullmatch(text):
        return NamedImage(reference=ImageReference("", ""), platform=platform, id=match[1])
    if ":" in text or "@" in text:
        return NamedImage(reference=ImageReference.parse(text), platform=platform)
    if layer := names.layer(text):
        return NamedImage(reference=layer, platform=platform)
    if steps := _steps(text, names):
        step = _chosen(text, steps, platform)
        return NamedImage(reference=step.reference, platform=step.platform, step=step.id)
    return NamedImage(reference=ImageReference.parse(text), platform=platform)


def _steps(text: str, names: TreeNames) -> tuple[Step, ...]:
    """Return the steps with a name; none if it is that of an image. Errors: `WrongUseError` if it can only be a step."""
    try:
        return steps_named(names.graph(), text)
    except WrongUseError:
        # An image can be inspected whatever is wrong with the tree.
        if _STEP.fullmatch(text):
            raise
        return ()


def _chosen(text: str, steps: tuple[Step, ...], platform: Platform | None) -> Step:
    ids = ", ".join(str(step.id) for step in steps)
    if platform is not None:
        steps = tuple(step for step in steps if step.platform.same_as(platform))
        if not steps:
            raise WrongUseError(f"{text} is not a step for {platform}", hint=f"Steps of this name: {ids}.")
    elif len({step.platform.oci for step in steps}) > 1:
        own = Platform.of_this_machine()
        steps = tuple(step for step in steps if step.platform.same_as(own)) or steps
    if len(steps) > 1:
        raise WrongUseError(f"{text} is the name of several steps", hint=f"Choose one: {ids}.")
    return steps[0]


# The image ------------------------------------------------------------------------------------------------------------


def find_named_image(
    session: Session, named: NamedImage, *, preferred: Platform | None = None, copying: bool = True
) -> ResolvedImage:
    """Return an image of the chain registry, of its own registry or of the local store, looked up in that order.

    `preferred` is the platform to take if the user chose none (default: this machine's). `copying`: see `Session.finder`.
    Errors: those of `ImageResolver.find`, with similar names in the hint.
    """
    try:
        return locate(session, named, preferred=preferred, copying=copying)
    except (NotFoundInRegistryError, LoginNeededError, UnreachableError) as error:
        if named.step or named.id:
            raise
        near = similar_names(session, named.reference)
        raise type(error)(error.message, where=error.where, hint=near + error.hint) from None


def find_published_image(session: Session, named: NamedImage) -> ResolvedImage:
    """Return the image that the registry in its name has now; other names are looked up as by `find_named_image`.

    If that registry does not have it or does not answer, a note says so, and the chain registry's image is taken. Errors: as
    `find_named_image`.
    """
    reference, why = named.reference, ""
    if not (named.step or named.id or reference.registry == DOCKER_HUB or session.chain.holds(reference)):
        try:
            platforms = platforms_of(session.registries, reference)
            platform = named.platform or _only(str(reference), platforms, Platform.of_this_machine())
            if platform is not None:
                return ResolvedImage(named=reference, image=resolve(session.registries, reference, platform))
        except (NotFoundInRegistryError, LoginNeededError, UnreachableError) as error:
            why = error.message
    result = find_named_image(session, named, copying=False)
    if why:
        place = result.image.reference
        session.emit(Message(level="note", text=f"{why}; using {place.repository} of {place.registry} instead"))
    return result


def locate(
    session: Session, named: NamedImage, *, preferred: Platform | None = None, copying: bool = True
) -> ResolvedImage:
    """Do what `find_named_image` does, without similar names in the hints of errors."""
    preferred = preferred or Platform.of_this_machine()
    if named.id:
        return _with_id(session, named, preferred)
    finder = session.finder(copying=copying)
    platform = named.platform or _platform_in_chain(session, named.reference, preferred)
    try:
        return finder.find_result(named.reference, platform)
    except RegistryError as error:
        if named.step:
            if not isinstance(error, NotFoundInRegistryError):
                raise
            raise NotFoundInRegistryError(
                f"{named.step} has no image: {error.message}",
                hint="Build it first, or see chainbuild images for the images that exist.",
            ) from None
        other = None if named.platform else _other_platform(session, named.reference, platform, error)
        if other is None:
            raise
        return finder.find_result(named.reference, other)


def find_both(session: Session, first: NamedImage, second: NamedImage) -> tuple[ResolvedImage, ResolvedImage]:
    """Return two images of one platform. Errors: as `find_named_image`; `WrongUseError` if they have none in common."""
    before = find_named_image(session, first)
    after = find_named_image(session, second, preferred=before.image.platform)
    if not before.image.platform.same_as(after.image.platform):
        before = find_named_image(session, first, preferred=after.image.platform)
    if not before.image.platform.same_as(after.image.platform):
        raise WrongUseError(
            f"{first} is for {before.image.platform} and {second} for {after.image.platform}",
            hint="Name two images of one platform.",
        )
    return before, after


def _platform_in_chain(session: Session, reference: ImageReference, preferred: Platform) -> Platform:
    """Return the platform to take of the chain registry's image; the preferred one if it has no such image."""
    if reference.is_scratch:
        return preferred
    place = session.chain.place(reference)
    place = place.with_digest(reference.digest) if reference.digest else place.with_tag(reference.tag_or_latest)
    platforms = _or_nothing(lambda: platforms_of(session.registries, place)) or ()
    return _only(str(reference), platforms, preferred) or preferred


def _other_platform(
    session: Session, reference: ImageReference, platform: Platform, error: RegistryError
) -> Platform | None:
    """Return the only platform that an image exists for outside of the chain registry, if it is another one."""
    platforms: tuple[Platform, ...] = ()
    if isinstance(error, NotFoundInRegistryError) and not session.chain.holds(reference):
        platforms = _or_nothing(lambda: platforms_of(session.registries, reference)) or ()
    if not platforms:
        with suppress(NotReadyError):
            local = session.local.find(str(reference))
            platforms = (local.platform,) if local else ()
    other = _only(str(reference), platforms, platform)
    return None if other is None or other.same_as(platform) else other


def _only(name: str, platforms: Collection[Platform], preferred: Platform) -> Platform | None:
    """Return the preferred platform or the only one; None if there is none. Errors: `NotFoundInRegistryError`."""
    if any(platform.same_as(preferred) for platform in platforms):
        return preferred
    if len({platform.oci for platform in platforms}) > 1:
        names = ", ".join(sorted({platform.name for platform in platforms}))
        raise NotFoundInRegistryError(
            f"{name} exists, but not for {preferred}; it has: {names}", hint="Choose one with --platform."
        )
    return next(iter(platforms), None)


def _or_nothing(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (NotFoundInRegistryError, LoginNeededError, DamagedContentError, NotAnImageError):
        # Some registries require a login for images that they do not have.
        return None


def _with_id(session: Session, named: NamedImage, preferred: Platform) -> ResolvedImage:
    """Return the image of the chain registry whose digest, or that of its index, begins with the given digits."""
    rows = [
        row
        for row in list_images(session.records)
        if row.image.digest.hex.startswith(named.id)
        or (row.image.index_digest and row.image.index_digest.hex.startswith(named.id))
    ]
    platform = named.platform or _only(named.id, [row.platform for row in rows], preferred)
    rows = [row for row in rows if platform and row.platform.same_as(platform)]
    if not rows:
        raise NotFoundInRegistryError(
            f"no image of {session.chain} has the id {named.id}", hint="List images with chainbuild images."
        )
    if len({row.image.digest for row in rows}) > 1:
        raise WrongUseError(f"several images have ids that begin with {named.id}", hint="Give more of its digits.")
    return ResolvedImage(named=rows[0].reference, image=rows[0].image)


def similar_names(session: Session, reference: ImageReference) -> str:
    """Return `Perhaps you meant X. ` with a trailing space, or an empty text: the same name elsewhere, or a similar one."""
    names = [name for name in dict.fromkeys(local_names(session) + registry_names(session)) if name != reference]
    last = reference.repository.rpartition("/")[2]
    same = [str(name) for name in names if name.repository.rpartition("/")[2] == last]
    near = same or difflib.get_close_matches(str(reference), map(str, names), n=3)
    return f"Perhaps you meant {' or '.join(near[:3])}. " if near else ""
