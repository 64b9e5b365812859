"""From the words of `chainbuild ci` to a pipeline; everything that is wrong with them is told at once.

What ends in a workflow is read by a shell and by the vendor's templates. Every word is checked to be in a grammar that
means nothing to either, so that quoting is enough.
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
from chainbuild.model import Graph, StepId
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import BuildRequest, RunOptions, read_build_request
from chainbuild.text import duration, parse_duration

VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (github.VENDOR, gitlab.VENDOR, circleci.VENDOR)
}
INSTALL: Final = "pipx install chainbuild"

_PATH = re.compile(r"[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)*")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_TEMPLATES = ("${{", "<<", "$[[")
"""What GitHub, CircleCI and GitLab replace before any shell sees it."""


class CiWords(Struct, frozen=True, kw_only=True):
    """The words as the user typed them."""

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
    """Read the words and the tree.

    `recorded` gives what the steps took last time; it is asked only where `--split` is given, when all is well. Errors:
    `WrongUseError` with every problem of the words and the tree; those of `recorded`.
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
    """A line end in any word would end the comment that holds the command."""
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
            collector.add(f"{text!r} cannot stand in a workflow", "It has letters that cannot be shown.")


def _check_places(words: CiWords, collector: ProblemCollector) -> None:
    """The places must be there for every machine of the vendor's."""
    if not words.registry:
        collector.add(
            "--registry is needed", "Jobs hand images to each other through it, as in --registry ghcr.io/OWNER."
        )
    elif _is_local(words.registry):
        collector.add(f"--registry {words.registry} is this machine's own", "CI machines do not see it; name another.")
    for what, text in (("BASE", words.base), ("PRODUCTION", words.production)):
        try:
            host = ImageReference.parse(text).registry
        except WrongUseError:
            continue  # told with the tree
        if _is_local(host):
            collector.add(f"{what} {text} is in this machine's own registry", "CI machines do not see it.")
    root = words.root
    if root.is_absolute() or ".." in root.parts or not (root == Path() or _PATH.fullmatch(root.as_posix())):
        collector.add(
            f"--root {str(root)!r} cannot stand in a workflow",
            "Run this in the repository's top; --root is the way from there, of plain letters, digits and . _ @ + - /.",
        )
    for option in _typed(words.option):
        parts = PurePosixPath(option).parts
        if not parts or ".." in parts or not _PATH.fullmatch(option):
            collector.add(
                f"option {option!r} cannot stand in a workflow",
                "Its folder is below the tree's, and has a name of plain letters, digits and . _ @ + - /.",
            )


def _is_local(place: str) -> bool:
    # Late, as it is only for this: the address of a host is what the registry's client says.
    from chainbuild.registry.auth import is_this_machine

    host = place.partition("/")[0]
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return is_this_machine(name.lower())


def _typed(option: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip().rstrip("/") for word in option.split(",")))


def _install(text: str, collector: ProblemCollector) -> str:
    """One command with its arguments, quoted: no shell program, and nothing that a vendor's templates would replace."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        collector.add(f"--install {text!r}: {error}", "It is a command with its arguments.")
        return ""
    if not words or any(mark in text for mark in _TEMPLATES):
        collector.add(f"--install {text!r} cannot stand in a workflow", f"It is one plain command, as {INSTALL}.")
    return shlex.join(words)


def _runners(words: CiWords, vendor: Vendor, collector: ProblemCollector) -> Mapping[str, Runner]:
    quiet = ProblemCollector()  # what is wrong with PLATFORM is told with the tree
    platforms = parse_platforms(words.platform, quiet)
    own: dict[str, Runner] = {}
    for text in words.runners:
        name, equals, labels = text.partition("=")
        many = tuple(labels.split(","))
        before = len(collector.problems)
        here = collector.parse("--runner", Platform.parse, name, Platform.of_this_machine())
        if not equals or not all(_LABEL.fullmatch(label) for label in many):
            collector.add(
                f"--runner {text!r} is not PLATFORM=LABEL", "As in aarch64=ubuntu-24.04-arm; several with commas."
            )
        elif len(many) > 1 and not vendor.many_labels:
            collector.add(f"--runner {text!r} has several labels", f"{vendor.title} takes one.")
        elif here.oci in own:
            collector.add(f"--runner: {name} is said twice", "Name one.")
        elif len(collector.problems) == before and not any(one.same_as(here) for one in platforms):
            collector.add(f"--runner {name}: the workflow does not build for it", f"PLATFORM is {words.platform}.")
        own[here.oci] = Runner(labels=many, hosted=re.fullmatch(vendor.hosted, many[0]) is not None)
    return {platform.name: own.get(platform.oci) or vendor.runner(platform) for platform in platforms}


def _check_times(
    vendor: Vendor, runners: Mapping[str, Runner], seconds: float, most: float | None, collector: ProblemCollector
) -> None:
    if any(runner.hosted for runner in runners.values()) and seconds >= vendor.limit:
        collector.add(
            f"--deadline of {duration(seconds)}: {vendor.title} ends its own machines' jobs after {duration(vendor.limit)}",
            "Name a shorter one, or own machines for all platforms: --runner PLATFORM=LABEL.",
        )
    if seconds <= 0:
        collector.add("--deadline of nothing leaves no time to build", f"As in --deadline {vendor.deadline}.")
    if most is not None and most > seconds:
        collector.add(
            f"--split of {duration(most)} is longer than the --deadline of {duration(seconds)}",
            "A job would stop before its part is done; name a shorter --split or a longer --deadline.",
        )


def _variables(graph: Graph) -> tuple[str, ...]:
    """What the tree's args files take from the environment."""
    names = (arg.name for step in graph for arg in step.args if arg.origin.endswith(" (environment)"))
    return tuple(sorted(set(names)))


def _made_by(words: CiWords, install: str) -> str:
    """The exact command, with the words that are lists in their plain form."""
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
