"""Interpreters of scripts: the `#!` lines of kept programs, and whether the result has the interpreters."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from chainbuild.minimize.root import FileTree, base, join, parent

DEFAULT_PATH = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_FOLDERS = frozenset(("bin", "sbin", "libexec", "git-core"))
"""Names of folders that contain programs."""
_LINE = 256  # BINPRM_BUF_SIZE of the kernel
_SPLIT = re.compile(r"(?:-[iv0]*S|--split-string=?)(?P<rest>.*)")
_WITH_VALUE = frozenset(("-u", "--unset", "-C", "--chdir"))


def missing_interpreters(
    tree: FileTree,
    paths: Iterable[str],
    search_path: str = DEFAULT_PATH,
    *,
    there: Callable[[str], bool] | None = None,
) -> dict[str, str]:
    """Return the first missing interpreter of each script; see `lacking_interpreters`."""
    return {path: names[0] for path, names in lacking_interpreters(tree, paths, search_path, there=there).items()}


def lacking_interpreters(
    tree: FileTree,
    paths: Iterable[str],
    search_path: str = DEFAULT_PATH,
    *,
    there: Callable[[str], bool] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the scripts among `paths` of `tree` that are in program folders, with their missing interpreters.

    `there` returns whether a path is a file; by default in `tree`.
    """
    there = there or tree.is_file
    missing: dict[str, tuple[str, ...]] = {}
    checked: dict[str, bool] = {}
    for path in paths:
        if base(parent(path)) not in PROGRAM_FOLDERS:
            continue
        names = interpreters_of(tree.read(path, _LINE) or b"")
        for name in names:
            if name not in checked:
                checked[name] = _is_present(name, search_path, there)
        absent = tuple(name for name in names if not checked[name])
        if absent:
            missing[path] = absent
    return missing


def interpreters_of(start: bytes) -> tuple[str, ...]:
    """Return the programs that a script's first line names: the interpreter, or `env` and the program it runs.

    Empty if the file is not a script. `env` looks up a name without a slash on PATH (env(1)); the kernel passes
    everything after the interpreter as one argument, which `-S` splits.
    """
    if not start.startswith(b"#!"):
        return ()
    words = os.fsdecode(start[2:].partition(b"\n")[0]).split()
    if not words or base(words[0]) != "env":
        return tuple(words[:1])
    run = _run_by_env(words[1:])
    return (words[0],) if run is None else (words[0], run)


def _run_by_env(words: list[str]) -> str | None:
    value = False
    for word in words:
        split = _SPLIT.match(word)
        if value:
            value = False
        elif split is not None:
            if split["rest"]:
                return split["rest"]
        elif word in _WITH_VALUE:
            value = True
        elif not word.startswith("-") and "=" not in word:
            return word
    return None


def _is_present(interpreter: str, search_path: str, is_file: Callable[[str], bool]) -> bool:
    if interpreter.startswith("/"):
        return is_file(interpreter)
    folders = [folder for folder in search_path.split(":") if folder.startswith("/")]
    return any(is_file(join(folder, interpreter)) for folder in folders)
