"""Make a release plan, and list what is still undecided in one.

What people still have to decide in a plan. Pure: the registries are asked elsewhere.

Makes a plan of what was built, and renews one: what people wrote stays, what they decided on must be the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from chainbuild.errors import NotFoundInRegistryError, Problem, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.images.inventory import Listed, list_images
from chainbuild.images.provenance import read_provenance
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
from chainbuild.release.reader import parse_plan
from chainbuild.release.renewing import renew
from chainbuild.release.rules import OPEN, RELEASE
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

_UPDATE = "Run chainbuild release update, and look at the difference."


def undecided(plan: ReleasePlan) -> tuple[Problem, ...]:
    """Everything that people have to do before the plan can be applied, as far as the file alone tells."""
    return tuple(problem for image in plan.images for problem in _of(plan, image))


def _of(plan: ReleasePlan, image: PlannedImage) -> Iterator[Problem]:
    if image.decision == OPEN:
        yield plan.problem(image, "decision", "nobody has decided", "Write decision: release, or decision: skip.")
    if not image.is_released:
        return
    if not image.to:
        yield plan.problem(image, "to", "it gets no name", "Write the full names below to:, as - ghcr.io/acme/tools:1.")
    if not image.digests:
        yield plan.problem(image, "digests", "it has no digest", _UPDATE)
    for name in image.to:
        if name not in image.replaces:
            yield plan.problem(image, str(name), f"nobody has looked at what {name} is now", _UPDATE)
    for error in image.errors:
        yield plan.problem(
            image, "errors", error, "Mend it and run chainbuild release update, or write decision: skip."
        )
    for warning in image.warnings:
        if not warning.accepted:
            yield Problem(
                path=plan.shown,
                line=warning.line or image.line_of("warnings"),
                message=f"{image.name}: {warning.says}",
                hint="Mend it and run chainbuild release update, or say why it is fine: accepted: REASON.",
            )


_PLACES: Final = re.compile(r"\{([^{}]*)\}")


# What there is --------------------------------------------------------------------------------------------------------


def built_images(records: RecordStore, patterns: Sequence[str] = ()) -> tuple[ImageReference, ...]:
    """The names of what was built: the indexes over platforms that a run made.

    Step images, aliases, names of earlier releases, and what was only copied into the chain registry (a base image) are
    none: a run gives each platform of a result a name beside the index. Only where a pattern leaves open which repository
    it means (or there is none) the registry is asked for all of them, which public ones refuse.
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
    """The repository of the chain registry that a pattern is about; empty where that may be several."""
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
    """What an image of the chain registry is called in a plan: the same whichever registry that is."""
    path = reference.repository
    if chain.prefix:
        path = path.removeprefix(f"{chain.prefix}/")
    return ImageReference.parse(f"{path}:{reference.tag_or_latest}")


def chosen(names: Sequence[ImageReference], patterns: Sequence[str]) -> tuple[ImageReference, ...]:
    """The names that the patterns mean (`*`, `?`, `[…]`); all of them without any pattern.

    Errors: `WrongUseError` with every pattern that means nothing, and what there is.
    """
    if not patterns:
        return tuple(names)
    found: dict[ImageReference, None] = {}
    problems: list[Problem] = []
    for pattern in patterns:
        matching = [
            name for name in names if fnmatchcase(str(name), pattern) or fnmatchcase(name.familiar_name, pattern)
        ]
        if not matching:
            there = [str(name) for name in names]
            hint = perhaps_you_meant(pattern, there)
            hint += f"There is: {', '.join(there)}." if there else "Nothing was built: chainbuild images lists it."
            problems.append(Problem(message=f"no image is called {pattern!r}", hint=hint))
        found |= dict.fromkeys(matching)
    if problems:
        raise WrongUseError(problems)
    return tuple(found)


def targets(templates: Sequence[str], name: ImageReference) -> tuple[ImageReference, ...]:
    """The names that an image is to get, by templates with `{repo}`, `{name}` and `{tag}` in them.

    Errors: `WrongUseError` where a template is none, or makes no name.
    """
    words = {
        "repo": name.familiar_name,
        "name": name.repository.rpartition("/")[2],
        "tag": name.tag_or_latest,
    }
    found: list[ImageReference] = []
    for template in templates:
        unknown = [word for word in _PLACES.findall(template) if word not in words]
        if unknown:
            known = ", ".join(f"{{{word}}}" for word in words)
            raise WrongUseError(f"--to {template}: there is no {{{unknown[0]}}}", hint=f"There is: {known}.")
        # Once, and not again in what was put in.
        target = ImageReference.parse(_PLACES.sub(lambda match: words[match[1]], template))
        if target.tag is None or target.digest:
            raise WrongUseError(f"--to {template} is no NAME:TAG", hint="As in --to '{repo}:2026.11'.")
        found.append(target)
    return tuple(dict.fromkeys(found))


def each_its_own(gets: Mapping[ImageReference, Sequence[ImageReference]]) -> None:
    """Check that no two images get one name. Errors: `WrongUseError` with every name that two of them would."""
    given: dict[ImageReference, ImageReference] = {}
    problems = [
        Problem(
            message=f"--to gives the name {target} to {given[target]} and to {name}",
            hint="Put {tag} or {name} into it; or name what is planned: chainbuild release create 'acme/tools:v1*' --to ….",
        )
        for name, wanted in gets.items()
        for target in wanted
        if given.setdefault(target, name) != name
    ]
    if problems:
        raise WrongUseError(problems)


# Planning -------------------------------------------------------------------------------------------------------------


def planned(
    records: RecordStore,
    name: ImageReference,
    to: Sequence[ImageReference],
    emit: Emit,
) -> PlannedImage:
    """An image as a new plan has it. Errors: `RegistryError`."""
    look = look_at(records, name, to)
    bare = PlannedImage(name=name, decision=OPEN, to=tuple(to), digests={})
    return _filled(records, bare, look, emit)


def _filled(records: RecordStore, image: PlannedImage, look: ImageState, emit: Emit) -> PlannedImage:
    accepted = {one.says: one.accepted for one in image.warnings}
    return replace(
        image,
        digests=look.digests,
        replaces=look.replaces,
        differences=differences(records, look, emit),
        tests=tests_of(look),
        errors=errors_of(look),
        warnings=tuple(Warned(says=text, accepted=accepted.get(text, "")) for text in warnings_of(look)),
    )


def renewed(records: RecordStore, image: PlannedImage, emit: Emit) -> PlannedImage:
    """The image as it is now. What people wrote stays, but what was decided on and has changed is open again.

    Errors: `RegistryError`.
    """
    look = look_at(records, image.name, image.to, image)
    now = _filled(records, image, look, emit)
    if image.decision != RELEASE or same_digests(image.digests, now.digests):
        return now
    emit(Message(text=f"{image.name} is another one than was decided on: its decision is open again"))
    return replace(now, decision=OPEN)


def update(
    records: RecordStore,
    plan: ReleasePlan,
    raw: bytes,
    patterns: Sequence[str],
    emit: Emit,
) -> bytes:
    """The plan's text with the images that are meant renewed; those that were built and are not in it yet are added.

    Without patterns all images of the plan are meant. Errors: `WrongUseError`; `RegistryError`.
    """
    mine = {image.name: image for image in plan.images}
    names = list(mine)
    if patterns:
        names += [name for name in built_images(records, patterns) if name not in mine]
    meant = chosen(names, patterns)
    now: dict[ImageReference, PlannedImage] = {}
    gone: list[Problem] = []
    for name in meant:
        try:
            now[name] = renewed(records, mine[name], emit) if name in mine else planned(records, name, (), emit)
        except NotFoundInRegistryError as error:
            if name not in mine:
                raise
            hint = "Build it again, or take it out of the plan."
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
    """Have the new text read as what was meant: a plan is edited by people, in ways that nobody thought of."""
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
                    message=f"{name} is written so that it cannot be renewed; nothing was changed",
                    hint="Write it as chainbuild release create does, one key a line.",
                )
                for name in wrong or list(after)
            ]
        )
