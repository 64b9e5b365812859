"""`chainbuild build` and `chainbuild plan`: the same arguments; `build` builds, `plan` shows what `build` would do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from chainbuild.cli import completion, flags


def _flag(name: str, offers: completion.Offers, help: str) -> Any:  # noqa: A002
    return typer.Option(f"--{name}", metavar=name.upper(), autocompletion=offers, help=help, show_default=False)


def _number(name: str, help: str) -> Any:  # noqa: A002
    return typer.Option(f"--{name}", metavar="NN", autocompletion=completion.numbers, help=help, min=0)


Platforms = Annotated[str | None, flags.run_argument("PLATFORM", optional=True)]
Repo = Annotated[str | None, flags.run_argument("REPO", optional=True)]
Tag = Annotated[str | None, flags.run_argument("TAG", optional=True)]
Base = Annotated[str | None, flags.run_argument("BASE", optional=True)]
Option = Annotated[str | None, flags.run_argument("OPTION", optional=True)]
Production = Annotated[str | None, flags.run_argument("PRODUCTION", optional=True)]
ForPlatform = Annotated[
    str | None, _flag("platform", completion.platforms, "Platforms to build for (overrides chainbuild.yaml).")
]
ForRepo = Annotated[
    str | None, _flag("repo", completion.last("repo"), "Repository of every image (overrides chainbuild.yaml).")
]
ForTag = Annotated[
    str | None, _flag("tag", completion.last("tag"), "Tag prefix of every image (overrides chainbuild.yaml).")
]
ForBase = Annotated[
    str | None, _flag("base", completion.last("base"), "Base image of the first step (overrides chainbuild.yaml).")
]
ForOption = Annotated[str | None, _flag("option", completion.options, "Options to build (overrides chainbuild.yaml).")]
ForProduction = Annotated[
    str | None,
    _flag("production", completion.last("production"), "Base image of the slim image (overrides chainbuild.yaml)."),
]
First = Annotated[int | None, _number("from", "Start at step NN; use the earlier steps as last built.")]
Only = Annotated[int | None, _number("only", "Build only step NN (same as --from NN --until NN).")]
Until = Annotated[int | None, _number("until", "Stop after step NN.")]
KeepGoing = Annotated[
    bool | None,
    typer.Option(
        "--keep-going/--no-keep-going",
        "-k",
        help="After a failure, finish every step that does not depend on it (default: no).",
        show_default=False,
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict/--no-strict",
        help="Treat warnings of the minimize stage and the checks as errors: do not tag the image (default: no).",
        show_default=False,
    ),
]
Push = Annotated[
    bool | None,
    typer.Option(
        "--push/--no-push",
        help="Push results and their indexes to the registry named in REPO (default: no).",
        show_default=False,
    ),
]
Load = Annotated[
    bool | None,
    typer.Option(
        "--load/--no-load", help="Load results into the local image store (default: load).", show_default=False
    ),
]
Tests = Annotated[
    bool | None,
    typer.Option("--tests/--no-tests", help="Run the tests of the images (default: run).", show_default=False),
]

_ARGUMENTS = ("platform", "repo", "tag", "base", "option", "production")
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
    """Build the chain of an option and its slim image.

    Without arguments, build the project of chainbuild.yaml.
    """
    return _run(locals())


def _run(typed: Mapping[str, Any]) -> int:
    """Run `build` with its parameters by name, as typed."""
    from chainbuild.cli.project import run_project, run_words, show_of

    arguments = {name: typed[name] for name in _ARGUMENTS}
    overrides = {name: typed[f"for_{name}"] for name in _ARGUMENTS}
    how = flags.words_of(typed, *_STEPS)
    show = show_of(typed)
    if all(value is None for value in arguments.values()):
        from chainbuild.requests.project_runs import Typed

        root, options = how.pop("root"), {name: typed[name] for name in ("push", "load", "tests", "strict")}
        return run_project(root, Typed(**overrides, **how, **options, port=typed["registry_port"]), show)
    _check_arguments(arguments, overrides)
    from chainbuild.requests.build import RunOptions

    how["keep_going"] = bool(how["keep_going"])
    request = RunOptions(
        **arguments,
        **how,
        port=typed["registry_port"] or 5000,
        push=bool(typed["push"]),
        load=typed["load"] is not False,
        strict=bool(typed["strict"]),
    )
    return run_words(request, show, tests=typed["tests"] is not False)


def _check_arguments(arguments: Mapping[str, str | None], overrides: Mapping[str, str | None]) -> None:
    """Check that all six arguments are present and that no flag repeats one. Errors: `WrongUseError`."""
    from chainbuild.errors import Problem, WrongUseError

    missing = [name.upper() for name, value in arguments.items() if value is None]
    if missing:
        raise WrongUseError(
            f"Missing argument{'s' * (len(missing) > 1)}: {' '.join(missing)}",
            hint="Give all six arguments, or none to use chainbuild.yaml. See chainbuild build --help.",
        )
    duplicates = [name for name, value in overrides.items() if value is not None]
    if duplicates:
        raise WrongUseError(
            Problem(message=f"--{name}: {name.upper()} is already given as an argument", hint="Remove the flag.")
            for name in duplicates
        )


def _dry(command: Callable[..., int], without: set[str], help: str) -> Callable[..., int]:  # noqa: A002
    """Return `command` as a dry run: the same parameters, except those in `without`."""

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
    "Show what `build` would do with the same arguments, and why. With -v, also show the builder's command lines.",
)
