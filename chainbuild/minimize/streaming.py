"""Documents that are larger than the memory they are written with: rows that come into being as they are written."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


class Rows(list[Any]):
    """A list of a JSON document whose rows are made anew each time it is gone through, and are never all there.

    It is a list for :mod:`json` alone, which takes nothing else: an empty one, as far as ``len`` and indexing go.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        super().__init__()
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and [*self] == [*other]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


def write_json(document: dict[str, Any], path: str) -> None:
    """Writes ``document`` to the file ``path``, or to standard output for ``-``, a piece at a time."""
    if path == "-":
        _write(document, sys.stdout.write)
        return
    with Path(path).open("w", encoding="ascii") as stream:
        _write(document, stream.write)


def _write(document: dict[str, Any], write: Callable[[str], object]) -> None:
    for piece in json.JSONEncoder(indent=1, ensure_ascii=True).iterencode(document):
        write(piece)
    write("\n")


def digest_of(document: dict[str, Any]) -> str:
    """The SHA-256, in hexadecimal, of ``document`` as ``json.dumps`` with sorted keys writes it."""
    sums = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(document):
        sums.update(piece.encode("ascii"))
    return sums.hexdigest()
