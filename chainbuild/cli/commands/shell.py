"""`chainbuild shell`: start a shell in an image, in the current folder."""

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
            help="Image from the local store or the chain registry, or the name of a layer.",
            show_default=False,
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND]", help="Command to run (default: a shell).", show_default=False),
    ] = None,
    *,
    pull: Annotated[
        bool, typer.Option("--pull", help="Use the chain registry's image even if a local one exists.")
    ] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
) -> int:
    """Start a shell in an image as the current user, with the current folder mounted at its own path.

    Exits with the exit code of the shell.
    """
    from chainbuild.cli.output import open_quietly
    from chainbuild.cli.settings import settings_from
    from chainbuild.errors import NotReadyError
    from chainbuild.execution.backends import current_backends
    from chainbuild.operations.shell import Visit, container_command, fetch
    from chainbuild.references import ImageReference, Platform
    from chainbuild.requests.layer import local_names, registry_names

    if not shutil.which("docker"):
        raise NotReadyError(
            "no docker command found on PATH",
            hint="Install Docker: script/setup does so on Debian; see docs.docker.com/get-docker for other systems.",
        )
    named = ImageReference.parse(_of_layer(image, root))
    target = Platform.parse(platform) if platform else Platform.of_this_machine()
    local = None if pull else current_backends().local.find(str(named))
    name = str(named)
    if local is None or (platform and not local.platform.same_as(target)):
        settings = settings_from(root=root, registry=registry, port=registry_port)
        with open_quietly(settings, json=False) as session:
            name = fetch(session, named, target, (*local_names(session), *registry_names(session)))
    visit = Visit(
        folder=Path.cwd(),
        user=os.getuid(),
        group=os.getgid(),
        name=_user(),
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    argv = container_command(name, visit, tuple(command or ()), platform=target if platform else None)
    sys.stdout.flush()
    # docker replaces this process: signals, the terminal and the exit code are the container's.
    os.execvp(argv[0], argv)  # noqa: S606


def _of_layer(text: str, root: Path) -> str:
    """Return the image of a layer of the project if `text` is a layer's name, else `text`."""
    from chainbuild.cli.runs.project import load_project
    from chainbuild.errors import WrongUseError

    if "/" in text or ":" in text:
        return text
    try:
        project = load_project(root)
    except WrongUseError:
        return text  # an image can be opened even if the project file has errors
    entry = project.layer(text) if project else None
    if project is None or entry is None:
        return text
    return str(entry.image if entry.image.tag else entry.image.with_tag(project.tag or "latest"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name on this machine
        return ""
