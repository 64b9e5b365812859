"""Interpreters of scripts: ``#!`` lines of kept programs, and whether the result has what they name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from chainbuild.minimize.root import Tree, base, join, parent

DEFAULT_PATH = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAM_FOLDERS = frozenset(("bin", "sbin", "libexec"))
_LINE = 256  # BINPRM_BUF_SIZE of the kernel


def missing_interpreters(
    tree: Tree,
    paths: Iterable[str],
    search_path: str = DEFAULT_PATH,
    *,
    there: Callable[[str], bool] | None = None,
) -> dict[str, str]:
    """Scripts among ``paths`` of ``tree`` that lie in folders of programs, with the interpreter that is lacking.

    ``there`` says whether a path is a file; by default whether it is one in ``tree``.
    """
    there = there or tree.is_file
    missing: dict[str, str] = {}
    known: dict[str, bool] = {}
    for path in paths:
        if base(parent(path)) not in _PROGRAM_FOLDERS:
            continue
        interpreter = interpreter_of(tree.read(path, _LINE) or b"")
        if interpreter is None:
            continue
        if interpreter not in known:
            known[interpreter] = _found(interpreter, search_path, there)
        if not known[interpreter]:
            missing[path] = interpreter
    return missing


def interpreter_of(start: bytes) -> str | None:
    """The program that a script's first line names, that of ``env`` looked through; None for what is no script.

    A name without a slash is one that ``env`` looks up on PATH.
    """
    if not start.startswith(b"#!"):
        return None
    words = os.fsdecode(start[2:].partition(b"\n")[0]).split()
    if not words:
        return None
    if base(words[0]) != "env":
        return words[0]
    for word in words[1:]:
        if word.startswith("-") or "=" in word:
            continue
        return word
    return words[0]


def _found(interpreter: str, search_path: str, there: Callable[[str], bool]) -> bool:
    if interpreter.startswith("/"):
        return there(interpreter)
    folders = [folder for folder in search_path.split(":") if folder.startswith("/")]
    return any(there(join(folder, interpreter)) for folder in folders)
