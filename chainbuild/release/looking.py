"""Looks at an image for a plan: what it is, what it would replace, what differs, what its tests said, what to think of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chainbuild.comparison.compare import compare, trail_or_nothing
from chainbuild.comparison.model import Change, Comparison
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.events import Emit, Message
from chainbuild.inventory import Crumb
from chainbuild.references import ChainRegistry, Digest, ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of, resolve
from chainbuild.registry.pool import Registries
from chainbuild.release.model import Difference
from chainbuild.trials import VERDICT
from chainbuild.ui.comparisons import size_words
from chainbuild.wording import share, size, visible

MUCH_LARGER: Final = 1.2
"""From how much of what it replaces on somebody should look at an image's size."""
_HEX: Final = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """An image of the chain registry as it is now, by platform, with how it was made; and what its names mean now.

    `previous` is what the first of its names that means something means, by platform.
    """

    images: Mapping[Platform, RemoteImage]
    trails: Mapping[Platform, tuple[Crumb, ...]]
    replaces: Mapping[ImageReference, Digest | None]
    replaced: ImageReference | None = None
    previous: Mapping[Platform, RemoteImage]

    @property
    def digests(self) -> dict[Platform, Digest]:
        """What it is, by platform."""
        return {platform: image.digest for platform, image in self.images.items()}


def look_at(registries: Registries, chain: ChainRegistry, name: ImageReference, to: Iterable[ImageReference]) -> Look:
    """Look at an image and at the names that it is to get.

    Errors: `NotFoundInRegistryError` where there is no such image; `RegistryError` where a registry does not answer.
    """
    place = chain.place(name).with_tag(name.tag_or_latest)
    images = {platform: resolve(registries, place, platform) for platform in platforms_of(registries, place)}
    replaces = {target: digest_now(registries, target) for target in to}
    replaced = next((target for target, digest in replaces.items() if digest), None)
    return Look(
        images=images,
        trails={platform: trail_or_nothing(registries, chain, image) for platform, image in images.items()},
        replaces=replaces,
        replaced=replaced,
        previous=_by_platform(registries, replaced) if replaced else {},
    )


def digest_now(registries: Registries, name: ImageReference) -> Digest | None:
    """What a name means now; None where it means nothing. Errors: `RegistryError`."""
    there = registries.client(name).head(name.repository, name.tag_or_latest)
    return there.digest if there else None


def _by_platform(registries: Registries, name: ImageReference) -> dict[Platform, RemoteImage]:
    found = {}
    for platform in platforms_of(registries, name):
        try:
            found[platform] = resolve(registries, name, platform)
        except NotFoundInRegistryError:
            continue
    return found


# What differs ---------------------------------------------------------------------------------------------------------


def differences(registries: Registries, chain: ChainRegistry, look: Look, emit: Emit) -> dict[str, Difference]:
    """What changes on each platform, in words. Every layer of both images is read, unless they are the same.

    Errors: `RegistryError`.
    """
    found: dict[str, Difference] = {}
    for platform, image in look.images.items():
        before = _same_platform(look.previous, platform)
        if before is None:
            found[platform.name] = Difference(size=f"{size(image.size)} compressed, new")
        elif before.digest == image.digest:
            found[platform.name] = Difference(
                to=_pinned(before), size=f"{size(image.size)} compressed, nothing changed"
            )
        else:
            emit(Message(text=f"comparing {image.reference.repository} for {platform} with {look.replaced}"))
            found[platform.name] = in_words(compare(registries, chain, before, image))
    return found


def _same_platform(images: Mapping[Platform, RemoteImage], platform: Platform) -> RemoteImage | None:
    return next((image for other, image in images.items() if other.same_as(platform)), None)


def _pinned(image: RemoteImage) -> str:
    return image.reference.pinned


def in_words(found: Comparison) -> Difference:
    """A comparison as a plan tells it: each change is a line, but files are only counted."""
    loose = Counter(change.kind for change in found.files if not change.owner)
    owned = sum(1 for change in found.files if change.owner)
    counts = [f"{loose[kind]} {kind}" for kind in ("added", "removed", "changed") if loose[kind]]
    files = ", ".join(counts) + (" of no package" if counts else "")
    return Difference(
        to=_pinned(found.before),
        size=size_words(found),
        packages=_lines(found.packages),
        python=_lines(found.python),
        configuration=_lines(found.configuration),
        steps=_lines(found.steps),
        files="; ".join(part for part in (files, f"{owned} of packages" if owned else "") if part),
    )


def _lines(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(visible(str(change)) for change in changes))


# What to think of -----------------------------------------------------------------------------------------------------


def tests_of(look: Look) -> dict[str, tuple[str, ...]]:
    """What the proofs and tests of the image's steps said, by platform, the lowest step first."""
    return {
        platform.name: tuple(
            f"{crumb.step.partition('/')[2]} {proof}: {_HEX.sub(_shorter, visible(said))}"
            for crumb in trail
            if crumb.record
            for proof, said in sorted(crumb.record.verdicts.items())
        )
        for platform, trail in look.trails.items()
    }


def _shorter(match: re.Match[str]) -> str:
    return match[1]


def errors_of(look: Look) -> tuple[str, ...]:
    """What keeps the image from being released, whatever anybody says: its tests failed."""
    return tuple(
        f"{platform}: the {proof} of {crumb.step.partition('/')[2]} failed"
        for platform, trail in look.trails.items()
        for crumb in trail
        if crumb.record
        for proof, said in sorted(crumb.record.verdicts.items())
        if said.startswith("failed")
    )


def warnings_of(look: Look) -> tuple[str, ...]:
    """What somebody should find fine before the image is released."""
    return tuple(_warnings(look))


def _warnings(look: Look) -> Iterator[str]:
    for platform, trail in look.trails.items():
        records = [crumb.record for crumb in trail if crumb.record]
        if not trail:
            yield f"{platform}: nothing is known of how it was made"
        elif not trail[-1].record:
            yield f"{platform}: its record is gone, and with it what its tests said"
        elif not any(VERDICT in record.verdicts for record in records):
            yield f"{platform}: no test was run in it"
        if any(record.notes.get("dirty") == "yes" for record in records):
            yield f"{platform}: built from a tree with changes that no commit has"
        before = _same_platform(look.previous, platform)
        if before and look.images[platform].size > MUCH_LARGER * before.size:
            more = share(look.images[platform].size - before.size, before.size)
            yield f"{platform}: {more} larger than what it replaces"
    commits = {trail[-1].record.notes.get("commit", "") for trail in look.trails.values() if trail and trail[-1].record}
    if len(commits - {""}) > 1:
        yield "its platforms were built from different commits"
    gone = [platform.name for platform in look.previous if not _has(look, platform)]
    if gone:
        yield f"{look.replaced} has {', '.join(gone)}, and this does not"


def _has(look: Look, platform: Platform) -> bool:
    return any(other.same_as(platform) for other in look.images)
