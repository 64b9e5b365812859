"""The specification of one build: a resolved step, its arguments, and its Dockerfile with pinned images.

Images that a Dockerfile names are pinned in a copy of it, or as named contexts. A named context replaces every image and
every stage of its name, so the copy is preferred: it replaces only the tokens that name an image. Where a token cannot be
replaced (an ONBUILD trigger is in an image's configuration; only its frontend understands a file with another syntax),
the image becomes a named context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct, field

from chainbuild.context.dockerignore import own_ignore
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import DOCKER_IMAGE, NamedUse, named_uses
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.dockerfile.rewrite import image_words
from chainbuild.errors import ChainbuildError, WrongUseError
from chainbuild.events import Emit
from chainbuild.host.package_data import shipped
from chainbuild.model import ImageInput, Secret, Step, StepKind
from chainbuild.records.tags import staging_tag
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.step_id import StepId

STEP_COMPRESSION: Final = ("zstd", 1)
"""Steps are read back on the same network by builders that support zstd: compress lightly."""
RESULT_COMPRESSION: Final = ("gzip", 6)
"""Results also go to engines and converters that support gzip only."""


class Pin(Struct, frozen=True, kw_only=True):
    """A token of a Dockerfile that names an image, and the pinned reference that replaces it."""

    place: ImageWordPosition
    word: str
    reference: str


class BuildSpec(Struct, frozen=True, kw_only=True):
    """Everything that one call of buildx needs, with every image pinned by digest."""

    step: StepId
    dockerfile: Path
    shown: str
    """The Dockerfile's path as shown in messages."""
    origins: tuple[tuple[int, str], ...] = ()
    """For a generated Dockerfile: the first line of each source file in it."""
    source: bytes | None = None
    """The content of the Dockerfile if the builder gets a copy: because of `pins` or `run_flags`, or because it is a link."""
    ignore: bytes | None = None
    """The Dockerfile's own ignore file, which goes with the copy."""
    pins: tuple[Pin, ...] = ()
    run_flags: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Flags that the copy adds to RUN instructions, by the lines on which these begin."""
    images: tuple[tuple[str, str], ...] = ()
    """The pinned references of all images that the step's Dockerfiles name, by their spelling."""
    context: Path
    sent: str = ""
    """A digest of the contexts sent to the builder (see `context.link`); empty: send everything anew."""
    platform: Platform
    args: tuple[tuple[str, str], ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    parent: str = ""
    """In a solve of several builds: the named context that is the image of the build before it (see `links`)."""
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    image: str = ""
    """The push target, `registry/repository:tag`."""
    export: Path | None = None
    """A folder to export the target's files to instead."""
    load: str = ""
    """The name in the engine's local store to load the image under instead. With none of these, the build only runs."""
    seconds: float | None = None
    """The timeout of the build in seconds."""
    no_cache: bool = False
    quoted: bool = True
    """Whether a failure without output shows the builder's excerpt of the Dockerfile: no, if the user did not write it."""
    compression: tuple[str, int] = STEP_COMPRESSION

    def where(self, line: int) -> str:
        """Return the source location of a line of the Dockerfile (0: the whole file)."""
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
"""The chain image's variables that the minimize stage gets, and the args that carry them."""


IMAGE_USER: Final = "IMAGE_USER"
"""The arg that carries the USER of the chain's image to the minimize stage."""


def build_spec_for(
    step: Step,
    pinned: Mapping[str, str],
    *,
    image: str = "",
    sent: str = "",
    extra: Mapping[str, str] | None = None,
    build_platform: Platform | None = None,
) -> BuildSpec:
    """Return the build specification of a step. `pinned` maps each image input's name to its pinned reference.

    `sent` is as in `BuildSpec`. `extra` are args derived from the inputs, which are not part of the step's key.
    `build_platform` defaults to this machine's. Errors: `WrongUseError` if the Dockerfile was changed after its inputs
    were read, or is gone.
    """
    # Imported on demand: only needed if something is built.

    args = dict(extra or {}) | {arg.name: arg.value for arg in step.args}
    contexts = dict(step.contexts)
    for entry in step.images:
        if entry.asked or entry.by_trigger:
            contexts[entry.name] = f"docker-image://{pinned[entry.name]}"
        elif not entry.as_context:
            args[entry.name] = pinned[entry.name]
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
        images=tuple((image.written, pinned[image.name]) for image in step.images if image.as_context),
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
        return step.read_dockerfile()
    except OSError as error:
        raise WrongUseError(
            f"{shown}: cannot be read: {error.strerror}", hint="Check whether it was moved or deleted."
        ) from error


def stage_args(step: Step, environ: Mapping[str, str], user: str = "") -> dict[str, str]:
    """Return the args for the minimize stage: the USER of the chain's image and its search path variables."""
    if step.kind is not StepKind.MINIMIZE:
        return {}
    values = {arg: environ.get(name, "") for name, arg in STAGE_VARIABLES.items()} | {IMAGE_USER: user}
    return {arg: value for arg, value in values.items() if value}


def shown_path(path: Path) -> str:
    """Return the path as shown in messages and records: relative to the current folder or to the package's files."""
    relative = os.path.relpath(path)
    if not relative.startswith(".."):
        return relative
    if path.is_relative_to(shipped("utilities")):
        return f"chainbuild's utilities/{path.name}"
    return str(path)


def staging_reference(step: Step) -> ImageReference:
    """Return the staging reference of a step's image. There is one tag per step, so tags do not accumulate."""
    return step.repository.with_tag(staging_tag(step.family))


_POLICY: Final = ".rego"


class Pinned(Struct, frozen=True, kw_only=True):
    """How a step's named images are pinned: words of its Dockerfile, and named contexts."""

    pins: tuple[Pin, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)


def pin_step(
    step: Step, raw: bytes, pinned: Mapping[str, str], *, shown: str, build_platform: Platform | None = None
) -> Pinned:
    """Find where the Dockerfile `raw` of a step names its image inputs; `pinned` maps their names to pinned references.

    Errors: `WrongUseError` if it names an image that is no input, because it was changed after planning.
    """
    dockerfile = parse(raw, shown)
    uses = named_uses(
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
    for use in uses.uses:
        image = _input_of(step, use)
        if image is None:
            raise WrongUseError(
                f"{shown}:{use.use.line}: {use.use.reference} was added after this run was planned",
                hint="The Dockerfile has changed. Run the command again.",
            )
        place = use.use.place
        if place is None or uses.foreign:
            contexts[image.written] = f"{DOCKER_IMAGE}{pinned[image.name]}"
        else:
            pins.append(Pin(place=place, word=words[place].text, reference=pinned[image.name]))
    return Pinned(pins=tuple(pins), contexts=contexts)


def _input_of(step: Step, named: NamedUse) -> ImageInput | None:
    """Return the image input of a use; a replaced image applies to every platform."""
    candidates = [image for image in step.images if image.as_context and not image.asked]
    exact = (image for image in candidates if image.name == named.input_name)
    alike = (image for image in candidates if image.written == named.use.reference)
    return next(exact, None) or next(alike, None)


def leaves_its_folder(dockerfile: Path) -> bool:
    """Return whether a Dockerfile is a symbolic link to outside its folder, which builders cannot follow."""
    try:
        folder, target = dockerfile.parent.resolve(), dockerfile.resolve()
    except (OSError, RuntimeError):
        return False
    return dockerfile.is_symlink() and not target.is_relative_to(folder)


def copy_for_builder(source: bytes, ignore: bytes | None, dockerfile: Path, folder: Path) -> Path:
    """Write a Dockerfile's copy into an empty folder, with the files that builders expect beside it:

    its own ignore file and buildx's policy file.
    """
    copy = folder / dockerfile.name
    copy.write_bytes(source)
    if ignore is not None:
        folder.joinpath(f"{dockerfile.name}.dockerignore").write_bytes(ignore)
    policy = dockerfile.with_name(f"{dockerfile.name}{_POLICY}")
    if policy.is_file():
        folder.joinpath(policy.name).write_bytes(policy.read_bytes())
    return copy


class BuildResult(Struct, frozen=True, kw_only=True):
    """The result of a build: the manifest's digest (None for an export), and the wall-clock time in seconds."""

    digest: Digest | None
    seconds: float


class ImageStands(Struct, frozen=True, kw_only=True):
    """In a solve of several builds, the image of one was pushed. `place` counts the builds from 0."""

    place: int
    digest: Digest


class SolveFailed(Struct, frozen=True, kw_only=True):
    """A solve of several builds failed. `place` is the build that is at fault; None if it was the solve itself.

    `transient`: another try may succeed because the build is not the cause.
    """

    place: int | None
    error: ChainbuildError
    transient: bool = False


SolveEvent = ImageStands | SolveFailed


class BuildDriver(Protocol):
    """Builds what a specification describes; implemented by `buildx.BuildxDriver`."""

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        """Build, and push or export the result."""
