"""The flags that several commands share. A flag has the same name and the same meaning in all of them."""

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

_RUN_ARGUMENTS: Final[Mapping[str, tuple[completion.Offers, str]]] = {
    "PLATFORM": (completion.platforms, "Platforms to build for, comma-separated: amd64, aarch64, …"),
    "REPO": (completion.last("repo"), "Repository of every image, for example chainbuild/atom."),
    "TAG": (completion.last("tag"), "Tag prefix of every image, for example build-base."),
    "BASE": (completion.last("base"), "Base image of the first step."),
    "OPTION": (
        completion.options,
        "Folders of numbered Dockerfiles, comma-separated; each builds on the one before it.",
    ),
    "PRODUCTION": (completion.last("production"), "Base image of the slim image."),
}


def run_argument(name: str, *, optional: bool = False) -> Any:
    """Return the declaration of one of the six arguments of a run."""
    offers, help_text = _RUN_ARGUMENTS[name]
    return typer.Argument(
        metavar=f"[{name}]" if optional else name, autocompletion=offers, help=help_text, show_default=False
    )


PlatformArgument = Annotated[str, run_argument("PLATFORM")]
RepoArgument = Annotated[str, run_argument("REPO")]
TagArgument = Annotated[str, run_argument("TAG")]
BaseArgument = Annotated[str, run_argument("BASE")]
OptionArgument = Annotated[str, run_argument("OPTION")]
ProductionArgument = Annotated[str, run_argument("PRODUCTION")]

Root = Annotated[
    Path,
    typer.Option(
        "--root",
        "-C",
        metavar="DIR",
        help="Run as if started in DIR, the folder that contains the options (default: the current folder).",
        file_okay=False,
        show_default=False,
    ),
]
Context = Annotated[
    Path | None,
    typer.Option(
        "--context",
        metavar="DIR",
        help="Build context of COPY and ADD (default: the folder that contains the options).",
    ),
]
BuildArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--build-arg",
        metavar="KEY=VALUE",
        help="Set a build argument in every Dockerfile that declares KEY. Can be repeated.",
    ),
]
BuildContexts = Annotated[
    list[str] | None,
    typer.Option(
        "--build-context",
        metavar="NAME=SOURCE",
        help="Add a named build context: a folder, docker-image://, https://, … Can be repeated.",
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="id=NAME,…",
        help="Pass a BuildKit secret (src=FILE or env=VARIABLE). Can be repeated.",
    ),
]
Builders = Annotated[
    list[str] | None,
    typer.Option(
        "--builder",
        metavar="[PLATFORM=]NAME",
        help="Use this buildx builder, for all platforms or for one (default: the current builder). Can be repeated.",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Build without the builder's cache.")]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_REGISTRY",
        help="Registry for steps and records (default: a temporary one on localhost:5000).",
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--registry-port",
        metavar="PORT",
        envvar="CHAINBUILD_REGISTRY_PORT",
        min=1,
        max=65535,
        help="Port of the managed registry (default: 5000).",
        show_default=False,
    ),
]
RegistryData = Annotated[
    Path | None,
    typer.Option(
        "--registry-data",
        metavar="DIR",
        envvar="CHAINBUILD_REGISTRY_DATA",
        file_okay=False,
        help="Folder of the managed registry's data (default: ~/.local/share/chainbuild/registry).",
        show_default=False,
    ),
]
RegistryCompose = Annotated[
    Path | None,
    typer.Option(
        "--registry-compose",
        metavar="FILE",
        envvar="CHAINBUILD_REGISTRY_COMPOSE",
        dir_okay=False,
        help="Compose file that starts the managed registry (default: the one that comes with chainbuild).",
        show_default=False,
    ),
]
PortOrProject = Annotated[
    int | None,
    typer.Option(
        "--registry-port",
        metavar="PORT",
        envvar="CHAINBUILD_REGISTRY_PORT",
        min=1,
        max=65535,
        help="Port of the managed registry (default: 5000).",
        show_default=False,
    ),
]
"""As `Port`, but None if not typed, so that the value in chainbuild.yaml applies."""
Refresh = Annotated[bool, typer.Option("--refresh", help="Rebuild every step even if nothing changed.")]
RefreshAfter = Annotated[
    str | None,
    typer.Option("--refresh-after", metavar="7d", help="Rebuild steps that were built longer ago than this."),
]
ReplaceIndex = Annotated[
    bool,
    typer.Option("--replace-index", help="Allow platforms that this run does not build to be dropped from the index."),
]
FailIfStaleIndex = Annotated[
    bool,
    typer.Option(
        "--fail-if-stale-index",
        help="Exit with code 9 and leave the index unchanged if it would keep an image that this tree does not produce.",
    ),
]
Platforms = Annotated[
    str,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        autocompletion=completion.platforms,
        help="Platforms to build for, comma-separated (default: this machine's).",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, help="Number of parallel builds (default: one per platform)."),
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", "-k", help="After a failure, finish every step that does not depend on it.")
]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="4h30m",
        help="Do not start steps that would not finish within this time; the next run continues.",
    ),
]
FailIfBuild = Annotated[
    bool, typer.Option("--fail-if-build", help="Exit with code 6 if a step would be built (with plan or --dry-run).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, without doing it.")]
NoLoad = Annotated[bool, typer.Option("--no-load", help="Do not load results into the local image store.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show more detail; -vv shows even more.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Plain = Annotated[bool, typer.Option("--plain", help="Print plain lines even on a terminal.")]
OnePlatform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        autocompletion=completion.platforms,
        help="Platform of the image (default: this machine's).",
    ),
]

_MANY: Final = {
    "builders": "builder",
    "build_args": "build_arg",
    "build_contexts": "build_context",
    "secrets": "secret",
}
"""The repeatable flags: the name that a request has for each, and the parameter of the command."""
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
    """Return `command` with --registry-data and --registry-compose added if it has --registry-port.

    Both apply to the whole process through the environment; the command itself does not receive them
    (`session.managed_registry` reads them).
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
    own = list(signature.parameters.values())
    place = next(index for index, parameter in enumerate(own) if parameter.name == "registry_port") + 1
    parameters = [*own[:place], *flags, *own[place:]]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def words_of(typed: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """Return the fields of a request from the parameters of a command: the shared flags that it has, and `more`."""
    lists = {name: tuple(typed[flag] or ()) for name, flag in _MANY.items() if flag in typed}
    return {name: typed[name] for name in (*_ALIKE, *more) if name in typed} | lists


def mode_of(*, json: bool, plain: bool) -> Mode:
    """Return the view that `--json` and `--plain` ask for."""
    return "json" if json else "plain" if plain else "auto"
