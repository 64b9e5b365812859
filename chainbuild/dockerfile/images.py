"""Find the images that a Dockerfile names: the base of its last stage, and all others, which are pinned like a parent.

The base is the FROM of the lowest stage that the last stage is built on. The file is never edited. If the FROM consists
of one ARG, the base is passed as that build arg; otherwise, the image name is replaced in the builder's copy of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NotRequired, TypedDict, Unpack

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, Facts, ImageUse, base_arg_used, find_facts
from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.model import ArgDeclaration
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.dockerfile.stages import ResolvedStage, StageGraph, references, resolve_stages
from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import ImageInput
from chainbuild.references import ImageReference, Platform
from chainbuild.text import perhaps_you_meant

# A value to test whether a FROM consists only of it. It is not a valid image name.
_MARK: Final = "!"


class BaseImage(Struct, frozen=True, kw_only=True):
    """The FROM that the last stage is based on.

    `written` is its text in the file, `reference` the expanded text (empty if an ARG has no value); `arg` is the ARG that
    it consists of (empty: it does not), `declared` the line of that ARG before the first FROM (0: not declared).
    """

    line: int
    written: str
    reference: str
    arg: str = ""
    declared: int = 0

    @property
    def is_nothing(self) -> bool:
        """True if it is `FROM scratch`."""
        return self.reference == "scratch" and not self.arg


def find_base_image(
    dockerfile: Dockerfile,
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    target: str | None = None,
) -> BaseImage | None:
    """Return the base image of a build with these args; None if the file has no FROM (which is reported elsewhere)."""
    if not dockerfile.stages:
        return None
    graph = resolve_stages(
        dockerfile,
        args=args,
        target=target,
        target_platform=platform,
        build_platform=build_platform,
        contexts=frozenset(),
        parents={},
    )
    lowest = _stages_below(graph)[-1]
    stage = lowest.stage
    arg = _whole(stage.base, dockerfile.escape)
    return BaseImage(
        line=stage.line,
        written=stage.base,
        reference=_expanded(stage.base, graph.scope.env, dockerfile.escape),
        arg=arg,
        declared=base_arg_used(dockerfile, arg).declared if arg else 0,
    )


def _stages_below(graph: StageGraph) -> tuple[ResolvedStage, ...]:
    """Return the stage that is built, and those that it is based on, the lowest last."""
    stages = [graph.stages[graph.target]]
    while stages[-1].origin.kind == "stage":
        stages.append(graph.stages[stages[-1].origin.index])
    return tuple(stages)


def base_arg_candidates(
    dockerfile: Dockerfile, *, platform: Platform, target: str | None = None
) -> tuple[ArgDeclaration, ...]:
    """Return the ARGs before the first FROM that may name the base image, if the user says nothing.

    These are the ARG that the stage `target` (None: the last one), or a stage below it, begins from, and those of other stages
    that have no default.
    """
    if not dockerfile.stages:
        return ()
    graph = resolve_stages(
        dockerfile,
        args={},
        target=target,
        target_platform=platform,
        build_platform=platform,
        contexts=frozenset(),
        parents={},
    )
    below = {_whole(resolved.stage.base, dockerfile.escape) for resolved in _stages_below(graph)}
    in_froms = args_in_froms(dockerfile)
    return tuple(arg for arg in in_froms if arg.name in below or arg.default is None) if below - {""} else ()


def args_in_froms(dockerfile: Dockerfile) -> tuple[ArgDeclaration, ...]:
    """Return the ARGs before the first FROM of which any FROM consists."""
    names = {_whole(stage.base, dockerfile.escape) for stage in dockerfile.stages}
    declared = {arg.name: arg for arg in reversed(dockerfile.global_args)}
    return tuple(sorted((arg for arg in declared.values() if arg.name in names), key=lambda arg: arg.line))


def _whole(text: str, escape: str) -> str:
    """Return the variable that a text consists of, possibly with a default; empty if there is none or more."""
    names = references(text, escape)
    if len(names) != 1:
        return ""
    (name,) = names
    return name if _expanded(text, {name: _MARK}, escape) == _MARK else ""


def _expanded(text: str, values: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, values, escape=escape).text
    except ExpansionError:
        return ""


def is_image(text: str, image: ImageReference) -> bool:
    """Return whether a text in a FROM is the name of an image."""
    try:
        return ImageReference.parse(text) == image
    except WrongUseError:
        return False


def check_base_arg(dockerfile: Dockerfile, name: str) -> Problem | None:
    """Return a problem if no FROM uses the ARG of that name; else None."""
    if base_arg_used(dockerfile, name):
        return None
    declared = sorted({arg.name for arg in dockerfile.global_args})
    hint = perhaps_you_meant(name, declared, str) + (
        f"ARGs before the first FROM: {', '.join(declared)}." if declared else "There is no ARG before the first FROM."
    )
    line = dockerfile.stages[0].line if dockerfile.stages else 0
    return Problem(path=dockerfile.path, line=line, message=f"no FROM uses the ARG {name}", hint=hint)


# Placeholder for an image that the chain provides, used while a Dockerfile is only read. It is not a valid image (RFC 6761).
PARENT: Final = "chainbuild.invalid/parent"
DOCKER_IMAGE: Final = "docker-image://"
_ELSEWHERE: Final = (Platform.parse("s390x"), Platform.parse("riscv64"))


class NamedUse(Struct, frozen=True, kw_only=True):
    """A place where a Dockerfile names an image, and the name of its image input."""

    use: ImageUse
    input_name: str
    on_builder: bool


class NamedUses(Struct, frozen=True, kw_only=True):
    """All images that a Dockerfile names. `foreign`: only its own frontend can interpret the Dockerfile."""

    uses: tuple[NamedUse, ...]
    foreign: bool = False


def named_uses(
    dockerfile: Dockerfile,
    *,
    given: Iterable[str],
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    contexts: Collection[str] = (),
    target: str | None = None,
    facts: Facts | None = None,
) -> NamedUses:
    """Return where a build for `platform` reads outside images, except for those that the args `given` set.

    `facts` are those of exactly this build, if the caller has them already.
    """
    values = dict(args) | dict.fromkeys(given, PARENT)

    def facts_for(builder: Platform) -> Facts:
        return find_facts(
            dockerfile, args=values, target_platform=platform, build_platform=builder, contexts=contexts, target=target
        )

    # Find stages that follow the builder's platform by changing it: BuildKit's rules decide what
    # `--platform=$BUILDPLATFORM` means, however it is written.
    current = facts or facts_for(build_platform)
    named = [use for use in current.images if not use.reference.startswith(PARENT)]
    far = next(other for other in _ELSEWHERE if not other.same_as(build_platform))
    moves = any(stage.platform for stage in dockerfile.stages)
    elsewhere = {(use.line, use.place): use.platform for use in facts_for(far).images} if named and moves else {}
    uses = []
    for use in named:
        on_builder = elsewhere.get((use.line, use.place), use.platform) != use.platform
        uses.append(NamedUse(use=use, input_name=_input_name(use, platform, on_builder), on_builder=on_builder))
    return NamedUses(uses=tuple(uses), foreign=current.foreign)


def _input_name(use: ImageUse, platform: Platform, on_builder: bool) -> str:
    """Return a name for the reference on that platform, because a Dockerfile may read an image for several platforms."""
    if on_builder:
        return f"{use.reference} on the builder's platform"
    return use.reference if use.platform == platform.oci else f"{use.reference} for {use.platform}"


class BuildOf(TypedDict):
    """The build of a Dockerfile, as `named_uses` takes it."""

    given: Iterable[str]
    args: Mapping[str, str]
    platform: Platform
    build_platform: Platform
    contexts: NotRequired[Collection[str]]
    target: NotRequired[str | None]
    facts: NotRequired[Facts | None]


def named_images(
    dockerfile: Dockerfile, **build: Unpack[BuildOf]
) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
    """Return the outside images that a build reads (see `named_uses`), each once."""
    result = named_uses(dockerfile, **build)
    inputs: dict[str, ImageInput] = {}
    problems = list(_clashes(dockerfile, result))
    for named in result.uses:
        use = named.use
        if named.input_name in inputs:
            continue
        try:
            reference = ImageReference.parse(use.reference)
        except WrongUseError as error:
            problems += [
                Problem(path=dockerfile.path, line=use.line, message=item.message, hint=item.hint)
                for item in error.problems
            ]
            continue
        os, architecture, *variant = use.platform.split("/")
        inputs[named.input_name] = ImageInput(
            name=named.input_name,
            source=reference,
            platform=Platform.from_oci(os, architecture, *variant),
            as_context=True,
            on_builder=named.on_builder,
            reference="" if named.input_name == use.reference else use.reference,
            origin=f"{dockerfile.path}:{use.line}",
        )
    return tuple(inputs.values()), tuple(problems)


def all_images(
    own: Iterable[ImageInput],
    dockerfiles: Iterable[Dockerfile],
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    contexts: Collection[str] = (),
    target: str | None = None,
) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
    """Return the images of a step: its `own` (set by args, or named contexts), and those that its Dockerfiles name.

    `target` is a stage of the first Dockerfile.
    """
    inputs = {image.name: image for image in own}
    values = [image.name for image in inputs.values() if not image.as_context]
    problems: list[Problem] = []
    for dockerfile in dockerfiles:
        named, wrong = named_images(
            dockerfile,
            given=values,
            args=args,
            platform=platform,
            build_platform=build_platform,
            contexts=contexts,
            target=target,
        )
        target = None
        problems += wrong
        for image in named:
            inputs.setdefault(image.name, image)
    return tuple(inputs.values()), tuple(problems)


def _clashes(dockerfile: Dockerfile, result: NamedUses) -> Iterator[Problem]:
    """Report images that can only be pinned by a named context that would also replace a stage of the same name."""
    lines = {stage.name: stage.line for stage in dockerfile.stages if stage.name}
    names: dict[str, str] = {}
    for named in result.uses:
        use = named.use
        stage = normal_context_name(use.reference)
        if result.foreign and names.setdefault(use.reference, named.input_name) != named.input_name:
            yield Problem(
                path=dockerfile.path,
                line=use.line,
                message=f"{use.reference!r} is read for several platforms",
                hint="A Dockerfile with a foreign frontend can read an image for one platform only.",
            )
        if stage not in lines or (use.place and not result.foreign):
            continue
        why = "an ONBUILD trigger" if use.place is None else "another frontend"
        yield Problem(
            path=dockerfile.path,
            line=lines[stage],
            message=f"the stage {stage!r} has the name of the image {use.reference!r}, which {why} reads (line {use.line})",
            hint="Rename the stage: the image can only be pinned in a way that would replace it.",
        )


def image_contexts(
    contexts: Mapping[str, str], platform: Platform
) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
    """Return the named contexts that are images (`docker-image://…`), which are found and pinned, too."""
    inputs: list[ImageInput] = []
    problems: list[Problem] = []
    for name, place in contexts.items():
        if not place.startswith(DOCKER_IMAGE):
            continue
        try:
            reference = ImageReference.parse(place.removeprefix(DOCKER_IMAGE))
        except WrongUseError as error:
            problems += [
                Problem(message=f"--build-context {name}: {item.message}", hint=item.hint) for item in error.problems
            ]
            continue
        inputs.append(
            ImageInput(
                name=name,
                source=reference,
                platform=platform,
                as_context=True,
                asked=True,
                origin=f"--build-context {name}",
            )
        )
    return tuple(inputs), tuple(problems)
