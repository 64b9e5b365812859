"""`chainbuild build` and `chainbuild plan`: the same words; one does it, the other says what would be done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from chainbuild.cli import completion, flags


def _word(metavar: str, offers: completion.Offers, help: str) -> Any:  # noqa: A002
    return typer.Argument(metavar=f"[{metavar}]", autocompletion=offers, help=help, show_default=False)


def _flag(name: str, offers: completion.Offers, help: str) -> Any:  # noqa: A002
    return typer.Option(f"--{name}", autocompletion=offers, help=help, show_default=False)


def _number(name: str, help: str) -> Any:  # noqa: A002
    return typer.Option(f"--{name}", metavar="NN", autocompletion=completion.numbers, help=help, min=0)


Platforms = Annotated[str | None, _word("PLATFORM", completion.platforms, "amd64, aarch64, …; several with commas.")]
Repo = Annotated[str | None, _word("REPO", completion.last("repo"), "Repository of all images, as chainbuild/atom.")]
Tag = Annotated[str | None, _word("TAG", completion.last("tag"), "How their tags begin, as build-base.")]
Base = Annotated[str | None, _word("BASE", completion.last("base"), "Image that the first step stands on.")]
Option = Annotated[
    str | None,
    _word("OPTION", completion.options, "Folder of numbered Dockerfiles; several with commas, on top of each other."),
]
Production = Annotated[
    str | None, _word("PRODUCTION", completion.last("production"), "Image that the slim production image stands on.")
]
ForPlatform = Annotated[str | None, _flag("platform", completion.platforms, "PLATFORM, where no words are given.")]
ForRepo = Annotated[str | None, _flag("repo", completion.last("repo"), "REPO, where no words are given.")]
ForTag = Annotated[str | None, _flag("tag", completion.last("tag"), "TAG, where no words are given.")]
ForBase = Annotated[str | None, _flag("base", completion.last("base"), "BASE, where no words are given.")]
ForOption = Annotated[str | None, _flag("option", completion.options, "OPTION, where no words are given.")]
ForProduction = Annotated[
    str | None, _flag("production", completion.last("production"), "PRODUCTION, where no words are given.")
]
First = Annotated[int | None, _number("from", "Take the steps before NN as they stand.")]
Only = Annotated[int | None, _number("only", "As --from NN --until NN.")]
Until = Annotated[int | None, _number("until", "Stop after the step NN.")]
KeepGoing = Annotated[
    bool | None,
    typer.Option(
        "--keep-going/--no-keep-going",
        "-k",
        help="After a failure, finish all that does not depend on it.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict/--no-strict",
        help="Treat warnings of minimize and of the proofs as errors: nothing that has one gets its name.",
        show_default=False,
    ),
]
Push = Annotated[
    bool | None,
    typer.Option("--push/--no-push", help="Send results and indexes to REPO's own registry.", show_default=False),
]
Load = Annotated[
    bool | None,
    typer.Option(
        "--load/--no-load", help="Put results into the local image store, or leave it alone.", show_default=False
    ),
]
Tests = Annotated[
    bool | None,
    typer.Option("--tests/--no-tests", help="Run the tests of images, or leave them out.", show_default=False),
]

_WORDS = ("platform", "repo", "tag", "base", "option", "production")
_STEPS = ("first", "only", "until")


def build(
    platform: Platforms = None,
    repo: Repo = None,
    tag: Tag = None,
    base: Base = None,
    option: Option = None,
    production: Production = None,
    *,
    for_platform: ForPlatform = None,
    for_repo: ForRepo = None,
    for_tag: ForTag = None,
    for_base: ForBase = None,
    for_option: ForOption = None,
    for_production: ForProduction = None,
    root: flags.Root = Path(),
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.PortOrProject = None,
    first: First = None,
    only: Only = None,
    until: Until = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    jobs: flags.Jobs = None,
    keep_going: KeepGoing = None,
    deadline: flags.Deadline = None,
    strict: Strict = None,
    push: Push = None,
    replace_index: flags.ReplaceIndex = False,
    fail_if_stale_index: flags.FailIfStaleIndex = False,
    load: Load = None,
    tests: Tests = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    fail_if_build: flags.FailIfBuild = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Build an option's chain and the slim production image that it ends in; without words, chainbuild.yaml's project."""
    return _run(locals())


def _run(typed: Mapping[str, Any]) -> int:
    """Do what was typed: the parameters of `build` by their names."""
    from chainbuild.cli.project import run_project, run_words, show_of

    words = {name: typed[name] for name in _WORDS}
    said = {name: typed[f"for_{name}"] for name in _WORDS}
    how = flags.words_of(typed, *_STEPS)
    show = show_of(typed)
    if all(word is None for word in words.values()):
        from chainbuild.requests.project_runs import Typed

        root, options = how.pop("root"), {name: typed[name] for name in ("push", "load", "tests", "strict")}
        return run_project(root, Typed(**said, **how, **options, port=typed["registry_port"]), show)
    _check_words(words, said)
    from chainbuild.requests.build import RunOptions

    how["keep_going"] = bool(how["keep_going"])
    given = RunOptions(
        **words,
        **how,
        port=typed["registry_port"] or 5000,
        push=bool(typed["push"]),
        load=typed["load"] is not False,
        strict=bool(typed["strict"]),
    )
    return run_words(given, show, tests=typed["tests"] is not False)


def _check_words(words: Mapping[str, str | None], said: Mapping[str, str | None]) -> None:
    """All six words are there, and none is said a second time. Errors: `WrongUseError`."""
    from chainbuild.errors import Problem, WrongUseError

    missing = [name.upper() for name, word in words.items() if word is None]
    if missing:
        raise WrongUseError(
            f"Missing argument{'s' * (len(missing) > 1)}: {' '.join(missing)}",
            hint="All six words are given, or none: then chainbuild.yaml says them. See chainbuild build --help.",
        )
    twice = [name for name, text in said.items() if text is not None]
    if twice:
        raise WrongUseError(
            Problem(message=f"--{name}: {name.upper()} is given as a word already", hint="Leave the flag out.")
            for name in twice
        )


def _dry(command: Callable[..., int], without: set[str], help: str) -> Callable[..., int]:  # noqa: A002
    """The same command as a dry run: the same words, but for those that only doing it needs."""

    def plan(*args: Any, **kwargs: Any) -> int:
        return command(*args, **kwargs, dry_run=True)

    signature = inspect.signature(command, eval_str=True)
    kept = [parameter for name, parameter in signature.parameters.items() if name not in without]
    plan.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    plan.__annotations__ = {key: kind for key, kind in command.__annotations__.items() if key not in without}
    plan.__doc__ = help
    return plan


plan = _dry(
    build,
    {
        "dry_run",
        "jobs",
        "keep_going",
        "deadline",
        "strict",
        "push",
        "replace_index",
        "fail_if_stale_index",
        "load",
        "tests",
        "plain",
    },
    "Say what `build` with the same words would do, and why; -v adds the builder's exact command lines.",
)
