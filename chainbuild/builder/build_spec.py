"""The specification of one build: a resolved step, its arguments, and its Dockerfile with pinned images.

What one build is: everything that the builder needs to know, resolved.

From a step and the images that it is based on to the one call of the builder: nothing is left open in an order.

Pins the images that a Dockerfile names itself: in a copy of it, word by word, or as named contexts.

A named context replaces every image of its name, and every stage too. So the builder gets a copy of the Dockerfile in
which just those words are replaced that name an image. Where a word cannot be replaced (an ONBUILD trigger stands in an
image's configuration, and only a foreign frontend knows what its file means), the image is a named context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.context.dockerignore import own_ignore
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import DOCKER_IMAGE, NamedUse, named_uses
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.dockerfile.rewrite import image_words
from chainbuild.errors import WrongUseError
from chainbuild.host.package_data import shipped
from chainbuild.model import ImageInput, Secret, Step, StepId, StepKind
from chainbuild.records.tags import staging_tag
from chainbuild.references import ImageReference, Platform

STEP_COMPRESSION: Final = ("zstd", 1)
"""Steps are read back on the same network, by builders that all know zstd: compress them little."""
RESULT_COMPRESSION: Final = ("gzip", 6)
"""Results go to anyone, also to engines and converters that know gzip alone."""


class Pin(Struct, frozen=True, kw_only=True):
    """A word of a Dockerfile that names an image, and the pinned reference that the builder gets in its place."""

    place: ImageWordPosition
    word: str
    reference: str


class BuildSpec(Struct, frozen=True, kw_only=True):
    """Everything that one call of buildx needs, with every image pinned by digest."""

    step: StepId
    dockerfile: Path
    shown: str
    """The Dockerfile's path as people see it in messages."""
    origins: tuple[tuple[int, str], ...] = ()
    """From which line on which file stands in it if it is a generated one."""
    source: bytes | None = None
    """The Dockerfile itself, if the builder gets a copy of it: with `pins` in it, or because it is a link."""
    ignore: bytes | None = None
    """The Dockerfile's own ignore file, which goes with the copy."""
    pins: tuple[Pin, ...] = ()
    images: tuple[tuple[str, str], ...] = ()
    """The pinned references of all images that the step's Dockerfiles name, by how they are written."""
    context: Path
    sent: str = ""
    """A digest of what the builder is sent of the contexts (see `context.link`); empty: all of it is sent afresh."""
    platform: Platform
    args: tuple[tuple[str, str], ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    image: str = ""
    """`registry/repository:tag` that is pushed to."""
    export: Path | None = None
    """A folder that gets the target's files instead. With neither, it is only run."""
    seconds: float | None = None
    """The build is stopped after that time."""
    no_cache: bool = False
    compression: tuple[str, int] = STEP_COMPRESSION

    def where(self, line: int) -> str:
        """Return a line of the Dockerfile (0: the whole) as people find it."""
        for first, path in reversed(self.origins):
            if 0 < first <= line:
                return f"{path}:{line - first + 1}"
        return f"{self.shown}:{line}" if line else self.shown


STAGE_VARIABLES: Final = {
    "LD_LIBRARY_PATH": "LIBRARY_PATH",
    "PATH": "SEARCH_PATH",
    "LANG": "LOCALE",
    "LC_ALL": "LOCALE_ALL",
    "TZ": "TIME_ZONE",
}
"""The chain's variables that the minimize stage gets, and the args that it gets them by."""


IMAGE_USER: Final = "IMAGE_USER"
"""The arg by which the minimize stage gets the USER of the chain's image."""


def order_for(
    step: Step,
    pinned: Mapping[str, str],
    *,
    image: str = "",
    sent: str = "",
    extra: Mapping[str, str] | None = None,
    build_platform: Platform | None = None,
) -> BuildSpec:
    """Return the order for a step. `pinned` has, for every image input by name, what the builder is to use for it.

    `sent` is as in `BuildSpec`. `extra` are args that follow from the inputs, and so need no place in the step's key.
    `build_platform` is this machine's if omitted. Errors: `WrongUseError` if the Dockerfile was changed after its inputs
    were read, or is gone.
    """
    # Late: a run that builds nothing needs none of it.

    args = dict(extra or {}) | {arg.name: arg.value for arg in step.args}
    contexts = dict(step.contexts)
    for wanted in step.images:
        if wanted.asked or wanted.by_trigger:
            contexts[wanted.name] = f"docker-image://{pinned[wanted.name]}"
        elif not wanted.as_context:
            args[wanted.name] = pinned[wanted.name]
    shown = step.shown or shown_path(step.dockerfile)
    raw = _dockerfile(step, shown)
    named = pin_step(step, raw, pinned, shown=shown, build_platform=build_platform)
    copied = bool(named.pins) or leaves_its_folder(step.dockerfile)
    contexts.update(named.contexts)
    return BuildSpec(
        step=step.id,
        dockerfile=step.dockerfile,
        shown=shown,
        origins=step.origins,
        source=raw if copied else None,
        ignore=own_ignore(step.dockerfile) if copied else None,
        pins=named.pins,
        images=tuple((one.written, pinned[one.name]) for one in step.images if one.as_context),
        context=step.context,
        sent=sent,
        platform=step.platform,
        args=tuple(args.items()),
        contexts=tuple(contexts.items()),
        secrets=step.secrets,
        target=step.target,
        image=image,
        compression=RESULT_COMPRESSION if step.kind is StepKind.PRODUCE else STEP_COMPRESSION,
    )


def _dockerfile(step: Step, shown: str) -> bytes:
    try:
        return step.dockerfile.read_bytes() if step.text is None else step.text
    except OSError as error:
        raise WrongUseError(f"{shown}: cannot be read: {error.strerror}", hint="Was it moved or deleted?") from error


def stage_args(step: Step, environ: Mapping[str, str], user: str = "") -> dict[str, str]:
    """Return what the minimize stage gets of the chain's image: its USER, and the variables that decide where programs look."""
    if step.kind is not StepKind.MINIMIZE:
        return {}
    given = {arg: environ.get(name, "") for name, arg in STAGE_VARIABLES.items()} | {IMAGE_USER: user}
    return {arg: value for arg, value in given.items() if value}


def shown_path(path: Path) -> str:
    """Return the path as people see it in messages and records: relative to the current folder, or to what is shipped."""
    relative = os.path.relpath(path)
    if not relative.startswith(".."):
        return relative
    if path.is_relative_to(shipped("utilities")):
        return f"chainbuild's utilities/{path.name}"
    return str(path)


def staging_reference(step: Step) -> ImageReference:
    """Return where a step's image goes before it has earned its name. One tag per step, so that nothing piles up."""
    return step.repository.with_tag(staging_tag(step.family))


_POLICY: Final = ".rego"


class Pinned(Struct, frozen=True, kw_only=True):
    """How a step's named images are pinned: words of its Dockerfile, and named contexts."""

    pins: tuple[Pin, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)


def pin_step(
    step: Step, raw: bytes, pinned: Mapping[str, str], *, shown: str, build_platform: Platform | None = None
) -> Pinned:
    """Find where the Dockerfile `raw` of a step names its image inputs; `pinned` has what each of them is, by name.

    Errors: `WrongUseError` if it names an image that is no input: it was changed after the inputs were read.
    """
    dockerfile = parse(raw, shown)
    found = named_uses(
        dockerfile,
        given=[image.name for image in step.images if not image.as_context],
        args={arg.name: arg.value for arg in step.args},
        platform=step.platform,
        build_platform=build_platform or Platform.of_this_machine(),
        contexts=(*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked)),
        target=step.target,
    )
    words = image_words(dockerfile)
    pins: list[Pin] = []
    contexts: dict[str, str] = {}
    for named in found.uses:
        image = _input_of(step, named)
        if image is None:
            raise WrongUseError(
                f"{shown}:{named.use.line}: {named.use.reference} is read here, but was not when this run was planned",
                hint="The Dockerfile was changed since. Run the command again.",
            )
        place = named.use.place
        if place is None or found.foreign:
            contexts[image.written] = f"{DOCKER_IMAGE}{pinned[image.name]}"
        else:
            pins.append(Pin(place=place, word=words[place].text, reference=pinned[image.name]))
    return Pinned(pins=tuple(pins), contexts=contexts)


def _input_of(step: Step, named: NamedUse) -> ImageInput | None:
    """Return the image input that a use means; one that another image was put in the place of counts for every platform."""
    candidates = [image for image in step.images if image.as_context and not image.asked]
    exact = (image for image in candidates if image.name == named.input_name)
    alike = (image for image in candidates if image.written == named.use.reference)
    return next(exact, None) or next(alike, None)


def leaves_its_folder(dockerfile: Path) -> bool:
    """Return whether a Dockerfile is a symbolic link that leads out of its folder. Builders get that folder alone."""
    try:
        folder, target = dockerfile.parent.resolve(), dockerfile.resolve()
    except (OSError, RuntimeError):
        return False
    return dockerfile.is_symlink() and not target.is_relative_to(folder)


def copy_for_builder(source: bytes, ignore: bytes | None, dockerfile: Path, folder: Path) -> Path:
    """Write a Dockerfile's copy into an empty folder, with what builders look for beside the original.

    That is the ignore file of its own, and buildx' policy file.
    """
    copy = folder / dockerfile.name
    copy.write_bytes(source)
    if ignore is not None:
        folder.joinpath(f"{dockerfile.name}.dockerignore").write_bytes(ignore)
    policy = dockerfile.with_name(f"{dockerfile.name}{_POLICY}")
    if policy.is_file():
        folder.joinpath(policy.name).write_bytes(policy.read_bytes())
    return copy
