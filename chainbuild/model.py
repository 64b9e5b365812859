"""What is to be built: a graph of steps, as frozen values. Nothing here knows a registry, an engine or a screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.references import ImageReference, Platform

StepId = str
"""`platform/option/NN-descriptor`; the stages are `platform/option/minimize` and `platform/option/production`."""


UNKNOWN: Final = "unknown: "
"""How the identity of remote content begins that could not be asked for; the reason follows."""
CHAIN_IMAGE = "BASE_IMAGE"
"""The image input that a step of a chain stands on, and that the stages take the chain's result from."""


class StepKind(StrEnum):
    """What a step is in the life of a chain; a plan's word for doing it."""

    BUILD = "build"
    MINIMIZE = "minimize"
    PRODUCE = "produce"
    JOIN = "join"
    """Layers of files on top of an image, by the registry's own operations (see `joining`)."""


class BuildArg(Struct, frozen=True, kw_only=True):
    """One build argument and where it was said (`path:line`, or the flag)."""

    name: str
    value: str
    origin: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What one option asks of the stages by an argument: the argument's value, or (of a list) one word of it.

    A word is spelled as in a list (see `minimize.lists`). An empty value of a list asks for nothing. `origin` is as in
    `BuildArg`; empty if the ask came with the base image. `commas`: it stood in a list with commas.
    """

    name: str
    value: str
    option: str
    origin: str = field(default="", compare=False)
    commas: bool = False


class HandedFile(Struct, frozen=True, kw_only=True):
    """A file of one of a step's images (`image` is the input's name) that lies in its context under `name`."""

    image: str
    path: str
    name: str


class ImageInput(Struct, frozen=True, kw_only=True):
    """An image that a step is built from: another step's result, or an image that is there already.

    It reaches the builder pinned by digest: as the build argument `name`; or (`as_context`) in the place of the words by
    which the Dockerfile names it, or as a named context where there are no such words. A step has one input of a name.
    """

    name: str
    source: StepId | ImageReference
    platform: Platform
    as_context: bool = False
    asked: bool = False
    """Whether it is a named context of the user's, which a Dockerfile may use or not."""
    on_builder: bool = False
    """Whether the stage runs on the builder's own platform (`FROM --platform=$BUILDPLATFORM`), which may differ from
    machine to machine without making another result."""
    by_trigger: bool = False
    """Whether only an ONBUILD trigger of another image names it: it can be pinned by a named context alone."""
    reference: str = ""
    """How the Dockerfile writes it, if `name` is not just that: the same reference is read for several platforms."""
    origin: str = ""

    @property
    def written(self) -> str:
        """The reference as the Dockerfile writes it."""
        return self.reference or self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """A BuildKit secret: `id` decides the key, the value never leaves `spec` (buildx's `--secret` text)."""

    id: str
    spec: str = field(repr=False)


class PostBuildLabel(Struct, frozen=True, kw_only=True):
    """What an image is told of its own making after it is built: a label, or (`variable`) an environment variable.

    It is no part of the key, so that a commit or a clock in it starts no build; `clock`: its value is the time of the
    build, in seconds since the epoch.
    """

    name: str
    value: str = ""
    variable: bool = False
    clock: bool = False


class Step(Struct, frozen=True, kw_only=True):
    """One Dockerfile on one platform: everything that is known of it before anything is built."""

    id: StepId
    kind: StepKind
    name: str
    option: str
    number: int
    platform: Platform
    dockerfile: Path
    context: Path
    context_can_change: bool = False
    """Whether the user may name another folder by `--context`."""
    args: tuple[BuildArg, ...] = ()
    images: tuple[ImageInput, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    test: Path | None = None
    """The test of its image, where there is one."""
    handed: tuple[HandedFile, ...] = ()
    """Files that come into its context from its images, for Dockerfiles that take them from there."""
    traced: tuple[Path, ...] = ()
    """Of a production step: the tests of the chain's steps, by which its image is proven too (see `trace`)."""
    identity: str = ""
    """What its image is the image of, where that is a part of it (see `stamps`), and so of the key."""
    post_build_labels: tuple[PostBuildLabel, ...] = ()
    text: bytes | None = None
    """The Dockerfile itself, where it is made and no file of the tree: it is written to `dockerfile` for a build."""
    shown: str = ""
    """How people are told its Dockerfile's path, where that is a generated file."""
    origins: tuple[tuple[int, str], ...] = ()
    """What a generated Dockerfile is made of: from which of its lines on which file stands in it."""
    repository: ImageReference
    """Where its image goes in the chain registry; without a tag."""
    tag: str
    """Its readable tag there."""
    parent: str = "BASE_IMAGE"
    """The image input that its result stands on: what its size is measured against. Empty: it stands on nothing."""

    @property
    def reference(self) -> ImageReference:
        """Its readable name in the chain registry."""
        return self.repository.with_tag(self.tag)

    @property
    def family(self) -> str:
        """What it is called whatever the run's TAG: the newest record of a step is found by it."""
        return f"{self.option}-{self.name}-{self.platform.name}"

    @property
    def needs(self) -> tuple[StepId, ...]:
        """The steps whose images it is built from."""
        return tuple(image.source for image in self.images if isinstance(image.source, str))

    def image(self, name: str) -> ImageInput:
        """The image input of that name; `KeyError` where there is none."""
        for candidate in self.images:
            if candidate.name == name:
                return candidate
        raise KeyError(name)


class Chain(Struct, frozen=True, kw_only=True):
    """An option on one platform: its steps in order, and the stages that end it."""

    option: str
    platform: Platform
    base: ImageReference | StepId
    steps: tuple[Step, ...]
    minimize: Step | None = None
    production: Step | None = None
    stage_args: tuple[BuildArg, ...] = ()
    """What the option itself asks of the stages, as it was written."""
    asks: tuple[Ask, ...] = ()
    """What holds for the stages: the asks of the options below, and this one's."""
    result_tag: str = ""
    """The tag of the result, in the chain registry, the local store and REPO's own registry."""
    named: bool = False
    """Whether the result gets its names although no production stage ends the chain."""
    repo: ImageReference | None = None
    """What its result is called in the local store and where it is pushed to, where that is not the graph's REPO."""
    released_to: ImageReference | None = None
    """The repository of the chain registry that its names are given in, where that is not the result's own."""
    aliases: tuple[str, ...] = ()
    """More tags of the index. Once they exist they never move."""
    also: tuple[str, ...] = ()
    """More tags of the index, and of the result in the local store, that move with it."""
    alias_label: str = ""
    """The label by which an image says which alias it has had: one that stands gets no second one (see `PostBuildLabel`)."""
    local_tag: str | None = ""
    """Its tag in the local store, where that is not the result's; None: it is not put there."""

    @property
    def has_names(self) -> bool:
        """Whether its result is given names: index, aliases, the local store's, REPO's own."""
        return self.named or self.production is not None

    @property
    def home(self) -> ImageReference:
        """The repository of the chain registry in which its names are given."""
        return self.released_to or self.result.repository

    @property
    def release(self) -> ImageReference:
        """The result's name for its platform, in the chain registry."""
        return self.home.with_tag(self.result_tag)

    @property
    def index(self) -> ImageReference:
        """The name of the index over the platforms: the result's tag without the platform."""
        return self.home.with_tag(self.index_tag)

    @property
    def index_tag(self) -> str:
        """The index's tag."""
        return self.result_tag.removesuffix(f"-{self.platform.name}")

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps, then the stages."""
        return (*self.steps, *(stage for stage in (self.minimize, self.production) if stage))

    @property
    def last(self) -> Step:
        """The step whose image is the chain's result before it is minimised."""
        return self.steps[-1]

    @property
    def result(self) -> Step:
        """The step whose image is the chain's result."""
        return self.all_steps[-1]


class Graph(Struct, frozen=True, kw_only=True):
    """All chains of a run. Steps stand after everything that they need."""

    repo: ImageReference
    """REPO as the user typed it: where results are published and how they are called in the local store."""
    chains: tuple[Chain, ...]
    together: bool = False
    """Whether nothing gets a name (index, alias, local name, push) before every chain has succeeded."""
    exact: bool = False
    """Whether nothing but this run's results is pushed: not what an index of the chain registry names besides."""

    def __iter__(self) -> Iterator[Step]:
        for chain in self.chains:
            yield from chain.all_steps

    @property
    def by_id(self) -> Mapping[StepId, Step]:
        """Every step under its id."""
        return {step.id: step for step in self}

    @property
    def external_images(self) -> tuple[ImageInput, ...]:
        """Every image that must be there already, once per reference and platform, in the order of first use."""
        seen: dict[tuple[str, str], ImageInput] = {}
        for step in self:
            for image in step.images:
                if isinstance(image.source, ImageReference):
                    seen.setdefault((str(image.source), image.platform.oci), image)
        return tuple(seen.values())


def dependents(graph: Iterable[Step], failed: Iterable[StepId]) -> frozenset[StepId]:
    """Every step that needs one of `failed`, directly or not. `graph` is in order."""
    hit = set(failed)
    for step in graph:
        if hit.intersection(step.needs):
            hit.add(step.id)
    return frozenset(hit.difference(failed))


class ChangeTolerance(Struct, frozen=True, kw_only=True):
    """What is no reason to build a step that the registry has, and the `flag` that said so.

    `outside`: that an image which nobody builds here has moved; `own`: changes of its Dockerfile, args and files. Other
    content of a step that it stands on always is a reason.
    """

    outside: bool = False
    own: bool = False
    flag: str
