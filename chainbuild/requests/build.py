"""Read the arguments of `chainbuild build` and its tree of numbered Dockerfiles into values.

Every problem is reported at once, including those of the tree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Settings, environment
from chainbuild.layouts import numbered
from chainbuild.model import Graph
from chainbuild.parsing.option_values import (
    ProblemCollector,
    comma_list,
    parse_platforms,
    parse_repository,
    read_build_args,
    read_build_contexts,
    read_context,
    read_secrets,
)
from chainbuild.planning.decisions import Renewal
from chainbuild.planning.generations import GraphFor
from chainbuild.planning.planner import until
from chainbuild.project.location import FILE_NAME
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.text import parse_duration
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace


class CommonOptions(Struct, frozen=True, kw_only=True):
    """The options that every kind of run accepts, as the user typed them."""

    root: Path
    context: Path | None = None
    registry: str | None = None
    port: int = 5000
    builders: Sequence[str] = ()
    no_cache: bool = False
    build_args: Sequence[str] = ()
    build_contexts: Sequence[str] = ()
    secrets: Sequence[str] = ()
    refresh: bool = False
    refresh_after: str | None = None
    deadline: str | None = None
    jobs: int | None = None
    keep_going: bool = False
    strict: bool = False
    load: bool = True
    push: bool = False
    replace_index: bool = False
    fail_if_stale_index: bool = False


class RunOptions(CommonOptions, frozen=True, kw_only=True):
    """The arguments of a run of options, as the user typed them."""

    platform: str
    repo: str
    tag: str
    base: str
    option: str
    production: str
    first: int | None = None
    only: int | None = None
    until: int | None = None


class BuildRequest(Struct, frozen=True, kw_only=True):
    """A run after parsing: the graph to build, the settings, and how to execute it."""

    graph: Graph
    settings: Settings
    options: ExecutionOptions


def read_build_request(words: RunOptions) -> BuildRequest:
    """Read the command line and the tree.

    Errors: `WrongUseError` with every problem of the command line, the tree, the args files and the Dockerfiles.
    """
    collector = ProblemCollector()
    settings = session_settings(words, collector)
    options = _execution(words, collector)
    request = options_request(words, settings, collector)
    graph: Graph | None = None
    try:
        graph = numbered.read(request)
        graph = cut(graph, words, collector)
    except WrongUseError as error:
        collector.problems += error.problems
    if collector.problems or graph is None:
        raise WrongUseError(collector.problems)
    return BuildRequest(graph=graph, settings=settings, options=replace(options, graph_for=_graph_for(request)))


def _graph_for(request: numbered.NumberedRequest) -> GraphFor:
    """Return the function that reads the same request for other platforms."""
    return lambda platforms: numbered.read(replace(request, platforms=tuple(platforms)))


def session_settings(words: CommonOptions, collector: ProblemCollector) -> Settings:
    """Return the settings of the arguments; problems go to the collector."""
    return read_settings(
        collector,
        root=words.root,
        registry=words.registry,
        port=words.port,
        builders=words.builders,
        no_cache=words.no_cache,
    )


def execution_options(
    words: CommonOptions, collector: ProblemCollector, *, first: int | None = None
) -> ExecutionOptions:
    """Return how to execute the run; problems go to the collector."""
    deadline = collector.parse("--deadline", parse_duration, words.deadline, 0.0) if words.deadline else None
    age = collector.parse("--refresh-after", parse_duration, words.refresh_after, 0.0) if words.refresh_after else None
    started = time.monotonic()
    return ExecutionOptions(
        jobs=words.jobs,
        keep_going=words.keep_going,
        strict=words.strict,
        load=words.load,
        push=words.push,
        replace_index=words.replace_index,
        refuse_stale_index=words.fail_if_stale_index,
        first=first,
        seconds_left=(lambda: deadline - (time.monotonic() - started)) if deadline is not None else None,
        renewal=Renewal(refresh=words.refresh, refresh_after=age, since=time.time()),
    )


def _execution(words: RunOptions, collector: ProblemCollector) -> ExecutionOptions:
    first = words.only if words.only is not None else words.first
    if words.only is not None and (words.first is not None or words.until is not None):
        collector.add("--only cannot be combined with --from or --until", "--only NN means --from NN --until NN.")
    elif words.first is not None and words.until is not None and words.first > words.until:
        collector.add(
            f"--from {words.first} comes after --until {words.until}", "Give a --from that is not after --until."
        )
    if (first is not None or words.until is not None) and "," in words.option:
        collector.add("--from, --only and --until need a single OPTION", "Give one option: step numbers belong to it.")
    return execution_options(words, collector, first=first)


def cut(graph: Graph, words: RunOptions, collector: ProblemCollector) -> Graph:
    last = words.only if words.only is not None else words.until
    numbers = sorted({step.number for chain in graph.chains for step in chain.steps})
    for flag, number in (("--from", words.first), ("--only", words.only), ("--until", words.until)):
        if number is not None and number not in numbers:
            available = ", ".join(str(item) for item in numbers)
            collector.add(f"{flag} {number}: no step has this number", f"Steps: {available}.")
    return graph if collector.problems or last is None else until(graph, last)


def read_settings(
    collector: ProblemCollector,
    *,
    root: Path,
    registry: str | None,
    port: int,
    builders: Sequence[str] = (),
    no_cache: bool = False,
) -> Settings:
    """Return the settings; problems go to the collector."""
    by_platform: dict[str, str] = {}
    for text in builders:
        name, equals, builder = text.partition("=")
        key = collector.parse("--builder", lambda word: Platform.parse(word).oci, name, "?") if equals else ""
        if key in by_platform:
            collector.add(
                f"--builder: duplicate builder for {name if equals else 'all platforms'}", "Remove one of them."
            )
        by_platform[key] = builder if equals else name
        if not by_platform[key]:
            collector.add(f"--builder {text!r} has no builder name", "List the builders with: docker buildx ls.")
    chain = (
        collector.parse("--registry", ChainRegistry.parse, registry, ChainRegistry("localhost")) if registry else None
    )
    if not root.is_dir():
        collector.add(f"--root: no such folder: {str(root)!r}", "Give the folder that contains the options.")
    return Settings(
        root=root.resolve(),
        registry=chain,
        port=port,
        builders=by_platform,
        no_cache=no_cache,
        trusted_keys=_trusted_keys(root, collector) if chain else {},
    )


def _trusted_keys(root: Path, collector: ProblemCollector) -> Mapping[str, PublicKey]:
    """Return the keys that the tree's project file trusts, which apply to every registry but the managed one."""
    path = root / FILE_NAME
    if not path.is_file():
        return {}
    # Imported late: most trees have no such file, and importing its reader takes time.
    from chainbuild.project.reader import read_trusted_keys

    try:
        return read_trusted_keys(path)
    except WrongUseError as error:
        collector.problems += error.problems
        return {}


def options_request(words: RunOptions, settings: Settings, collector: ProblemCollector) -> numbered.NumberedRequest:
    current = Platform.of_this_machine()
    scratch = ImageReference("docker.io", "library/debian", "latest")
    environ = environment()
    repo = collector.parse("REPO", parse_repository, words.repo, scratch)
    collector.parse("TAG", scratch.with_tag, words.tag, scratch)
    return numbered.NumberedRequest(
        root=settings.root,
        platforms=parse_platforms(words.platform, collector) or (current,),
        repo=repo,
        repository=collector.parse("REPO", lambda _: settings.chain.place(repo), words.repo, scratch),
        tag=words.tag,
        base=collector.parse("BASE", ImageReference.parse, words.base, scratch),
        options=_options(words.option, collector),
        production=collector.parse("PRODUCTION", ImageReference.parse, words.production, scratch),
        build_platform=current,
        context=read_context(words.context, collector),
        build_args=read_build_args(words.build_args, environ, collector, reserved=numbered.CHAINS_ARGS),
        build_contexts=read_build_contexts(words.build_contexts, collector),
        secrets=read_secrets(words.secrets, environ, collector),
        environ=environ,
    )


def _options(text: str, collector: ProblemCollector) -> tuple[str, ...]:
    options = [word.rstrip("/") for word in comma_list("OPTION", text, collector)]
    for name in sorted({name for name in options if options.count(name) > 1}):
        collector.add(
            f"OPTION: duplicate option {name!r}", "Give each option once; each is built on the one before it."
        )
    for name in [name for name in dict.fromkeys(options) if not _can_be_a_path(name)]:
        collector.add(
            f"OPTION: {name!r} cannot be the name of a folder", "An option is a folder of numbered Dockerfiles."
        )
    return tuple(name for name in dict.fromkeys(options) if _can_be_a_path(name))


def _can_be_a_path(text: str) -> bool:
    """Return whether a text can be a file name, which half of a surrogate pair cannot."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
