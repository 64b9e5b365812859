"""A root file system that is analysed from outside.

Every path that the package handles is an *image path*: absolute, as a process inside the image would write it. A tree
maps image paths to files. This module follows symbolic links itself and never lets the kernel do so: an absolute link
stays inside the root, `..` cannot climb above it, and a loop ends.

File names are `str` with surrogate escapes (PEP 383), so every byte string that Linux accepts can be represented.
"""

# Paths here are strings of an image, which may contain bytes that are not valid text
# ruff: noqa: PTH115, PTH208

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chainbuild.minimize.lists import unescaped

_OF_THE_KERNEL = frozenset({"/proc", "/sys", "/dev"})

MAX_HOPS = 40
"""The most symbolic links in a lookup, the kernel's own limit (path_resolution(7))."""

MAX_TEXT = 1 << 20
"""The most bytes that are read of a configuration file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """The entry at an image path; a link itself, not its target.

    `kind` is `file`, `dir`, `link` or `special`. `data` is the content of a file that does not exist on disk yet; any
    other entry is below the folder `root` of this machine, at the image path `path`.
    """

    kind: str
    root: str = ""
    path: str = ""
    target: str = ""
    size: int = 0
    data: bytes | None = None

    @property
    def host(self) -> str:
        """Return the path of its bytes and metadata on this machine; empty if it does not exist on disk yet.

        Computed on demand, because an image may have very many files.
        """
        return _below(self.root, self.path) if self.path else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """An entry of the tree that could not be read: its image path and the system's message."""

    path: str
    reason: str


def join(folder: str, name: str) -> str:
    """Return the image path of `name` inside `folder`, without normalisation."""
    return f"/{name}" if folder == "/" else f"{folder}/{name}"


def parent(path: str) -> str:
    """Return the folder of an image path; the root is its own parent."""
    return path.rpartition("/")[0] or "/"


def base(path: str) -> str:
    """Return the last part of an image path."""
    return path.rpartition("/")[2]


def shown(text: str) -> str:
    """Return `text` as one printable line, with invalid bytes and control characters escaped."""
    if text.isprintable():
        return text
    raw = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in raw)


class FileTree(ABC):
    """Lookups by image path; a subclass provides the entries."""

    def __init__(self) -> None:
        self.unreadable: list[Unreadable] = []
        self._folders: dict[str, str] = {"/": "/"}
        self._placed: dict[str, str | None] = {"/": "/"}

    @abstractmethod
    def entry(self, path: str) -> Node | None:
        """Return the entry at `path`, whose folder is free of links; None if there is none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the sorted names in `folder`, which is free of links; empty if it cannot be read."""

    def resolve(self, path: str, *, follow: bool = True) -> str | None:
        """Return `path` with its links resolved, or None if it does not exist.

        With `follow=False` a link at the very end is not resolved.
        """
        if path.startswith("/"):
            folder, _, name = path.rpartition("/")
            parent_folder = self._folders.get(folder or "/")
            if parent_folder is not None and name not in ("", ".", ".."):
                direct = join(parent_folder, name)
                node = self.entry(direct)
                if node is None:
                    return None
                if node.kind != "link" or not follow:
                    return direct
        result = self._walk(path, follow=follow, create=False)
        if result is not None and path.startswith("/"):
            folder, _, name = path.rpartition("/")
            if (folder or "/") not in self._folders and name not in ("", ".", ".."):
                resolved = self._walk(folder or "/", follow=True, create=False)
                if resolved is not None:
                    self._folders[folder or "/"] = resolved
        return result

    def place(self, path: str) -> str | None:
        """Return where a new entry that is written to `path` ends up; its last part is not resolved.

        Folders that do not exist yet count as plain folders. None if links loop or a file is in the way.
        """
        folder = self.place_folder(parent(path))
        node = None if folder is None else self.entry(folder)
        if folder is None or (node is not None and node.kind != "dir"):
            return None
        return join(folder, base(path))

    def place_folder(self, path: str) -> str | None:
        """Return where a folder that is written to `path` ends up, with all links followed."""
        if path in self._placed:
            return self._placed[path]
        above, name = self._placed.get(parent(path)), base(path)
        if above is not None and name not in ("", ".", ".."):
            node = self.entry(join(above, name))
            plain = node is None or node.kind == "dir"
        else:
            plain = False
        result = join(above, name) if plain and above is not None else self._walk(path, follow=True, create=True)
        self._placed[path] = result
        return result

    def links(self, path: str, *, follow: bool = True) -> list[str]:
        """Return the symbolic links that a lookup of `path` passes, as far as it gets.

        With `follow=False` a link at the very end is not included.
        """
        passed: list[str] = []
        self._walk(path, follow=follow, create=False, passed=passed)
        return passed

    def _walk(self, path: str, *, follow: bool, create: bool, passed: list[str] | None = None) -> str | None:
        todo = [part for part in reversed(path.split("/")) if part]
        current, hops = "/", 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                current = parent(current)
                continue
            step = join(current, part)
            node = self.entry(step)
            if node is None:
                if not create:
                    return None
            elif node.kind == "link" and (todo or follow):
                hops += 1
                if hops > MAX_HOPS:
                    return None
                if passed is not None:
                    passed.append(step)
                if node.target.startswith("/"):
                    current = "/"
                todo.extend(part for part in reversed(node.target.split("/")) if part)
                continue
            elif todo and node.kind != "dir":
                return None
            current = step
        return current

    def stat(self, path: str) -> Node | None:
        """Return the entry at `path` after following all links, or None."""
        target = self.resolve(path)
        return None if target is None else self.entry(target)

    def is_file(self, path: str) -> bool:
        """Return whether `path` leads to a regular file."""
        node = self.stat(path)
        return node is not None and node.kind == "file"

    def is_folder(self, path: str) -> bool:
        """Return whether `path` leads to a folder."""
        node = self.stat(path)
        return node is not None and node.kind == "dir"

    def read(self, path: str, limit: int = MAX_TEXT) -> bytes | None:
        """Return the first `limit` bytes of the regular file that `path` leads to, or None."""
        target = self.resolve(path)
        node = None if target is None else self.entry(target)
        if target is None or node is None or node.kind != "file":
            return None
        if node.data is not None:
            return node.data[:limit]
        try:
            descriptor = open_file(node.host)
        except OSError as error:
            self.unreadable.append(Unreadable(path=target, reason=os.strerror(error.errno or errno.EIO)))
            return None
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(limit)

    def pieces(self, path: str, size: int, limit: int) -> Iterator[bytes]:
        """Yield the first `limit` bytes of the file at `path` (free of links) in pieces of `size`; none if unreadable."""
        node = self.entry(path)
        if node is None or node.kind != "file" or not node.host:
            return
        try:
            descriptor = open_file(node.host)
        except OSError as error:
            self.unreadable.append(Unreadable(path=path, reason=os.strerror(error.errno or errno.EIO)))
            return
        with os.fdopen(descriptor, "rb") as stream:
            while limit > 0 and (data := stream.read(min(size, limit))):
                limit -= len(data)
                yield data

    def walk(
        self, path: str, *, skip: Iterable[str] = (), leave: Callable[[str], bool] | None = None
    ) -> Iterator[tuple[str, Node]]:
        """Yield `path` (free of links) and everything below it, sorted by name; links are not followed.

        Entries in `skip`, and those for which `leave` returns True, are left out with everything below them.
        """
        skipped = frozenset(skip)
        todo = [path]
        while todo:
            current = todo.pop()
            node = self.entry(current)
            if current in skipped or (leave is not None and leave(current)):
                continue
            if node is None:
                if current != path:  # listed, but inaccessible: its path may be longer than the system allows
                    self.unreadable.append(Unreadable(path=current, reason="it cannot be accessed"))
                continue
            yield current, node
            if node.kind == "dir":
                todo.extend(join(current, name) for name in reversed(self.names(current)))

    def glob(self, pattern: str, passed: dict[str, None] | None = None) -> list[str]:
        """Return the sorted image paths that a shell pattern (`*`, `?`, `[…]`) matches; links at the end are not followed.

        As in a shell, a wildcard does not match a leading dot, a backslash escapes the next character, and links in the
        middle are followed; the links on the way to a match are added to `passed`.
        """
        on_the_way: dict[str, dict[str, None]] = {"/": {}}
        matches = ["/"]
        parts = [part for part in pattern.split("/") if part]
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            text, wild = unescaped(part)
            reached: list[str] = []
            for folder in matches:
                if wild:
                    names = [
                        name
                        for name in self.names(folder)
                        if fnmatch.fnmatchcase(name, text) and (text[0] == "." or name[0] != ".")
                    ]
                else:
                    names = [text]
                for name in names:
                    match = self.resolve(join(folder, name), follow=not last)
                    node = None if match is None else self.entry(match)
                    if match is not None and node is not None and (last or node.kind == "dir"):
                        reached.append(match)
                        if passed is not None:
                            links = self.links(join(folder, name), follow=not last)
                            on_the_way.setdefault(match, {}).update(on_the_way[folder] | dict.fromkeys(links))
            matches = reached
        if passed is not None:
            for path in matches:
                passed.update(on_the_way[path])
        return sorted(set(matches))


class RootFileSystem(FileTree):
    """The root file system in the folder `host` of this machine."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host.rstrip("/")

    def scan(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield all paths with their directory entries, quickly: no file is read, and the kernel's folders are not entered."""
        todo = ["/"]
        while todo:
            folder = todo.pop()
            try:
                entries = list(os.scandir(self.host + folder))
            except OSError:
                continue
            for entry in entries:
                path = join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False) and path not in _OF_THE_KERNEL:
                    todo.append(path)
                yield path, entry

    def entry(self, path: str) -> Node | None:
        host = _below(self.host, path)
        try:
            status = os.lstat(host)
            target = os.readlink(host) if stat.S_ISLNK(status.st_mode) else ""
        except (OSError, ValueError):
            return None
        return Node(kind=kind_of(status.st_mode), root=self.host, path=path, target=target, size=status.st_size)

    def names(self, folder: str) -> list[str]:
        host = _below(self.host, folder)
        try:
            return sorted(os.listdir(host))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.unreadable.append(Unreadable(path=folder, reason=os.strerror(error.errno or errno.EIO)))
            return []


def _below(root: str, path: str) -> str:
    return root + path if path != "/" else root or "/"


def kind_of(mode: int) -> str:
    """Return the kind of `Node` for a file mode."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else "special"


def open_file(host: str) -> int:
    """Open the regular file `host`; never blocks. Errors: OSError if it is anything else."""
    descriptor = os.open(host, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", host)
    return descriptor


def size_of(tree: RootFileSystem) -> int:
    """Return the bytes of the regular files of `tree` without /proc, /sys and /dev; hard links count once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    todo = [tree.host or "/"]
    skipped = {tree.host + name for name in ("/proc", "/sys", "/dev")}
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in skipped:
                    todo.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total
