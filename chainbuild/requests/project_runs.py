"""Merge a project and the command line into one run: flags override the file, layers and options become one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chainbuild import limits
from chainbuild.dockerfile import Dockerfile, parse, unknown_args
from chainbuild.errors import Problem, WrongUseError
from chainbuild.execution.session import environment
from chainbuild.host.package_data import shipped
from chainbuild.layouts import layers as plain
from chainbuild.layouts import numbered
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest, Layers
from chainbuild.layouts.numbered_names import numbered_names
from chainbuild.layouts.tree_search import folders_below
from chainbuild.model import BuildArg, Chain, Graph, ImageInput
from chainbuild.parsing.option_values import ProblemCollector, read_build_args, read_build_contexts, read_secrets
from chainbuild.planning.generations import GraphFor
from chainbuild.project.model import LayerEntry, Project
from chainbuild.references import Platform
from chainbuild.requests.build import (
    BuildRequest,
    check_step_range,
    chosen_platforms,
    cut,
    execution_options,
    first_step,
    options_request,
    session_settings,
    with_steps,
    without_tests,
)
from chainbuild.requests.layer import LayerOptions, LayerRun
from chainbuild.requests.options import RunOptions, as_kind
from chainbuild.step_id import StepId
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace


def read_run(project: Project, options: RunOptions) -> LayerRun:
    """Return the run of a project's options and layers.

    Errors: `WrongUseError` with every problem of the flags, the trees and missing settings.
    """
    return _Merger(project, options).run()


def read_layer_of_project(project: Project, options: LayerOptions) -> LayerRun:
    """Return the run of one layer of a project, which is named by its name or its folder.

    Errors: `WrongUseError`, as `read_run`, and for options that the project file sets.
    """
    in_file = {
        "--base": options.base,
        "--base-arg": options.base_arg,
        "--context": options.context,
        "--dockerfile": options.dockerfile,
        "--image-key": options.image_key,
        "--package": options.packages,
        "--skip-package": options.skip_packages,
        "--search-dir": options.search_dirs,
    }
    excluded = [flag for flag, value in in_file.items() if value is not None]
    if excluded:
        raise WrongUseError(
            f"{', '.join(excluded)} cannot be combined with a layer of {project.shown}",
            hint=f"Change the layer in {project.shown}, or build the folder by hand with --image NAME:TAG.",
        )
    name, folder = str(options.folder), options.folder.resolve()
    if not project.layer(name):
        name = next((layer.name for layer in project.layers if layer.folder == folder), name)
    return read_run(project, as_kind(RunOptions, options, layer=name, alone=options.alone))


class _Merger:
    """Merges one run and collects its problems."""

    def __init__(self, project: Project, given: RunOptions) -> None:
        """Keep the options as given, for messages, and merged with the project file, for everything else."""
        self.project = project
        self.given = given
        self.options = given.merged(project)
        self.collector = ProblemCollector()
        self.environ = environment()
        self.settings = session_settings(self.options, self.collector)

    def run(self) -> LayerRun:
        self._check_options()
        execution = execution_options(self.options, self.collector, first=first_step(self.options))
        names = () if self.options.layer else tuple(name for name in (self.options.option or "").split(",") if name)
        entries = self._entries()
        args = self._build_args(names, entries)
        platforms = chosen_platforms(self.options, self.collector)
        layers = self._layers(entries, platforms, args)
        graph = self._chains(args) if names else None
        if self.collector.problems:
            raise WrongUseError(self.collector.problems)
        graphs = [item for item in (layers.graph if layers else None, graph) if item]
        joined = join(chain for item in graphs for chain in item.chains)
        if not joined:
            raise WrongUseError(
                f"{self.project.shown} has neither options nor layers",
                hint="To build science layers, run chainbuild science build.",
            )
        notes = tuple(note for item in graphs for note in item.notes)
        whole = self._restricted(Graph(repo=graphs[-1].repo, chains=joined, notes=notes))
        return LayerRun(
            request=BuildRequest(
                graph=whole,
                settings=self.settings,
                options=replace(execution, graph_for=_graph_for(self.project, self.given)),
            ),
            layer_bases=layers.layer_bases if layers else (),
        )

    # Combinations of arguments ----------------------------------------------------------------------------------------

    def _check_options(self) -> None:
        options, given, add = self.options, self.given, self.collector.add
        part = any(number is not None for number in (options.first, options.only, options.until))
        if part and (self.project.layers or "," in (options.option or "") or not options.option):
            add("--from, --only and --until need a single OPTION", "Pass a single OPTION: step numbers are per option.")
        check_step_range(options, self.collector)
        if not options.option:
            for flag, text in (("--repo", given.repo), ("--base", given.base), ("--production", given.production)):
                if text:
                    add(
                        f"{flag}: this project has no options",
                        "Set a layer's base in the file, or with --base of chainbuild layer.",
                    )
        elif not options.layer:
            needed = {"repo": options.repo, "tag": options.tag, "base": options.base, "production": options.production}
            for key in (key for key, text in needed.items() if not text):
                self.collector.problems.append(
                    Problem(
                        path=self.project.shown,
                        message=f"the options need {key!r}",
                        hint=f"Set {key}: in the file, or give --{key}.",
                    )
                )

    def _entries(self) -> tuple[LayerEntry, ...]:
        """Return the layers of this run: all of them, or the selected layer and its bases."""
        if not self.options.layer:
            return self.project.layers
        requested = self.project.layer(self.options.layer)
        if requested is None:
            available = [layer.name for layer in self.project.layers]
            hint = perhaps_you_meant(self.options.layer, available)
            hint += f"Layers: {', '.join(available)}." if available else "It has no layers."
            self.collector.add(f"{self.project.shown} has no layer {self.options.layer!r}", hint)
            return ()
        by_name = {layer.name: layer for layer in self._stacked()}
        kept = [by_name[requested.name]]
        while kept[0].base_layer in by_name:
            below = by_name[kept[0].base_layer]
            if self.options.alone:
                image = self._layer(below, (below,)).image
                base = self.settings.chain.place(image).with_tag(image.tag_or_latest)
                return (replace(requested, base=base, base_layer=""),)
            kept.insert(0, below)
        return tuple(kept)

    def _stacked(self) -> list[LayerEntry]:
        """Return the layers with their bases; the default base is the layer before."""
        stacked: list[LayerEntry] = []
        for layer in self.project.layers:
            stacked.append(layer.after(stacked[-1] if stacked else None))
        return stacked

    def _restricted(self, graph: Graph) -> Graph:
        options = self.options
        graph = graph if options.tests else without_tests(graph)
        if options.first is None and options.only is None and options.until is None:
            return graph
        graph = cut(graph, options, self.collector)
        if self.collector.problems:
            raise WrongUseError(self.collector.problems)
        return graph

    # Parts ------------------------------------------------------------------------------------------------------------

    def _build_args(
        self, names: Iterable[str], entries: Iterable[LayerEntry]
    ) -> tuple[tuple[BuildArg, ...], tuple[BuildArg, ...]]:
        """Return the args for all Dockerfiles: those that the options declare, and those that the layers declare."""
        texts = self.options.build_args or ()
        args = read_build_args(texts, self.environ, self.collector, reserved=numbered.CHAINS_ARGS)
        if not args:
            return (), ()
        stages = [shipped(f"utilities/Dockerfile-{name}") for name in ("minimize", "production")]
        in_options = _dockerfiles(
            [*(self.project.root / name for name in names), self.project.root / "utilities"],
            stages if names else (),
        )
        in_layers = _dockerfiles(folder for entry in entries for folder in _folders_of(entry))
        for arg in args if in_options or in_layers else ():
            path, _, line = arg.origin.rpartition(":")
            where = (path, int(line)) if line.isdecimal() else (arg.origin, 0)
            unknown = unknown_args([arg.name], (*in_options, *in_layers), path=where[0], line=where[1])
            # If only one layer is built, the args of other layers are not unknown.
            self.collector.problems += () if self.options.layer and arg in self.project.build_args else unknown
        return _declared(args, in_options), _declared(args, in_layers)

    def _layers(
        self, entries: Sequence[LayerEntry], platforms: tuple[Platform, ...], args: tuple[tuple[BuildArg, ...], ...]
    ) -> Layers | None:
        if not entries:
            return None
        request = LayerRequest(
            root=self.project.root,
            layers=tuple(self._layer(entry, entries) for entry in entries),
            platforms=platforms,
            registry=self.settings.chain,
            build_platform=Platform.of_this_machine(),
            build_args=args[1],
            build_contexts=read_build_contexts(self.options.build_contexts or (), self.collector),
            secrets=read_secrets(self.options.secrets or (), self.environ, self.collector),
            environ=self.environ,
        )
        try:
            return plain.read(request)
        except WrongUseError as error:
            self.collector.problems += error.problems
            return None

    def _layer(self, entry: LayerEntry, entries: Sequence[LayerEntry]) -> LayerFolder:
        before = entries.index(entry) - 1
        base = entry.after(entries[before] if before >= 0 else None)
        tag = entry.image.tag or self.options.tag or "latest"
        return LayerFolder(
            name=entry.name,
            folder=entry.folder,
            image=entry.image if entry.image.tag else entry.image.with_tag(tag),
            base=base.base,
            base_layer=base.base_layer,
            base_arg=entry.base_arg,
            base_said=f"base: in {self.project.shown}" if entry in self.project.layers and entry.sets_base else "",
            build_args=entry.build_args,
            context=entry.context,
            tags=entry.tags,
            dockerfile=entry.dockerfile,
            image_key=entry.image_key,
            packages=entry.packages,
            skip_packages=entry.skip_packages,
            search_dirs=entry.search_dirs,
            tests=entry.tests,
            path=self.project.shown,
            line=entry.line,
        )

    def _chains(self, args: tuple[tuple[BuildArg, ...], ...]) -> Graph | None:
        """Return the graph of the options, or None if there are problems."""
        base, production = self.options.base, self.options.production
        if not (self.options.repo and self.options.tag and base and production):
            return None
        named = replace(self.options, base=self._image(base), production=self._image(production), build_args=None)
        request = options_request(named, self.settings, self.collector)
        try:
            return numbered.read(replace(request, build_args=args[0]))
        except WrongUseError as error:
            self.collector.problems += error.problems
            return None

    def _image(self, text: str) -> str:
        """Return the image of the layer with this name, else the text."""
        entry = self.project.layer(text)
        return str(self._layer(entry, self.project.layers).image) if entry else text


def _graph_for(project: Project, options: RunOptions) -> GraphFor:
    """Return the function that reads the same run for other platforms."""

    def read(platforms: Sequence[Platform]) -> Graph:
        return read_run(project, replace(options, platform=",".join(item.name for item in platforms))).request.graph

    return read


def _dockerfiles(folders: Iterable[Path], more: Iterable[Path] = ()) -> tuple[Dockerfile, ...]:
    """Return the Dockerfiles of some folders, for their args. The layouts report files that cannot be read."""
    paths = [path for folder in folders for path in _files_of(folder)]
    dockerfiles: list[Dockerfile] = []
    for path in (*paths, *more):
        with suppress(OSError):
            dockerfiles.append(parse(limits.read_tree_file(path), str(path)))
    return tuple(dockerfiles)


def _folders_of(entry: LayerEntry) -> Iterable[Path]:
    """Return the folders in which a layer may have Dockerfiles."""
    folders = (entry.folder, *entry.search_dirs)
    if entry.packages:
        return (found for folder in folders for found in folders_below(folder))
    return (*folders, entry.context) if entry.image_key and entry.context else folders


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    numbered_files = {folder / name.file for name in numbered_names(folder)}
    return sorted(path for path in {*folder.glob("*[Dd]ockerfile*"), *numbered_files} if path.is_file())


def _declared(args: Iterable[BuildArg], files: Sequence[Dockerfile]) -> tuple[BuildArg, ...]:
    return tuple(arg for arg in args if files and not unknown_args([arg.name], files, path=""))


# One graph ------------------------------------------------------------------------------------------------------------


def join(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """Return the chains with every image that an earlier chain builds replaced by that chain's result."""
    made: dict[tuple[str, str, str], StepId] = {}
    joined: list[Chain] = []
    for chain in chains:
        item = with_steps(
            chain, lambda step: replace(step, images=tuple(_from_here(image, made) for image in step.images))
        )
        joined.append(item)
        if (names := item.publication) and names.repo is not None:
            made[names.repo.name, names.index_tag, item.platform.oci] = item.result.id
    return tuple(joined)


def _from_here(image: ImageInput, made: Mapping[tuple[str, str, str], StepId]) -> ImageInput:
    named = image.external
    current = made.get((named.name, named.tag_or_latest, image.platform.oci)) if named and not named.digest else None
    return replace(image, source=current) if current else image
