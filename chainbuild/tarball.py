"""A tar that a stage made, as builders take it.

GNU tar, when it is told of a file twice, writes a hard link of the file to itself. `tar -x` passes over such a link; the
ADD of builders deletes the file for it, and fails. So these members are left out, where there are any.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from chainbuild.errors import LimitError
from chainbuild.registry.contents import absolute
from chainbuild.registry.tar import TarError, members

_GZIP: Final = b"\x1f\x8b"
_BLOCK: Final = 512
_PIECE: Final = 1 << 20
# What comes next reads it once, on this machine.
_LEVEL: Final = 1

Range = tuple[int, int]
"""Bytes of the unpacked tar: the first one, and the one after the last."""


def without_links_to_self(path: Path) -> int:
    """Leave members that are hard links to themselves out of a tar, plain or compressed by gzip; return how many.

    Everything else stays as it is, byte for byte (a file without such members altogether). So does what is no tar of these
    kinds: what reads it says what is wrong. Errors: `OSError` if it cannot be written.
    """
    try:
        ranges = _links_to_self(path)
    except (TarError, LimitError, EOFError, zlib.error, gzip.BadGzipFile):
        return 0
    if ranges:
        aside = path.with_name(f".{path.name}.part")
        with _unpacked(path) as source, aside.open("wb") as target:
            if _is_gzip(path):
                with gzip.GzipFile("", "wb", _LEVEL, target, 0) as packed:
                    _copy_without(source, cast(IO[bytes], packed), ranges)
            else:
                _copy_without(source, target, ranges)
        shutil.copystat(path, aside)
        aside.replace(path)
    return len(ranges)


def _links_to_self(path: Path) -> list[Range]:
    """The places of such members, each with the headers that belong to it, in order."""
    found: list[Range] = []
    with _unpacked(path) as source:
        counted = _Counted(source)
        start = 0
        for member in members(cast(IO[bytes], counted), path.name):
            if member.kind == "hard" and absolute(member.name) == absolute(member.target):
                found.append((start, counted.read_so_far))
            for _ in member.chunks():
                pass
            start = -(-counted.read_so_far // _BLOCK) * _BLOCK
    return found


def _copy_without(source: IO[bytes], target: IO[bytes], without: list[Range]) -> None:
    at = 0
    for start, end in without:
        for piece in _pieces(source, start - at):
            target.write(piece)
        for _ in _pieces(source, end - start):
            pass
        at = end
    shutil.copyfileobj(source, target, _PIECE)


def _pieces(source: IO[bytes], size: int) -> Iterator[bytes]:
    while size and (piece := source.read(min(size, _PIECE))):
        size -= len(piece)
        yield piece


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if _is_gzip(path) else path.open("rb")


class _Counted:
    """A stream that counts what was read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read_so_far = 0

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self.read_so_far += len(piece)
        return piece
