"""What was typed last in a tree, for commands that speak about that run. For people; nothing is ever decided by it."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from chainbuild.command_line import Words
from chainbuild.errors import WrongUseError

_FILE: Final = Path(".chainbuild") / "last-words.json"


def remember_words(root: Path, words: Words) -> None:
    """Write the words down; a tree that cannot be written to is none the worse for it."""
    document = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(words).items()}
    try:
        path = root / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    except OSError:
        return


def last_words(root: Path) -> Words:
    """The words of the last run in the tree.

    Errors: `WrongUseError` where there are none.
    """
    try:
        document: dict[str, Any] = json.loads((root / _FILE).read_text(encoding="utf-8"))
        known = {field.name for field in fields(Words)}
        document = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
            if name in known
        }
        context = document.get("context")
        return Words(**document | {"root": Path(document["root"]), "context": Path(context) if context else None})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WrongUseError(
            "nothing was run here yet",
            hint="Give the run's words: chainbuild why STEP PLATFORM REPO TAG BASE OPTION PRODUCTION.",
        ) from None
