"""Values of options: parsed one after the other, with every problem collected."""

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
    """Parses one word after the other and keeps what is wrong instead of stopping at it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def parse(self, what: str, parse: Callable[[str], T], text: str, instead: T) -> T:
        """The parsed value; `instead` where it cannot be, so that the rest can still be checked."""
        try:
            return parse(text)
        except WrongUseError as error:
            self.problems += [
                Problem(path=problem.path, line=problem.line, message=f"{what}: {problem.message}", hint=problem.hint)
                for problem in error.problems
            ]
            return instead

    def add(self, message: str, hint: str) -> None:
        """Keep a problem of the command line's."""
        self.problems.append(Problem(message=message, hint=hint))


def parse_repository(text: str) -> ImageReference:
    """A repository alone. Errors: `WrongUseError`."""
    reference = ImageReference.parse(text)
    if reference.tag or reference.digest:
        raise WrongUseError(
            f"{text!r} has a tag or digest", hint="REPO is a repository alone; TAG is the next argument."
        )
    return reference


def parse_platforms(text: str, collector: ProblemCollector) -> tuple[Platform, ...]:
    """A comma list of platforms; what is wrong with it goes to the collector."""
    platforms: list[Platform] = []
    here = Platform.of_this_machine()
    for word in _comma_list("PLATFORM", text, collector):
        before = len(collector.problems)
        platform = collector.parse("PLATFORM", Platform.parse, word, here)
        if len(collector.problems) > before:
            continue
        twin = next((other for other in platforms if other.same_as(platform)), None)
        if twin:
            collector.add(f"PLATFORM: {word!r} and {twin.name!r} are the same platform", "Name each platform once.")
        else:
            platforms.append(platform)
    return tuple(platforms)


def _comma_list(what: str, text: str, collector: ProblemCollector) -> tuple[str, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        collector.add(f"{what}: {text!r} has an empty entry", "As in one or one,two.")
    return tuple(word for word in words if word)


def read_context(context: Path | None, collector: ProblemCollector) -> Path | None:
    """`--context`, absolute."""
    if context is None:
        return None
    if not context.is_dir():
        collector.add(f"--context: there is no folder {str(context)!r}", "It is the folder that COPY and ADD see.")
    return context.resolve()


def read_build_args(
    texts: Sequence[str], environ: Mapping[str, str], collector: ProblemCollector, *, reserved: Collection[str] = ()
) -> tuple[BuildArg, ...]:
    """`--build-arg KEY=VALUE`, several; `reserved` are those that a chain sets itself."""
    args: dict[str, BuildArg] = {}
    for text in texts:
        arg = parse_build_arg(text, environ)
        if isinstance(arg, Problem):
            collector.problems.append(arg)
        elif arg.name in reserved:
            collector.add(f"--build-arg {arg.name} belongs to the chain", "Give the images as BASE and PRODUCTION.")
        else:
            args[arg.name] = arg
    return tuple(args.values())


def read_build_contexts(texts: Sequence[str], collector: ProblemCollector) -> tuple[tuple[str, str], ...]:
    """`--build-context NAME=PLACE`, several; folders become absolute."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            collector.add(
                f"--build-context {text!r} is not NAME=PLACE", "As in sources=../atom or base=docker-image://debian."
            )
            continue
        local = "://" not in value and not value.startswith("git@")
        if local and not Path(value).is_dir():
            collector.add(
                f"--build-context {name}: there is no folder {value!r}",
                "A folder here, or docker-image://, oci-layout://, https://.",
            )
        pairs[name] = str(Path(value).resolve()) if local else value
    return tuple(pairs.items())


def read_secrets(texts: Sequence[str], environ: Mapping[str, str], collector: ProblemCollector) -> tuple[Secret, ...]:
    """`--secret id=NAME,…`, several. Whether a value is there is looked at; it is not read."""
    secrets: dict[str, Secret] = {}
    for text in texts:
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        name = fields.get("id", "")
        source = fields.get("src") or fields.get("source")
        if not name:
            collector.add("--secret without an id", "As in id=token,src=token.txt or id=token,env=TOKEN.")
        elif source and not Path(source).is_file():
            collector.add(f"--secret {name}: there is no file {source!r}", "Name a readable file, or env=VARIABLE.")
        elif fields.get("env") and fields["env"] not in environ:
            collector.add(f"--secret {name}: the environment does not set {fields['env']}", "Export it before the run.")
        else:
            secrets[name] = Secret(id=name, spec=text)
    return tuple(secrets.values())
