"""Provide files of a step's images in its build context, by a private copy of the context.

So a custom production stage can use `ADD ./minimized.tar.gz /` for the file that its minimize stage left at
`/minimized.tar.gz`. The file is read from the registry; no container is created, and the tree is not changed.

Tars are also made acceptable to builders: GNU tar writes a hard link of a file to itself if the file is listed twice.
`tar -x` ignores such a link, but a builder's ADD deletes the file and fails. Such members are removed.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.context.files import ContextFile
from chainbuild.errors import BuildFailedError, LimitError, NotAnImageError, NotFoundInRegistryError, NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.host.folders import scratch_folder
from chainbuild.model import Step
from chainbuild.registry.contents import absolute, save_file
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import TarError, members
from chainbuild.text import plural
from chainbuild.values import replace

_IGNORE: Final = ".dockerignore"


@contextmanager
def with_handed(
    step: Step,
    spec: BuildSpec,
    files: Iterable[ContextFile],
    images: Mapping[str, RemoteImage],
    registries: Registries,
    emit: Emit,
) -> Iterator[BuildSpec]:
    """Provide a step's spec with the handed files in its context, for the duration of the `with` block.

    `files` are the context files that the step can read. Errors: `BuildFailedError` if an image lacks a file;
    `NotReadyError` if there is no space for a copy; those of the registry.
    """
    if not step.handed:
        yield spec
        return
    with scratch_folder() as scratch:
        context = scratch / "context"
        try:
            _copy(spec.context, files, context)
        except OSError as error:
            raise NotReadyError(
                f"{step.id}: could not copy its context: {error.strerror}", where=str(error.filename or context)
            ) from error
        for file in step.handed:
            target = context / file.name
            try:
                save_file(registries, images[file.image], file.path, target)
                left_out = without_links_to_self(target)
            except (NotFoundInRegistryError, NotAnImageError) as error:
                raise BuildFailedError(
                    f"{step.id}: {error.message}",
                    where=spec.shown,
                    hint=f"The stage before it must create {file.path} in its image.",
                ) from error
            except OSError as error:
                raise NotReadyError(
                    f"{step.id}: could not write {file.name}: {error.strerror}", where=str(target)
                ) from error
            if left_out:
                text = f"{step.id}: {file.name} has {plural(left_out, 'file')} twice; the second copies are omitted"
                emit(Message(text=text))
        yield replace(spec, context=context, sent="")


def _copy(root: Path, files: Iterable[ContextFile], target: Path) -> None:
    """Copy entries of a context with their modes, times and extended attributes."""
    target.mkdir()
    folders: dict[Path, Path] = {target: root}
    names = dict.fromkeys((*(os.fsencode(file.path) for file in files), _IGNORE.encode()))
    for name in (os.fsdecode(raw) for raw in names):
        source, place = root / name, target / name
        try:
            mode = source.lstat().st_mode
        except FileNotFoundError:
            continue  # the builder ignores vanished files as well
        for parent in reversed(place.parents):
            if parent.is_relative_to(target) and parent not in folders:
                folders[parent] = root / parent.relative_to(target)
                parent.mkdir(exist_ok=True)
        if stat.S_ISDIR(mode):
            folders[place] = source
            place.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            place.symlink_to(source.readlink())
        elif stat.S_ISREG(mode):
            shutil.copy2(source, place)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(place, stat.S_IMODE(mode))
    for place, source in sorted(folders.items(), reverse=True):
        with suppress(OSError):
            shutil.copystat(source, place)


_GZIP: Final = b"\x1f\x8b"
_BLOCK: Final = 512
_PIECE: Final = 1 << 20
# It is read only once, on this machine.
_LEVEL: Final = 1

Range = tuple[int, int]
"""A byte range of the unpacked tar: start and end (exclusive)."""


def without_links_to_self(path: Path) -> int:
    """Remove members that are hard links to themselves from a plain or gzip-compressed tar; return their number.

    Everything else stays unchanged, byte for byte, and so does a file of another format, whose reader reports the problem.
    Errors: `OSError` if the file cannot be written.
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
    """Return the ranges of such members including their headers, in order."""
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
    """A stream that counts the bytes read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read_so_far = 0

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self.read_so_far += len(piece)
        return piece
