"""What a plan comes to: which names move from which digest to which, after everything that stands against it was told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from msgspec import Struct

from chainbuild.errors import NotFoundInRegistryError, Problem, WrongUseError
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.oci import Descriptor, Index
from chainbuild.registry.pool import Registries
from chainbuild.release.inspection import ImageState, digest_now, errors_of, index_of, look_at, warnings_of
from chainbuild.release.model import PlannedImage, ReleasePlan
from chainbuild.release.planning import undecided
from chainbuild.values import replace

_AT_ONCE: Final = 4
_UPDATE: Final = "Look at it again: chainbuild release update {name}, and review the difference."


class Move(Struct, frozen=True, kw_only=True):
    """A name and what it is to mean: `after`, where it means `before` now (None: nothing).

    `source` is the image's repository in the chain registry, `index` what the name will point at, with its images there.
    """

    name: ImageReference
    before: Digest | None
    after: Digest
    done: bool = False
    source: ImageReference | None = None
    index: Index | None = None

    def as_json(self) -> dict[str, Any]:
        """The move as programs read it."""
        return {
            "name": str(self.name),
            "from": str(self.before) if self.before else None,
            "to": str(self.after),
            "done": self.done,
        }


def prepare(records: RecordStore, plan: ReleasePlan, *, begun: bool = False) -> tuple[Move, ...]:
    """What applying the plan moves: names that mean nothing yet first, in the plan's order.

    `begun`: names of this very plan have moved already, so what the chain registry calls so since does not matter any
    more. Errors: `WrongUseError` with everything that is undecided, missing, or has changed since the plan was written;
    `RegistryError` where a registry does not answer.
    """
    problems = list(undecided(plan))
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        looks = threads.map(lambda image: _look(records, image), plan.released)
        moves: list[Move] = []
        for image, look in zip(plan.released, looks, strict=True):
            found, wrong = _moves_of(records, plan, image, look, begun=begun)
            moves += found
            problems += wrong
    if not plan.released and not problems:
        problems.append(Problem(path=plan.shown, message="nothing in it is to be released"))
    if problems:
        raise WrongUseError(problems)
    return tuple(sorted(moves, key=lambda move: move.before is not None))


def _look(records: RecordStore, image: PlannedImage) -> ImageState | NotFoundInRegistryError:
    try:
        return look_at(records, image.name, image.to, image)
    except NotFoundInRegistryError as error:
        return error


def _moves_of(
    records: RecordStore,
    plan: ReleasePlan,
    image: PlannedImage,
    look: ImageState | NotFoundInRegistryError,
    *,
    begun: bool,
) -> tuple[list[Move], list[Problem]]:
    problems: list[Problem] = []
    if not begun:
        if isinstance(look, NotFoundInRegistryError):
            return [], [plan.problem(image, "digests", look.message, look.hint)]
        problems += _changed(plan, image, look)
    source = records.chain.place(image.name)
    images = _descriptors(records.registries, source, image.digests)
    problems += [
        plan.problem(
            image, "digests", f"{source.name} has no {digest} for {platform} any more", "Build it again, and update."
        )
        for platform, digest in image.digests.items()
        if platform not in images
    ]
    if len(images) != len(image.digests) or not images:
        return [], problems
    index = index_of(images)
    moves = []
    for name in image.to:
        now = digest_now(records.registries, name)
        before = image.replaces.get(name)
        if now not in {index.digest, before}:
            problems.append(
                plan.problem(
                    image,
                    str(name),
                    f"{name} is {_short(now)} now, and was {_short(before)} when this was reviewed",
                    _UPDATE.format(name=image.name),
                )
            )
        moves.append(
            Move(
                name=name,
                before=before,
                after=index.digest,
                done=now == index.digest,
                source=source,
                index=index,
            )
        )
    return moves, problems


def _changed(plan: ReleasePlan, image: PlannedImage, look: ImageState) -> Iterator[Problem]:
    """What is not as it was when the plan was written."""
    there = {platform.oci: digest for platform, digest in look.digests.items()}
    reviewed = {platform.oci: (platform, digest) for platform, digest in image.digests.items()}
    hint = _UPDATE.format(name=image.name)
    for oci, (platform, digest) in reviewed.items():
        if there.get(oci) != digest:
            now = f"is {_short(there.get(oci))} now, and {_short(digest)} was reviewed"
            yield plan.problem(image, "digests", f"{platform} {now}", hint)
    for platform in look.digests:
        if platform.oci not in reviewed:
            yield plan.problem(image, "digests", f"{platform} has come since this was reviewed", hint)
    known = {warning.says for warning in image.warnings}
    for text in (*errors_of(look), *warnings_of(look)):
        if text not in known and text not in image.errors:
            yield plan.problem(image, "warnings", f"{text}, which nobody has seen yet", hint)


def _descriptors(
    registries: Registries, source: ImageReference, digests: Mapping[Platform, Digest]
) -> dict[Platform, Descriptor]:
    found = {}
    client = registries.client(source)
    for platform, digest in digests.items():
        there = client.head(source.repository, digest)
        if there is not None and not there.is_index:
            plain = Descriptor(media_type=there.media_type, digest=there.digest, size=there.size)
            found[platform] = replace(plain, platform=platform)
    return found


def _short(digest: Digest | None) -> str:
    return digest.short if digest else "nothing"


# Back -----------------------------------------------------------------------------------------------------------------


def prepare_return(registries: Registries, plan: ReleasePlan) -> tuple[tuple[Move, ...], tuple[ImageReference, ...]]:
    """What rolling the plan back moves; and the names that were new with it, which stay.

    Errors: `WrongUseError` where a name is neither what the plan gave it nor what it replaced, or what it replaced is
    gone.
    """
    moves: list[Move] = []
    stay: list[ImageReference] = []
    problems: list[Problem] = []
    for image in plan.released:
        for name in image.to:
            now, before = digest_now(registries, name), image.replaces.get(name)
            if before is None:
                stay.append(name)
                continue
            if now == before:
                moves.append(Move(name=name, before=now, after=before, done=True))
                continue
            if now is None or not _is_of(registries, name, now, image):
                message = f"{name} is {_short(now)} now, which is not what this plan gave it"
                hint = "Roll back the plan that did, or move the name yourself."
                problems.append(plan.problem(image, str(name), message, hint))
            elif registries.client(name).head(name.repository, before) is None:
                message = f"{name.name} has no {before} any more"
                problems.append(plan.problem(image, "replaces", message, "Its registry has cleaned it away."))
            else:
                moves.append(Move(name=name, before=now, after=before))
    if problems:
        raise WrongUseError(problems)
    return tuple(moves), tuple(stay)


def _is_of(registries: Registries, name: ImageReference, now: Digest, image: PlannedImage) -> bool:
    """Whether what a name means has the digests of the plan."""
    raw = registries.client(name).manifest(name.repository, now)
    if not raw.is_index:
        return False
    index = Index.of(raw, where=str(name))
    return {child.digest for child in index.images} == set(image.digests.values())
