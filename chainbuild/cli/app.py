"""The application: every command, its group in the help, and its example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import chainbuild
from chainbuild.cli.commands import (
    bootstrap,
    build,
    ci,
    diff,
    doctor,
    init,
    layer,
    minimize,
    native,
    records,
    registry,
    release,
    sbom,
    science,
    shell,
    singularity,
    trust,
    verify,
    why,
)
from chainbuild.cli.commands import image_types as types
from chainbuild.cli.commands import images as inventory
from chainbuild.cli.commands import test as retest
from chainbuild.cli.examples import ending
from chainbuild.cli.flags import Command
from chainbuild.errors import WrongUseError
from chainbuild.project.location import find_project
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

GROUPS: dict[str, tuple[str, ...]] = {}
"""The names of the commands by the heading under which `--help` lists them."""


class _Grouped(TyperGroup):
    """List the commands in groups, one line each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].short_help or "") for name in names])


app = typer.Typer(
    name="chainbuild",
    cls=_Grouped,
    help="Build slim, tested images from chains of Dockerfiles. Nothing is built twice.",
    epilog=ending("chainbuild"),
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"chainbuild {chainbuild.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _first_sentence(function: Callable[..., int]) -> str:
    return re.split(r"[.:;](?:\s|$)", inspect.getdoc(function) or "", maxsplit=1)[0] + "."


def _evaluate_annotations(function: Callable[..., int]) -> None:
    """Replace the annotations by their values: typer evaluates them six times, which takes a tenth of every start."""
    function.__annotations__ = inspect.get_annotations(function, eval_str=True)


def _put(name: str, what: Callable[..., int] | typer.Typer, summary: str) -> str:
    """Add a command, or a group of commands, to the application; return its name."""
    if isinstance(what, typer.Typer):
        for command in what.registered_commands:
            if command.callback is not None:
                command.short_help = _first_sentence(command.callback)
                command.epilog = ending(f"{name} {command.name or command.callback.__name__}")
                _evaluate_annotations(command.callback)
                command.cls = Command if command.cls is TyperCommand else command.cls
        app.add_typer(what, name=name, short_help=summary, epilog=ending(name))
    else:
        _evaluate_annotations(what)
        app.command(name, cls=Command, short_help=summary, epilog=ending(name))(what)
    return name


GROUPS.update(
    {
        "Build images": (
            _put("build", build.build, "Build a chain and its slim image (the default command)."),
            _put("plan", build.plan, "Show what build would do, and why."),
            _put("layer", layer.layer, "Build a folder with a plain Dockerfile on any base image."),
            _put("science", science.app, "Build trees of science and compatibility layers."),
            _put("types", types.app, "Build image types (TYPE/SYSTEM folders) and publish them by visibility."),
            _put("init", init.init, "Write a chainbuild.yaml for this folder."),
        ),
        "Inspect images": (
            _put("why", why.why, "Explain why a step would be built: what differs from its last record."),
            _put("images", inventory.images, "List the images of the chain registry."),
            _put("inspect", inventory.inspect, "Show how an image was made, step by step."),
            _put("diff", diff.diff, "Compare two images: packages, files, size, configuration, steps."),
            _put("shell", shell.shell, "Start a shell in an image, in the current folder."),
            _put("minimize", minimize.app, "Explain what a slim image contains and what was removed."),
            _put("sbom", sbom.sbom, "Print the bill of materials of an image (SPDX)."),
        ),
        "Check images": (
            _put("verify", verify.verify, "Check the libraries, symbol versions and configuration of an image."),
            _put("test", retest.again, "Run the tests of built images again."),
        ),
        "Release images": (
            _put("release", release.app, "Plan a release, review it, apply it by digest, roll it back."),
            _put("singularity", singularity.app, "Convert images to SIF files and publish them."),
        ),
        "Set up": (
            _put("doctor", doctor.doctor, "Check this machine and its builders."),
            _put("registry", registry.app, "Manage the chain registry: up, down, status, ls, gc."),
            _put("records", records.app, "Copy records between registries, or sign older ones."),
            _put("trust", trust.app, "Manage the keys whose records are trusted."),
            _put("bootstrap", bootstrap.bootstrap, "Make a base image from the packages of a distribution."),
            _put("native", native.native, "Make the native compilers for emulated builds on a base image."),
            _put("ci", ci.ci, "Print a CI workflow for this tree."),
        ),
    }
)
COMMANDS = frozenset(name for names in GROUPS.values() for name in names)
_BUILD_ARGUMENTS = 6
"""PLATFORM REPO TAG BASE OPTION PRODUCTION. With that many arguments, an unknown first one is a wrong platform."""
_OWN_FLAGS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})


def with_default_command(arguments: list[str]) -> list[str]:
    """Return the arguments, with `build` in front if they name no command: `chainbuild amd64 …`, or none in a project.

    Errors: `WrongUseError`, with the nearest command, if the first argument is neither a command nor a platform.
    """
    if not arguments:
        return ["build"] if find_project(Path.cwd()) else ["--help"]
    first = arguments[0]
    if first in COMMANDS or first in _OWN_FLAGS:
        return arguments
    if first.startswith("-"):
        named = next((text for text in arguments if text in COMMANDS), None)
        if named and named != "build":
            raise WrongUseError(
                f"{first} must come after the command: chainbuild {named} {first} …",
                hint=f"Move {first} behind {named}.",
            )
        return ["build", *arguments]
    if len(arguments) < _BUILD_ARGUMENTS and not _is_platform(first):
        hint = perhaps_you_meant(first, COMMANDS)
        raise WrongUseError(f"{first!r} is neither a command nor a platform", hint=f"{hint}See chainbuild --help.")
    return ["build", *arguments]


def _is_platform(text: str) -> bool:
    try:
        return all(Platform.parse(name) for name in text.split(","))
    except WrongUseError:
        return False
