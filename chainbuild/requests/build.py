"""Read the options of `chainbuild build` and its tree of numbered Dockerfiles into values.

Every problem is reported at once, including those of the tree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Settings, environment
from chainbuild.layouts import numbered
from chainbuild.local_registry import DEFAULT_PORT
from chainbuild.model import Chain, Graph, Step
from chainbuild.native.settings import NativeChoice, NativeMode, NativeSettings
from chainbuild.parsing.option_values import (
    ProblemCollector,
    comma_list,
    parse_outdated,
    parse_platforms,
    parse_repository,
    read_build_args,
    read_build_contexts,
    read_context,
    read_secrets,
)
from chainbuild.planning.decisions import Renewal
from chainbuild.planning.planner import until
from chainbuild.project.location import FILE_NAME
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.requests.options import CommonOptions, RunOptions, SessionOptions
from chainbuild.text import parse_duration
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.planning.generations import GraphFor


class BuildRequest(Struct, frozen=True, kw_only=True):
    """A run after parsing: the graph to build, the settings, and how to execute it."""

    graph: Graph
    settings: Settings
    options: ExecutionOptions


def read_build_request(options: RunOptions) -> BuildRequest:
    """Read the options and the tree.

    Errors: `WrongUseError` with every problem of the command line, the tree, the args files and the Dockerfiles.
    """
    collector = ProblemCollector()
    settings = session_settings(options, collector)
    execution = _execution(options, collector)
    request = options_request(options, settings, collector)
    graph: Graph | None = None
    try:
        graph = numbered.read(request)
        graph = cut(graph, options, collector)
    except WrongUseError as error:
        collector.problems += error.problems
    if collector.problems or graph is None:
        raise WrongUseError(collector.problems)
    if options.tests is False:
        graph = without_tests(graph)
    return BuildRequest(graph=graph, settings=settings, options=replace(execution, graph_for=_graph_for(request)))


def _graph_for(request: numbered.NumberedRequest) -> GraphFor:
    """Return the function that reads the same request for other platforms."""
    return lambda platforms: numbered.read(replace(request, platforms=tuple(platforms)))


def chosen_platforms(options: CommonOptions, collector: ProblemCollector) -> tuple[Platform, ...]:
    """Return the platforms of the options, or this machine's; problems go to the collector."""
    chosen = parse_platforms(options.platform, collector) if options.platform else ()
    return chosen or (Platform.of_this_machine(),)


def execution_options(
    options: CommonOptions, collector: ProblemCollector, *, first: int | None = None
) -> ExecutionOptions:
    """Return how to execute the run; problems go to the collector."""
    deadline = collector.parse("--deadline", parse_duration, options.deadline, 0.0) if options.deadline else None
    after = options.refresh_after
    age = collector.parse("--refresh-after", parse_duration, after, 0.0) if after else None
    started = time.monotonic()
    return ExecutionOptions(
        jobs=options.jobs,
        keep_going=bool(options.keep_going),
        strict=bool(options.strict),
        load=options.load is not False,
        native=_native(options, collector),
        push=bool(options.push),
        replace_index=options.replace_index,
        refuse_stale_index=options.fail_if_stale_index,
        first=first,
        seconds_left=(lambda: deadline - (time.monotonic() - started)) if deadline is not None else None,
        outdated=parse_outdated("--refresh-outdated", options.refresh_outdated, collector),
        rebase=options.rebase,
        renewal=Renewal(refresh=options.refresh, refresh_after=age, since=time.time()),
    )


def _native(options: CommonOptions, collector: ProblemCollector) -> NativeSettings:
    """Return the modes of native tools; problems go to the collector."""

    def choice(text: str) -> NativeChoice:
        return collector.parse("--native", NativeChoice.parse, text, NativeChoice())

    steps = {pattern: choice(text) for pattern, text in options.native_steps.items()}
    default = choice(options.native) if options.native else NativeChoice()
    if options.no_cache and NativeMode.CHECK in {found.mode for found in (default, *steps.values())}:
        collector.add("--no-cache cannot be combined with --native=check", "Use --refresh: a check always builds anew.")
    return NativeSettings(default=default, steps=steps)


def _execution(options: RunOptions, collector: ProblemCollector) -> ExecutionOptions:
    check_step_range(options, collector)
    first = first_step(options)
    if (first is not None or options.until is not None) and "," in (options.option or ""):
        collector.add(
            "--from, --only and --until need a single OPTION", "Pass a single OPTION: step numbers are per option."
        )
    return execution_options(options, collector, first=first)


def check_step_range(options: RunOptions, collector: ProblemCollector) -> None:
    """Check that `--from`, `--until` and `--only` do not contradict each other; problems go to the collector."""
    first, last = options.first, options.until
    if options.only is not None and (first is not None or last is not None):
        collector.add("--only cannot be combined with --from or --until", "--only NN means --from NN --until NN.")
    elif first is not None and last is not None and first > last:
        collector.add(f"--from {first} comes after --until {last}", "Give a --from that is not after --until.")


def first_step(options: RunOptions) -> int | None:
    """Return the number of the first step that is not taken as last built."""
    return options.only if options.only is not None else options.first


def cut(graph: Graph, options: RunOptions, collector: ProblemCollector) -> Graph:
    """Return the graph without the steps after `--until` or `--only`; problems go to the collector."""
    last = options.only if options.only is not None else options.until
    numbers = sorted({step.number for chain in graph.chains for step in chain.steps})
    for flag, number in (("--from", options.first), ("--only", options.only), ("--until", options.until)):
        if number is not None and number not in numbers:
            available = ", ".join(str(item) for item in numbers)
            collector.add(f"{flag} {number}: no step has this number", f"Steps: {available}.")
    return graph if collector.problems or last is None else until(graph, last)


def session_settings(options: SessionOptions, collector: ProblemCollector) -> Settings:
    """Return the settings of a session; problems go to the collector."""
    by_platform: dict[str, str] = {}
    for text in options.builders or ():
        name, equals, builder = text.partition("=")
        key = collector.parse("--builder", lambda word: Platform.parse(word).oci, name, "?") if equals else ""
        if key in by_platform:
            collector.add(
                f"--builder: duplicate builder for {name if equals else 'all platforms'}", "Remove one of them."
            )
        by_platform[key] = builder if equals else name
        if not by_platform[key]:
            collector.add(f"--builder {text!r} has no builder name", "List the builders with: docker buildx ls.")
    instead = ChainRegistry("localhost")
    chain = collector.parse("--registry", ChainRegistry.parse, options.registry, instead) if options.registry else None
    root = options.root
    if not root.is_dir():
        collector.add(f"--root: no such folder: {str(root)!r}", "Give the folder that contains the options.")
    return Settings(
        root=root.resolve(),
        registry=chain,
        port=options.port or DEFAULT_PORT,
        builders=by_platform,
        no_cache=options.no_cache,
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


def options_request(options: RunOptions, settings: Settings, collector: ProblemCollector) -> numbered.NumberedRequest:
    """Return the request for the tree of numbered Dockerfiles; problems go to the collector."""
    scratch = ImageReference("docker.io", "library/debian", "latest")
    environ = environment()
    repo = collector.parse("REPO", parse_repository, options.repo or "", scratch)
    tag = options.tag or ""
    collector.parse("TAG", scratch.with_tag, tag, scratch)
    if options.platform == "":
        parse_platforms("", collector)
    return numbered.NumberedRequest(
        root=settings.root,
        platforms=chosen_platforms(options, collector),
        repo=repo,
        repository=collector.parse("REPO", lambda _: settings.chain.place(repo), options.repo or "", scratch),
        tag=tag,
        base=collector.parse("BASE", ImageReference.parse, options.base or "", scratch),
        options=_options(options.option or "", collector),
        production=collector.parse("PRODUCTION", ImageReference.parse, options.production or "", scratch),
        build_platform=Platform.of_this_machine(),
        base_arg=options.base_arg or "",
        context=read_context(options.context, collector),
        build_args=read_build_args(options.build_args or (), environ, collector, reserved=numbered.CHAINS_ARGS),
        build_contexts=read_build_contexts(options.build_contexts or (), collector),
        secrets=read_secrets(options.secrets or (), environ, collector),
        environ=environ,
    )


def _options(text: str, collector: ProblemCollector) -> tuple[str, ...]:
    options = [word.rstrip("/") for word in comma_list("OPTION", text, collector)]
    for name in sorted({name for name in options if options.count(name) > 1}):
        collector.add(f"OPTION: duplicate option {name!r}", "List each option once.")
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


# Graphs without tests -------------------------------------------------------------------------------------------------


def without_tests(graph: Graph) -> Graph:
    """Return the graph without the tests of images."""
    chains = (with_steps(chain, lambda step: replace(step, test=None, traced=())) for chain in graph.chains)
    return replace(graph, chains=tuple(chains))


def with_steps(chain: Chain, change: Callable[[Step], Step]) -> Chain:
    """Return the chain with every step changed, also those of the stages."""
    return replace(
        chain,
        steps=tuple(change(step) for step in chain.steps),
        minimize=change(chain.minimize) if chain.minimize else None,
        production=change(chain.production) if chain.production else None,
    )
