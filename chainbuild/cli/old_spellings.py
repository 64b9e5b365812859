"""Commands and flags under their earlier names: each is replaced by today's name, with a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

COMMANDS: Final[Mapping[tuple[str, str], str]] = {
    ("types", "create"): "build",
    ("release", "publish"): "page",
}
"""The name today of a command in a group."""
FLAGS: Final[Mapping[tuple[str, ...], Mapping[str, str]]] = {
    ("layer",): {"--tag": "--image"},
    ("types", "new"): {"--from": "--based-on"},
}
"""The names today of a command's flags."""
_END_OF_FLAGS: Final = "--"


def current_spelling(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return a command line with today's names, and a note for each name that was replaced."""
    current, notes = list(arguments), []
    if new := COMMANDS.get(tuple(current[:2])):  # type: ignore[arg-type]
        notes.append(f"chainbuild {current[0]} {current[1]} is now called chainbuild {current[0]} {new}")
        current[1] = new
    for command, renamed in FLAGS.items():
        if tuple(current[: len(command)]) != command:
            continue
        end = current.index(_END_OF_FLAGS) if _END_OF_FLAGS in current else len(current)
        for index, word in enumerate(current[:end]):
            flag, equals, value = word.partition("=")
            if flag in renamed:
                notes.append(f"{flag} is now called {renamed[flag]}")
                current[index] = f"{renamed[flag]}{equals}{value}"
    return current, tuple(dict.fromkeys(notes))
