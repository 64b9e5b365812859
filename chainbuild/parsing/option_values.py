"""Parse the values of options, collecting every problem."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import BuildArg, Secret
from chainbuild.parsing.args_files import parse_build_arg
from chainbuild.references import ImageReference, Platform

T = TypeVar("T")


class ProblemCollector:
    """Parse values one by one, and collect problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def parse(self, what: str, parse: Callable[[str], T], text: str, instead: T) -> T:
        """Return the parsed value, or `instead` if parsing fails, so that the rest can still be checked."""
        try:
            return parse(text)
        except WrongUseError as error:
            self.problems += [
                Problem(path=problem.path, line=problem.line, message=f"{what}: {problem.message}", hint=problem.hint)
                for problem in error.problems
            ]
            return instead

    def add(self, message: str, hint: str) -> None:
        """Add a problem of the command line."""
        self.problems.append(Problem(message=message, hint=hint))


def parse_repository(text: str) -> ImageReference:
    """Parse a repository without a tag or digest. Errors: `WrongUseError`."""
    reference = ImageReference.parse(text)
    if reference.tag or reference.digest:
        raise WrongUseError(
            f"{text!r} has a tag or digest",
            hint="REPO is a repository without a tag; TAG is the next argument.",
        )
    return reference


def parse_outdated(flag: str, text: str | None, collector: ProblemCollector) -> str:
    """Return which updates of packages cause a rebuild, `all` or `security`; empty if none do. Problems go to the collector."""
    chosen = text or ""
    if chosen not in {"", "all", "security"}:
        collector.add(f"{flag}={chosen}: neither all nor security", f"Use {flag}, or {flag}=security.")
    return chosen


def parse_platforms(text: str, collector: ProblemCollector) -> tuple[Platform, ...]:
    """Parse a comma-separated list of platforms, adding problems to the collector."""
    platforms: list[Platform] = []
    fallback = Platform.of_this_machine()
    for name in comma_list("PLATFORM", text, collector):
        before = len(collector.problems)
        platform = collector.parse("PLATFORM", Platform.parse, name, fallback)
        if len(collector.problems) > before:
            continue
        duplicate = next((other for other in platforms if other.same_as(platform)), None)
        if duplicate:
            collector.add(
                f"PLATFORM: {name!r} and {duplicate.name!r} are the same platform", "Name each platform only once."
            )
        else:
            platforms.append(platform)
    return tuple(platforms)


def comma_list(what: str, text: str, collector: ProblemCollector) -> tuple[str, ...]:
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entries):
        collector.add(f"{what}: {text!r} has an empty entry", "Write the list as in one or one,two.")
    return tuple(entry for entry in entries if entry)


def read_context(context: Path | None, collector: ProblemCollector) -> Path | None:
    """Return the absolute path of `--context`."""
    if context is None:
        return None
    if not context.is_dir():
        collector.add(
            f"--context: no such folder: {str(context)!r}", "Name the folder that is the context of COPY and ADD."
        )
    return context.resolve()


def read_build_args(
    texts: Sequence[str | BuildArg],
    environ: Mapping[str, str],
    collector: ProblemCollector,
    *,
    reserved: Collection[str] = (),
) -> tuple[BuildArg, ...]:
    """Read repeated `--build-arg KEY=VALUE` flags; `reserved` are the arguments that a chain sets itself.

    Values that the project file set are returned as they are: its reader checked them.
    """
    args: dict[str, BuildArg] = {}
    for text in texts:
        if isinstance(text, BuildArg):
            args[text.name] = text
            continue
        arg = parse_build_arg(text, environ)
        if isinstance(arg, Problem):
            collector.problems.append(arg)
        elif arg.name in reserved:
            collector.add(
                f"--build-arg {arg.name}: this argument is set by the chain",
                "Give the images as BASE and PRODUCTION.",
            )
        else:
            args[arg.name] = arg
    return tuple(args.values())


def read_build_contexts(texts: Sequence[str], collector: ProblemCollector) -> tuple[tuple[str, str], ...]:
    """Read repeated `--build-context NAME=SOURCE` flags; folders become absolute paths."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            collector.add(
                f"--build-context {text!r} is not NAME=SOURCE",
                "Write it as in sources=../atom or base=docker-image://debian.",
            )
            continue
        local = "://" not in value and not value.startswith("git@")
        if local and not Path(value).is_dir():
            collector.add(
                f"--build-context {name}: no such folder: {value!r}",
                "Name a folder, or use docker-image://, oci-layout:// or https://.",
            )
        pairs[name] = str(Path(value).resolve()) if local else value
    return tuple(pairs.items())


def read_secrets(texts: Sequence[str], environ: Mapping[str, str], collector: ProblemCollector) -> tuple[Secret, ...]:
    """Read repeated `--secret id=NAME,…` flags. Checks that the source of each value exists, without reading it."""
    secrets: dict[str, Secret] = {}
    for text in texts:
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        name = fields.get("id", "")
        source = fields.get("src") or fields.get("source")
        if not name:
            collector.add("--secret: no id given", "Write it as in id=token,src=token.txt or id=token,env=TOKEN.")
        elif source and not Path(source).is_file():
            collector.add(f"--secret {name}: no such file: {source!r}", "Name a readable file, or use env=VARIABLE.")
        elif fields.get("env") and fields["env"] not in environ:
            collector.add(
                f"--secret {name}: {fields['env']} is not set in the environment",
                f"Export {fields['env']} before the run.",
            )
        else:
            secrets[name] = Secret(id=name, spec=text)
    return tuple(secrets.values())
