"""What an import that failed says is missing: read from the words of loaders, of the system and of Python. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

Kind = Literal["library", "module", "path"]
_MOST_LETTERS: Final = 20_000

# glibc: `libGL.so.1: cannot open shared object file: No such file or directory`, after a program's name and a colon where
# it is told of the program itself. musl: `Error loading shared library libGL.so.1: No such file or directory (needed by …)`.
_GLIBC = re.compile(r"(?P<name>[^\s:'\"()]+): cannot open shared object file: No such file")
_MUSL = re.compile(r"Error loading shared library (?P<name>[^\s:'\"()]+): No such file")
_MODULE = re.compile(r"No module named '?(?P<name>[\w.]+)'?")
# As Python's own errors and most programs write it: `[Errno 2] No such file or directory: '/usr/share/x'`.
_PATH = re.compile(r"No such file or directory: b?(?P<quote>['\"])(?P<name>/[^\n]*?)(?P=quote)")


class Missing(Struct, frozen=True, kw_only=True):
    """`library` is a name that a loader looked for, or its path; `module` a dotted name; `path` an absolute path."""

    kind: Kind
    name: str


class Raised(Struct, frozen=True, kw_only=True):
    """An exception: its type and message, and what it says is missing, where it has a field for that."""

    type: str
    message: str
    module: str = ""
    file: str = ""

    def __str__(self) -> str:
        """One line, as Python ends a traceback with."""
        first = next((line.strip() for line in self.message.splitlines() if line.strip()), "")
        kind = " ".join(self.type.split())
        return f"{kind}: {first}" if first else kind


def missing_files(errors: Iterable[Raised], said: str = "") -> tuple[Missing, ...]:
    """What is missing, the first cause first. `errors` begin with what was raised, then what that came of.

    `said` is what was printed: a loader that ends the process raises nothing.
    """
    found: dict[Missing, None] = {}
    for error in reversed(tuple(errors)):
        if error.module:
            found.setdefault(Missing(kind="module", name=error.module))
        if error.file.startswith("/"):
            found.setdefault(Missing(kind="path", name=error.file))
        found.update(dict.fromkeys(in_words(error.message)))
    found.update(dict.fromkeys(in_words(said)))
    return tuple(found)


def in_words(text: str) -> Iterator[Missing]:
    """What a text says is missing, in its order by kind."""
    text = text[-_MOST_LETTERS:]
    for pattern in (_GLIBC, _MUSL):
        for match in pattern.finditer(text):
            yield Missing(kind="library", name=match["name"])
    for match in _MODULE.finditer(text):
        name = match["name"].strip(".")
        if all(part.isidentifier() for part in name.split(".")):
            yield Missing(kind="module", name=name)
    for match in _PATH.finditer(text):
        yield Missing(kind="path", name=match["name"])
