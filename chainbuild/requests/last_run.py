"""The last command line of a tree, for commands that refer to that run.

It is stored in the user's state folder, not in the tree, under a name made from the tree's path: it contains the values
of build args, and a tree must not bring arguments along that make a later command use other places.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import json

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.user_folders import private_folder, read_private, state_home, tree_file, write_private
from chainbuild.model import BuildArg
from chainbuild.requests.options import RunOptions
from chainbuild.values import decode_json, replace

_FOLDER: Final = "last-words"
_EARLIER: Final = Path(".chainbuild") / "last-words.json"
"""The file of earlier versions, which all users can read."""


def save_last_run(root: Path, options: RunOptions) -> None:
    """Save the options, whether tests were omitted excepted. Failure to write is ignored."""
    args = [f"{arg.name}={arg.value}" if isinstance(arg, BuildArg) else arg for arg in options.build_args or ()]
    document = json.encode(replace(options, build_args=args or None, tests=None), enc_hook=str)
    with suppress(NotReadyError):
        private_folder(state_home())
        path = tree_file(_FOLDER, root)
        private_folder(path.parent)
        write_private(path, json.format(document, indent=2), durable=False)
    with suppress(OSError):
        if not (root / _EARLIER).parent.is_symlink():
            (root / _EARLIER).unlink(missing_ok=True)


def load_last_run(root: Path) -> RunOptions:
    """Return the options of the last run in the tree.

    Errors: `WrongUseError` if there are none.
    """
    try:
        options = decode_json(
            read_private(tree_file(_FOLDER, root)) or b"", RunOptions, make=lambda kind, text: kind(text)
        )
    except (NotReadyError, OSError, ValueError, RecursionError):
        options = None
    if options is None or not all((options.repo, options.tag, options.base, options.option, options.production)):
        raise WrongUseError(
            "no earlier run found in this tree",
            hint="Build here first, or give all arguments: chainbuild why STEP PLATFORM REPO TAG BASE OPTION PRODUCTION.",
        )
    return options
