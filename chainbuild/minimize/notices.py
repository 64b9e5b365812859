"""Errors and warnings of a stage: a line of text each, plus the data that a program needs to act on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chainbuild.minimize.lists import ListWord, as_list, words_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """An error or a warning.

    `kind` is one of the kinds listed in docs/stages.md. `text` is one line. `path` is the affected file, in the chain's
    image or in the result, and `package` the package that owns it, such as `deb:git:amd64`; both may be empty. `fix` is
    a line for `minimize-<platform>-args`, or empty if no such line fixes it.
    """

    kind: str
    text: str
    path: str = ""
    package: str = ""
    fix: str = ""


def rows(notices: Iterable[Notice]) -> list[dict[str, str]]:
    """Return the notices as rows of a report."""
    return [asdict(notice) for notice in notices]


def texts(entries: Iterable[object]) -> list[str]:
    """Return the texts of a report's `warnings` or `errors`; in `chainbuild.minimize/1` they are plain strings."""
    return [str(row.get("text", "")) if isinstance(row, Mapping) else str(row) for row in entries]


def fixes(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the lines that fix all of a report's `warnings`, one per argument, in the order of the report.

    Several values of an argument become a list; a value that is not a list (`KEEP_DLOPEN=1`) stays as it is.
    """
    values_of: dict[str, list[str]] = {}
    for row in entries:
        name, separator, value = str(row.get("fix", "")).partition("=")
        if separator:
            values = values_of.setdefault(name, [])
            values.extend(word for word in map(str, words_in(value)) if word not in values)
    return tuple(f"{name}={' '.join(values)}" for name, values in values_of.items())


def fix_line(argument: str, paths: Iterable[str]) -> str:
    """Return the line `ARGUMENT=PATH PATH`, each path escaped so that it is a pattern of that path only."""
    return f"{argument}={as_list(ListWord(text=_pattern(path)) for path in paths)}"


def _pattern(path: str) -> str:
    """Return a shell pattern for a path; a character that a line of text cannot contain is replaced by `?`."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c if c.isprintable() else "?" for c in path)
