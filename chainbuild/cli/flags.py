"""The flags that several commands share: one name, one meaning, everywhere."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chainbuild.cli import completion

if TYPE_CHECKING:
    from chainbuild.ui import Mode

PlatformArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLATFORM",
        autocompletion=completion.platforms,
        help="amd64, aarch64, …; several with commas.",
        show_default=False,
    ),
]
RepoArgument = Annotated[
    str,
    typer.Argument(
        metavar="REPO",
        autocompletion=completion.last("repo"),
        help="Repository of all images, as chainbuild/atom.",
        show_default=False,
    ),
]
TagArgument = Annotated[
    str,
    typer.Argument(
        metavar="TAG",
        autocompletion=completion.last("tag"),
        help="How their tags begin, as build-base.",
        show_default=False,
    ),
]
BaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="BASE",
        autocompletion=completion.last("base"),
        help="Image that the first step stands on.",
        show_default=False,
    ),
]
OptionArgument = Annotated[
    str,
    typer.Argument(
        metavar="OPTION",
        autocompletion=completion.options,
        help="Folder of numbered Dockerfiles; several with commas, on top of each other.",
        show_default=False,
    ),
]
ProductionArgument = Annotated[
    str,
    typer.Argument(
        metavar="PRODUCTION",
        autocompletion=completion.last("production"),
        help="Image that the slim production image stands on.",
        show_default=False,
    ),
]

Root = Annotated[
    Path,
    typer.Option("--root", "-C", help="The folder around the options.", file_okay=False, show_default="this folder"),
]
Context = Annotated[
    Path | None, typer.Option("--context", help="What COPY and ADD see instead of the folder around the options.")
]
BuildArgs = Annotated[
    list[str] | None, typer.Option("--build-arg", metavar="KEY=VALUE", help="For every Dockerfile that declares KEY.")
]
BuildContexts = Annotated[
    list[str] | None,
    typer.Option(
        "--build-context", metavar="NAME=PLACE", help="A named context: a folder, docker-image://, https://, …"
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="id=NAME,…", help="A BuildKit secret (src=FILE or env=VARIABLE)."),
]
Builders = Annotated[
    list[str] | None,
    typer.Option("--builder", metavar="[PLATFORM=]NAME", help="The buildx builder, for all platforms or for one."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Let the builder use none of its cache.")]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_REGISTRY",
        help="The chain registry; without it one is run on localhost while it is needed.",
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--registry-port", envvar="CHAINBUILD_REGISTRY_PORT", min=1, max=65535, help="The managed registry's port."
    ),
]
RegistryData = Annotated[
    Path | None,
    typer.Option(
        "--registry-data",
        metavar="DIR",
        envvar="CHAINBUILD_REGISTRY_DATA",
        file_okay=False,
        help="Keep the managed registry's data in DIR.",
        show_default="~/.local/share/chainbuild/registry",
    ),
]
RegistryCompose = Annotated[
    Path | None,
    typer.Option(
        "--registry-compose",
        metavar="FILE",
        envvar="CHAINBUILD_REGISTRY_COMPOSE",
        dir_okay=False,
        help="Start the managed registry from this compose file.",
        show_default="the one that comes with chainbuild",
    ),
]
PortOrProject = Annotated[
    int | None,
    typer.Option(
        "--registry-port",
        envvar="CHAINBUILD_REGISTRY_PORT",
        min=1,
        max=65535,
        help="The managed registry's port.",
        show_default="5000",
    ),
]
"""None where it was not typed, so that chainbuild.yaml's counts."""
Refresh = Annotated[bool, typer.Option("--refresh", help="Build again what did not change, too.")]
RefreshAfter = Annotated[
    str | None, typer.Option("--refresh-after", metavar="7d", help="Build again what is older than that.")
]
ReplaceIndex = Annotated[
    bool, typer.Option("--replace-index", help="Let the index lose platforms that this run does not build.")
]
FailIfStaleIndex = Annotated[
    bool,
    typer.Option(
        "--fail-if-stale-index",
        help="Exit with 9, and leave the index alone, if it would keep an image that this tree does not give.",
    ),
]
Platforms = Annotated[
    str,
    typer.Option(
        "--platform", autocompletion=completion.platforms, help="Several with commas; this machine's where not given."
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Builds at once; one for each platform where not given.")
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", "-k", help="After a failure, finish all that does not depend on it.")
]
Deadline = Annotated[
    str | None,
    typer.Option("--deadline", metavar="4h30m", help="Start nothing that will not fit; the next run goes on."),
]
FailIfBuild = Annotated[
    bool, typer.Option("--fail-if-build", help="With a plan: exit with 6 where something would be built.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")]
NoLoad = Annotated[bool, typer.Option("--no-load", help="Leave the local image store alone.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv even more.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")]
OnePlatform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        autocompletion=completion.platforms,
        help="Which of its platforms; this machine's where not given.",
    ),
]

_MANY: Final = {
    "builders": "builder",
    "build_args": "build_arg",
    "build_contexts": "build_context",
    "secrets": "secret",
}
"""What a run calls the flags that may be given again."""
_ALIKE: Final = (
    "root",
    "context",
    "registry",
    "no_cache",
    "refresh",
    "refresh_after",
    "jobs",
    "keep_going",
    "deadline",
    "replace_index",
    "fail_if_stale_index",
)


def with_registry_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Return the command with --registry-data and --registry-compose, if it has --registry-port.

    They hold for the whole process: the command itself does not see them (`session.managed_registry` does).
    """
    if "registry_port" not in inspect.signature(command).parameters:
        return command

    @functools.wraps(command)
    def wrapped(
        *args: Any, registry_data: Path | None = None, registry_compose: Path | None = None, **kwargs: Any
    ) -> int:
        for name, path in (
            ("CHAINBUILD_REGISTRY_DATA", registry_data),
            ("CHAINBUILD_REGISTRY_COMPOSE", registry_compose),
        ):
            if path is not None:
                os.environ[name] = str(path.absolute())
        return command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    more = {"registry_data": RegistryData, "registry_compose": RegistryCompose}
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in more.items()
    ]
    known = list(signature.parameters.values())
    place = next(index for index, parameter in enumerate(known) if parameter.name == "registry_port") + 1
    parameters = [*known[:place], *flags, *known[place:]]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapped


def words_of(typed: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """What a run is told of a command's parameters, both by their names: the flags above that it has, and `more`."""
    lists = {name: tuple(typed[flag] or ()) for name, flag in _MANY.items() if flag in typed}
    return {name: typed[name] for name in (*_ALIKE, *more) if name in typed} | lists


def mode_of(*, json: bool, plain: bool) -> Mode:
    """What `--json` and `--plain` mean for the view of a run."""
    return "json" if json else "plain" if plain else "auto"
