"""The flags that several commands share: one name, one meaning, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion

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
