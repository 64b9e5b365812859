"""Make the Graph for some images of the catalogue: each image is a chain of one step, after its dependencies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, TypedDict

from msgspec import Struct, field

from chainbuild.dockerfile.images import find_base_image
from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.folders import scratch_folder
from chainbuild.images.provenance import VISIBILITY_LABEL
from chainbuild.layouts.image_types.contexts import missing_sources, write_context
from chainbuild.layouts.image_types.manifest import DOCKERFILE, TEST
from chainbuild.layouts.image_types.relations import Read, Relations
from chainbuild.layouts.image_types.roots import shown
from chainbuild.layouts.image_types.secrets import SecretFiles
from chainbuild.layouts.image_types.selection import PublishTargets
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import (
    BuildArg,
    Chain,
    ChangeTolerance,
    Graph,
    ImageInput,
    PostBuildLabel,
    Publication,
    Secret,
    Step,
    StepKind,
)
from chainbuild.references import SCRATCH, ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

OPTION: Final = "types"
LABEL: Final = "org.casa-distro.image"
"""The label with the id of an image."""


class Purpose(StrEnum):
    """The purpose of a run, which decides how dependencies are treated."""

    CREATE = "create"
    """Use the images below as they are; build those that the registry lacks."""
    UPDATE = "update"
    """Update the images below, too."""
    PUBLISH = "publish"
    """Use everything as it is; tag only the selected images, in the registries that they are published to."""


class ImageTypesTask(Struct, frozen=True, kw_only=True):
    """The images to process, the purpose, and the platforms.

    `dependencies`: with the images that they are built from. `secret_files`: secret files may be copied into layers.
    """

    chosen: frozenset[str]
    purpose: Purpose
    platforms: tuple[Platform, ...]
    build_platform: Platform
    dependencies: bool = True
    build_args: tuple[BuildArg, ...] = ()
    secrets: tuple[Secret, ...] = ()
    secret_files: bool = False

    @property
    def args(self) -> Mapping[str, str]:
        """The values of the build args."""
        return {arg.name: arg.value for arg in self.build_args}


class ImageTypesLayout(Struct, frozen=True, kw_only=True):
    """The graph of a run, and the image that each step builds.

    `stopped` has the chosen images that cannot be built, with the problems of these and of the images that they are built
    from; they are not in the graph. `mounted` describes the copies of secret files that are mounted instead.
    """

    graph: Graph
    tolerance: Mapping[StepId, ChangeTolerance] = field(default_factory=dict)
    images: Mapping[StepId, Image] = field(default_factory=dict)
    stopped: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    mounted: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems that stopped images, each once."""
        return tuple(dict.fromkeys(problem for problems in self.stopped.values() for problem in problems))


class BuildFor(TypedDict):
    """The build of a Dockerfile: its args, its platform, and the platform of the builder."""

    args: Mapping[str, str]
    platform: Platform
    build_platform: Platform


@contextmanager
def laid_out(
    catalogue: Catalogue, relations: Relations, places: PublishTargets, wanted: ImageTypesTask
) -> Iterator[ImageTypesLayout]:
    """Provide the graph during the `with` block, with the contexts in a temporary folder.

    Errors: `WrongUseError` with every problem if no image can be built, or if images are published, which happens to all of
    them or to none.
    """
    with scratch_folder() as scratch:
        yield _Writer(catalogue, relations, places, wanted, scratch).layout()


class _Writer:
    def __init__(
        self,
        catalogue: Catalogue,
        relations: Relations,
        places: PublishTargets,
        requested: ImageTypesTask,
        scratch: Path,
    ) -> None:
        self._catalogue = catalogue
        self._relations = relations
        self._places = places
        self._wanted = requested
        self._scratch = scratch
        self._contexts: dict[str, Path] = {}
        self._secrets = SecretFiles(
            catalogue,
            relations,
            frozenset(secret.id for secret in requested.secrets),
            allowed=requested.secret_files,
            args=requested.args,
            build_platform=requested.build_platform,
        )

    def layout(self) -> ImageTypesLayout:
        """Return the chains in dependency order."""
        stopped = self._stopped()
        publishes = self._wanted.purpose is Purpose.PUBLISH
        chosen = self._wanted.chosen.difference(stopped)
        if stopped and (publishes or not chosen):
            raise WrongUseError(problem for problems in stopped.values() for problem in problems)
        self._wanted = replace(self._wanted, chosen=chosen)
        spots = self._spots()
        chains: list[Chain] = []
        tolerances: dict[StepId, ChangeTolerance] = {}
        images: dict[StepId, Image] = {}
        for name in self._relations.order:
            image = self._catalogue.images[name]
            for platform in (item for item, names in spots.items() if name in names):
                chain = self._chain(image, platform)
                chains.append(chain)
                images[chain.last.id] = image
                tolerance = self._lenience(name, platform)
                if tolerance:
                    tolerances[chain.last.id] = tolerance
        graph = Graph(repo=SCRATCH, chains=tuple(chains), together=publishes, exact=publishes)
        mounted = tuple(dict.fromkeys(self._notes(images.values())))
        return ImageTypesLayout(graph=graph, tolerance=tolerances, images=images, stopped=stopped, mounted=mounted)

    def _stopped(self) -> dict[str, tuple[Problem, ...]]:
        """Return the chosen images that have problems, or are built from images with problems, and these problems."""
        wrong: dict[str, tuple[Problem, ...]] = {}
        spots = self._spots()
        for name in self._relations.order:
            platforms = [platform for platform, names in spots.items() if name in names]
            if not platforms:
                continue
            problems = [*self._relations.problems[name], *self._own_problems(self._catalogue.images[name], platforms)]
            problems += (item for base in self._relations.read_by(name) for item in wrong.get(base, ()))
            if problems:
                wrong[name] = tuple(dict.fromkeys(problems))
        return {name: problems for name, problems in wrong.items() if name in self._wanted.chosen}

    def _own_problems(self, image: Image, platforms: Iterable[Platform]) -> Iterator[Problem]:
        """Yield the problems of an image that only matter to a run of it."""
        try:
            context = self._context(image)
        except WrongUseError as error:
            yield from error.problems
            return
        for platform in platforms:
            tag = f"{image.tag}-{platform.name}"
            if len(tag) > 128:
                hint = "Shorten it to at most 128 characters."
                yield image.problem(f"{tag!r} is too long for a tag", hint, "tags")
            text, secrets = self._secrets.mounted(image, platform).text, self._secrets.copied(image, platform)
            yield from self._secrets.problems(image, secrets)
            yield from missing_sources(image, text, context, secrets, **self._build(platform))
        test = image.folder.path / TEST
        if test.is_file():
            yield from read_image_test(test, shown(test))[1]

    def _names(self) -> frozenset[str]:
        """Return the chosen images, with all that they are built from unless that exists already."""
        requested = self._wanted
        return self._relations.with_bases(requested.chosen) if requested.dependencies else requested.chosen

    def _notes(self, images: Iterable[Image]) -> Iterator[str]:
        """Yield a sentence for each secret file that is mounted instead of copied."""
        for image in images:
            for platform in self._wanted.platforms:
                for path, line in self._secrets.mounted(image, platform).lines:
                    place = f"{image.dockerfile.path}:{line}"
                    yield f"{place}: {path} is mounted for the RUN instructions below, and is in no layer of {image.id}"

    def _spots(self) -> dict[Platform, set[str]]:
        """Return the images to build for each platform, including those that others read for another platform."""
        names = self._names()
        spots = {platform: set(names) for platform in self._wanted.platforms}
        todo = [(name, platform) for platform in self._wanted.platforms for name in names]
        while todo and self._wanted.dependencies:
            name, platform = todo.pop()
            for read in self._relations.reads_of(name, platform):
                existing = self._spelled(read.wanted.platform)
                if read.image and not read.fixed and read.image not in spots.setdefault(existing, set()):
                    spots[existing].add(read.image)
                    todo.append((read.image, existing))
        return spots

    def _build(self, platform: Platform) -> BuildFor:
        return {"args": self._wanted.args, "platform": platform, "build_platform": self._wanted.build_platform}

    def _spelled(self, platform: Platform) -> Platform:
        """Return the platform as the user spells it if the run includes it."""
        return next((item for item in self._wanted.platforms if item.same_as(platform)), platform)

    def _asked(self, name: str, platform: Platform) -> bool:
        return name in self._wanted.chosen and any(item.same_as(platform) for item in self._wanted.platforms)

    def _lenience(self, name: str, platform: Platform) -> ChangeTolerance | None:
        asked, purpose = self._asked(name, platform), self._wanted.purpose
        if purpose is Purpose.PUBLISH:
            return ChangeTolerance(outside=True, own=not asked, flag="publish")
        if purpose is Purpose.CREATE and not asked:
            return ChangeTolerance(outside=True, own=True, flag="a dependency")
        return None

    # Chains -----------------------------------------------------------------------------------------------------------

    def _chain(self, image: Image, platform: Platform) -> Chain:
        step = self._step(image, platform)
        asked, publishes = self._asked(image.id, platform), self._wanted.purpose is Purpose.PUBLISH
        local_tag = image.tag if platform.same_as(self._wanted.build_platform) else step.tag
        names = Publication(
            platform=platform,
            index_tag=image.tag,
            home=step.repository,
            repo=(self._places.target(image) if publishes else None) or ImageReference.parse(image.name),
            also=image.aliases,
            local_tag=local_tag if asked else None,
        )
        return Chain(
            option=OPTION,
            platform=platform,
            base=next((item.source for item in step.images if item.name == step.parent), SCRATCH),
            steps=(step,),
            publication=names if asked or not publishes else None,
        )

    def _step(self, image: Image, platform: Platform) -> Step:
        context = self._context(image)
        reads = self._relations.reads_of(image.id, platform)
        test = image.folder.path / TEST
        step = Step(
            id=StepId(platform.name, OPTION, image.id),
            kind=StepKind.BUILD,
            name=f"{image.name.replace('/', '-')}-{image.tag}",
            option=OPTION,
            number=0,
            platform=platform,
            dockerfile=context / DOCKERFILE if image.made_dockerfile else image.folder.path / DOCKERFILE,
            context=context,
            args=tuple(arg for arg in self._wanted.build_args if _declares(image, arg.name)),
            images=tuple(self._input(read) for read in reads),
            secrets=self._wanted.secrets,
            identity=image.id,
            post_build_labels=(
                PostBuildLabel(name=LABEL, value=image.id),
                PostBuildLabel(name=VISIBILITY_LABEL, value=image.source.visibility),
            ),
            repository=self._places.chain.place(ImageReference.parse(image.name)),
            tag=f"{image.tag}-{platform.name}",
            parent=self._parent(image, platform, reads),
            test=test if test.is_file() else None,
        )
        text = self._secrets.mounted(image, platform).text
        changed = image.made_dockerfile or text != image.raw
        return replace(step, text=text, shown=image.dockerfile.path) if changed else step

    def _context(self, image: Image) -> Path:
        """Return the folder with an image's context. Errors: `WrongUseError`."""
        if image.id not in self._contexts:
            folder = self._contexts[image.id] = self._scratch / str(len(self._contexts))
            write_context(image, folder, secret_files=self._wanted.secret_files)
        return self._contexts[image.id]

    def _parent(self, image: Image, platform: Platform, reads: tuple[Read, ...]) -> str:
        base_image = find_base_image(image.dockerfile, **self._build(platform))
        name = base_image.reference if base_image else ""
        return next((read.wanted.name for read in reads if name and read.wanted.written == name), "")

    def _input(self, read: Read) -> ImageInput:
        """Return the input with an image of the tree in place of its name; the Dockerfile is not edited."""
        if not read.image:
            return read.wanted
        other = self._catalogue.images[read.image]
        place = self._places.chain.place(ImageReference.parse(other.name))
        requested = read.wanted
        named = requested.external
        if read.fixed and named is not None and named.digest:
            published = any(named.registry == registry.host for registry in self._places.all)
            return requested if published else replace(requested, source=place.with_digest(named.digest))
        if not self._wanted.dependencies and not self._asked(read.image, requested.platform):
            return replace(requested, source=place.with_tag(other.tag))
        return replace(requested, source=StepId(self._spelled(requested.platform).name, OPTION, other.id))


def _declares(image: Image, name: str) -> bool:
    from chainbuild.dockerfile import unknown_args

    return not unknown_args([name], [image.dockerfile], path="")
