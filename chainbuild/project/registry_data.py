"""Read the one key of the project file that every command needs. Imports little: every command imports this."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from chainbuild.project.location import find_project

_DATA_KEY: Final = "registry-data"
_LARGEST_FILE: Final = 1 << 20


def registry_data_of_tree(folder: Path) -> Path | None:
    """Return the folder for the managed registry's data that the tree's chainbuild.yaml sets; None if it sets none.

    Errors: `WrongUseError` if it is not a folder of the tree: a tree must not choose places outside of itself.
    """
    path = find_project(folder)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE)
    except OSError:
        return None
    if _DATA_KEY.encode() not in raw:
        return None
    # Imported late: few trees set the key.
    from chainbuild.errors import Problem, WrongUseError
    from chainbuild.project.schema import PROJECT
    from chainbuild.yamlspec.nodes import read_nodes

    content = read_nodes(raw, str(path), PROJECT)
    problems = [problem for problem in content.problems if _DATA_KEY in problem.message]
    text = content.values.get(_DATA_KEY)
    if problems or not isinstance(text, str):
        if problems:
            raise WrongUseError(problems)
        return None
    data = path.parent / text
    if Path(os.path.realpath(data)) != Path(os.path.realpath(path.parent)) / text:
        message = f"{_DATA_KEY}: {text!r} is or contains a symbolic link"
        hint = "Remove the link, or choose a folder outside of the tree with --registry-data."
        raise WrongUseError([Problem(path=str(path), line=content.line(_DATA_KEY), message=message, hint=hint)])
    return data
