"""Make the Graph of a tree and a selection: science layers, then compat images, each a chain of one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.folders import scratch_folder
from chainbuild.images.compose_layers import FILES
from chainbuild.layouts.science.compat import VARIABLE, MergedDockerfile, merge_files
from chainbuild.layouts.science.from_lines import REL, SCI, LayerImage, LayerImages
from chainbuild.layouts.science.layer_graph import LayerSelection
from chainbuild.layouts.science.manifests import COMPAT, DOCKERFILE, SCIENCE, TEST, CompatLayer, Described, State
from chainbuild.layouts.science.tree import ScienceRepositories, ScienceTree, merged_name
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import Chain, ChangeTolerance, Graph, ImageInput, PostBuildLabel, Publication, Step, StepKind
from chainbuild.references import SCRATCH, ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

LABEL: Final = "org.sciserver"
FILES_OPTION: Final = "files"
"""The option name of chains that build compat layers on scratch, once for all final images."""


class ScienceLayout(Struct, frozen=True, kw_only=True):
    """The graph of a run, with the tolerances and the merged Dockerfiles of its steps."""

    graph: Graph
    tolerance: Mapping[StepId, ChangeTolerance]
    merged: Mapping[StepId, MergedDockerfile]
    """The merged Dockerfile of each compat step."""
    images: Mapping[StepId, str]
    """The name of each layer's image, whether it is published or only built for other layers."""


@contextmanager
def laid_out(
    tree: ScienceTree,
    selection: LayerSelection,
    place: ScienceRepositories,
    platforms: tuple[Platform, ...],
    state: State | None,
) -> Iterator[ScienceLayout]:
    """Provide the graph during the `with` block, with merged Dockerfiles and files in a temporary folder.

    Errors: `WrongUseError` if compat layers have files that cannot be copied.
    """
    with scratch_folder() as scratch:
        yield _Writer(tree, selection, place, platforms, state, scratch).layout()


class _Writer:
    def __init__(
        self,
        tree: ScienceTree,
        selection: LayerSelection,
        place: ScienceRepositories,
        platforms: tuple[Platform, ...],
        state: State | None,
        scratch: Path,
    ) -> None:
        self._tree = tree
        self._selection = selection
        self._place = place
        self._platforms = platforms
        self._state = state
        self._scratch = scratch
        self._merged: dict[StepId, MergedDockerfile] = {}
        self._images: dict[StepId, str] = {}
        self._lenient: dict[StepId, ChangeTolerance] = {}
        self._problems: list[Problem] = []
        self._made: set[StepId] = set()

    def layout(self) -> ScienceLayout:
        """Return the chains: science layers in order, with all bases of the selected layers; then the compat images."""
        layer_graph, selection = self._tree.layer_graph, self._selection
        releases = [item for item in layer_graph.finals if item in selection.releases and item in self._tree.merged]
        requested = self._wanted(releases)
        spots = self._spots(requested, releases)
        chains = [
            self._science(layer.said, layer.path, platform)
            for layer in layer_graph.layers
            for platform in spots
            if layer.target in spots[platform]
        ]
        if not any(self._steps_over(chain) for chain in chains):
            # Sort by platform, which is easier to read.
            chains.sort(key=lambda chain: [*spots].index(chain.platform))
        chains += [
            chain for platform in self._platforms for release in releases for chain in self._compat(release, platform)
        ]
        if self._problems:
            raise WrongUseError(self._problems)
        return ScienceLayout(
            graph=Graph(repo=self._place.repo, chains=tuple(chains), together=True),
            tolerance=self._lenient,
            merged=self._merged,
            images=self._images,
        )

    @staticmethod
    def _steps_over(chain: Chain) -> bool:
        """Return whether a layer is based on a layer of another platform."""
        return any(need.platform != chain.platform.name for need in chain.last.needs)

    def _wanted(self, releases: list[str]) -> frozenset[str]:
        finals = self._tree.layer_graph.finals
        read = {
            base.target
            for (release, _), bases in self._tree.compat_bases.items()
            if release in releases
            for base in bases.bases
            if base.built_here
        }
        return self._tree.layer_graph.with_bases(
            {*self._selection.targets, *(finals[item] for item in releases), *read}
        )

    def _spots(self, wanted: frozenset[str], releases: list[str]) -> dict[Platform, frozenset[str]]:
        """Return the layers to build for each platform; a FROM with its own platform may add one."""
        spots: dict[str, set[str]] = {platform.oci: set(wanted) for platform in self._platforms}
        by_oci = {platform.oci: platform for platform in self._platforms}
        todo = [bases for (name, _), bases in self._tree.compat_bases.items() if name in releases]
        todo += [bases for (name, _), bases in self._tree.science_bases.items() if name in wanted]
        while todo:
            for base in todo.pop().bases:
                platform = base.wanted.platform
                if not base.built_here or base.target in spots.setdefault(platform.oci, set()):
                    continue
                by_oci.setdefault(platform.oci, platform)
                spots[platform.oci].add(base.target)
                todo.append(self._bases(base.target, platform))
        return {by_oci[oci]: frozenset(targets) for oci, targets in spots.items()}

    def _bases(self, target: str, platform: Platform) -> LayerImages:
        result = self._tree.science_bases.get((target, platform.oci))
        # For a platform that was not requested, use what the layer reads on the first requested platform.
        return result or _moved(self._tree.science_bases[target, self._platforms[0].oci], platform)

    # Chains -----------------------------------------------------------------------------------------------------------

    def _science(self, layer: Described, path: Path, platform: Platform) -> Chain:
        bases = self._bases(layer.target, platform)
        step = self._step(
            SCIENCE,
            layer.target,
            platform,
            bases,
            identity=layer.layer,
            tag=f"{SCIENCE}-{layer.target}-{layer.version}-{platform.name}",
            dockerfile=path / DOCKERFILE,
            context=path,
            post_build_labels=self._stamps(f"{LABEL}.{SCIENCE}.{layer.target}", self._name(layer.version.text)),
            where=layer.manifest,
            test=self._test((path, layer.folder)),
        )
        selected = layer.target in self._selection.targets and any(item.same_as(platform) for item in self._platforms)
        self._be_lenient(step.id, ignored=layer.folder in self._selection.ignored, selected=selected)
        names = self._publication(step, platform, f"{SCI}/{layer.target}", layer.version.text)
        names = replace(names, alias_label=f"{LABEL}.{SCIENCE}.{layer.target}.version")
        return _chain(step, bases, names if selected else None)

    def _compat(self, release: str, platform: Platform) -> Iterator[Chain]:
        image, _, version = release.rpartition(":")
        name = f"{image}-{version}"
        merged = self._tree.merged[release]
        layers = self._tree.compat_of(release)
        folder = self._folder(layers)
        files = self._files(layers, platform)
        if files and files.last.id not in self._made:
            self._made.add(files.last.id)
            yield files
        bases = self._tree.compat_bases[release, platform.oci]
        built = self._name(version)
        post_build_labels = self._stamps(f"{LABEL}.{COMPAT}", f"{image}:{built}")
        step = self._step(
            COMPAT,
            name,
            platform,
            bases,
            identity=release,
            tag=f"{COMPAT}-{name}-{platform.name}",
            dockerfile=folder / f"{name}.Dockerfile",
            context=folder / "context",
            post_build_labels=(
                *post_build_labels,
                PostBuildLabel(name=VARIABLE, value=f"{image}:{built}", variable=True),
            ),
            where=layers[-1].manifest,
            test=self._test(*((layer.path, layer.folder) for layer in reversed(layers))),
        )
        text = merged.text.encode("utf-8", "surrogateescape")
        step = replace(step, text=text, shown=merged_name(release), origins=merged.origins)
        if files:
            layer = ImageInput(name=FILES, source=files.last.id, platform=platform, as_context=True)
            step = replace(step, kind=StepKind.JOIN, images=(*step.images, layer))
        self._merged[step.id] = merged
        ignored = any(layer.folder in self._selection.ignored for layer in layers)
        self._be_lenient(step.id, ignored=ignored, selected=True)
        names = self._publication(step, platform, f"{REL}/{image}", version)
        local_tag = version if len(self._platforms) == 1 else names.tag
        yield _chain(step, bases, replace(names, alias_label=f"{LABEL}.{COMPAT}.version", local_tag=local_tag))

    def _folder(self, layers: tuple[CompatLayer, ...]) -> Path:
        """Return the folder of a compat layer's merged files; create it on first use."""
        folder = self._scratch / layers[-1].name
        if not folder.exists():
            folder.mkdir()
            merge_files(layers, folder / "context")
        return folder

    def _files(self, layers: tuple[CompatLayer, ...], platform: Platform) -> Chain | None:
        """Return a chain that builds the compat layers on scratch, if the registry can join them; else None."""
        name = layers[-1].name
        if name not in self._tree.joined:
            return None
        piece, read = self._tree.joined[name]
        bases = read[platform.oci]
        step = self._step(
            FILES_OPTION,
            name,
            platform,
            bases,
            identity="",
            tag=f"{FILES_OPTION}-{name}-{platform.name}",
            dockerfile=self._folder(layers) / "files.Dockerfile",
            context=self._folder(layers) / "context",
            post_build_labels=(),
            where=layers[-1].manifest,
        )
        text = piece.text.encode("utf-8", "surrogateescape")
        step = replace(step, text=text, shown=f"Dockerfile of {COMPAT}/{name}", origins=piece.origins)
        self._be_lenient(
            step.id, ignored=any(layer.folder in self._selection.ignored for layer in layers), selected=True
        )
        return Chain(option=FILES_OPTION, platform=platform, base=SCRATCH, steps=(step,))

    def _step(
        self,
        option: str,
        name: str,
        platform: Platform,
        bases: LayerImages,
        *,
        identity: str,
        tag: str,
        dockerfile: Path,
        context: Path,
        post_build_labels: tuple[PostBuildLabel, ...],
        where: str,
        test: Path | None = None,
    ) -> Step:
        if len(tag) > 128:
            hint = "Shorten the name or the version: a tag has at most 128 characters."
            self._problems.append(Problem(path=where, message=f"{tag!r} is too long for a tag", hint=hint))
        return Step(
            id=StepId(platform.name, option, name),
            kind=StepKind.BUILD,
            name=name,
            option=option,
            number=0,
            platform=platform,
            dockerfile=dockerfile,
            context=context,
            images=tuple(self._input(base) for base in bases.bases),
            identity=identity,
            post_build_labels=post_build_labels,
            repository=self._place.home,
            tag=tag,
            parent=bases.parent,
            test=test,
        )

    def _test(self, *folders: tuple[Path, str]) -> Path | None:
        """Return the first test in these folders."""
        path, shown = next(
            ((path / TEST, f"{shown}/{TEST}") for path, shown in folders if (path / TEST).is_file()), (None, "")
        )
        if path is not None:
            self._problems += read_image_test(path, shown)[1]
        return path

    def _input(self, base: LayerImage) -> ImageInput:
        if not base.built_here:
            return base.wanted
        return replace(base.wanted, source=StepId(self._spelled(base.wanted.platform).name, SCIENCE, base.target))

    def _spelled(self, platform: Platform) -> Platform:
        """Return the platform as the user spells it if the run includes it."""
        return next((item for item in self._platforms if item.same_as(platform)), platform)

    def _publication(self, step: Step, platform: Platform, path: str, version: str) -> Publication:
        home = self._place.home
        repo = ImageReference.parse(f"{self._place.repo.familiar_name}/{path}")
        self._images[step.id] = f"{repo}:{version}"
        clean = self._state is not None and not self._state.dirty
        return Publication(
            platform=platform,
            index_tag=version,
            home=ImageReference(home.registry, f"{home.repository}/{path}"),
            repo=repo,
            aliases=(self._name(version),) if clean else (),
        )

    def _name(self, version: str) -> str:
        return self._state.name(version) if self._state else version

    def _stamps(self, label: str, version: str) -> tuple[PostBuildLabel, ...]:
        return PostBuildLabel(name=f"{label}.version", value=version), PostBuildLabel(
            name=f"{label}.buildtime", clock=True
        )

    def _be_lenient(self, step: StepId, *, ignored: bool, selected: bool) -> None:
        if ignored:
            self._lenient[step] = ChangeTolerance(own=True, outside=True, flag="--ignore")
        elif not selected:
            self._lenient[step] = ChangeTolerance(outside=True, flag="not selected")


def _chain(step: Step, bases: LayerImages, publication: Publication | None) -> Chain:
    return Chain(
        option=step.option,
        platform=step.platform,
        base=next((image.source for image in step.images if image.name == bases.parent), SCRATCH),
        steps=(step,),
        publication=publication,
    )


def _moved(bases: LayerImages, platform: Platform) -> LayerImages:
    return replace(
        bases, bases=tuple(replace(base, wanted=replace(base.wanted, platform=platform)) for base in bases.bases)
    )
