"""The parser of a command: flags of all commands that use the managed registry, and flags whose value is optional."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand
from typer.main import get_command


def _for_process(variable: str) -> Callable[[Any], None]:
    """Return a callback that puts the value of a flag into an environment variable."""

    def put(value: Path | str | None) -> None:
        if value is not None:
            os.environ[variable] = str(value.absolute() if isinstance(value, Path) else value)

    return put


def _registry_flags(
    *,
    registry_data: Annotated[
        Path | None,
        typer.Option(
            "--registry-data",
            metavar="DIR",
            envvar="CHAINBUILD_REGISTRY_DATA",
            file_okay=False,
            help="Folder of the managed registry's data (default: ~/.local/share/chainbuild/registry).",
            show_default=False,
            expose_value=False,
            callback=_for_process("CHAINBUILD_REGISTRY_DATA"),
        ),
    ] = None,
    registry_compose: Annotated[
        Path | None,
        typer.Option(
            "--registry-compose",
            metavar="FILE",
            envvar="CHAINBUILD_REGISTRY_COMPOSE",
            dir_okay=False,
            help="Compose file that starts the managed registry (default: the one that comes with chainbuild).",
            show_default=False,
            expose_value=False,
            callback=_for_process("CHAINBUILD_REGISTRY_COMPOSE"),
        ),
    ] = None,
    registry_linger: Annotated[
        str | None,
        typer.Option(
            "--registry-linger",
            metavar="10m",
            envvar="CHAINBUILD_REGISTRY_LINGER",
            help="Keep the managed registry running for this long after the command (default: 0).",
            show_default=False,
            expose_value=False,
            callback=_for_process("CHAINBUILD_REGISTRY_LINGER"),
        ),
    ] = None,
) -> None:
    pass


_LINGER: Final = "registry_linger"
_MANAGING: Final = {"up", "down", "status"}
"""The commands that manage the registry without using it."""


@cache
def _registry_parameters() -> tuple[Any, ...]:
    app = typer.Typer(add_completion=False)
    app.command()(_registry_flags)
    return tuple(get_command(app).params)


OPTIONAL_VALUES: Final = {"--refresh-outdated": "--refresh-outdated=all", "--nightly": "--nightly=all"}
"""Flags that may be given without their value, and what they mean then."""


class Command(TyperCommand):
    """A command that has --registry-data, --registry-compose and --registry-linger if it has --registry-port.

    They apply to the whole process through the environment; the command itself does not receive them
    (`session.managed_registry` reads them).
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words. A flag whose value is optional (`--refresh-outdated[=security]`) never takes the next word."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(OPTIONAL_VALUES.get(word, word) for word in args[:end]), *args[end:]])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [parameter.name for parameter in self.params]
        if "registry_port" in names:
            place = names.index("registry_port") + 1
            flags = [flag for flag in _registry_parameters() if self.name not in _MANAGING or flag.name != _LINGER]
            self.params = [*self.params[:place], *flags, *self.params[place:]]
