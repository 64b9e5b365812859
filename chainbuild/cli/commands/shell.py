"""`chainbuild shell`: a shell in an image, with the current folder in it."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags


def shell(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            autocompletion=completion.images,
            help="Of the local store or the chain registry, or a layer's name.",
            show_default=False,
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND]", help="What is run instead of a shell.", show_default=False),
    ] = None,
    *,
    pull: Annotated[
        bool, typer.Option("--pull", help="Take the chain registry's, also where the local store has one.")
    ] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
) -> int:
    """Start a shell in an image, as yourself, with the current folder at its own path; exits as the shell does."""
    from chainbuild.cli.output import open_quietly
    from chainbuild.cli.settings import settings_from
    from chainbuild.errors import NotReadyError
    from chainbuild.images.local_store import LocalStore
    from chainbuild.operations.shell import Visit, container_command, fetch
    from chainbuild.references import ImageReference, Platform
    from chainbuild.requests.layer import local_names, registry_names

    if not shutil.which("docker"):
        raise NotReadyError(
            "no docker command found on PATH",
            hint="script/setup installs one on Debian; else docs.docker.com/get-docker.",
        )
    named = ImageReference.parse(_of_layer(image, root))
    wanted = Platform.parse(platform) if platform else Platform.of_this_machine()
    there = None if pull else LocalStore().find(str(named))
    name = str(named)
    if there is None or (platform and not there.platform.same_as(wanted)):
        settings = settings_from(root=root, registry=registry, port=registry_port)
        with open_quietly(settings, json=False) as session:
            name = fetch(session, named, wanted, (*local_names(), *registry_names(session)))
    visit = Visit(
        folder=Path.cwd(),
        user=os.getuid(),
        group=os.getgid(),
        name=_user(),
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    argv = container_command(name, visit, tuple(command or ()), platform=wanted if platform else None)
    sys.stdout.flush()
    # From here on it is docker's: signals, the terminal and the exit code are the container's own.
    os.execvp(argv[0], argv)  # noqa: S606


def _of_layer(text: str, root: Path) -> str:
    """The image of a layer of the project's, where it is a layer's name; else the text."""
    from chainbuild.cli.project import load_project
    from chainbuild.errors import WrongUseError

    if "/" in text or ":" in text:
        return text
    try:
        project = load_project(root)
    except WrongUseError:
        return text  # a file with mistakes in it is no reason not to look into an image
    entry = project.layer(text) if project else None
    if project is None or entry is None:
        return text
    return str(entry.image if entry.image.tag else entry.image.with_tag(project.tag or "latest"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # ids that this machine has no name for
        return ""
