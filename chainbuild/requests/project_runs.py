"""From a project and what was typed besides to one run: flags win over the file, and layers and options are one graph."""

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
from chainbuild.model import BuildArg, Chain, Graph, ImageInput, Step, StepId
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
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace


class Typed(Struct, frozen=True, kw_only=True):
    """What was typed beside a project. None (and empty) is what was not typed."""

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
    """Only this layer, and what it stands on."""
    alone: bool = False
    """That layer alone: the layers that it stands on are taken as they stand."""


def read_run(project: Project, typed: Typed) -> LayerRun:
    """The run of a project's options and layers.

    Errors: `WrongUseError` with every problem of the flags, the trees and what is missing between them.
    """
    return _Merger(project, typed).run()


def merged_words(project: Project, typed: Typed) -> RunOptions:
    """The project's settings as the words of a run, where nothing else was typed."""

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


def _builders(typed: Sequence[str], said: Sequence[str]) -> tuple[str, ...]:
    """The typed builders, and those of the file for other platforms; one for all platforms replaces all of them."""
    if any("=" not in text for text in typed):
        return tuple(typed)
    return _by_name(said, typed, _builder_name)


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


def _by_name(said: Iterable[str], typed: Iterable[str], name: Callable[[str], str]) -> tuple[str, ...]:
    typed = tuple(typed)
    taken = {name(text) for text in typed}
    return (*(text for text in said if name(text) not in taken), *typed)


class _Merger:
    """Puts one run together and collects what is wrong on the way."""

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
        joined = join([*(layers.graph.chains if layers else ()), *(graph.chains if graph else ())])
        if not joined:
            raise WrongUseError(
                f"{self.project.shown} has neither options nor layers", hint="Science layers: chainbuild science build."
            )
        repo = graph.repo if graph else joined[0].repo or joined[0].result.repository
        whole = self._as_wished(Graph(repo=repo, chains=joined))
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

    # What goes with what ----------------------------------------------------------------------------------------------

    def _check_words(self) -> None:
        words, typed, say = self.words, self.typed, self.collector.add
        part = any(number is not None for number in (typed.first, typed.only, typed.until))
        if part and (self.project.layers or "," in words.option or not words.option):
            say("--from, --only and --until need a single OPTION", "Step numbers belong to an option.")
        if typed.only is not None and (typed.first is not None or typed.until is not None):
            say("--only goes with neither --from nor --until", "--only NN is --from NN --until NN.")
        if not words.option:
            for flag, text in (("--repo", typed.repo), ("--base", typed.base), ("--production", typed.production)):
                if text:
                    say(
                        f"{flag}: this project has no options",
                        "A layer's base is said in the file, or with --base of chainbuild layer.",
                    )
        elif not typed.layer:
            needed = {"repo": words.repo, "tag": words.tag, "base": words.base, "production": words.production}
            for key in (key for key, text in needed.items() if not text):
                self.collector.problems.append(
                    Problem(
                        path=self.project.shown,
                        message=f"the options need {key!r}",
                        hint=f"Write {key}: … in the file, or give --{key}.",
                    )
                )
        execution_options(words, self.collector)

    def _entries(self) -> tuple[LayerEntry, ...]:
        """The layers of this run: all, or one and what it stands on."""
        if not self.typed.layer:
            return self.project.layers
        wanted = self.project.layer(self.typed.layer)
        if wanted is None:
            known = [layer.name for layer in self.project.layers]
            hint = perhaps_you_meant(self.typed.layer, known)
            hint += f"Layers there: {', '.join(known)}." if known else "It has no layers."
            self.collector.add(f"{self.project.shown} has no layer {self.typed.layer!r}", hint)
            return ()
        by_name = {layer.name: layer for layer in self._stacked()}
        kept = [by_name[wanted.name]]
        while isinstance(kept[0].base, str) and kept[0].base in by_name:
            below = by_name[kept[0].base]
            if self.typed.alone:
                image = self._layer(below, (below,)).image
                return (replace(wanted, base=self.settings.chain.place(image).with_tag(image.tag_or_latest)),)
            kept.insert(0, below)
        return tuple(kept)

    def _stacked(self) -> list[LayerEntry]:
        """The layers, each with what it stands on: the one before it, where it does not say."""
        stacked: list[LayerEntry] = []
        for layer in self.project.layers:
            base = layer.base or (stacked[-1].name if stacked else None)
            stacked.append(replace(layer, base=base))
        return stacked

    def _as_wished(self, graph: Graph) -> Graph:
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
        """The args that are said for all: those that the options declare, and those that the layers do."""
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
            # One layer of several is built: what another one declares is no mistake.
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
        said = entry.base if entry.base is not None else entries[before].name if before >= 0 else None
        tag = entry.image.tag or self.words.tag or "latest"
        return LayerFolder(
            name=entry.name,
            folder=entry.folder,
            image=entry.image if entry.image.tag else entry.image.with_tag(tag),
            base=said,
            base_arg=entry.base_arg,
            base_said=f"base: in {self.project.shown}"
            if entry in self.project.layers and entry.base is not None
            else "",
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
        """The image of a layer that is named, or the text."""
        entry = self.project.layer(text)
        return str(self._layer(entry, self.project.layers).image) if entry else text


def _graph_for(project: Project, typed: Typed) -> GraphFor:
    """Read the same run for other platforms."""

    def read(platforms: Sequence[Platform]) -> Graph:
        return read_run(project, replace(typed, platform=",".join(one.name for one in platforms))).request.graph

    return read


def _dockerfiles(folders: Iterable[Path], more: Iterable[Path] = ()) -> tuple[Dockerfile, ...]:
    """The Dockerfiles of some folders, for the args that they declare; what cannot be read is told by the layouts."""
    paths = [path for folder in folders for path in sorted(folder.glob("*Dockerfile*")) if path.is_file()]
    return tuple(parse(path.read_bytes(), str(path)) for path in (*paths, *more) if os.access(path, os.R_OK))


def _declared(args: Iterable[BuildArg], files: Sequence[Dockerfile]) -> tuple[BuildArg, ...]:
    return tuple(arg for arg in args if files and not unknown_args([arg.name], files, path=""))


# One graph ------------------------------------------------------------------------------------------------------------


def join(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """The chains in their order; an image that an earlier one of them makes is taken from it, wherever it is named."""
    made: dict[tuple[str, str, str], StepId] = {}
    joined: list[Chain] = []
    for chain in chains:
        one = _changed(
            chain, lambda step: replace(step, images=tuple(_from_here(image, made) for image in step.images))
        )
        joined.append(one)
        if one.repo is not None and one.named:
            made[one.repo.name, one.index_tag, one.platform.oci] = one.result.id
    return tuple(joined)


def _from_here(image: ImageInput, made: Mapping[tuple[str, str, str], StepId]) -> ImageInput:
    if isinstance(image.source, str) or image.source.digest:
        return image
    here = made.get((image.source.name, image.source.tag_or_latest, image.platform.oci))
    return replace(image, source=here) if here else image


def without_tests(graph: Graph) -> Graph:
    """The graph with no test of any image."""
    chains = (_changed(chain, lambda step: replace(step, test=None, traced=())) for chain in graph.chains)
    return replace(graph, chains=tuple(chains))


def _changed(chain: Chain, change: Callable[[Step], Step]) -> Chain:
    return replace(
        chain,
        steps=tuple(change(step) for step in chain.steps),
        minimize=change(chain.minimize) if chain.minimize else None,
        production=change(chain.production) if chain.production else None,
    )
