"""Pins the images that a Dockerfile names itself: in a copy of it, word by word, or as named contexts.

A named context replaces every image of its name, and every stage too. So the builder gets a copy of the Dockerfile in
which just those words are replaced that name an image. Where a word cannot be replaced (an ONBUILD trigger stands in an
image's configuration, and only a foreign frontend knows what its file means), the image is a named context.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.build_order import Pin
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.rewrite import image_words
from chainbuild.errors import WrongUseError
from chainbuild.layouts.images import DOCKER_IMAGE, NamedUse, named_uses
from chainbuild.model import ImageInput, Step
from chainbuild.references import Platform

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
    """The image input that a use means; one that another image was put in the place of counts for every platform."""
    candidates = [image for image in step.images if image.as_context and not image.asked]
    exact = (image for image in candidates if image.name == named.input_name)
    alike = (image for image in candidates if image.written == named.use.reference)
    return next(exact, None) or next(alike, None)


def leaves_its_folder(dockerfile: Path) -> bool:
    """Whether a Dockerfile is a symbolic link that leads out of its folder. Builders get that folder alone."""
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
