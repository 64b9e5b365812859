"""Quote text for a shell, in a workflow whose vendor replaces templates before the shell runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import Final

from chainbuild.patterns import regex

_TEMPLATE: Final = regex(r"\$(?=\{\{|\[\[)|<(?=<)")
"""The first character of what GitHub (`${{`), GitLab (`$[[`) and CircleCI (`<<`) replace."""
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _./:=,@%+-")
_PLAIN_PATH: Final = regex(r"(?![-~])[\w ./@+,=~-]+")
_NOT_PLAIN: Final = regex(r"[^A-Za-z0-9 .,:+@/_-]")


def quote(word: str) -> str:
    """Return a word as an argument for bash and busybox: one line of printable characters, without templates.

    Text that is not printable (line ends, control characters, bytes that are no UTF-8) becomes `$'…'` with octal escapes.
    """
    if word.isprintable():
        return _TEMPLATE.sub(lambda match: f"{match[0]}''", shlex.quote(word))
    text = "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"$'{text}'"


def join(words: Iterable[str]) -> str:
    """Return a command line with its arguments quoted."""
    return " ".join(quote(word) for word in words)


def is_plain_path(path: str) -> bool:
    """Return whether every vendor takes a path literally where no shell reads it, as in the paths of artifacts.

    There, they replace templates and variables, and some characters are patterns.
    """
    return path.isprintable() and _PLAIN_PATH.fullmatch(path) is not None


def plain(text: str) -> str:
    """Return a text for a title, in which no vendor finds anything to replace."""
    return _NOT_PLAIN.sub("_", text)
