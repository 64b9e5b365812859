"""Determine which tags a plan moves from which digest to which, after reporting everything that prevents it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.errors import NotFoundInRegistryError, Problem, WrongUseError
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.oci import Descriptor, Index
from chainbuild.registry.pool import Registries
from chainbuild.release.inspection import ImageState, digest_now, errors_of, index_of, look_at, warnings_of
from chainbuild.release.model import PlannedImage, ReleasePlan
from chainbuild.release.planning import undecided
from chainbuild.release.policies import ExamineImage, PolicyCheck, examine_nothing, policy_check_of
from chainbuild.values import replace

_UPDATE: Final = "Run chainbuild release update {name}, and review the difference."


class Move(Struct, frozen=True, kw_only=True):
    """A tag to move to the digest `after`, which is at `before` now (None: it does not exist).

    `source` is the image's repository in the chain registry, `index` the index to tag, with its images there.
    """

    name: ImageReference
    before: Digest | None
    after: Digest
    done: bool = False
    source: ImageReference | None = None
    index: Index | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of the move."""
        return {
            "name": str(self.name),
            "from": str(self.before) if self.before else None,
            "to": str(self.after),
            "done": self.done,
        }


def prepare(
    records: RecordStore, plan: ReleasePlan, *, begun: bool = False, examine: ExamineImage = examine_nothing
) -> tuple[Move, ...]:
    """Return the tags that applying the plan moves: new tags first, in the order of the plan.

    `begun`: this plan was partly applied before, so later changes of the chain registry's tags do not matter. `examine`
    examines the packages of images for the policy. Errors:
    `WrongUseError` with everything that is undecided, missing, or changed since the plan was written; `RegistryError` if
    a registry does not respond.
    """
    problems = list(undecided(plan))
    policy = policy_check_of(plan, examine)
    looks = in_parallel(lambda image: _look(records, image, policy), plan.released, at_once=STREAMS)
    moves: list[Move] = []
    for image, look in zip(plan.released, looks, strict=True):
        result, wrong = _moves_of(records, plan, image, look, begun=begun)
        moves += result
        problems += wrong
    if not plan.released and not problems:
        problems.append(
            Problem(
                path=plan.shown,
                message="no image is to be released",
                hint="Set decision: release for at least one image.",
            )
        )
    if problems:
        raise WrongUseError(problems)
    return tuple(sorted(moves, key=lambda move: move.before is not None))


def _look(records: RecordStore, image: PlannedImage, policy: PolicyCheck) -> ImageState | NotFoundInRegistryError:
    try:
        return look_at(records, image.name, image.to, image, policy)
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
            image, "digests", f"{source.name} no longer has {digest} for {platform}", "Rebuild it, and update the plan."
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
                    f"{name} is {_short(now)} now, but was {_short(before)} when the plan was reviewed",
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
    """Report what changed since the plan was written."""
    current = {platform.oci: digest for platform, digest in look.digests.items()}
    reviewed = {platform.oci: (platform, digest) for platform, digest in image.digests.items()}
    hint = _UPDATE.format(name=image.name)
    for oci, (platform, digest) in reviewed.items():
        if current.get(oci) != digest:
            now = f"is {_short(current.get(oci))} now, but {_short(digest)} was reviewed"
            yield plan.problem(image, "digests", f"{platform} {now}", hint)
    for platform in look.digests:
        if platform.oci not in reviewed:
            yield plan.problem(image, "digests", f"{platform} was added since the plan was reviewed", hint)
    listed = {warning.says for warning in image.warnings}
    for text in (*errors_of(look), *warnings_of(look)):
        if text not in listed and text not in image.errors:
            yield plan.problem(image, "warnings", f"{text} (new since the plan was reviewed)", hint)


def _descriptors(
    registries: Registries, source: ImageReference, digests: Mapping[Platform, Digest]
) -> dict[Platform, Descriptor]:
    results = {}
    client = registries.client(source)
    for platform, digest in digests.items():
        head = client.head(source.repository, digest)
        if head is not None and not head.is_index:
            plain = Descriptor(media_type=head.media_type, digest=head.digest, size=head.size)
            results[platform] = replace(plain, platform=platform)
    return results


def _short(digest: Digest | None) -> str:
    return digest.short if digest else "missing"


# Rollback -------------------------------------------------------------------------------------------------------------


def prepare_return(registries: Registries, plan: ReleasePlan) -> tuple[tuple[Move, ...], tuple[ImageReference, ...]]:
    """Return the tags that rolling the plan back moves, and the tags that the plan created, which stay.

    Errors: `WrongUseError` if a tag is neither what the plan set nor what it replaced, or if the replaced image is
    missing.
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
                message = f"{name} is {_short(now)} now, which this plan did not set"
                hint = "Roll back the plan that set it, or move the tag yourself."
                problems.append(plan.problem(image, str(name), message, hint))
            elif registries.client(name).head(name.repository, before) is None:
                message = f"{name.name} no longer has {before}"
                problems.append(plan.problem(image, "replaces", message, "Push it again, or remove the name from to:."))
            else:
                moves.append(Move(name=name, before=now, after=before))
    if problems:
        raise WrongUseError(problems)
    return tuple(moves), tuple(stay)


def _is_of(registries: Registries, name: ImageReference, now: Digest, image: PlannedImage) -> bool:
    """Return whether a name points at the digests of the plan."""
    raw = registries.client(name).manifest(name.repository, now)
    if not raw.is_index:
        return False
    index = Index.of(raw, where=str(name))
    return {child.digest for child in index.images} == set(image.digests.values())
