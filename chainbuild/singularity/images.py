"""Find images by names and patterns, in the chain registry and in the local store."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from chainbuild.errors import (
    ChainbuildError,
    DamagedContentError,
    LoginNeededError,
    NotAnImageError,
    NotFoundInRegistryError,
    NotReadyError,
    Problem,
    RegistryError,
    WrongUseError,
)
from chainbuild.execution.session import Session
from chainbuild.images.resolver import ResolvedImage
from chainbuild.records.garbage import is_readable
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of
from chainbuild.singularity.names import SifName, is_glob, matches, short_name, sif_name, split_words
from chainbuild.step_id import StepId

# Continue elsewhere on these errors, and report them only if no place has the image. Some registries require a login for
# unknown names.
_NO_IMAGE: Final = (NotFoundInRegistryError, NotAnImageError, DamagedContentError, LoginNeededError)


class RequestedSif(Struct, frozen=True, kw_only=True):
    """An image of one platform to make a SIF file of. `source` is its name as the user types it."""

    name: SifName
    source: str
    platform: Platform
    image: RemoteImage

    @property
    def step(self) -> StepId:
        """The id of the conversion in a run."""
        return StepId.parse(f"{self.platform.name}/{self.name}")


def find_images(session: Session, words: Sequence[str], platforms: Sequence[Platform] = ()) -> tuple[RequestedSif, ...]:
    """Return the images that the arguments match, each once, in order.

    `platforms` selects platforms; by default this machine's platform if the image has it, else all of its platforms.
    Errors: those of all arguments together.
    """
    requested: dict[str, RequestedSif] = {}
    errors: list[ChainbuildError] = []
    held: tuple[str, ...] | None = None
    for word in split_words(words):
        pattern = is_glob(word)
        if pattern:
            held = held_names(session) if held is None else held
            short = _without_host(word, session)
            names = [name for name in held if matches(short, name)]
            if not names:
                errors.append(_nothing(word, held))
        else:
            names = [word]
        for name in names:
            try:
                _add(requested, _of_name(session, name, platforms, tolerance=pattern))
            except ChainbuildError as error:
                errors.append(error)
    if errors:
        raise _together(errors)
    if not requested:
        raise WrongUseError(
            "none of the matching images is available for the requested platforms",
            hint="List the images with: chainbuild images.",
        )
    return tuple(requested.values())


def held_names(session: Session) -> tuple[str, ...]:
    """Return each `repository:tag` of the chain registry (without its host), then of the local store; no machine data."""
    chain, client = session.chain, session.registries.client(session.chain.host)
    names: list[str] = []
    prefix = f"{chain.prefix}/" if chain.prefix else ""
    for repository in sorted(client.repositories()):
        if repository.startswith(prefix):
            short = repository.removeprefix(prefix)
            names += [f"{short}:{tag}" for tag in sorted(client.tags(repository)) if is_readable(tag)]
    names += [_without_host(name, session) for name in session.local.names() if is_readable(name.rpartition(":")[2])]
    return tuple(dict.fromkeys(names))


def _without_host(name: str, session: Session) -> str:
    return name.removeprefix(f"{session.chain}/")


def _together(errors: Sequence[ChainbuildError]) -> ChainbuildError:
    """Return all errors as one; a registry error if not all are usage errors."""
    if len(errors) == 1:
        return errors[0]
    message = dict.fromkeys(str(error) for error in errors)
    if all(isinstance(error, WrongUseError) for error in errors):
        return WrongUseError(Problem(message=text) for text in message)
    return RegistryError("\n".join(message))


def _nothing(word: str, held: Sequence[str]) -> WrongUseError:
    near = difflib.get_close_matches(word, held, n=3, cutoff=0.4) or list(held[:3])
    hint = f"Available, for example: {', '.join(near)}." if near else "Both are empty."
    return WrongUseError(f"{word!r} matches no image of the chain registry or the local store", hint=hint)


def _add(requested: dict[str, RequestedSif], result: Iterator[RequestedSif]) -> None:
    for item in result:
        existing = requested.setdefault(item.name.file, item)
        if existing.image.digest != item.image.digest:
            raise WrongUseError(
                f"{existing.source} for {existing.platform} and {item.source} for {item.platform} have the same file name:"
                f" {item.name.file}",
                hint="Select one of them, or use a different --folder for each.",
            )


def _of_name(session: Session, name: str, platforms: Sequence[Platform], *, tolerance: bool) -> Iterator[RequestedSif]:
    """Yield the images of a name. `tolerance`: skip missing platforms and artifacts that are not images."""
    reference = ImageReference.parse(name)
    available, complete = _platforms(session, reference)
    own = Platform.of_this_machine()
    if platforms:
        lacking = [item for item in platforms if complete and not any(item.same_as(other) for other in available)]
        taken = [item for item in platforms if item not in lacking]
        if lacking and not tolerance:
            raise NotFoundInRegistryError(
                f"{reference} is not available for {', '.join(map(str, lacking))}, only for "
                f"{', '.join(map(str, available))}",
                hint="Build it for that platform, or select another with --platform.",
            )
    else:
        taken = [item for item in available if item.same_as(own)] or list(available) or ([] if tolerance else [own])
    several = len(available) > 1 or len(taken) > 1
    source = f"{short_name(reference, session.chain)}:{reference.tag_or_latest}"
    for platform in taken:
        try:
            result: ResolvedImage = session.finder().find_at_hand(reference, platform)
        except (NotFoundInRegistryError, NotAnImageError, DamagedContentError) as error:
            if not tolerance:
                raise
            if isinstance(error, DamagedContentError):
                session.registries.notice(f"skipped {reference} for {platform}: {error}")
            continue
        yield RequestedSif(
            name=sif_name(reference, session.chain, platform=platform if several else None),
            source=f"{source}@{reference.digest}" if reference.digest else source,
            platform=platform,
            image=result.image,
        )


def _platforms(session: Session, reference: ImageReference) -> tuple[tuple[Platform, ...], bool]:
    """Return the platforms of a name in the first place that has it, and whether the list is complete.

    The local store reports one platform and may have more.
    """
    place = session.chain.place(reference).with_tag(reference.tag_or_latest)
    with suppress(*_NO_IMAGE):
        return platforms_of(
            session.registries, place.with_digest(reference.digest) if reference.digest else place
        ), True
    if session.chain.holds(reference):
        return (), False
    with suppress(NotReadyError):
        local = session.local.find(str(reference))
        if local:
            return (local.platform,), False
    with suppress(*_NO_IMAGE):
        return platforms_of(session.registries, reference), True
    return (), False
