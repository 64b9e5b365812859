"""Interpreters of scripts: ``#!`` lines of kept programs, and whether the result has what they name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from chainbuild.minimize.root import FileTree, base, join, parent

DEFAULT_PATH = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_FOLDERS = frozenset(("bin", "sbin", "libexec", "git-core"))
"""Names of folders whose files are programs."""
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
    """As :func:`lacking_interpreters`, with the first that each script lacks."""
    return {path: names[0] for path, names in lacking_interpreters(tree, paths, search_path, there=there).items()}


def lacking_interpreters(
    tree: FileTree,
    paths: Iterable[str],
    search_path: str = DEFAULT_PATH,
    *,
    there: Callable[[str], bool] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Scripts among ``paths`` of ``tree`` that lie in folders of programs, with the interpreters that are lacking.

    ``there`` says whether a path is a file; by default whether it is one in ``tree``.
    """
    there = there or tree.is_file
    lacking: dict[str, tuple[str, ...]] = {}
    known: dict[str, bool] = {}
    for path in paths:
        if base(parent(path)) not in PROGRAM_FOLDERS:
            continue
        names = interpreters_of(tree.read(path, _LINE) or b"")
        for name in names:
            if name not in known:
                known[name] = _found(name, search_path, there)
        absent = tuple(name for name in names if not known[name])
        if absent:
            lacking[path] = absent
    return lacking


def interpreters_of(start: bytes) -> tuple[str, ...]:
    """The programs that a script's first line names: one, or ``env`` and what that runs; none for what is no script.

    A name without a slash is one that ``env`` looks up on PATH (env(1); the kernel hands it everything behind its own
    name as one word, which ``-S`` splits).
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


def _found(interpreter: str, search_path: str, there: Callable[[str], bool]) -> bool:
    if interpreter.startswith("/"):
        return there(interpreter)
    folders = [folder for folder in search_path.split(":") if folder.startswith("/")]
    return any(there(join(folder, interpreter)) for folder in folders)
