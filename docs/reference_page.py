"""Write the page of every command and flag, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from chainbuild.cli.app import GROUPS, app

_INTRODUCTION = """\
# Command reference

Every command and flag of this version, as `chainbuild COMMAND --help` prints them. [The command](command.md) explains how
they work together. All commands also accept `--help` (`-h`).
"""
_FLAG: Final = re.compile(r"(?<![\w`/-])(--?[A-Za-z][\w-]*)(?![\w`])")
_CODE: Final = re.compile(r"(`[^`]*`)")
_PAGE: Final = re.compile(r"Read more: chainbuild docs ([\w/-]+)")


def write_reference(target: Path) -> None:
    """Write the page, unless it has this text already: what watches the folder is not woken for nothing."""
    text = page()
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def page() -> str:
    """Return the page."""
    root: Any = get_command(app)
    parts = [_INTRODUCTION, *_contents(root), *_command("chainbuild", root, 2, children=False)]
    for heading, names in GROUPS.items():
        parts.append(f"## {heading}\n")
        for name in names:
            parts += _command(f"chainbuild {name}", root.commands[name], 3)
    return "\n".join([*parts, *_flag_table(root)])


def commands(command: Any, path: str = "chainbuild") -> Iterator[tuple[str, Any]]:
    """Return every command with what is typed to call it, those that hold other commands as well."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def _contents(root: Any) -> Iterator[str]:
    yield "| command | what it does |\n| --- | --- |"
    for heading, names in GROUPS.items():
        yield f"| **{heading}** | |"
        for name in names:
            command = root.commands[name]
            children = [*commands(command, f"chainbuild {name}")][1:]
            below = " " + ", ".join(_link(path, path.split()[-1]) for path, _ in children) if children else ""
            yield f"| {_link(f'chainbuild {name}', name)} | {_cell(_prose(command.short_help))}{below} |"
    yield ""


def _command(path: str, command: Any, level: int, *, children: bool = True) -> Iterator[str]:
    yield f"{'#' * level} {path if children else 'chainbuild, without a command'}\n"
    below = getattr(command, "commands", {}) if children else {}
    yield from _help(command)
    if below:
        for name, child in below.items():
            yield from _command(f"{path} {name}", child, level + 1)
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    flags = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join([path, *(_metavar(each) for each in arguments), "[flags]" if flags else ""])
    yield f"```text\n{usage.rstrip()}\n```\n"
    yield from (f"`{_metavar(each)}`\n: {_prose(each.help)}\n" for each in arguments)
    yield from (f"{_names(each)}\n: {_prose(each.help)}{_notes(each)}\n" for each in flags)


def _help(command: Any) -> Iterator[str]:
    """Paragraph by paragraph; what follows `Example:` is code."""
    for paragraph in "\n\n".join(filter(None, [command.help, command.epilog])).split("\n\n"):
        text, _, example = paragraph.partition("Example: ")
        if text.lstrip().startswith("chainbuild "):
            text, example = "", text
        if text.startswith("\b"):
            yield f"```text\n{text.removeprefix(chr(8)).strip(chr(10))}\n```\n"
        elif text.strip():
            yield f"{_prose(text)}\n"
        if example:
            yield f"```shell\n{example.strip()}\n```\n"


def _flag_table(root: Any) -> Iterator[str]:
    """Every flag with the commands that have it."""
    users: dict[str, list[str]] = {}
    for path, command in commands(root):
        for each in command.params:
            if each.param_type_name == "option" and not each.hidden and path != "chainbuild":
                users.setdefault(max(each.opts, key=len), []).append(path)
    yield "## All flags\n\n| flag | commands |\n| --- | --- |"
    for flag in sorted(users, key=lambda name: name.lstrip("-")):
        yield f"| `{flag}` | {', '.join(_link(path, path.removeprefix('chainbuild ')) for path in users[flag])} |"
    yield ""


def _link(path: str, text: str) -> str:
    return f"[{text}](#{path.replace(' ', '-')})"


def _metavar(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return "|".join(map(str, choices))
    if parameter.param_type_name == "argument":
        name = str(parameter.name).upper()
        return name if parameter.required else f"[{name}]"
    return str(parameter.type.name).upper().removesuffix(" RANGE")


def _names(flag: Any) -> str:
    value = "" if flag.is_flag or flag.count else f" {_metavar(flag)}"
    names = [*sorted(flag.opts, key=len, reverse=True), *flag.secondary_opts]
    return ", ".join(f"`{name}{value if name.startswith('--') else ''}`" for name in names)


def _notes(flag: Any) -> str:
    notes = [f"environment: `{flag.envvar}`"] if flag.envvar else []
    default = flag.default if flag.show_default is True else flag.show_default
    if default and not flag.is_flag and not flag.count:
        notes.append(f"default: {_prose(str(default))}")
    return f" ({'; '.join(notes)})" if notes else ""


def _prose(text: str | None) -> str:
    """Return a help text as Markdown: flags as code, pages as links, and nothing else that Markdown would take for its own."""
    parts = _CODE.split(" ".join((text or "").split()))
    return "".join(part if index % 2 else _plain(part) for index, part in enumerate(parts))


def _plain(text: str) -> str:
    text = re.sub(r"([\\*_\[\]<>$~])", r"\\\1", text)
    return _PAGE.sub(lambda match: f"Read more: [{match[1]}]({match[1]}.md)", _FLAG.sub(r"`\1`", text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
