"""The submodules of the git tree around a context, from `.gitmodules`, without running git."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final

from chainbuild import limits
from chainbuild.errors import LimitError

_FILE: Final = ".gitmodules"
_MOST_LEVELS: Final = 32


def submodules(top: Path) -> tuple[str, ...]:
    """Return the submodules of a git tree, as paths relative to its top folder."""
    try:
        text = limits.read_file(top / _FILE).decode("utf-8", "replace")
    except (OSError, LimitError):
        return ()
    paths = (posixpath.normpath(_path_in(line) or ".") for line in text.splitlines())
    return tuple(dict.fromkeys(path for path in paths if path != "." and not path.startswith(("/", ".."))))


def empty_submodules(root: Path) -> tuple[str, ...]:
    """Return the submodules in and below a context's folder that are not checked out, as paths relative to it.

    Such a folder is empty or missing.
    """
    top = _top(root)
    if top is None:
        return ()
    below = root.relative_to(top).as_posix()
    prefix = "" if below == "." else f"{below}/"
    inside = (path.removeprefix(prefix) for path in submodules(top) if path.startswith(prefix))
    return tuple(path for path in inside if _is_empty(root / path))


def _path_in(line: str) -> str:
    """Return the value of a line `path = …`, which may be quoted and have a comment; empty for any other line."""
    key, _, value = line.partition("=")
    if key.strip().lower() != "path":
        return ""
    value = value.strip()
    if value.startswith('"'):
        quoted, closed, _ = value[1:].partition('"')
        return quoted.strip() if closed else ""
    bare = re.split("[;#]", value, maxsplit=1)[0].strip()
    return "" if '"' in bare else bare


def _top(root: Path) -> Path | None:
    """Return the nearest folder with a `.gitmodules`, up to the root of the git tree."""
    for folder in (root, *root.parents)[:_MOST_LEVELS]:
        if (folder / _FILE).is_file():
            return folder
        if (folder / ".git").exists():
            return None
    return None


def _is_empty(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is None
    except (FileNotFoundError, NotADirectoryError):
        return not folder.exists()
    except (OSError, ValueError):
        return False
