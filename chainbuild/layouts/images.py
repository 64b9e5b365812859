"""The images that a Dockerfile names itself: they are found and pinned like a parent is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from chainbuild.dockerfile import Dockerfile, Facts, ImageUse, find_facts
from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import ImageInput
from chainbuild.references import ImageReference, Platform

# Stands for an image that the chain gives, while a Dockerfile is only read. No image can be called so (RFC 6761).
PARENT: Final = "chainbuild.invalid/parent"
DOCKER_IMAGE: Final = "docker-image://"
_ELSEWHERE: Final = (Platform.parse("s390x"), Platform.parse("riscv64"))


def named_images(
    dockerfile: Dockerfile,
    *,
    given: Iterable[str],
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    contexts: Collection[str] = (),
    facts: Facts | None = None,
) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
    """The images from outside that a build for `platform` reads, but for those that the args `given` bring.

    `facts` are those of exactly this build, where somebody has them already.
    """
    values = dict(args) | dict.fromkeys(given, PARENT)

    def uses(builder: Platform) -> tuple[ImageUse, ...]:
        return find_facts(
            dockerfile, args=values, target_platform=platform, build_platform=builder, contexts=contexts
        ).images

    # A stage that moves with the builder's platform is found by moving it: BuildKit's rules decide what
    # `--platform=$BUILDPLATFORM` means, however it is written.
    here = facts.images if facts else uses(build_platform)
    named = [use for use in here if not use.reference.startswith(PARENT)]
    far = next(other for other in _ELSEWHERE if not other.same_as(build_platform))
    moves = any(stage.platform for stage in dockerfile.stages)
    elsewhere = {(use.line, use.how): use.platform for use in uses(far)} if named and moves else {}
    inputs: list[ImageInput] = []
    problems: list[Problem] = []
    for use in named:
        try:
            reference = ImageReference.parse(use.reference)
        except WrongUseError as error:
            problems += [
                Problem(path=dockerfile.path, line=use.line, message=one.message, hint=one.hint)
                for one in error.problems
            ]
            continue
        os, architecture, *variant = use.platform.split("/")
        inputs.append(
            ImageInput(
                name=use.reference,
                source=reference,
                platform=Platform.from_oci(os, architecture, *variant),
                as_context=True,
                on_builder=elsewhere.get((use.line, use.how), use.platform) != use.platform,
                origin=f"{dockerfile.path}:{use.line}",
            )
        )
    return tuple(inputs), tuple(problems)


def image_contexts(
    contexts: Mapping[str, str], platform: Platform
) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
    """The named contexts that are images (`docker-image://…`): they are found and pinned, too."""
    inputs: list[ImageInput] = []
    problems: list[Problem] = []
    for name, place in contexts.items():
        if not place.startswith(DOCKER_IMAGE):
            continue
        try:
            reference = ImageReference.parse(place.removeprefix(DOCKER_IMAGE))
        except WrongUseError as error:
            problems += [
                Problem(message=f"--build-context {name}: {one.message}", hint=one.hint) for one in error.problems
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
