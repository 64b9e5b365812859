"""`chainbuild build` and `chainbuild plan`: the same words; one does it, the other says what would be done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from chainbuild.cli import completion
from chainbuild.cli import options as flags


def _word(metavar: str, offers: completion.Offers, help: str) -> Any:  # noqa: A002
    return typer.Argument(metavar=f"[{metavar}]", autocompletion=offers, help=help, show_default=False)


def _flag(name: str, offers: completion.Offers, help: str) -> Any:  # noqa: A002
    return typer.Option(f"--{name}", autocompletion=offers, help=help, show_default=False)


def build(
    platform: Annotated[
        str | None, _word("PLATFORM", completion.platforms, "amd64, aarch64, …; several with commas.")
    ] = None,
    repo: Annotated[
        str | None, _word("REPO", completion.last("repo"), "Repository of all images, as chainbuild/atom.")
    ] = None,
    tag: Annotated[str | None, _word("TAG", completion.last("tag"), "How their tags begin, as build-base.")] = None,
    base: Annotated[str | None, _word("BASE", completion.last("base"), "Image that the first step stands on.")] = None,
    option: Annotated[
        str | None,
        _word(
            "OPTION", completion.options, "Folder of numbered Dockerfiles; several with commas, on top of each other."
        ),
    ] = None,
    production: Annotated[
        str | None,
        _word("PRODUCTION", completion.last("production"), "Image that the slim production image stands on."),
    ] = None,
    *,
    for_platform: Annotated[
        str | None, _flag("platform", completion.platforms, "PLATFORM, where no words are given.")
    ] = None,
    for_repo: Annotated[str | None, _flag("repo", completion.last("repo"), "REPO, where no words are given.")] = None,
    for_tag: Annotated[str | None, _flag("tag", completion.last("tag"), "TAG, where no words are given.")] = None,
    for_base: Annotated[str | None, _flag("base", completion.last("base"), "BASE, where no words are given.")] = None,
    for_option: Annotated[str | None, _flag("option", completion.options, "OPTION, where no words are given.")] = None,
    for_production: Annotated[
        str | None, _flag("production", completion.last("production"), "PRODUCTION, where no words are given.")
    ] = None,
    root: flags.Root = Path(),
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.PortOrProject = None,
    first: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="NN",
            autocompletion=completion.numbers,
            help="Take the steps before NN as they stand.",
            min=0,
        ),
    ] = None,
    only: Annotated[
        int | None,
        typer.Option("--only", metavar="NN", autocompletion=completion.numbers, help="As --from NN --until NN.", min=0),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option("--until", metavar="NN", autocompletion=completion.numbers, help="Stop after the step NN.", min=0),
    ] = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Steps at once; one for each platform where not given.")
    ] = None,
    keep_going: Annotated[
        bool | None,
        typer.Option(
            "--keep-going/--no-keep-going",
            "-k",
            help="After a failure, finish all that does not depend on it.",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="4h30m", help="Start no step that will not fit; the next run goes on."),
    ] = None,
    push: Annotated[
        bool | None,
        typer.Option("--push/--no-push", help="Send results and indexes to REPO's own registry.", show_default=False),
    ] = None,
    replace_index: flags.ReplaceIndex = False,
    load: Annotated[
        bool | None,
        typer.Option(
            "--load/--no-load", help="Put results into the local image store, or leave it alone.", show_default=False
        ),
    ] = None,
    tests: Annotated[
        bool | None,
        typer.Option("--tests/--no-tests", help="Run the tests of images, or leave them out.", show_default=False),
    ] = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    fail_if_build: Annotated[
        bool, typer.Option("--fail-if-build", help="With a plan: exit with 6 where something would be built.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="As chainbuild plan with the same words.")] = False,
) -> int:
    """Build an option's chain and the slim production image that it ends in; without words, chainbuild.yaml's project."""
    from chainbuild.cli.project import Show

    words: dict[str, Any] = {
        "platform": platform, "repo": repo, "tag": tag, "base": base, "option": option, "production": production,
    }  # fmt: skip
    said: dict[str, Any] = {
        "platform": for_platform, "repo": for_repo, "tag": for_tag, "base": for_base, "option": for_option,
        "production": for_production,
    }  # fmt: skip
    how: dict[str, Any] = {
        "context": context, "registry": registry, "builders": tuple(builder or ()), "no_cache": no_cache,
        "build_args": tuple(build_arg or ()), "build_contexts": tuple(build_context or ()),
        "secrets": tuple(secret or ()), "first": first, "only": only, "until": until, "refresh": refresh,
        "refresh_after": refresh_after, "deadline": deadline, "jobs": jobs, "replace_index": replace_index,
    }  # fmt: skip
    show = Show(dry_run=dry_run, json=json, plain=plain, verbosity=verbose, fail_if_build=fail_if_build)
    if all(word is None for word in words.values()):
        from chainbuild.cli.project import run_project
        from chainbuild.project.requests import Typed

        typed = Typed(**said, **how, port=registry_port, keep_going=keep_going, push=push, load=load, tests=tests)
        return run_project(root, typed, show)
    _check_words(words, said)
    from chainbuild.cli.project import run_words
    from chainbuild.command_line import Words

    given = Words(
        **words, **how, root=root, port=registry_port or 5000, keep_going=bool(keep_going), push=bool(push),
        load=load is not False,
    )  # fmt: skip
    return run_words(given, show, tests=tests is not False)


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
    {"dry_run", "jobs", "keep_going", "deadline", "push", "replace_index", "load", "tests", "plain"},
    "Say what `build` with the same words would do, and why; -v adds the builder's exact command lines.",
)
