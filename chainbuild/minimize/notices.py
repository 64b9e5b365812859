"""What a stage reports to people: one line each, with what a program needs in order to act on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chainbuild.minimize.lists import ListWord, as_list, words_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """An error or a warning.

    `kind` is one of the words that docs/stages.md lists. `text` is one line. `path` is the file that it is about, in the
    chain's image or in the result, and `package` the package of that file, as `deb:git:amd64`; both may be empty. `fix` is
    a line for `minimize-<platform>-args`, or empty if no such line mends it.
    """

    kind: str
    text: str
    path: str = ""
    package: str = ""
    fix: str = ""


def rows(notices: Iterable[Notice]) -> list[dict[str, str]]:
    """Return the notices as a report has them."""
    return [asdict(notice) for notice in notices]


def texts(reported: Iterable[object]) -> list[str]:
    """Return the lines of a report's `warnings` or `errors`; those of `chainbuild.minimize/1` are plain strings."""
    return [str(row.get("text", "")) if isinstance(row, Mapping) else str(row) for row in reported]


def fixes(reported: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the lines that mend all of a report's `warnings`, one for each argument, in the order of the report.

    Several values of one argument become one list; a value that is no list (`KEEP_DLOPEN=1`) stays as it is.
    """
    found: dict[str, list[str]] = {}
    for row in reported:
        name, separator, value = str(row.get("fix", "")).partition("=")
        if separator:
            values = found.setdefault(name, [])
            values.extend(word for word in map(str, words_in(value)) if word not in values)
    return tuple(f"{name}={' '.join(values)}" for name, values in found.items())


def fix_line(argument: str, paths: Iterable[str]) -> str:
    """Return the line `ARGUMENT=PATH PATH`, each path written so that it is read back as the pattern of that path alone."""
    return f"{argument}={as_list(ListWord(text=_pattern(path)) for path in paths)}"


def _pattern(path: str) -> str:
    """A shell pattern for a path; a character that no line of text can hold is matched by `?`."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c if c.isprintable() else "?" for c in path)
