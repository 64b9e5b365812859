"""The last command line of a tree, for commands that refer to that run.

It is stored in the user's state folder, not in the tree, under a name made from the tree's path: it contains the values
of build args, and a tree must not bring arguments along that make a later command use other places.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.user_folders import private_folder, read_private, state_home, write_private
from chainbuild.requests.build import RunOptions

_FOLDER: Final = "last-words"
_EARLIER: Final = Path(".chainbuild") / "last-words.json"
"""The file of earlier versions, which all users can read."""


def save_last_run(root: Path, words: RunOptions) -> None:
    """Save the arguments. Failure to write is ignored."""
    document = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(words).items()}
    with suppress(NotReadyError):
        private_folder(state_home())
        path = _path(root)
        private_folder(path.parent)
        write_private(path, json.dumps(document, indent=2).encode(), durable=False)
    with suppress(OSError):
        if not (root / _EARLIER).parent.is_symlink():
            (root / _EARLIER).unlink(missing_ok=True)


def load_last_run(root: Path) -> RunOptions:
    """Return the arguments of the last run in the tree.

    Errors: `WrongUseError` if there are none.
    """
    try:
        document: dict[str, Any] = json.loads(read_private(_path(root)) or b"")
        document = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
            if name in RunOptions.__struct_fields__
        }
        context = document.get("context")
        return RunOptions(**document | {"root": Path(document["root"]), "context": Path(context) if context else None})
    except (NotReadyError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WrongUseError(
            "no earlier run found in this tree",
            hint="Give all arguments: chainbuild why STEP PLATFORM REPO TAG BASE OPTION PRODUCTION.",
        ) from None


def _path(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return state_home() / _FOLDER / f"{name}.json"
