"""From words to images: names and patterns, looked for in the chain registry and in the local store."""

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

# What is looked for next elsewhere, and told there if nothing has it. Some registries want a login for unknown names.
_NO_IMAGE: Final = (NotFoundInRegistryError, NotAnImageError, DamagedContentError, LoginNeededError)


class RequestedSif(Struct, frozen=True, kw_only=True):
    """An image of one platform that a SIF file is wanted of. `source` is its name as people type it."""

    name: SifName
    source: str
    platform: Platform
    image: RemoteImage

    @property
    def step(self) -> str:
        """What a run calls it."""
        return f"{self.platform.name}/{self.name}"


def find_images(session: Session, words: Sequence[str], platforms: Sequence[Platform] = ()) -> tuple[RequestedSif, ...]:
    """The images that the words mean, each once, in the order of the words.

    `platforms`: those to take; without them this machine's, where an image has it, else those that it has. Errors:
    those of every word together.
    """
    wanted: dict[str, RequestedSif] = {}
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
                _add(wanted, _of_name(session, name, platforms, tolerance=pattern))
            except ChainbuildError as error:
                errors.append(error)
    if errors:
        raise _together(errors)
    if not wanted:
        raise WrongUseError("no image that is meant has one of these platforms", hint="See chainbuild images.")
    return tuple(wanted.values())


def held_names(session: Session) -> tuple[str, ...]:
    """Every `repository:tag` of the chain registry, without its host, and then of the local store, without machine data."""
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
    """All in one; of the registry's kind where one of them is."""
    if len(errors) == 1:
        return errors[0]
    told = dict.fromkeys(str(error) for error in errors)
    if all(isinstance(error, WrongUseError) for error in errors):
        return WrongUseError(Problem(message=text) for text in told)
    return RegistryError("\n".join(told))


def _nothing(word: str, held: Sequence[str]) -> WrongUseError:
    near = difflib.get_close_matches(word, held, n=3, cutoff=0.4) or list(held[:3])
    there = f"There is, for example: {', '.join(near)}." if near else "Neither has any image."
    return WrongUseError(f"{word!r} matches no image of the chain registry or the local store", hint=there)


def _add(wanted: dict[str, RequestedSif], found: Iterator[RequestedSif]) -> None:
    for one in found:
        there = wanted.setdefault(one.name.file, one)
        if there.image.digest != one.image.digest:
            raise WrongUseError(
                f"{there.source} for {there.platform} and {one.source} for {one.platform} would both be {one.name.file}",
                hint="Name one of them, or take them into two folders with --folder.",
            )


def _of_name(session: Session, name: str, platforms: Sequence[Platform], *, tolerance: bool) -> Iterator[RequestedSif]:
    """The images of a name; `tolerance`: platforms that it lacks are no mistake, nor is what is no image."""
    reference = ImageReference.parse(name)
    there, whole = _platforms(session, reference)
    own = Platform.of_this_machine()
    if platforms:
        lacking = [one for one in platforms if whole and not any(one.same_as(other) for other in there)]
        taken = [one for one in platforms if one not in lacking]
        if lacking and not tolerance:
            raise NotFoundInRegistryError(
                f"{reference} exists, but not for {', '.join(map(str, lacking))}; it has: {', '.join(map(str, there))}",
                hint="Build it for that platform, or name others with --platform.",
            )
    else:
        taken = [one for one in there if one.same_as(own)] or list(there) or ([] if tolerance else [own])
    several = len(there) > 1 or len(taken) > 1
    source = f"{short_name(reference, session.chain)}:{reference.tag_or_latest}"
    for platform in taken:
        try:
            found: ResolvedImage = session.finder().find_at_hand(reference, platform)
        except (NotFoundInRegistryError, NotAnImageError, DamagedContentError) as error:
            if not tolerance:
                raise
            if isinstance(error, DamagedContentError):
                session.registries.notice(f"left out {reference} for {platform}: {error}")
            continue
        yield RequestedSif(
            name=sif_name(reference, session.chain, platform=platform if several else None),
            source=f"{source}@{reference.digest}" if reference.digest else source,
            platform=platform,
            image=found.image,
        )


def _platforms(session: Session, reference: ImageReference) -> tuple[tuple[Platform, ...], bool]:
    """The platforms that a name has images for, where it is looked for first, and whether these are all.

    The local store tells of one, and may have more.
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
