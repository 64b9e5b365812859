"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from chainbuild.cli.commands import test as retrial
from chainbuild.cli.flags import with_registry_flags
from chainbuild.errors import WrongUseError
from chainbuild.project.location import find_project
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

GROUPS: dict[str, tuple[str, ...]] = {}
"""The commands by what they are for, as `--help` lists them."""


class _Grouped(TyperGroup):
    """Lists the commands by groups, each in one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].short_help or "") for name in names])


app = typer.Typer(
    name="chainbuild",
    cls=_Grouped,
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


def _put(name: str, what: Callable[..., int] | typer.Typer, said: str) -> str:
    if isinstance(what, typer.Typer):
        for command in what.registered_commands:
            if command.callback is not None:
                command.callback = with_registry_flags(command.callback)
        app.add_typer(what, name=name, short_help=said)
    else:
        app.command(name, short_help=said)(with_registry_flags(what))
    return name


GROUPS.update(
    {
        "Make images": (
            _put(
                "build", build.build, "A chain and the slim production image that it ends in; the word may be left out."
            ),
            _put("plan", build.plan, "What build with the same words would do, and why."),
            _put("layer", layer.layer, "A folder with a plain Dockerfile, on a base of one's own."),
            _put("science", science.app, "Trees of science and compatibility layers."),
            _put("types", types.app, "Image types: TYPE/SYSTEM folders, published by visibility."),
            _put("init", init.init, "Write a chainbuild.yaml from what is in the folder."),
        ),
        "Look at images": (
            _put("why", why.why, "Why a step would be built: what differs from its last record."),
            _put("images", inventory.images, "What the chain registry holds."),
            _put("inspect", inventory.inspect, "How an image was made, step by step."),
            _put("diff", diff.diff, "What changed between two images: packages, files, size, configuration, steps."),
            _put("shell", shell.shell, "A shell in an image, as yourself, in this folder."),
            _put("minimize", minimize.app, "What a slim image is made of, why, and what was left out."),
            _put("sbom", sbom.sbom, "An image's bill of materials, as SPDX."),
        ),
        "Prove images": (
            _put("verify", verify.verify, "Check that every ELF file of an image has its libraries."),
            _put("test", retrial.again, "Run the tests of built images again."),
        ),
        "Release images": (
            _put("release", release.app, "Plans of releases: reviewed, applied by digest, rolled back."),
            _put("singularity", singularity.app, "Images as SIF files, made and published."),
        ),
        "Machines": (
            _put("doctor", doctor.doctor, "What this machine and its builders lack."),
            _put("registry", registry.app, "The chain registry: up, down, status, ls, gc."),
            _put("records", records.app, "Records of other registries, and of earlier versions."),
            _put("trust", trust.app, "Whose records count."),
            _put("bootstrap", bootstrap.bootstrap, "A base image from the distribution's packages."),
            _put("ci", ci.ci, "Print a CI workflow for the tree."),
        ),
    }
)
COMMANDS = frozenset(name for names in GROUPS.values() for name in names)
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
    if len(arguments) < _WORDS and not _is_platform(first):
        hint = perhaps_you_meant(first, COMMANDS)
        raise WrongUseError(f"{first!r} is neither a command nor a platform", hint=f"{hint}See chainbuild --help.")
    return ["build", *arguments]


def _is_platform(text: str) -> bool:
    try:
        return all(Platform.parse(word) for word in text.split(","))
    except WrongUseError:
        return False
