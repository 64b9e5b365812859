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
            metavar="IMAGE|STEP",
            autocompletion=completion.images_and_steps,
            help="Image of the local store or of any registry, a step of the last run, or a layer.",
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
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.cli.output import open_quietly
    from chainbuild.execution.backends import current_backends
    from chainbuild.host.docker import no_docker_command
    from chainbuild.operations.shell import Visit, container_command, fetch, local_image
    from chainbuild.references import Platform

    if not shutil.which("docker"):
        raise no_docker_command()
    place = Place(root=root, registry=registry, port=registry_port)
    settings, (named,) = read_image_arguments((image,), platform, place)
    local = None if pull else local_image(current_backends().local, named, settings.chain)
    if local is not None:
        name, target = str(named.reference), local.platform
    else:
        with open_quietly(settings, json=False) as session:
            name, target = fetch(session, named)
    visit = Visit(
        folder=Path.cwd(),
        user=os.getuid(),
        group=os.getgid(),
        name=_user(),
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    # Engines refuse an image for another platform unless it is named.
    foreign = None if target.same_as(Platform.of_this_machine()) and not platform else target
    argv = container_command(name, visit, tuple(command or ()), platform=foreign)
    sys.stdout.flush()
    # docker replaces this process: signals, the terminal and the exit code are the container's.
    os.execvp(argv[0], argv)  # noqa: S606


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name on this machine
        return ""
