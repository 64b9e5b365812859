"""`chainbuild build` and `chainbuild plan`: the same words; one does it, the other says what would be done."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from chainbuild.cli import options as flags


def build(
    platform: flags.PlatformArgument,
    repo: flags.RepoArgument,
    tag: flags.TagArgument,
    base: flags.BaseArgument,
    option: flags.OptionArgument,
    production: flags.ProductionArgument,
    *,
    root: flags.Root = Path(),
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    first: Annotated[
        int | None, typer.Option("--from", metavar="NN", help="Take the steps before NN as they stand.", min=0)
    ] = None,
    only: Annotated[int | None, typer.Option("--only", metavar="NN", help="As --from NN --until NN.", min=0)] = None,
    until: Annotated[int | None, typer.Option("--until", metavar="NN", help="Stop after the step NN.", min=0)] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Build again what did not change, too.")] = False,
    refresh_after: Annotated[
        str | None, typer.Option("--refresh-after", metavar="7d", help="Build again what is older than that.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Steps at once; one for each platform where not given.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, finish all that does not depend on it.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="4h30m", help="Start no step that will not fit; the next run goes on."),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Send results and indexes to REPO's own registry.")] = False,
    replace_index: Annotated[
        bool, typer.Option("--replace-index", help="Let the index lose platforms that this run does not build.")
    ] = False,
    no_load: Annotated[bool, typer.Option("--no-load", help="Leave the local image store alone.")] = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    fail_if_build: Annotated[
        bool, typer.Option("--fail-if-build", help="With a plan: exit with 6 where something would be built.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="As chainbuild plan with the same words.")] = False,
) -> int:
    """Build an option's chain of Dockerfiles and the slim production image that it ends in."""
    from chainbuild.cli import running
    from chainbuild.command_line import Words, read_wishes
    from chainbuild.journal import remember_words

    words = Words(
        platform=platform, repo=repo, tag=tag, base=base, option=option, production=production, root=root,
        context=context, registry=registry, port=registry_port, builders=builder or (), no_cache=no_cache,
        build_args=build_arg or (), build_contexts=build_context or (), secrets=secret or (), first=first, only=only,
        until=until, refresh=refresh, refresh_after=refresh_after, deadline=deadline, jobs=jobs,
        keep_going=keep_going, load=not no_load, push=push, replace_index=replace_index,
    )  # fmt: skip
    request = read_wishes(words)
    if dry_run:
        return running.run_plan(request, as_json=json, verbosity=verbose, fail_if_build=fail_if_build)
    remember_words(request.settings.root, words)
    return running.run_build(request, mode="json" if json else "plain" if plain else "auto", verbosity=verbose)


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
    {"dry_run", "jobs", "keep_going", "deadline", "push", "replace_index", "no_load", "plain"},
    "Say what `build` with the same words would do, and why; -v adds the builder's exact command lines.",
)
