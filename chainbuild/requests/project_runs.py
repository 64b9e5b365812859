"""Merge a project and the command line into one run: flags override the file, layers and options become one graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, parse, unknown_args
from chainbuild.errors import Problem, WrongUseError
from chainbuild.execution.session import environment
from chainbuild.host.package_data import shipped
from chainbuild.layouts import layers as plain
from chainbuild.layouts import numbered
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest, Layers
from chainbuild.model import BuildArg, Chain, Graph, ImageInput, Step
from chainbuild.parsing.option_values import (
    ProblemCollector,
    parse_platforms,
    read_build_args,
    read_build_contexts,
    read_secrets,
)
from chainbuild.planning.generations import GraphFor
from chainbuild.project.model import LayerEntry, Project
from chainbuild.references import Platform
from chainbuild.requests.build import (
    BuildRequest,
    RunOptions,
    cut,
    execution_options,
    options_request,
    session_settings,
)
from chainbuild.requests.layer import LayerRun
from chainbuild.step_id import StepId
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace


class Typed(Struct, frozen=True, kw_only=True):
    """The command line of a run in a project. None or empty: not set by the user."""

    platform: str | None = None
    repo: str | None = None
    tag: str | None = None
    base: str | None = None
    option: str | None = None
    production: str | None = None
    context: Path | None = None
    registry: str | None = None
    port: int | None = None
    builders: Sequence[str] = ()
    no_cache: bool = False
    build_args: Sequence[str] = ()
    build_contexts: Sequence[str] = ()
    secrets: Sequence[str] = ()
    first: int | None = None
    only: int | None = None
    until: int | None = None
    refresh: bool = False
    refresh_after: str | None = None
    deadline: str | None = None
    jobs: int | None = None
    keep_going: bool | None = None
    load: bool | None = None
    push: bool | None = None
    tests: bool | None = None
    strict: bool | None = None
    replace_index: bool = False
    fail_if_stale_index: bool = False
    layer: str | None = None
    """Build only this layer and its bases."""
    alone: bool = False
    """Build only this layer, on its bases as they are in the registry."""


def read_run(project: Project, typed: Typed) -> LayerRun:
    """Return the run of a project's options and layers.

    Errors: `WrongUseError` with every problem of the flags, the trees and missing settings.
    """
    return _Merger(project, typed).run()


def merged_words(project: Project, typed: Typed) -> RunOptions:
    """Return the project's settings, overridden by the command line, as the arguments of a run."""

    def first(*values: str | None) -> str:
        return next((value for value in values if value), "")

    return RunOptions(
        root=project.root,
        platform=first(typed.platform, ",".join(project.platforms), Platform.of_this_machine().name),
        repo=first(typed.repo, project.repo),
        tag=first(typed.tag, project.tag),
        base=first(typed.base, str(project.base or "")),
        option=first(typed.option, ",".join(project.options)),
        production=first(typed.production, str(project.production or "")),
        context=typed.context or project.context,
        registry=typed.registry or project.registry,
        port=typed.port or project.port or 5000,
        builders=_builders(typed.builders, project.builders),
        no_cache=typed.no_cache,
        build_contexts=_by_name(project.build_contexts, typed.build_contexts, _context_name),
        secrets=_by_name(project.secrets, typed.secrets, _secret_name),
        first=typed.first,
        only=typed.only,
        until=typed.until,
        refresh=typed.refresh,
        refresh_after=typed.refresh_after or project.refresh_after,
        deadline=typed.deadline or project.deadline,
        jobs=typed.jobs or project.jobs,
        keep_going=project.keep_going if typed.keep_going is None else typed.keep_going,
        strict=project.strict if typed.strict is None else typed.strict,
        load=project.load if typed.load is None else typed.load,
        push=project.push if typed.push is None else typed.push,
        replace_index=typed.replace_index,
        fail_if_stale_index=typed.fail_if_stale_index,
    )


def _builders(typed: Sequence[str], value: Sequence[str]) -> tuple[str, ...]:
    """Return the builders of the command line and the file's builders for other platforms; one for all replaces these."""
    if any("=" not in text for text in typed):
        return tuple(typed)
    return _by_name(value, typed, _builder_name)


def _builder_name(text: str) -> str:
    name, equals, _ = text.partition("=")
    try:
        return Platform.parse(name).oci if equals else ""
    except WrongUseError:
        return name


def _context_name(text: str) -> str:
    return text.partition("=")[0]


def _secret_name(text: str) -> str:
    return dict(part.partition("=")[::2] for part in text.split(",")).get("id", "")


def _by_name(value: Iterable[str], typed: Iterable[str], name: Callable[[str], str]) -> tuple[str, ...]:
    typed = tuple(typed)
    taken = {name(text) for text in typed}
    return (*(text for text in value if name(text) not in taken), *typed)


class _Merger:
    """Merges one run and collects its problems."""

    def __init__(self, project: Project, typed: Typed) -> None:
        self.project = project
        self.typed = typed
        self.words = merged_words(project, typed)
        self.collector = ProblemCollector()
        self.environ = environment()
        self.settings = session_settings(self.words, self.collector)

    def run(self) -> LayerRun:
        self._check_words()
        options = () if self.typed.layer else tuple(word for word in self.words.option.split(",") if word)
        entries = self._entries()
        args = self._build_args(options, entries)
        platforms = parse_platforms(self.words.platform, self.collector) or (Platform.of_this_machine(),)
        layers = self._layers(entries, platforms, args)
        graph = self._options(options, args)
        if self.collector.problems:
            raise WrongUseError(self.collector.problems)
        graphs = [item for item in (layers.graph if layers else None, graph) if item]
        joined = join(chain for item in graphs for chain in item.chains)
        if not joined:
            raise WrongUseError(
                f"{self.project.shown} has neither options nor layers",
                hint="To build science layers, run chainbuild science build.",
            )
        whole = self._restricted(Graph(repo=graphs[-1].repo, chains=joined))
        first = self.words.only if self.words.only is not None else self.words.first
        return LayerRun(
            request=BuildRequest(
                graph=whole,
                settings=self.settings,
                options=replace(
                    execution_options(self.words, self.collector, first=first),
                    graph_for=_graph_for(self.project, self.typed),
                ),
            ),
            standings=layers.standings if layers else (),
        )

    # Combinations of arguments ----------------------------------------------------------------------------------------

    def _check_words(self) -> None:
        words, typed, say = self.words, self.typed, self.collector.add
        part = any(number is not None for number in (typed.first, typed.only, typed.until))
        if part and (self.project.layers or "," in words.option or not words.option):
            say("--from, --only and --until need a single OPTION", "Give one option: step numbers belong to it.")
        if typed.only is not None and (typed.first is not None or typed.until is not None):
            say("--only cannot be combined with --from or --until", "--only NN means --from NN --until NN.")
        if not words.option:
            for flag, text in (("--repo", typed.repo), ("--base", typed.base), ("--production", typed.production)):
                if text:
                    say(
                        f"{flag}: this project has no options",
                        "Set a layer's base in the file, or with --base of chainbuild layer.",
                    )
        elif not typed.layer:
            needed = {"repo": words.repo, "tag": words.tag, "base": words.base, "production": words.production}
            for key in (key for key, text in needed.items() if not text):
                self.collector.problems.append(
                    Problem(
                        path=self.project.shown,
                        message=f"the options need {key!r}",
                        hint=f"Set {key}: in the file, or give --{key}.",
                    )
                )
        execution_options(words, self.collector)

    def _entries(self) -> tuple[LayerEntry, ...]:
        """Return the layers of this run: all of them, or the selected layer and its bases."""
        if not self.typed.layer:
            return self.project.layers
        requested = self.project.layer(self.typed.layer)
        if requested is None:
            available = [layer.name for layer in self.project.layers]
            hint = perhaps_you_meant(self.typed.layer, available)
            hint += f"Layers: {', '.join(available)}." if available else "It has no layers."
            self.collector.add(f"{self.project.shown} has no layer {self.typed.layer!r}", hint)
            return ()
        by_name = {layer.name: layer for layer in self._stacked()}
        kept = [by_name[requested.name]]
        while kept[0].base_layer in by_name:
            below = by_name[kept[0].base_layer]
            if self.typed.alone:
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
        tests = self.project.tests if self.typed.tests is None else self.typed.tests
        graph = graph if tests else without_tests(graph)
        if self.typed.first is None and self.typed.only is None and self.typed.until is None:
            return graph
        graph = cut(graph, self.words, self.collector)
        if self.collector.problems:
            raise WrongUseError(self.collector.problems)
        return graph

    # Parts ------------------------------------------------------------------------------------------------------------

    def _build_args(
        self, options: Iterable[str], entries: Iterable[LayerEntry]
    ) -> tuple[tuple[BuildArg, ...], tuple[BuildArg, ...]]:
        """Return the args for all Dockerfiles: those that the options declare, and those that the layers declare."""
        typed = read_build_args(self.typed.build_args, self.environ, self.collector, reserved=numbered.CHAINS_ARGS)
        names = {arg.name for arg in typed}
        args = (*(arg for arg in self.project.build_args if arg.name not in names), *typed)
        stages = [shipped(f"utilities/Dockerfile-{name}") for name in ("minimize", "production")]
        in_options = _dockerfiles(
            [*(self.project.root / name for name in options), self.project.root / "utilities"],
            stages if options else (),
        )
        in_layers = _dockerfiles([entry.folder for entry in entries])
        for arg in args if in_options or in_layers else ():
            path, _, line = arg.origin.rpartition(":")
            where = (path, int(line)) if line.isdecimal() else (arg.origin, 0)
            unknown = unknown_args([arg.name], (*in_options, *in_layers), path=where[0], line=where[1])
            # If only one layer is built, the args of other layers are not unknown.
            self.collector.problems += () if self.typed.layer and arg not in typed else unknown
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
            build_contexts=read_build_contexts(self.words.build_contexts, self.collector),
            secrets=read_secrets(self.words.secrets, self.environ, self.collector),
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
        tag = entry.image.tag or self.words.tag or "latest"
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
            tests=entry.tests,
            path=self.project.shown,
            line=entry.line,
        )

    def _options(self, options: tuple[str, ...], args: tuple[tuple[BuildArg, ...], ...]) -> Graph | None:
        words = self.words
        if not options or not all((words.repo, words.tag, words.base, words.production)):
            return None
        words = replace(self.words, base=self._image(self.words.base), production=self._image(self.words.production))
        request = options_request(words, self.settings, self.collector)
        try:
            return numbered.read(replace(request, build_args=args[0]))
        except WrongUseError as error:
            self.collector.problems += error.problems
            return None

    def _image(self, text: str) -> str:
        """Return the image of the layer with this name, else the text."""
        entry = self.project.layer(text)
        return str(self._layer(entry, self.project.layers).image) if entry else text


def _graph_for(project: Project, typed: Typed) -> GraphFor:
    """Return the function that reads the same run for other platforms."""

    def read(platforms: Sequence[Platform]) -> Graph:
        return read_run(project, replace(typed, platform=",".join(item.name for item in platforms))).request.graph

    return read


def _dockerfiles(folders: Iterable[Path], more: Iterable[Path] = ()) -> tuple[Dockerfile, ...]:
    """Return the Dockerfiles of some folders, for their args. The layouts report files that cannot be read."""
    paths = [path for folder in folders for path in sorted(folder.glob("*Dockerfile*")) if path.is_file()]
    return tuple(parse(path.read_bytes(), str(path)) for path in (*paths, *more) if os.access(path, os.R_OK))


def _declared(args: Iterable[BuildArg], files: Sequence[Dockerfile]) -> tuple[BuildArg, ...]:
    return tuple(arg for arg in args if files and not unknown_args([arg.name], files, path=""))


# One graph ------------------------------------------------------------------------------------------------------------


def join(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """Return the chains with every image that an earlier chain builds replaced by that chain's result."""
    made: dict[tuple[str, str, str], StepId] = {}
    joined: list[Chain] = []
    for chain in chains:
        item = _changed(
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


def without_tests(graph: Graph) -> Graph:
    """Return the graph without the tests of images."""
    chains = (_changed(chain, lambda step: replace(step, test=None, traced=())) for chain in graph.chains)
    return replace(graph, chains=tuple(chains))


def _changed(chain: Chain, change: Callable[[Step], Step]) -> Chain:
    return replace(
        chain,
        steps=tuple(change(step) for step in chain.steps),
        minimize=change(chain.minimize) if chain.minimize else None,
        production=change(chain.production) if chain.production else None,
    )
