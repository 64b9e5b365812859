"""Looks at an image for a plan: what it is, what it would replace, what differs, what its tests said, what to think of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

from chainbuild.comparison.compare import compare, trail_or_nothing
from chainbuild.comparison.model import Change, Comparison, size_words
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.events import Emit, Message
from chainbuild.images.inventory import Crumb
from chainbuild.images.provenance import PRIVATE, VISIBILITY_LABEL
from chainbuild.layouts.test_files import VERDICT
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of, resolve
from chainbuild.registry.oci import Descriptor, Index
from chainbuild.registry.pool import Registries
from chainbuild.release.model import Difference, PlannedImage
from chainbuild.text import escaped, share, size
from chainbuild.values import replace

MUCH_LARGER: Final = 1.2
"""From how much of what it replaces on somebody should look at an image's size."""
_HEX: Final = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


class ImageState(Struct, frozen=True, kw_only=True):
    """An image of the chain registry as it is now, by platform, with how it was made; and what its names mean now.

    `replaced` is what the first of its names that means something means, and `previous` that by platform.
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


def look_at(
    records: RecordStore,
    name: ImageReference,
    to: Iterable[ImageReference],
    reviewed: PlannedImage | None = None,
) -> ImageState:
    """Look at an image and at the names that it is to get.

    `reviewed` is the same image as a plan has it: where it is still the same, a name that means it now was moved by the
    plan, and still replaces what it did. Errors: `NotFoundInRegistryError` where there is no such image;
    `RegistryError` where a registry does not answer.
    """
    place = records.chain.place(name).with_tag(name.tag_or_latest)
    images = {
        platform: resolve(records.registries, place, platform) for platform in platforms_of(records.registries, place)
    }
    index = index_of({platform: image.descriptor for platform, image in images.items()})
    digests = {platform: image.digest for platform, image in images.items()}
    known = reviewed.replaces if reviewed and same_digests(reviewed.digests, digests) else {}
    replaces = {}
    for target in to:
        now = digest_now(records.registries, target)
        replaces[target] = known.get(target, now) if now == index.digest else now
    replaced = next((target.with_digest(digest) for target, digest in replaces.items() if digest), None)
    return ImageState(
        images=images,
        trails={platform: trail_or_nothing(records, image) for platform, image in images.items()},
        replaces=replaces,
        replaced=replaced,
        previous=_by_platform(records.registries, replaced) if replaced else {},
    )


def same_digests(one: Mapping[Platform, Digest], other: Mapping[Platform, Digest]) -> bool:
    """Whether both are the same images for the same platforms, however those are spelled."""
    return {platform.oci: digest for platform, digest in one.items()} == {
        platform.oci: digest for platform, digest in other.items()
    }


def index_of(images: Mapping[Platform, Descriptor]) -> Index:
    """What a name points at that means these images: the same images always give the same digest."""
    rows = {platform.oci: replace(image, platform=platform) for platform, image in images.items()}
    return Index.make(rows[oci] for oci in sorted(rows))


def digest_now(registries: Registries, name: ImageReference) -> Digest | None:
    """What a name means now; None where it means nothing. Errors: `RegistryError`."""
    there = registries.client(name).head(name.repository, name.tag_or_latest)
    return there.digest if there else None


def _by_platform(registries: Registries, name: ImageReference) -> dict[Platform, RemoteImage]:
    """The images that a name means; what its registry has lost of them is left out."""
    found = {}
    with suppress(NotFoundInRegistryError):
        for platform in platforms_of(registries, name):
            with suppress(NotFoundInRegistryError):
                found[platform] = resolve(registries, name, platform)
    return found


# What differs ---------------------------------------------------------------------------------------------------------


def differences(records: RecordStore, look: ImageState, emit: Emit) -> dict[str, Difference]:
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
            emit(Message(text=f"comparing {image.reference.repository} for {platform} with {_pinned(before)}"))
            found[platform.name] = in_words(compare(records, before, image))
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
        files="; ".join(part for part in (files, f"{owned} of packages or their records" if owned else "") if part),
    )


def _lines(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(escaped(str(change)) for change in changes))


# What to think of -----------------------------------------------------------------------------------------------------


def tests_of(look: ImageState) -> dict[str, tuple[str, ...]]:
    """What the proofs and tests of the image's steps said, by platform, the lowest step first."""
    return {
        platform.name: tuple(
            f"{crumb.step.partition('/')[2]} {proof}: {_HEX.sub(_shorter, escaped(said))}"
            for crumb in trail
            if crumb.record
            for proof, said in sorted(crumb.record.verdicts.items())
        )
        for platform, trail in look.trails.items()
    }


def _shorter(match: re.Match[str]) -> str:
    return match[1]


def errors_of(look: ImageState) -> tuple[str, ...]:
    """What keeps the image from being released, whatever anybody says: its tests failed."""
    return tuple(
        f"{platform}: the {proof} of {crumb.step.partition('/')[2]} failed"
        for platform, trail in look.trails.items()
        for crumb in trail
        if crumb.record
        for proof, said in sorted(crumb.record.verdicts.items())
        if said.startswith("failed")
    )


def warnings_of(look: ImageState) -> tuple[str, ...]:
    """What somebody should find fine before the image is released."""
    return tuple(_warnings(look))


def _warnings(look: ImageState) -> Iterator[str]:
    for platform, trail in look.trails.items():
        records = [crumb.record for crumb in trail if crumb.record]
        if not trail:
            yield f"{platform}: no provenance found for it was made"
        elif not trail[-1].record:
            yield f"{platform}: its record is gone, and with it what its tests said"
        elif not any(VERDICT in record.verdicts for record in records):
            yield f"{platform}: no test was run in it"
        if look.images[platform].config.label(VISIBILITY_LABEL) == PRIVATE:
            yield f"{platform}: it is private (its label {VISIBILITY_LABEL}): not everybody may have it"
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
        yield f"what it replaces has {', '.join(gone)}, and this does not"


def _has(look: ImageState, platform: Platform) -> bool:
    return any(other.same_as(platform) for other in look.images)
