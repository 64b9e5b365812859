"""`chainbuild debug`: start a shell at an instruction of a step's Dockerfile, as it is in the build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.values import replace

DebuggedStep = Annotated[
    str | None,
    typer.Argument(
        metavar="[STEP]",
        autocompletion=completion.steps,
        help="Step to debug: 40-openblas, or amd64/stock/40-openblas (default: the step that failed in the last run).",
        show_default=False,
    ),
]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- COMMAND]", help="Command to run (default: a shell).", show_default=False),
]
At = Annotated[
    int | None,
    typer.Option(
        "--at",
        metavar="LINE",
        min=1,
        help="Start before the instruction on this line of the Dockerfile (default: the one that failed).",
        show_default=False,
    ),
]
Split = Annotated[
    bool,
    typer.Option(
        "--split",
        help="Run the instruction piece by piece, each part of a chain of && or of set -e by itself, and stop at the"
        " piece that fails. Needs no terminal.",
    ),
]
Diff = Annotated[
    Path | None,
    typer.Option(
        "--diff",
        metavar="FILE",
        help="Write the commands that you typed and that succeeded to FILE, as a patch to the Dockerfile (-: stdout).",
        show_default=False,
    ),
]
Mounts = Annotated[
    list[str] | None,
    typer.Option("--mount", metavar="MOUNT", help="Add a mount, in the form of docker run --mount. Can be repeated."),
]


def debug(
    step: DebuggedStep = None,
    command: Command = None,
    *,
    at: At = None,
    split: Split = False,
    diff: Diff = None,
    mount: Mounts = None,
    secret: flags.Secrets = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    builder: flags.Builders = None,
) -> int:
    """Start a shell at the instruction that failed: before it, on its platform, with its variables, mounts and user.

    With COMMAND or --split, exits with the exit code of what ran.
    """
    from chainbuild.cli.runs.debug import DebugOptions, debug_step

    options = DebugOptions(root=root, registry=registry, port=registry_port, builders=builder)
    options = replace(options, step=step, command=tuple(command or ()), at=at, split=split, diff=diff)
    return debug_step(replace(options, mounts=tuple(mount or ()), secrets=tuple(secret or ())))
