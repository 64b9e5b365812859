"""Create a release plan from built images, update it, and list its open decisions.

An update keeps what people wrote. If an image changed after the decision to release it, the decision is open again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from chainbuild.errors import NotFoundInRegistryError, Problem, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.images.inventory import Listed, list_images
from chainbuild.images.provenance import read_provenance
from chainbuild.patterns import regex
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.release.inspection import (
    ImageState,
    differences,
    errors_of,
    look_at,
    same_digests,
    tests_of,
    warnings_of,
)
from chainbuild.release.model import PlannedImage, ReleasePlan, Warned
from chainbuild.release.policies import ExamineImage, PolicyCheck, examine_nothing, no_policy, policy_check_of
from chainbuild.release.reader import parse_plan
from chainbuild.release.renewing import renew
from chainbuild.release.rules import OPEN, RELEASE
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

_UPDATE = "Run chainbuild release update, and review the difference."


def undecided(plan: ReleasePlan) -> tuple[Problem, ...]:
    """Return everything that people must do before the plan can be applied, by the file alone, without registries."""
    return tuple(problem for image in plan.images for problem in _of(plan, image))


def _of(plan: ReleasePlan, image: PlannedImage) -> Iterator[Problem]:
    if image.decision == OPEN:
        yield plan.problem(image, "decision", "no decision yet", "Set decision: release, or decision: skip.")
    if not image.is_released:
        return
    if not image.to:
        yield plan.problem(
            image, "to", "no image name given", "Add full names below to:, for example - ghcr.io/acme/tools:1."
        )
    if not image.digests:
        yield plan.problem(image, "digests", "no digest", _UPDATE)
    for name in image.to:
        if name not in image.replaces:
            yield plan.problem(image, str(name), f"the plan does not say what {name} replaces", _UPDATE)
    for error in image.errors:
        yield plan.problem(image, "errors", error, "Fix it and run chainbuild release update, or set decision: skip.")
    for warning in image.warnings:
        if not warning.accepted:
            yield Problem(
                path=plan.shown,
                line=warning.line or image.line_of("warnings"),
                message=f"{image.name}: {warning.says}",
                hint="Fix it and run chainbuild release update, or accept it with a reason: accepted: REASON.",
            )


_PLACES: Final = regex(r"\{([^{}]*)\}")


# Built images ---------------------------------------------------------------------------------------------------------


def built_images(records: RecordStore, patterns: Sequence[str] = ()) -> tuple[ImageReference, ...]:
    """Return the names of built images: the indexes over platforms that runs made.

    Step images, aliases, names of earlier releases, and images that were only copied into the chain registry (base
    images) are left out: a run also tags each platform of a result next to the index. All repositories of the registry
    are listed, which public registries refuse, only if there is no pattern or one with a wildcard in the repository.
    """
    repositories = [_repository(records.chain, pattern) for pattern in patterns]
    if repositories and all(repositories):
        names = dict.fromkeys(repositories)
        rows = tuple(row for name in names for row in list_images(records, name))
    else:
        rows = list_images(records)
    results = {str(row.reference): row.image.digest for row in rows if _was_made(row)}
    return tuple(
        dict.fromkeys(
            name_in(records.chain, row.reference)
            for row in rows
            if row.is_index and results.get(f"{row.reference}-{row.platform.name}") == row.image.digest
        )
    )


def _repository(chain: ChainRegistry, pattern: str) -> str:
    """Return the repository of the chain registry that a pattern names; empty if it can be several."""
    name, colon, tag = pattern.rpartition(":")
    name = name if colon and "/" not in tag else pattern
    if set("*?[") & set(name):
        return ""
    try:
        return chain.place(ImageReference.parse(name)).repository
    except WrongUseError:
        return ""


def _was_made(row: Listed) -> bool:
    return not row.is_index and (row.built_at > 0 or bool(read_provenance(row.image.config)))


def name_in(chain: ChainRegistry, reference: ImageReference) -> ImageReference:
    """Return the name of a chain registry image in a plan, which does not depend on the registry."""
    path = reference.repository
    if chain.prefix:
        path = path.removeprefix(f"{chain.prefix}/")
    return ImageReference.parse(f"{path}:{reference.tag_or_latest}")


def chosen(names: Sequence[ImageReference], patterns: Sequence[str]) -> tuple[ImageReference, ...]:
    """Return the names that match the patterns (`*`, `?`, `[…]`); all names if there are no patterns.

    Errors: `WrongUseError` with every pattern that matches nothing, and the available names.
    """
    if not patterns:
        return tuple(names)
    results: dict[ImageReference, None] = {}
    problems: list[Problem] = []
    for pattern in patterns:
        matching = [
            name for name in names if fnmatchcase(str(name), pattern) or fnmatchcase(name.familiar_name, pattern)
        ]
        if not matching:
            available = [str(name) for name in names]
            hint = perhaps_you_meant(pattern, available)
            hint += (
                f"Available: {', '.join(available)}."
                if available
                else "Nothing is built yet; list images with chainbuild images."
            )
            problems.append(Problem(message=f"no image matches {pattern!r}", hint=hint))
        results |= dict.fromkeys(matching)
    if problems:
        raise WrongUseError(problems)
    return tuple(results)


def targets(templates: Sequence[str], name: ImageReference) -> tuple[ImageReference, ...]:
    """Return the names to publish an image as, from templates with `{repo}`, `{name}` and `{tag}`.

    Errors: `WrongUseError` if a template is invalid or does not result in a name.
    """
    words = {
        "repo": name.familiar_name,
        "name": name.repository.rpartition("/")[2],
        "tag": name.tag_or_latest,
    }
    results: list[ImageReference] = []
    for template in templates:
        unknown = [word for word in _PLACES.findall(template) if word not in words]
        if unknown:
            placeholders = ", ".join(f"{{{word}}}" for word in words)
            raise WrongUseError(
                f"--to {template}: unknown placeholder {{{unknown[0]}}}", hint=f"Available: {placeholders}."
            )
        # Only once: replaced values are not expanded again.
        target = ImageReference.parse(_PLACES.sub(lambda match: words[match[1]], template))
        if target.tag is None or target.digest:
            raise WrongUseError(f"--to {template} is not NAME:TAG", hint="For example: --to '{repo}:2026.11'.")
        results.append(target)
    return tuple(dict.fromkeys(results))


def each_its_own(gets: Mapping[ImageReference, Sequence[ImageReference]]) -> None:
    """Check that no two images get the same name. Errors: `WrongUseError` with every such name."""
    owners: dict[ImageReference, ImageReference] = {}
    problems = [
        Problem(
            message=f"--to assigns the name {target} to both {owners[target]} and {name}",
            hint="Use {tag} or {name} in it, or select images: chainbuild release create 'acme/tools:v1*' --to ….",
        )
        for name, requested in gets.items()
        for target in requested
        if owners.setdefault(target, name) != name
    ]
    if problems:
        raise WrongUseError(problems)


# Planning -------------------------------------------------------------------------------------------------------------


def planned(
    records: RecordStore,
    name: ImageReference,
    to: Sequence[ImageReference],
    emit: Emit,
    policy: PolicyCheck = no_policy,
) -> PlannedImage:
    """Return the entry of an image in a new plan. Errors: `RegistryError`."""
    look = look_at(records, name, to, policy=policy)
    bare = PlannedImage(name=name, decision=OPEN, to=tuple(to), digests={})
    return _filled(records, bare, look, emit)


def _filled(records: RecordStore, image: PlannedImage, look: ImageState, emit: Emit) -> PlannedImage:
    accepted = {item.says: item.accepted for item in image.warnings}
    return replace(
        image,
        digests=look.digests,
        replaces=look.replaces,
        differences=differences(records, look, emit),
        tests=tests_of(look),
        errors=errors_of(look),
        warnings=tuple(Warned(says=text, accepted=accepted.get(text, "")) for text in warnings_of(look)),
    )


def renewed(records: RecordStore, image: PlannedImage, emit: Emit, policy: PolicyCheck = no_policy) -> PlannedImage:
    """Return the current entry of an image. What people wrote stays; a decision on an older image is open again.

    Errors: `RegistryError`.
    """
    look = look_at(records, image.name, image.to, image, policy)
    now = _filled(records, image, look, emit)
    if image.decision != RELEASE or same_digests(image.digests, now.digests):
        return now
    emit(Message(text=f"{image.name} changed since the decision to release it: decision set to open"))
    return replace(now, decision=OPEN)


def update(
    records: RecordStore,
    plan: ReleasePlan,
    raw: bytes,
    patterns: Sequence[str],
    emit: Emit,
    examine: ExamineImage = examine_nothing,
) -> bytes:
    """Return the plan's text with the matching images updated, and images that were built since added.

    If there are no patterns, all images of the plan are updated. `examine` examines their packages.
    Errors: `WrongUseError`; `RegistryError`.
    """
    policy = policy_check_of(plan, examine)
    mine = {image.name: image for image in plan.images}
    names = list(mine)
    if patterns:
        names += [name for name in built_images(records, patterns) if name not in mine]
    meant = chosen(names, patterns)
    now: dict[ImageReference, PlannedImage] = {}
    gone: list[Problem] = []
    for name in meant:
        try:
            if name in mine:
                now[name] = renewed(records, mine[name], emit, policy)
            else:
                now[name] = planned(records, name, (), emit, policy)
        except NotFoundInRegistryError as error:
            if name not in mine:
                raise
            hint = "Rebuild it, or remove it from the plan."
            gone.append(plan.problem(mine[name], "digests", error.message, hint))
    if gone:
        raise WrongUseError(gone)
    text = renew(
        raw,
        plan.shown,
        {image.key: image for image in now.values() if image.key},
        [image for image in now.values() if not image.key],
    )
    _check(plan, text, now)
    return text


def _check(plan: ReleasePlan, text: bytes, now: dict[ImageReference, PlannedImage]) -> None:
    """Check that the new text is read as intended, because people edit plans in unexpected ways."""
    after = {image.name: image.as_json() for image in parse_plan(text, plan.path, plan.shown).images}
    meant = {image.name: image.as_json() for image in plan.images} | {
        name: image.as_json() for name, image in now.items()
    }
    wrong = [name for name, image in meant.items() if after.get(name) != image]
    if wrong or len(after) != len(meant):
        lines = {image.name: image.line for image in plan.images}
        raise WrongUseError(
            [
                Problem(
                    path=plan.shown,
                    line=lines.get(name, 0),
                    message=f"{name}: cannot update its entry in this format; the plan was not changed",
                    hint="Write it as chainbuild release create does, with one key per line.",
                )
                for name in wrong or list(after)
            ]
        )
