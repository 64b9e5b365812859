"""Write the minimized tree, in a form that the builder copies without changes.

The tree has the contents, modes, owners, extended attributes, hard links, times and holes of the files. Two runs over
the same input give the same tree. A time later than `SOURCE_DATE_EPOCH`, if given, is set to it (see
https://reproducible-builds.org/specs/source-date-epoch/); others stay.

BuildKit reuses a cached COPY if names, modes, owners, attributes and contents are the same, and then the files have the
times of the earlier copy. The stamp is a digest of what BuildKit ignores, times and hard links: a tree that is copied
together with an empty folder named after its stamp is copied as it is.

JSON documents that may be larger than the memory are written row by row.
"""

from __future__ import annotations

# Paths here are strings of an image, which may contain bytes that are not valid text
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH114, PTH123, PTH211
import errno

# Paths here are strings of an image, which may contain bytes that are not valid text
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
    """Return a hex digest of the times (in seconds, as in layers) and the hard links of `folder` and everything below it.

    Errors: OSError if an entry cannot be read.
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
    """A list of a JSON document whose rows are created on each iteration and are never all in memory.

    It is a list only because `json` accepts nothing else: `len` and indexing treat it as empty.
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
    """Write `document` to the file `path`, or to standard output for `-`, in pieces."""
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
    """Return the SHA-256, in hexadecimal, of `document` as `json.dumps` with sorted keys writes it."""
    sums = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(document):
        sums.update(piece.encode("ascii"))
    return sums.hexdigest()


_CHUNK = 1 << 20


@dataclass(kw_only=True, slots=True)
class Written:
    """The result of writing: the numbers of files and bytes (hard links once), and the problems."""

    files: int = 0
    bytes: int = 0
    problems: list[Notice] = field(default_factory=list)
    stripped: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files that became smaller by stripping: bytes before and after."""


class Writer:
    """Writes nodes below the empty folder `output` of this machine.

    `lower` and `origin` give the metadata of parent folders: the production image's own, otherwise those of the chain's
    image, so that adding the tree to the production image leaves its folders unchanged. With `strip`, ELF files are
    written without debug information and symbol tables.
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
        """Write `nodes` (by path, free of links) in the order of their paths; may be called again for more."""
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
        """Set the metadata of the folders, once their content is complete."""
        for path in sorted(self._folders, reverse=True):  # times last, deepest folders first: writing changes them
            folder = self._folders[path]
            self._finish(self.output + path, folder.host if folder is not None else "")
        return self.written

    def _folder(self, path: str, node: Node | None) -> None:
        above = [path]
        while above[-1] not in self._folders and above[-1] != "/":
            above.append(parent(above[-1]))
        for folder in reversed(above):  # no recursion: a tree may be deeper than Python's stack
            if folder in self._folders:
                continue
            if folder != "/":
                os.mkdir(self.output + folder)
            own = self.lower.entry(folder)
            if own is None or own.kind != "dir":
                own = (node if folder == path else None) or self.origin.entry(folder)
            self._folders[folder] = own if own is not None and own.kind == "dir" and own.host else None

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
        """Copy owner, mode, extended attributes and time of `host`, in an order in which none resets another."""
        if not host:  # neither image has the file
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
                continue  # an attribute of the build machine, not of the image
            try:
                value = os.getxattr(host, name, follow_symlinks=False)
                os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                path = target[len(self.output) :]
                self._failed(path, f"{shown(path)}: cannot set attribute {shown(name)}: {error.strerror}")

    def _failed(self, path: str, text: str) -> None:
        self.written.problems.append(Notice(kind="write", text=text, path=path))


def copy_file(source: str, target: str) -> None:
    """Copy the regular file `source` to the new file `target`; holes stay holes. Errors: OSError."""
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
    """Return the next range of a file that is not a hole (lseek(2), SEEK_DATA); the whole rest if unknown."""
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
            raise OSError(errno.EIO, "it was truncated while it was read")
        written = 0
        while written < len(data):
            written += os.write(writing, data[written:])
        start += len(data)
