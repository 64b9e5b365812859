"""Inspect an image for a plan: its digests, what it would replace, the differences, test results and warnings."""

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
from chainbuild.patterns import regex
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import RemoteImage, platforms_of, resolve
from chainbuild.registry.oci import Descriptor, Index
from chainbuild.registry.pool import Registries
from chainbuild.release.model import Difference, PlannedImage
from chainbuild.release.policies import PolicyCheck, Violations, no_policy
from chainbuild.text import escaped, share, size
from chainbuild.values import replace

MUCH_LARGER: Final = 1.2
"""Warn about an image whose size exceeds that of the image it replaces by this factor."""
_HEX: Final = regex(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


class ImageState(Struct, frozen=True, kw_only=True):
    """The current state of an image of the chain registry by platform, how it was made, and the targets of its names.

    `replaced` is the current image of the first name that exists, and `previous` has its images by platform.
    """

    images: Mapping[Platform, RemoteImage]
    trails: Mapping[Platform, tuple[Crumb, ...]]
    replaces: Mapping[ImageReference, Digest | None]
    replaced: ImageReference | None = None
    previous: Mapping[Platform, RemoteImage]
    violations: Violations = Violations()
    """What violates the policy of the plan."""

    @property
    def digests(self) -> dict[Platform, Digest]:
        """Its digests by platform."""
        return {platform: image.digest for platform, image in self.images.items()}


def look_at(
    records: RecordStore,
    name: ImageReference,
    to: Iterable[ImageReference],
    reviewed: PlannedImage | None = None,
    policy: PolicyCheck = no_policy,
) -> ImageState:
    """Inspect an image and the names to publish it as.

    `reviewed` is the image in an existing plan. If it has not changed, a name that points at it was moved by the plan and
    still replaces what the plan says. `policy` checks the images.

    Errors: `NotFoundInRegistryError` if the image does not exist; `RegistryError` if a registry does not respond.
    """
    place = records.chain.place(name).with_tag(name.tag_or_latest)
    images = {
        platform: resolve(records.registries, place, platform) for platform in platforms_of(records.registries, place)
    }
    index = index_of({platform: image.descriptor for platform, image in images.items()})
    digests = {platform: image.digest for platform, image in images.items()}
    recorded = reviewed.replaces if reviewed and same_digests(reviewed.digests, digests) else {}
    replaces = {}
    for target in to:
        now = digest_now(records.registries, target)
        replaces[target] = recorded.get(target, now) if now == index.digest else now
    replaced = next((target.with_digest(digest) for target, digest in replaces.items() if digest), None)
    return ImageState(
        images=images,
        trails={platform: trail_or_nothing(records, image) for platform, image in images.items()},
        replaces=replaces,
        replaced=replaced,
        previous=_by_platform(records.registries, replaced) if replaced else {},
        violations=policy(records, images),
    )


def same_digests(first: Mapping[Platform, Digest], second: Mapping[Platform, Digest]) -> bool:
    """Return whether both have the same digests for the same platforms, in any spelling of the platforms."""
    return {platform.oci: digest for platform, digest in first.items()} == {
        platform.oci: digest for platform, digest in second.items()
    }


def index_of(images: Mapping[Platform, Descriptor]) -> Index:
    """Return the index of these images. Equal images always result in the same digest."""
    rows = {platform.oci: replace(image, platform=platform) for platform, image in images.items()}
    return Index.make(rows[oci] for oci in sorted(rows))


def digest_now(registries: Registries, name: ImageReference) -> Digest | None:
    """Return the digest that a name points at; None if it does not exist. Errors: `RegistryError`."""
    manifest = registries.client(name).head(name.repository, name.tag_or_latest)
    return manifest.digest if manifest else None


def _by_platform(registries: Registries, name: ImageReference) -> dict[Platform, RemoteImage]:
    """Return the images that a name points at, without those that are missing from its registry."""
    results = {}
    with suppress(NotFoundInRegistryError):
        for platform in platforms_of(registries, name):
            with suppress(NotFoundInRegistryError):
                results[platform] = resolve(registries, name, platform)
    return results


# Differences ----------------------------------------------------------------------------------------------------------


def differences(records: RecordStore, look: ImageState, emit: Emit) -> dict[str, Difference]:
    """Return the changes on each platform as text. Reads every layer of both images, unless these are the same.

    Errors: `RegistryError`.
    """
    results: dict[str, Difference] = {}
    for platform, image in look.images.items():
        before = _same_platform(look.previous, platform)
        if before is None:
            results[platform.name] = Difference(size=f"{size(image.size)} compressed, new")
        elif before.digest == image.digest:
            results[platform.name] = Difference(
                to=_pinned(before), size=f"{size(image.size)} compressed, nothing changed"
            )
        else:
            emit(Message(text=f"comparing {image.reference.repository} for {platform} with {_pinned(before)}"))
            results[platform.name] = in_words(compare(records, before, image))
    return results


def _same_platform(images: Mapping[Platform, RemoteImage], platform: Platform) -> RemoteImage | None:
    return next((image for other, image in images.items() if other.same_as(platform)), None)


def _pinned(image: RemoteImage) -> str:
    return image.reference.pinned


def in_words(comparison: Comparison) -> Difference:
    """Return a comparison as the text in a plan: each change is a line, except that files are only counted."""
    loose = Counter(change.kind for change in comparison.files if not change.owner)
    owned = sum(1 for change in comparison.files if change.owner)
    counts = [f"{loose[kind]} {kind}" for kind in ("added", "removed", "changed") if loose[kind]]
    files = ", ".join(counts) + (" of no package" if counts else "")
    return Difference(
        to=_pinned(comparison.before),
        size=size_words(comparison),
        packages=_lines(comparison.packages),
        python=_lines(comparison.python),
        configuration=_lines(comparison.configuration),
        steps=_lines(comparison.steps),
        files="; ".join(part for part in (files, f"{owned} of packages or their records" if owned else "") if part),
    )


def _lines(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(escaped(str(change)) for change in changes))


# Errors and warnings --------------------------------------------------------------------------------------------------


def tests_of(look: ImageState) -> dict[str, tuple[str, ...]]:
    """Return the results of the proofs and tests of the image's steps by platform, lowest step first."""
    return {
        platform.name: tuple(
            f"{crumb.step.in_option} {proof}: {_HEX.sub(_shorter, escaped(value))}"
            for crumb in trail
            if crumb.record
            for proof, value in sorted(crumb.record.verdicts.items())
        )
        for platform, trail in look.trails.items()
    }


def _shorter(match: re.Match[str]) -> str:
    return match[1]


def errors_of(look: ImageState) -> tuple[str, ...]:
    """Return the reasons why the image cannot be released: failed tests, and what its policy makes an error."""
    failed = tuple(
        f"{platform}: the {proof} of {crumb.step.in_option} failed"
        for platform, trail in look.trails.items()
        for crumb in trail
        if crumb.record
        for proof, value in sorted(crumb.record.verdicts.items())
        if value.startswith("failed")
    )
    return failed + look.violations.errors


def warnings_of(look: ImageState) -> tuple[str, ...]:
    """Return the warnings that a person must accept before the image is released.

    Plans store these texts and match them, so a changed text needs to be accepted again.
    """
    return tuple(_warnings(look))


def _warnings(look: ImageState) -> Iterator[str]:
    for platform, trail in look.trails.items():
        records = [crumb.record for crumb in trail if crumb.record]
        if not trail:
            yield f"{platform}: nothing is known of how it was made"
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
    yield from look.violations.warnings
    commits = {trail[-1].record.notes.get("commit", "") for trail in look.trails.values() if trail and trail[-1].record}
    if len(commits - {""}) > 1:
        yield "its platforms were built from different commits"
    gone = [platform.name for platform in look.previous if not _has(look, platform)]
    if gone:
        yield f"what it replaces has {', '.join(gone)}, and this does not"


def _has(look: ImageState, platform: Platform) -> bool:
    return any(other.same_as(platform) for other in look.images)
