"""The commands, put together."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

import chainbuild
from chainbuild.cli import (
    bootstrap,
    build,
    ci,
    doctor,
    init,
    inventory,
    layer,
    minimize,
    registry,
    retrial,
    sbom,
    science,
    shell,
    verify,
    why,
)  # fmt: skip
from chainbuild.errors import WrongUseError
from chainbuild.project.place import find_project
from chainbuild.references import Platform

app = typer.Typer(
    name="chainbuild",
    help="Chains of Dockerfiles become slim, proven production images; nothing is built twice.",
    epilog="chainbuild amd64 chainbuild/atom build-base debian:bookworm-slim stock debian:bookworm-slim",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chainbuild {chainbuild.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("build")(build.build)
app.command("plan")(build.plan)
app.command("layer")(layer.layer)
app.command("init")(init.init)
app.command("why")(why.why)
app.command("images")(inventory.images)
app.command("inspect")(inventory.inspect)
app.command("shell")(shell.shell)
app.command("verify")(verify.verify)
app.command("test")(retrial.again)
app.add_typer(minimize.app, name="minimize")
app.command("sbom")(sbom.sbom)
app.command("doctor")(doctor.doctor)
app.command("ci")(ci.ci)
app.command("bootstrap")(bootstrap.bootstrap)
app.add_typer(registry.app, name="registry")
app.add_typer(science.app, name="science")

COMMANDS = frozenset({
    "build", "plan", "layer", "init", "why", "images", "inspect", "shell", "verify", "test", "minimize", "sbom", "doctor",
    "ci", "bootstrap", "registry", "science",
})  # fmt: skip
_WORDS = 6
"""PLATFORM REPO TAG BASE OPTION PRODUCTION: with as many words, a first one that is wrong is a wrong platform."""
_OWN_FLAGS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})


def with_default_command(arguments: list[str]) -> list[str]:
    """The arguments with `build` put in front where no command is named: `chainbuild amd64 …`, or nothing in a project.

    Errors: `WrongUseError` where the first word is neither a command nor a platform, with the nearest command.
    """
    if not arguments:
        return ["build"] if find_project(Path.cwd()) else ["--help"]
    first = arguments[0]
    if first in COMMANDS or first in _OWN_FLAGS:
        return arguments
    if first.startswith("-"):
        named = next((word for word in arguments if word in COMMANDS), None)
        if named and named != "build":
            raise WrongUseError(f"the command comes first: chainbuild {named} …", hint=f"Move {first} behind {named}.")
        return ["build", *arguments]
    near = difflib.get_close_matches(first, COMMANDS, n=1)
    if len(arguments) < _WORDS and not _is_platform(first):
        hint = f"Perhaps you meant {near[0]!r}. " if near else ""
        raise WrongUseError(f"{first!r} is neither a command nor a platform", hint=f"{hint}See chainbuild --help.")
    return ["build", *arguments]


def _is_platform(text: str) -> bool:
    try:
        return all(Platform.parse(word) for word in text.split(","))
    except WrongUseError:
        return False
