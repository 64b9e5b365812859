"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import chainbuild
from chainbuild.cli import bootstrap, build, doctor, inventory, registry, verify, why

app = typer.Typer(
    name="chainbuild",
    help="Chains of Dockerfiles become slim, proven production images; nothing is built twice.",
    epilog="chainbuild amd64 chainbuild/atom build-base debian:bookworm-slim stock debian:bookworm-slim",
    no_args_is_help=True,
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
app.command("why")(why.why)
app.command("images")(inventory.images)
app.command("inspect")(inventory.inspect)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)
app.command("bootstrap")(bootstrap.bootstrap)
app.add_typer(registry.app, name="registry")

COMMANDS = frozenset({"build", "plan", "why", "images", "inspect", "verify", "doctor", "bootstrap", "registry"})
_OWN_FLAGS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})


def with_default_command(arguments: list[str]) -> list[str]:
    """The arguments with `build` put in front where no command is named: `chainbuild amd64 …`."""
    if not arguments or arguments[0] in COMMANDS or arguments[0] in _OWN_FLAGS:
        return arguments
    return ["build", *arguments]
