"""Read the options of `chainbuild ci` into a pipeline, and report every problem at once.

A shell and the vendor's templates read the workflow. Every argument is checked against a grammar without special
characters of either, so that quoting is sufficient.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from chainbuild.ci import circleci, github, gitlab
from chainbuild.ci.jobs import JobSplit, make_jobs
from chainbuild.ci.pipeline import Pipeline, Runner, Vendor
from chainbuild.errors import WrongUseError
from chainbuild.model import Graph
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.patterns import regex
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import BuildRequest, read_build_request
from chainbuild.requests.options import RunOptions, SessionOptions
from chainbuild.step_id import StepId
from chainbuild.text import duration, parse_duration

VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (github.VENDOR, gitlab.VENDOR, circleci.VENDOR)
}
INSTALL: Final = "pipx install chainbuild"

_PATH = regex(r"[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)*")
_LABEL = regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_TEMPLATES = ("${{", "<<", "$[[")
"""What GitHub, CircleCI and GitLab replace before a shell runs."""


class CiOptions(SessionOptions, frozen=True, kw_only=True):
    """The options of the command, as the user gave them."""

    vendor: str
    platform: str
    repo: str
    tag: str
    base: str
    option: str
    production: str
    split: str | None = None
    deadline: str | None = None
    """The deadline of each job."""
    install: str = INSTALL
    runners: Sequence[str] | None = None


def read_pipeline(
    options: CiOptions, recorded: Callable[[BuildRequest], Mapping[StepId, float]]
) -> tuple[Vendor, Pipeline]:
    """Read the arguments and the tree.

    `recorded` returns the last duration of each step; it is called only for `--split`, after all checks passed. Errors:
    `WrongUseError` with every problem of the arguments and the tree; those of `recorded`.
    """
    vendor = VENDORS[options.vendor]
    collector = ProblemCollector()
    deadline = options.deadline or vendor.deadline
    seconds = collector.parse("--deadline", parse_duration, deadline, 1.0)
    most = collector.parse("--split", parse_duration, options.split, 1.0) if options.split else None
    _check_letters(options, collector)
    _check_places(options, collector)
    install = _install(options.install, collector)
    runners = _runners(options, vendor, collector)
    _check_times(vendor, runners, seconds, most, collector)
    request: BuildRequest | None = None
    try:
        request = read_build_request(
            RunOptions(
                platform=options.platform,
                repo=options.repo,
                tag=options.tag,
                base=options.base,
                option=options.option,
                production=options.production,
                root=options.root,
                registry=options.registry,
            )
        )
    except WrongUseError as error:
        collector.problems += error.problems
    if collector.problems or request is None or request.settings.registry is None:
        raise WrongUseError(collector.problems)
    split = JobSplit(most=most, seconds=recorded(request)) if most is not None else None
    graph = request.graph
    return vendor, Pipeline(
        graph=make_jobs(graph, lambda platform: runners[platform.name].labels, split),
        repo=options.repo,
        tag=options.tag,
        base=options.base,
        options=dict(
            zip(dict.fromkeys(chain.option for chain in graph.chains), _option_names(options.option), strict=True)
        ),
        production=options.production,
        registry=request.settings.registry,
        root="" if options.root == Path() else options.root.as_posix(),
        deadline=deadline.strip().lower(),
        deadline_seconds=seconds,
        limit=vendor.limit,
        install=install,
        runners=runners,
        variables=_variables(graph),
        made_by=_made_by(options, install),
    )


def _check_letters(options: CiOptions, collector: ProblemCollector) -> None:
    """Report arguments with characters that are not printable: a line end would end the comment with the command."""
    texts = (
        options.platform,
        options.repo,
        options.tag,
        options.base,
        options.option,
        options.production,
        options.registry or "",
        str(options.root),
        options.split or "",
        options.deadline or "",
        options.install,
        *(options.runners or ()),
    )
    for text in texts:
        if not text.isprintable():
            collector.add(f"{text!r} is not allowed in a workflow", "Remove the characters that are not printable.")


def _check_places(options: CiOptions, collector: ProblemCollector) -> None:
    """Report places that the vendor's machines cannot reach."""
    if not options.registry:
        collector.add(
            "--registry is required",
            "Jobs exchange images through it. Give a registry, for example --registry ghcr.io/OWNER.",
        )
    elif _is_local(options.registry):
        collector.add(f"--registry {options.registry} is on this machine", "Use a registry that CI machines can reach.")
    for what, text in (("BASE", options.base), ("PRODUCTION", options.production)):
        try:
            host = ImageReference.parse(text).registry
        except WrongUseError:
            continue  # reported with the tree
        if _is_local(host):
            collector.add(
                f"{what} {text} is in a registry on this machine", "Use a registry that CI machines can reach."
            )
    root = options.root
    if root.is_absolute() or ".." in root.parts or not (root == Path() or _PATH.fullmatch(root.as_posix())):
        collector.add(
            f"--root {str(root)!r} is not allowed in a workflow",
            "Run this in the root of the repository, and give a path below it of ASCII letters, digits and . _ @ + - /.",
        )
    for option in _option_names(options.option):
        parts = PurePosixPath(option).parts
        if not parts or ".." in parts or not _PATH.fullmatch(option):
            collector.add(
                f"option {option!r} is not allowed in a workflow",
                "Use a folder below the root of the tree, with a name of ASCII letters, digits and . _ @ + - /.",
            )


def _is_local(place: str) -> bool:
    # Imported late: only this check needs it. The registry client decides which hosts are local.
    from chainbuild.registry.http.auth import is_this_machine

    host = place.partition("/")[0]
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return is_this_machine(name.lower())


def _option_names(option: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip().rstrip("/") for word in option.split(",")))


def _install(text: str, collector: ProblemCollector) -> str:
    """Return the install command, quoted: one command with arguments, without anything that templates replace."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        collector.add(f"--install {text!r}: {error}", "Give a command with its arguments.")
        return ""
    if not words or any(mark in text for mark in _TEMPLATES):
        collector.add(
            f"--install {text!r} is not allowed in a workflow", f"Give one plain command, for example {INSTALL}."
        )
    return shlex.join(words)


def _runners(options: CiOptions, vendor: Vendor, collector: ProblemCollector) -> Mapping[str, Runner]:
    quiet = ProblemCollector()  # problems of PLATFORM are reported with the tree
    platforms = parse_platforms(options.platform, quiet)
    own: dict[str, Runner] = {}
    for text in options.runners or ():
        name, equals, labels = text.partition("=")
        many = tuple(labels.split(","))
        before = len(collector.problems)
        current = collector.parse("--runner", Platform.parse, name, Platform.of_this_machine())
        if not equals or not all(_LABEL.fullmatch(label) for label in many):
            collector.add(
                f"--runner {text!r} is not PLATFORM=LABEL",
                "For example aarch64=ubuntu-24.04-arm; separate several labels with commas.",
            )
        elif len(many) > 1 and not vendor.many_labels:
            collector.add(f"--runner {text!r} has several labels", f"{vendor.title} accepts one label.")
        elif current.oci in own:
            collector.add(f"--runner: duplicate runner for {name}", "Remove one of them.")
        elif len(collector.problems) == before and not any(item.same_as(current) for item in platforms):
            collector.add(
                f"--runner {name}: the workflow does not build for this platform", f"PLATFORM is {options.platform}."
            )
        own[current.oci] = Runner(labels=many, hosted=re.fullmatch(vendor.hosted, many[0]) is not None)
    return {platform.name: own.get(platform.oci) or vendor.runner(platform) for platform in platforms}


def _check_times(
    vendor: Vendor, runners: Mapping[str, Runner], seconds: float, most: float | None, collector: ProblemCollector
) -> None:
    if any(runner.hosted for runner in runners.values()) and seconds >= vendor.limit:
        collector.add(
            f"--deadline of {duration(seconds)}: {vendor.title} ends jobs on hosted machines after "
            f"{duration(vendor.limit)}",
            "Set a shorter deadline, or self-hosted machines for all platforms: --runner PLATFORM=LABEL.",
        )
    if seconds <= 0:
        collector.add("--deadline of 0 leaves no time to build", f"For example: --deadline {vendor.deadline}.")
    if most is not None and most > seconds:
        collector.add(
            f"--split of {duration(most)} is longer than the --deadline of {duration(seconds)}",
            "The job would stop before its part is complete. Set a shorter --split or a longer --deadline.",
        )


def _variables(graph: Graph) -> tuple[str, ...]:
    """Return the environment variables that the tree's args files use."""
    names = (arg.name for step in graph for arg in step.args if arg.origin.endswith(" (environment)"))
    return tuple(sorted(set(names)))


def _made_by(options: CiOptions, install: str) -> str:
    """Return the exact command, with lists in their plain form."""
    platforms = ",".join(platform.name for platform in parse_platforms(options.platform, ProblemCollector()))
    positional = (
        platforms,
        options.repo,
        options.tag,
        options.base,
        ",".join(_option_names(options.option)),
        options.production,
    )
    flags: list[str] = []
    if options.root != Path():
        flags += ["--root", options.root.as_posix()]
    flags += ["--registry", options.registry or ""]
    flags += [text for runner in options.runners or () for text in ("--runner", runner)]
    for flag, value in (("--deadline", options.deadline), ("--split", options.split)):
        flags += [flag, value.strip().lower()] if value else []
    flags += ["--install", install] if install != INSTALL else []
    return shlex.join(["chainbuild", "ci", options.vendor, *positional, *flags])
