"""Args files: one `KEY=VALUE` per line, taken literally and never evaluated by a shell.

Blank lines and lines that start with `#` are skipped. A byte order mark, CRLF and a missing final newline are accepted. A
bare `KEY` takes its value from the environment; it is a problem if the environment does not set it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chainbuild import limits
from chainbuild.errors import Problem
from chainbuild.model import BuildArg
from chainbuild.patterns import regex

_KEY = regex(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_args(raw: bytes, path: str, environ: Mapping[str, str]) -> tuple[tuple[BuildArg, ...], tuple[Problem, ...]]:
    """Return the args of a file's content, and every problem in it."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object, not raw: the codec counts from after a byte order mark.
        place = error.object[: error.start].count(b"\n") + 1
        return (), (Problem(path=path, line=place, message="not UTF-8 text", hint="Save the args file as UTF-8."),)
    args: dict[str, BuildArg] = {}
    problems: list[Problem] = []
    # Only \n ends a line (preceded by \r on Windows): str.splitlines would also split at form feeds and U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removesuffix("\r")
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        result = _parse_line(entry, path, number, environ)
        if isinstance(result, Problem):
            problems.append(result)
        elif result.name in args:
            problems.append(
                Problem(
                    path=path,
                    line=number,
                    message=f"duplicate argument {result.name}, already set at {args[result.name].origin}",
                    hint="Keep one of the two lines.",
                )
            )
        else:
            args[result.name] = result
    return tuple(args.values()), tuple(problems)


def _parse_line(entry: str, path: str, number: int, environ: Mapping[str, str]) -> BuildArg | Problem:
    name, equals, value = entry.partition("=")
    origin = f"{path}:{number}"
    if "\0" in entry:
        return Problem(path=path, line=number, message="NUL byte in an argument", hint="An argument is a line of text.")
    if not _KEY.fullmatch(name):
        stripped = name.strip().removeprefix("export ").removeprefix("ARG ").removeprefix("--build-arg ").strip()
        hint = "Write KEY=VALUE; a key has letters, digits and '_'."
        if _KEY.fullmatch(stripped):
            hint = f"Write {stripped}={value.strip() if equals else '…'} (no spaces around '=', no keyword in front)."
        return Problem(path=path, line=number, message=f"{entry!r} is not KEY=VALUE", hint=hint)
    if equals:
        return BuildArg(name=name, value=value, origin=origin)
    if name in environ:
        return BuildArg(name=name, value=environ[name], origin=f"{origin} (environment)")
    return Problem(
        path=path,
        line=number,
        message=f"{name} has no value and is not set in the environment",
        hint=f"Write {name}=VALUE, {name}= for an empty value, or export {name} before the run.",
    )


def read_args(path: Path, shown: str, environ: Mapping[str, str]) -> tuple[tuple[BuildArg, ...], tuple[Problem, ...]]:
    """Read and parse an args file. A file that cannot be read is a problem."""
    try:
        raw = limits.read_tree_file(path)
    except OSError as error:
        reason = error.strerror or "unknown error"
        return (), (
            Problem(path=shown, message=f"cannot be read: {reason}", hint="An args file is a readable text file."),
        )
    return parse_args(raw, shown, environ)


def parse_build_arg(text: str, environ: Mapping[str, str]) -> BuildArg | Problem:
    """Parse `--build-arg KEY=VALUE`; a bare KEY takes its value from the environment."""
    result = _parse_line(text, "", 0, environ)
    if isinstance(result, Problem):
        return Problem(message=f"--build-arg: {result.message}", hint=result.hint)
    return BuildArg(name=result.name, value=result.value, origin="--build-arg")
