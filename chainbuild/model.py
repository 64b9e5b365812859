"""The graph of steps to build, as frozen values. Independent of registries, engines and screens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import Compared, Discreet

UNKNOWN: Final = "unknown: "
"""Prefix of the identity of remote content that could not be queried; the reason follows."""
CHAIN_IMAGE = "BASE_IMAGE"
"""The image input that a chain's step builds on, and from which the stages take the chain's result."""


class StepKind(StrEnum):
    """The kind of a step, and its action in a plan."""

    BUILD = "build"
    MINIMIZE = "minimize"
    PRODUCE = "produce"
    JOIN = "join"
    """Add layers of files to an image with registry operations only (see `images.compose_layers`)."""


class BuildArg(Struct, frozen=True, kw_only=True):
    """One build argument and where it was set (`path:line`, or the flag)."""

    name: str
    value: str
    origin: str = ""


class Ask(Compared, frozen=True, kw_only=True):
    """A request by an option to the stages: the value of an argument, or one item of a list argument.

    An item is spelled as in a list (see `minimize.lists`). An empty value of a list requests nothing. `origin` is as in
    `BuildArg`, and empty if the request came with the base image. `commas`: the list was written with commas.
    """

    name: str
    value: str
    option: str
    origin: str = ""
    commas: bool = False

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: not where it was written."""
        return self.name, self.value, self.option, self.commas


class HandedFile(Struct, frozen=True, kw_only=True):
    """A file of one of a step's images (`image` is the input's name), placed in the context as `name`."""

    image: str
    path: str
    name: str


class ImageInput(Struct, frozen=True, kw_only=True):
    """An image that a step is built from: another step's result, or an existing image.

    The builder gets it pinned by digest: as the build argument `name`, or (`as_context`) in place of the references in the
    Dockerfile, or as a named context if there are no such references. Names of a step's inputs are unique.
    """

    name: str
    source: StepId | ImageReference
    platform: Platform
    as_context: bool = False
    asked: bool = False
    """True for a named context given by the user, which a Dockerfile may use or not."""
    on_builder: bool = False
    """True if the stage runs on the builder's own platform (`FROM --platform=$BUILDPLATFORM`), which may differ between
    machines without changing the result."""
    by_trigger: bool = False
    """True if only an ONBUILD trigger of another image names it: only a named context can pin it."""
    reference: str = ""
    """The reference in the Dockerfile, if it differs from `name`: one reference can be read for several platforms."""
    origin: str = ""

    @property
    def from_step(self) -> StepId | None:
        """The step whose image it is; None if it is an existing image."""
        return self.source if isinstance(self.source, StepId) else None

    @property
    def external(self) -> ImageReference | None:
        """The existing image; None if it is another step's result."""
        return self.source if isinstance(self.source, ImageReference) else None

    @property
    def written(self) -> str:
        """The reference as written in the Dockerfile."""
        return self.reference or self.name


class Secret(Discreet, frozen=True, kw_only=True):
    """A BuildKit secret: `id` is part of the key; the value never leaves `spec` (buildx's `--secret` text)."""

    id: str
    spec: str


class PostBuildLabel(Struct, frozen=True, kw_only=True):
    """A label, or (`variable`) an environment variable, that is added to an image after it is built.

    It is not part of the key, so a commit or a time in it triggers no build. `clock`: the value is the time of the build,
    in seconds since the epoch.
    """

    name: str
    value: str = ""
    variable: bool = False
    clock: bool = False


class Step(Struct, frozen=True, kw_only=True):
    """One Dockerfile on one platform: everything that is known before the build."""

    id: StepId
    kind: StepKind
    name: str
    option: str
    number: int
    platform: Platform
    dockerfile: Path
    context: Path
    context_can_change: bool = False
    """True if `--context` may replace the build context."""
    args: tuple[BuildArg, ...] = ()
    images: tuple[ImageInput, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    test: Path | None = None
    """The test of its image, if any."""
    handed: tuple[HandedFile, ...] = ()
    """Files that are copied from its images into its context, for Dockerfiles that expect them there."""
    traced: tuple[Path, ...] = ()
    """For a production step: the tests of the chain's steps, which also check its image (see `trace`)."""
    identity: str = ""
    """What its image represents, if that is part of the image (see `images.provenance`) and so of the key."""
    post_build_labels: tuple[PostBuildLabel, ...] = ()
    text: bytes | None = None
    """The Dockerfile itself, if it is generated and not a file of the tree. It is written to `dockerfile` for a build."""
    shown: str = ""
    """The path shown for the Dockerfile, if that is a generated file."""
    origins: tuple[tuple[int, str], ...] = ()
    """The sources of a generated Dockerfile: the first line of each part, and the file that it comes from."""
    repository: ImageReference
    """The repository of its image in the chain registry, without a tag."""
    tag: str
    """The readable tag of its image."""
    parent: str = "BASE_IMAGE"
    """The image input that its result builds on and against which its size is measured. Empty: none."""

    @property
    def reference(self) -> ImageReference:
        """The readable name of its image in the chain registry."""
        return self.repository.with_tag(self.tag)

    @property
    def family(self) -> str:
        """The step's name, independent of the run's TAG: the newest record of a step is found by it."""
        return f"{self.option}-{self.name}-{self.platform.name}"

    @property
    def needs(self) -> tuple[StepId, ...]:
        """The steps whose images this step is built from."""
        return tuple(image.source for image in self.images if isinstance(image.source, StepId))

    def read_dockerfile(self) -> bytes:
        """Return the Dockerfile itself, whether it is generated or a file. Errors: `OSError`."""
        return limits.read_tree_file(self.dockerfile) if self.text is None else self.text

    def image(self, name: str) -> ImageInput:
        """Return the image input with a name. Errors: `KeyError` if there is none."""
        for candidate in self.images:
            if candidate.name == name:
                return candidate
        raise KeyError(name)


class Publication(Struct, frozen=True, kw_only=True):
    """The names that a chain's result gets: its own, that of the index over all platforms, and further tags.

    They are in up to three places: `home`, a repository of the chain registry; the local image store; and, if the run
    pushes, the registry of REPO or `repo`.
    """

    platform: Platform
    index_tag: str
    """The tag of the multi-platform index, in the chain registry and where the run pushes."""
    home: ImageReference
    """The repository of the chain registry for all tags of the result. A result built in another one is copied there."""
    repo: ImageReference | None = None
    """The repository of the result in the local store and for pushes, if it differs from the graph's REPO."""
    local_tag: str | None = None
    """The tag of the result in the local store. None: it is not loaded."""
    also: tuple[str, ...] = ()
    """Additional tags that move with the index, in the chain registry and where the run pushes. In the local store, they are
    tags of the result unless its tag there has the platform."""
    aliases: tuple[str, ...] = ()
    """Additional tags of the index, in the chain registry and where the run pushes. They never move once they exist."""
    alias_label: str = ""
    """The label that records an image's alias: an image with an existing alias gets no second one (see `PostBuildLabel`)."""

    @property
    def tag(self) -> str:
        """The tag of the result, in the chain registry and where the run pushes: that of the index, and the platform."""
        return f"{self.index_tag}-{self.platform.name}"

    @property
    def release(self) -> ImageReference:
        """The platform-specific name of the result in the chain registry."""
        return self.home.with_tag(self.tag)

    @property
    def index(self) -> ImageReference:
        """The name of the multi-platform index in the chain registry."""
        return self.home.with_tag(self.index_tag)


class Chain(Struct, frozen=True, kw_only=True):
    """An option on one platform: its steps in order, and its final stages."""

    option: str
    platform: Platform
    base: ImageReference | StepId
    steps: tuple[Step, ...]
    minimize: Step | None = None
    production: Step | None = None
    stage_args: tuple[BuildArg, ...] = ()
    """The stage arguments of the option itself, as written."""
    asks: tuple[Ask, ...] = ()
    """The requests to the stages that apply: those of the options below, and this option's."""
    publication: Publication | None = None
    """The names of the result. None: it is not published, but other chains may be based on it."""

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """All steps, followed by the stages."""
        return (*self.steps, *(stage for stage in (self.minimize, self.production) if stage))

    @property
    def last(self) -> Step:
        """The step whose image is the chain's result before it is minimized."""
        return self.steps[-1]

    @property
    def result(self) -> Step:
        """The step whose image is the chain's result."""
        return self.all_steps[-1]


def published(chains: Iterable[Chain]) -> Iterator[tuple[Chain, Publication]]:
    """Yield the chains whose results get names, each with these names."""
    for chain in chains:
        if chain.publication is not None:
            yield chain, chain.publication


class Graph(Struct, frozen=True, kw_only=True):
    """All chains of a run. Every step comes after the steps that it needs."""

    repo: ImageReference
    """REPO as typed: where results are published, and their name in the local store."""
    chains: tuple[Chain, ...]
    together: bool = False
    """True if nothing is tagged or pushed (index, alias, local name) before all chains succeed."""
    exact: bool = False
    """True if only this run's results are pushed, without the other images of an index in the chain registry."""
    notes: tuple[str, ...] = ()
    """What the layout detected in the tree and the user may have meant differently."""

    def __iter__(self) -> Iterator[Step]:
        for chain in self.chains:
            yield from chain.all_steps

    @property
    def by_id(self) -> Mapping[StepId, Step]:
        """Every step by its id."""
        return {step.id: step for step in self}

    @property
    def external_images(self) -> tuple[ImageInput, ...]:
        """Every image that must already exist, once per reference and platform, in order of first use."""
        seen: dict[tuple[str, str], ImageInput] = {}
        for step in self:
            for image in step.images:
                if image.external is not None:
                    seen.setdefault((str(image.external), image.platform.oci), image)
        return tuple(seen.values())


def dependents(graph: Iterable[Step], failed: Iterable[StepId]) -> frozenset[StepId]:
    """Return every step that needs one of `failed`, directly or indirectly. `graph` is in order."""
    hit = set(failed)
    for step in graph:
        if hit.intersection(step.needs):
            hit.add(step.id)
    return frozenset(hit.difference(failed))


class ChangeTolerance(Struct, frozen=True, kw_only=True):
    """Changes that do not cause a rebuild of a step that the registry has, and the `flag` that allows them.

    `outside`: an image that this run does not build has moved; `own`: changes of the step's Dockerfile, args and files.
    Different content of a parent step always causes a rebuild.
    """

    outside: bool = False
    own: bool = False
    flag: str
