"""Writes the page that lists every command with every flag, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from chainbuild.cli.app import GROUPS, app

_INTRODUCTION = """\
# Every command and flag

What the installed version takes, as `chainbuild COMMAND --help` says it.
How things are meant is told in [the command](command.md).
"""


def write_reference(target: Path) -> None:
    """Write the page, unless it says that already (whoever watches the folder is not woken for nothing)."""
    text = "\n".join([_INTRODUCTION, *_lines()]) + "\n"
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def _lines() -> Iterator[str]:
    root: Any = get_command(app)
    for heading, names in GROUPS.items():
        yield f"## {heading}\n"
        for name in names:
            yield from _command(f"chainbuild {name}", root.commands[name])


def _command(path: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", None)
    yield f"### {path}\n"
    yield f"{_text(command.help)}\n"
    if children:
        for name, child in children.items():
            yield from _command(f"{path} {name}", child)
        return
    words = [one for one in command.params if one.param_type_name == "argument"]
    flags = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([path, *(one.metavar or one.name.upper() for one in words), "[flags]" if flags else ""])
    yield f"```\n{usage.rstrip()}\n```\n"
    if words or flags:
        yield "| | |\n| --- | --- |"
        yield from (f"| `{_cell(one.metavar or one.name.upper())}` | {_cell(_text(one.help))} |" for one in words)
        yield from (f"| {_names(one)} | {_cell(_text(one.help))}{_beside(one)} |" for one in flags)
        yield ""


def _names(flag: Any) -> str:
    value = "" if flag.is_flag or flag.count else f" {flag.metavar or flag.type.name.upper()}"
    names = [*sorted(flag.opts, key=len, reverse=True), *flag.secondary_opts]
    return ", ".join(f"`{_cell(name + (value if name.startswith('--') else ''))}`" for name in names)


def _beside(flag: Any) -> str:
    notes = [f"environment: `{flag.envvar}`"] if flag.envvar else []
    default = flag.default if flag.show_default is True else flag.show_default
    if default and not flag.is_flag and not flag.count:
        notes.append(f"default: {default}")
    return f" ({'; '.join(notes)})" if notes else ""


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
