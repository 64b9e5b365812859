"""The application: every command, its group in the help, and its example."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import chainbuild
from chainbuild.cli.examples import ending
from chainbuild.errors import WrongUseError


class _Entry(NamedTuple):
    """A command before its module is imported: its name, its line in `--help`, and where its function or group is."""

    name: str
    summary: str
    where: str
    """`MODULE` or `MODULE.FUNCTION` in `cli/commands/`; by default both have the command's name."""

    @property
    def is_group(self) -> bool:
        """Return whether it holds other commands."""
        return self.where.endswith(".app")


def _entry(name: str, summary: str, where: str = "") -> _Entry:
    return _Entry(name, summary, where or f"{name}.{name}")


_GROUPED: Final = {
    "Build images": (
        _entry("build", "Build a chain and its slim image (the default command)."),
        _entry("plan", "Show what build would do, and why.", "build.plan"),
        _entry("rebase", "Put images on a base that moved without a build, if they provably fit."),
        _entry("layer", "Build a folder with a plain Dockerfile on any base image."),
        _entry("science", "Build trees of science and compatibility layers.", "science.app"),
        _entry("types", "Build image types (TYPE/SYSTEM folders) and publish them by visibility.", "image_types.app"),
        _entry("init", "Write a chainbuild.yaml for this folder."),
    ),
    "Inspect images": (
        _entry("why", "Explain why a step would be built: what differs from its last record."),
        _entry("report", "Write a page with the timeline of a run."),
        _entry("images", "List the images of the chain registry."),
        _entry("inspect", "Show how an image was made, step by step.", "images.inspect"),
        _entry("diff", "Compare two images: packages, files, size, configuration, steps."),
        _entry("files", "List and print files of an image, and show what a step added."),
        _entry("debug", "Start a shell at the instruction of a Dockerfile that failed."),
        _entry("shell", "Start a shell in an image, in the current folder."),
        _entry("minimize", "Explain what a slim image contains and what was removed.", "minimize.app"),
        _entry("sbom", "Print the bill of materials of an image (SPDX)."),
    ),
    "Check images": (
        _entry("outdated", "List packages with newer versions, and the steps that would gain them."),
        _entry("verify", "Check the libraries, symbol versions and configuration of an image."),
        _entry("test", "Run the tests of built images again.", "test.again"),
    ),
    "Release images": (
        _entry("release", "Plan a release, review it, apply it by digest, roll it back.", "release.app"),
        _entry("singularity", "Convert images to SIF files and publish them.", "singularity.app"),
    ),
    "Set up": (
        _entry("doctor", "Check this machine and its builders."),
        _entry("registry", "Manage the chain registry: up, down, status, ls, gc.", "registry.app"),
        _entry("records", "Copy records between registries, or sign older ones.", "records.app"),
        _entry("trust", "Manage the keys whose records are trusted.", "trust.app"),
        _entry("bootstrap", "Make a base image from the packages of a distribution."),
        _entry("native", "Make the native compilers for emulated builds on a base image."),
        _entry("ci", "Print a CI workflow for this tree."),
        _entry("docs", "Print a page of the documentation."),
    ),
}
_ENTRIES: Final = {
    entry.name: entry
    for are_groups in (False, True)
    for entries in _GROUPED.values()
    for entry in entries
    if entry.is_group is are_groups
}
"""In the order of completions: commands, then groups of commands."""
GROUPS: Final = {heading: tuple(entry.name for entry in entries) for heading, entries in _GROUPED.items()}
"""The names of the commands by the heading under which `--help` lists them."""
COMMANDS: Final = frozenset(_ENTRIES)

ALIASES: Final = frozenset({"help", "version"})
"""Words that people type in place of `--help` and `--version`."""


class _Commands(Mapping[str, Any]):
    """The commands by name. Each one's module is imported, and its parser made, when the command is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(_ENTRIES[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)


class _Grouped(TyperGroup):
    """List the commands in groups, one line each, and make only the parser of the command that is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(_ENTRIES)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for heading, entries in _GROUPED.items():
            with formatter.section(heading):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return completions for a command's name: only its name and its line in `--help` are needed."""
        commands = self.commands
        self.commands = {name: TyperCommand(name, short_help=entry.summary) for name, entry in _ENTRIES.items()}
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.commands = commands


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
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _command(entry: _Entry) -> Any:
    """Import a command and return its parser, or that of a group of commands."""
    import inspect

    from chainbuild.cli.parser import Command

    module, _, name = entry.where.partition(".")
    what = getattr(import_module(f"chainbuild.cli.commands.{module}"), name)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(what, typer.Typer):
        for command in what.registered_commands:
            if command.callback is not None:
                command.short_help = _first_sentence(inspect.getdoc(command.callback) or "")
                command.epilog = ending(f"{entry.name} {command.name or command.callback.__name__}")
                _evaluate_annotations(command.callback)
                command.cls = Command if command.cls is TyperCommand else command.cls
        alone.add_typer(what, name=entry.name, short_help=entry.summary, epilog=ending(entry.name))
        return get_command(alone).commands[entry.name]  # type: ignore[attr-defined]
    _evaluate_annotations(what)
    alone.command(entry.name, cls=Command, short_help=entry.summary, epilog=ending(entry.name))(what)
    return get_command(alone)


def _first_sentence(text: str) -> str:
    return re.split(r"[.:;](?:\s|$)", text, maxsplit=1)[0] + "."


def _evaluate_annotations(function: Callable[..., int]) -> None:
    """Replace the annotations by their values: typer evaluates them six times, which takes a tenth of every start."""
    import inspect

    function.__annotations__ = inspect.get_annotations(function, eval_str=True)


_BUILD_ARGUMENTS = 6
"""PLATFORM REPO TAG BASE OPTION PRODUCTION. With that many arguments, an unknown first one is a wrong platform."""
_OWN_FLAGS = frozenset({"--help", "-h", "--version", "-V", "--install-completion", "--show-completion"})


def with_default_command(arguments: list[str]) -> list[str]:
    """Return the arguments, with `build` in front if they name no command: `chainbuild amd64 …`, or none in a project.

    `help COMMAND` and `version` are `COMMAND --help` and `--version`.

    Errors: `WrongUseError`, with the nearest command, if the first argument is neither a command nor a platform.
    """
    if not arguments:
        from chainbuild.project.location import find_project

        return ["build"] if find_project(Path.cwd()) else ["--help"]
    first, *others = arguments
    if first == "help":
        return [*others, "--help"]
    if arguments == ["version"]:
        return ["--version"]
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
    if not _is_platform(first) and (len(arguments) < _BUILD_ARGUMENTS or any(map(_is_platform, others))):
        from chainbuild.text import perhaps_you_meant

        hint = perhaps_you_meant(first, COMMANDS | ALIASES)
        raise WrongUseError(f"{first!r} is neither a command nor a platform", hint=f"{hint}See chainbuild --help.")
    return ["build", *arguments]


def _is_platform(text: str) -> bool:
    from chainbuild.references import Platform

    try:
        return all(Platform.parse(name) for name in text.split(","))
    except WrongUseError:
        return False
