"""Write the minimized tree so that the builder copies it as it is.

What a builder does not look at when it decides whether it has copied a tree before: times and hard links.

BuildKit takes a COPY from its cache where names, modes, owners, attributes and contents are the same, and gives the times
of files that it copied then. A tree that is copied together with an empty folder called by its stamp is copied as it is.

Documents that are larger than the memory they are written with: rows that come into being as they are written.

Writes the result as a tree: contents, modes, owners, extended attributes, hard links, times, holes in files.

Two runs over the same input give the same tree. A time later than ``SOURCE_DATE_EPOCH``, where that is given, is
set to it (as https://reproducible-builds.org/specs/source-date-epoch/ has it); others stay.
"""

from __future__ import annotations

# Paths here are strings of an image, which may hold bytes that are no text
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH114, PTH123, PTH211
import errno

# Paths here are strings of an image, which may hold bytes that are no text
# ruff: noqa: PTH118, PTH208
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainbuild.minimize.notices import Notice
from chainbuild.minimize.root import FileTree, Node, open_file, parent, shown
from chainbuild.minimize.strip import strip_file


def stamp(folder: str) -> str:
    """A digest, in hex, of the times (in seconds, as layers have them) and the hard links of ``folder`` and all below it.

    OSError where something cannot be looked at.
    """
    digest = hashlib.sha256()
    links: dict[tuple[int, int], bytes] = {}
    todo = [os.fsencode(folder)]
    top = len(todo[0])
    while todo:
        path = todo.pop()
        status = os.lstat(path)
        name = path[top:]
        first, is_folder = b"", stat.S_ISDIR(status.st_mode)
        if not is_folder and status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), name)
        digest.update(b"%d %d %d " % (len(name), len(first), int(status.st_mtime)) + name + first)
        if is_folder:
            todo.extend(sorted((os.path.join(path, entry) for entry in os.listdir(path)), reverse=True))
    return digest.hexdigest()


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


_CHUNK = 1 << 20


@dataclass(kw_only=True, slots=True)
class Written:
    """What was written: how many files and bytes (hard links once), and what could not be, in words."""

    files: int = 0
    bytes: int = 0
    problems: list[Notice] = field(default_factory=list)
    stripped: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files that became smaller by stripping: bytes before and after."""


class Writer:
    """Writes nodes below the empty folder ``output`` of this machine.

    ``lower`` and ``origin`` give the metadata of folders that are only there because something lies in them: the
    production image's own, else those of the chain's image, so that adding the tree to the production image leaves
    its folders as they are. With ``strip`` ELF files are written without debug information and symbol tables.
    """

    def __init__(
        self, output: str, lower: FileTree, origin: FileTree, *, epoch: int | None, strip: bool = False
    ) -> None:
        self.output = output.rstrip("/")
        self.lower = lower
        self.origin = origin
        self.epoch = epoch
        self.strip = strip
        self.written = Written()
        self._folders: dict[str, Node | None] = {}
        self._links: dict[tuple[int, int], str] = {}

    def write(self, nodes: dict[str, Node]) -> None:
        """Writes ``nodes`` (by path, free of links) in the order of their paths; may be called again for more."""
        os.makedirs(self.output, exist_ok=True)
        for path in sorted(nodes):
            node = nodes[path]
            try:
                if node.kind == "dir":
                    self._folder(path, node)
                else:
                    self._folder(parent(path), None)
                    self._entry(path, node)
            except OSError as error:
                self._failed(path, f"{shown(path)}: {error.strerror}")

    def finish(self) -> Written:
        """Gives the folders their metadata, once everything is in them."""
        for path in sorted(self._folders, reverse=True):  # times last and deepest first: writing changes them
            folder = self._folders[path]
            self._finish(self.output + path, folder.host if folder is not None else "")
        return self.written

    def _folder(self, path: str, node: Node | None) -> None:
        above = [path]
        while above[-1] not in self._folders and above[-1] != "/":
            above.append(parent(above[-1]))
        for here in reversed(above):  # no recursion: a tree may be deeper than Python's stack
            if here in self._folders:
                continue
            if here != "/":
                os.mkdir(self.output + here)
            own = self.lower.entry(here)
            if own is None or own.kind != "dir":
                own = (node if here == path else None) or self.origin.entry(here)
            self._folders[here] = own if own is not None and own.kind == "dir" and own.host else None

    def _entry(self, path: str, node: Node) -> None:
        target = self.output + path
        if node.kind == "link":
            os.symlink(node.target, target)
            self._finish(target, node.host)
            self.written.files += 1
            return
        if node.data is not None:
            self._data(target, path, node)
            return
        status = os.lstat(node.host)
        key = (status.st_dev, status.st_ino)
        if key in self._links:
            os.link(self._links[key], target)
            self.written.files += 1
            return
        size = status.st_size
        if self.strip and strip_file(node.host, target):
            size = os.lstat(target).st_size
            self.written.stripped[path] = (status.st_size, size)
        else:
            copy_file(node.host, target)
        self._finish(target, node.host)
        if status.st_nlink > 1:
            self._links[key] = target
        self.written.files += 1
        self.written.bytes += size

    def _data(self, target: str, path: str, node: Node) -> None:
        with open(target, "xb") as stream:
            stream.write(node.data or b"")
        own = self.lower.entry(path)
        if own is not None and own.kind == "file":
            self._finish(target, own.host)
        else:
            self._finish(target, "")
        self.written.files += 1
        self.written.bytes += node.size

    def _finish(self, target: str, host: str) -> None:
        """Owner, mode, extended attributes and time of ``host``, in the order in which none undoes another."""
        if not host:  # something that neither image has
            if not os.path.islink(target):
                os.chmod(target, 0o755 if os.path.isdir(target) else 0o644)
            os.utime(target, (self.epoch or 0, self.epoch or 0), follow_symlinks=False)
            return
        status = os.lstat(host)
        if os.geteuid() == 0:
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode))
        self._attributes(target, host)
        time = status.st_mtime_ns
        if self.epoch is not None:
            time = min(time, self.epoch * 10**9)
        os.utime(target, ns=(time, time), follow_symlinks=False)

    def _attributes(self, target: str, host: str) -> None:
        try:
            names = os.listxattr(host, follow_symlinks=False)
        except OSError:
            return
        for name in sorted(names):
            if name.startswith(("security.selinux", "system.nfs4", "trusted.overlay")):
                continue  # of the machine that builds, not of the image
            try:
                value = os.getxattr(host, name, follow_symlinks=False)
                os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                path = target[len(self.output) :]
                self._failed(path, f"{shown(path)}: attribute {shown(name)} is lost: {error.strerror}")

    def _failed(self, path: str, text: str) -> None:
        self.written.problems.append(Notice(kind="write", text=text, path=path))


def copy_file(source: str, target: str) -> None:
    """Copies the regular file ``source`` to the new file ``target``; holes stay holes. OSError when it cannot."""
    reading = open_file(source)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(reading).st_size
            at = 0
            while at < size:
                start, end = _next_data(reading, at, size)
                _copy_range(reading, writing, start, end)
                at = end
            os.ftruncate(writing, size)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _next_data(descriptor: int, at: int, size: int) -> tuple[int, int]:
    """The next stretch of a file that is no hole (lseek(2), SEEK_DATA); the whole rest where that is not known."""
    try:
        start = os.lseek(descriptor, at, os.SEEK_DATA)
        return start, min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return at, size


def _copy_range(reading: int, writing: int, start: int, end: int) -> None:
    os.lseek(writing, start, os.SEEK_SET)
    while start < end:
        data = os.pread(reading, min(_CHUNK, end - start), start)
        if not data:
            raise OSError(errno.EIO, "it became shorter while it was read")
        done = 0
        while done < len(data):
            done += os.write(writing, data[done:])
        start += len(data)
