"""Make a patch to a Dockerfile of the commands that were typed in a debug shell.

The commands that succeeded become a RUN before the instruction, with its flags. Commands that only show something are left
out, and so is the instruction's own command.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from chainbuild.dockerfile.cut import Place
from chainbuild.dockerfile.words import split_instruction
from chainbuild.patterns import regex

_SHOWS: Final = regex(
    r"(?:cat|clear|df|diff|du|env|exit|file|find|grep|head|help|history|id|jobs|ldd|less|ls|man|more|nm|objdump|printenv"
    r"|ps|pwd|readelf|set|stat|tail|type|uname|wc|which|whoami)(?:\s.*)?",
    re.DOTALL,
)
# Operators that bind less tightly than &&, comments, and what a Dockerfile would read itself.
_NEEDS_SCRIPT: Final = regex(r"[;#\n]|\|\||(?<!&)&(?!&)|<<|\\$")
_MAY_WRITE: Final = regex(r"[;&>`]|\$\(")
_STATUS: Final = regex(r"[0-9]{1,3}")


def typed_commands(record: bytes) -> tuple[tuple[int, str], ...]:
    """Return the commands of a shell's record, in order, each with its status."""
    typed = []
    for entry in record.decode("utf-8", "surrogateescape").split("\0"):
        status, tab, command = entry.partition("\t")
        if tab and _STATUS.fullmatch(status):
            typed.append((int(status), command))
    return tuple(typed)


def lasting(typed: Sequence[tuple[int, str]], own: str) -> tuple[str, ...]:
    """Return the commands that belong into the Dockerfile; `own` is the command of the instruction itself."""
    return tuple(
        text
        for status, command in typed
        if status == 0 and (text := command.strip()) and text != own.strip() and not _only_shows(text)
    )


def _only_shows(command: str) -> bool:
    parts = [part.strip() for part in command.split("|")]
    return not _MAY_WRITE.search(command) and all(_SHOWS.fullmatch(part) for part in parts)


def patch(path: Path, root: Path, raw: bytes, place: Place, commands: Sequence[str], escape: str = "\\") -> str:
    """Return a unified diff that adds the commands to a Dockerfile before an instruction; empty if there are none.

    Its paths are relative to `root`, as `git apply` and `patch -p1` expect.
    """
    if not commands:
        return ""
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    ending = "\r" if lines[0].endswith("\r") else ""
    at = place.instruction.line - 1
    added = [f"{line}{ending}" for line in _run(commands, _flags(place, escape), escape)]
    name = os.path.relpath(path, root)
    diff = difflib.unified_diff(lines, [*lines[:at], *added, *lines[at:]], f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(diff) + "\n"


def _flags(place: Place, escape: str) -> str:
    """Return the flags of a RUN as they are written, with a blank after each."""
    if place.instruction.keyword != "RUN":
        return ""
    split = split_instruction(place.instruction.text, escape)
    return " ".join((*place.instruction.text[split.flags_start : split.start].split(), ""))


def _run(commands: Sequence[str], flags: str, escape: str) -> Iterator[str]:
    if any(_NEEDS_SCRIPT.search(command) for command in commands):
        end = next(name for name in _names() if name not in "\n".join(commands).split("\n"))
        yield f"RUN {flags}<<'{end}'"
        yield "set -e"
        for command in commands:
            yield from command.split("\n")
        yield end
        return
    first, *others = commands
    for number, text in enumerate((f"RUN {flags}{first}", *(f" && {command}" for command in others))):
        yield f"{text} {escape}" if number < len(others) else text


def _names() -> Iterator[str]:
    yield "EOF"
    number = 0
    while True:
        number += 1
        yield f"EOF{number}"
