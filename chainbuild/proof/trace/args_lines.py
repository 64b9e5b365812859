"""Add values to `ADDITIONAL_FILES` in an option's args file, and change nothing else in it.

The file keeps its comments, blank lines, order, byte order mark, line ends and mode. Values are appended to the
existing line, with the separator that it uses (see `minimize/lists.py`); if there is none, a line is appended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainbuild import limits
from chainbuild.errors import Problem, WrongUseError
from chainbuild.minimize.lists import ListWord, as_list, words_in
from chainbuild.parsing.args_files import parse_args
from chainbuild.patterns import regex
from chainbuild.references import Platform

NAME: Final = "ADDITIONAL_FILES"
_LISTS: Final = (NAME, "ADDITIONAL_LIB_LOCATIONS", "PRODUCTION_PACKAGES", "TRACE_IGNORE")
_STAGES: Final = ("minimize", "production")
_BETWEEN: Final = regex(r"(?:\\.|[^\s,\\])+(?P<separator>[\s,]+)(?=[^\s,])", re.DOTALL)
_ENDING: Final = regex(r"(?<!\\)[\s,]+$")
_BOM: Final = "\ufeff"


def args_file(option: Path, platform: Platform) -> Path:
    """Return the file that sets `ADDITIONAL_FILES` for a platform, or the file to which the line is added.

    A file of either stage may set it, and production's wins (see docs/args-files.md). Any spelling of the platform is
    accepted. If there is no file yet, it is `minimize-<platform>-args`.
    """
    present = {
        stage: path
        for stage in _STAGES
        for spelling in reversed(platform.spellings)
        if (path := option / f"{stage}-{spelling}-args").is_file()
    }
    for stage in reversed(_STAGES):
        if stage in present and _sets_it(present[stage]):
            return present[stage]
    return present.get("minimize", option / f"minimize-{platform.name}-args")


def _sets_it(path: Path) -> bool:
    try:
        text = limits.read_tree_file(path).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return any(_key(line) == NAME for line in text.split("\n"))


def with_words(raw: bytes, words: Sequence[ListWord], shown: str) -> bytes:
    """Return the content of an args file with these values added to its `ADDITIONAL_FILES`, without duplicates.

    Errors: `WrongUseError` with every problem of the file, or if the value is taken from the environment.
    """
    _, problems = parse_args(raw, shown, {NAME: ""})
    if problems:
        raise WrongUseError(problems)
    text = raw.decode("utf-8")
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _key(line) != NAME:
            continue
        entry = line.removesuffix("\r")
        before, equals, value = entry.partition("=")
        if not equals:
            raise WrongUseError(
                [
                    Problem(
                        path=shown,
                        line=number + 1,
                        message=f"{NAME} takes its value from the environment and cannot be changed here",
                        hint=f"Set {NAME}=VALUE in the file, or add these values to the environment variable: {as_list(words)}",
                    )
                ]
            )
        lines[number] = f"{before}={_extended(value, words, _separator(lines))}{line[len(entry) :]}"
        return "\n".join(lines).encode("utf-8")
    ending = "\r\n" if "\r\n" in text else "\n"
    start = text if not text or text == _BOM or text.endswith("\n") else text + ending
    return f"{start}{NAME}={as_list(words, _separator(lines))}{ending}".encode()


def _key(line: str) -> str:
    """Return the key that a line sets; empty if it sets none."""
    entry = line.removeprefix(_BOM).removesuffix("\r")
    return "" if entry.lstrip().startswith("#") else entry.partition("=")[0]


def _separator(lines: Iterable[str]) -> str:
    """Return the separator of values in this file: that of the list itself, else that of another list; else a space."""
    values = {_key(line): line.removesuffix("\r").partition("=")[2] for line in lines}
    for name in _LISTS:
        match = _BETWEEN.match(values.get(name, "").lstrip(" \t,"))
        if match is not None:
            return match["separator"]
    return " "


def _extended(value: str, words: Sequence[ListWord], separator: str) -> str:
    present = {word.text for word in words_in(value) if not word.taken_back}
    more = as_list([word for word in words if word.text not in present], separator)
    if not more:
        return value
    start = _ENDING.sub("", value)
    # A trailing backslash belongs to no value, and would make the separator part of one.
    if (len(start) - len(start.rstrip("\\"))) % 2:
        start = start[:-1]
    return f"{start}{separator}{more}" if start.strip() else more


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically; an existing file keeps its mode and owner, and a link stays a link.

    Errors: `WrongUseError` if it cannot be written.
    """
    place = Path(os.path.realpath(path))
    aside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        try:
            before = place.stat()
        except FileNotFoundError:
            before = None
        try:
            aside.write_bytes(content)
            if before is not None:
                aside.chmod(before.st_mode & 0o7777)
                with suppress(PermissionError):
                    os.chown(aside, before.st_uid, before.st_gid)
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise WrongUseError(
            f"cannot write {path}: {error.strerror}", hint="Make the file writable, or add the line yourself."
        ) from error
