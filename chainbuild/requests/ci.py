"""Read the arguments of `chainbuild ci` into a pipeline, and report every problem at once.

A shell and the vendor's templates read the workflow. Every argument is checked against a grammar without special
characters of either, so that quoting is sufficient.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from chainbuild.ci import circleci, github, gitlab
from chainbuild.ci.jobs import JobSplit, make_jobs
from chainbuild.ci.pipeline import Pipeline, Runner, Vendor
from chainbuild.errors import WrongUseError
from chainbuild.model import Graph
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import BuildRequest, RunOptions, read_build_request
from chainbuild.step_id import StepId
from chainbuild.text import duration, parse_duration

VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (github.VENDOR, gitlab.VENDOR, circleci.VENDOR)
}
INSTALL: Final = "pipx install chainbuild"

_PATH = re.compile(r"[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)*")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_TEMPLATES = ("${{", "<<", "$[[")
"""What GitHub, CircleCI and GitLab replace before a shell runs."""


class CiWords(Struct, frozen=True, kw_only=True):
    """The arguments as the user typed them."""

    vendor: str
    platform: str
    repo: str
    tag: str
    base: str
    option: str
    production: str
    registry: str | None
    root: Path = Path()
    split: str | None = None
    deadline: str | None = None
    install: str = INSTALL
    runners: Sequence[str] = ()


def read_pipeline(
    words: CiWords, recorded: Callable[[BuildRequest], Mapping[StepId, float]]
) -> tuple[Vendor, Pipeline]:
    """Read the arguments and the tree.

    `recorded` returns the last duration of each step; it is called only for `--split`, after all checks passed. Errors:
    `WrongUseError` with every problem of the arguments and the tree; those of `recorded`.
    """
    vendor = VENDORS[words.vendor]
    collector = ProblemCollector()
    deadline = words.deadline or vendor.deadline
    seconds = collector.parse("--deadline", parse_duration, deadline, 1.0)
    most = collector.parse("--split", parse_duration, words.split, 1.0) if words.split else None
    _check_letters(words, collector)
    _check_places(words, collector)
    install = _install(words.install, collector)
    runners = _runners(words, vendor, collector)
    _check_times(vendor, runners, seconds, most, collector)
    request: BuildRequest | None = None
    try:
        request = read_build_request(
            RunOptions(
                platform=words.platform,
                repo=words.repo,
                tag=words.tag,
                base=words.base,
                option=words.option,
                production=words.production,
                root=words.root,
                registry=words.registry,
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
        repo=words.repo,
        tag=words.tag,
        base=words.base,
        options=dict(zip(dict.fromkeys(chain.option for chain in graph.chains), _typed(words.option), strict=True)),
        production=words.production,
        registry=request.settings.registry,
        root="" if words.root == Path() else words.root.as_posix(),
        deadline=deadline.strip().lower(),
        deadline_seconds=seconds,
        limit=vendor.limit,
        install=install,
        runners=runners,
        variables=_variables(graph),
        made_by=_made_by(words, install),
    )


def _check_letters(words: CiWords, collector: ProblemCollector) -> None:
    """Report arguments with characters that are not printable: a line end would end the comment with the command."""
    typed = (
        words.platform,
        words.repo,
        words.tag,
        words.base,
        words.option,
        words.production,
        words.registry or "",
        str(words.root),
        words.split or "",
        words.deadline or "",
        words.install,
        *words.runners,
    )
    for text in typed:
        if not text.isprintable():
            collector.add(f"{text!r} is not allowed in a workflow", "Remove the characters that are not printable.")


def _check_places(words: CiWords, collector: ProblemCollector) -> None:
    """Report places that the vendor's machines cannot reach."""
    if not words.registry:
        collector.add(
            "--registry is required",
            "Jobs exchange images through it. Give a registry, for example --registry ghcr.io/OWNER.",
        )
    elif _is_local(words.registry):
        collector.add(f"--registry {words.registry} is on this machine", "Give a registry that CI machines can reach.")
    for what, text in (("BASE", words.base), ("PRODUCTION", words.production)):
        try:
            host = ImageReference.parse(text).registry
        except WrongUseError:
            continue  # reported with the tree
        if _is_local(host):
            collector.add(
                f"{what} {text} is in a registry on this machine", "Use a registry that CI machines can reach."
            )
    root = words.root
    if root.is_absolute() or ".." in root.parts or not (root == Path() or _PATH.fullmatch(root.as_posix())):
        collector.add(
            f"--root {str(root)!r} is not allowed in a workflow",
            "Run this in the root of the repository, and give a path below it of ASCII letters, digits and . _ @ + - /.",
        )
    for option in _typed(words.option):
        parts = PurePosixPath(option).parts
        if not parts or ".." in parts or not _PATH.fullmatch(option):
            collector.add(
                f"option {option!r} is not allowed in a workflow",
                "Use a folder below the root of the tree, with a name of ASCII letters, digits and . _ @ + - /.",
            )


def _is_local(place: str) -> bool:
    # Imported late: only this check needs it. The registry client decides which hosts are local.
    from chainbuild.registry.auth import is_this_machine

    host = place.partition("/")[0]
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return is_this_machine(name.lower())


def _typed(option: str) -> tuple[str, ...]:
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


def _runners(words: CiWords, vendor: Vendor, collector: ProblemCollector) -> Mapping[str, Runner]:
    quiet = ProblemCollector()  # problems of PLATFORM are reported with the tree
    platforms = parse_platforms(words.platform, quiet)
    own: dict[str, Runner] = {}
    for text in words.runners:
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
                f"--runner {name}: the workflow does not build for this platform", f"PLATFORM is {words.platform}."
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


def _made_by(words: CiWords, install: str) -> str:
    """Return the exact command, with lists in their plain form."""
    platforms = ",".join(platform.name for platform in parse_platforms(words.platform, ProblemCollector()))
    positional = (platforms, words.repo, words.tag, words.base, ",".join(_typed(words.option)), words.production)
    flags: list[str] = []
    if words.root != Path():
        flags += ["--root", words.root.as_posix()]
    flags += ["--registry", words.registry or ""]
    flags += [text for runner in words.runners for text in ("--runner", runner)]
    for flag, value in (("--deadline", words.deadline), ("--split", words.split)):
        flags += [flag, value.strip().lower()] if value else []
    flags += ["--install", install] if install != INSTALL else []
    return shlex.join(["chainbuild", "ci", words.vendor, *positional, *flags])
