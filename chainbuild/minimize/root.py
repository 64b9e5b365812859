"""A root file system that is looked at, not lived in.

Every path that the package handles is an *image path*: absolute, as a process inside the image would write it.
A tree translates image paths to what is really there. Symbolic links are followed by this module and never by
the kernel, so an absolute link stays inside the root, ``..`` cannot climb above it, and a loop ends.

File names are ``str`` with surrogate escapes (PEP 383): any byte string that Linux takes is representable.
"""

# Paths here are strings of an image, which may hold bytes that are no text
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

MAX_HOPS = 40
"""How many symbolic links one look-up may pass, the kernel's own limit (path_resolution(7))."""

MAX_TEXT = 1 << 20
"""The most that is read of a file of settings, in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What lies at one image path, not followed when it is a link.

    ``kind`` is ``file``, ``dir``, ``link`` or ``special``. ``data`` holds the whole content of a file that exists nowhere
    yet; anything else lies below the folder ``root`` of this machine, at the image path ``path``.
    """

    kind: str
    root: str = ""
    path: str = ""
    target: str = ""
    size: int = 0
    data: bytes | None = None

    @property
    def host(self) -> str:
        """Where its bytes and its metadata are on this machine; empty for what exists nowhere yet.

        Put together when it is asked for: an image may have very many files.
        """
        return _below(self.root, self.path) if self.path else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """Something in the tree that could not be looked at: an image path and the system's words."""

    path: str
    reason: str


def join(folder: str, name: str) -> str:
    """The image path of ``name`` inside ``folder``; no normalisation."""
    return f"/{name}" if folder == "/" else f"{folder}/{name}"


def parent(path: str) -> str:
    """The folder of an image path; the root is its own parent."""
    return path.rpartition("/")[0] or "/"


def base(path: str) -> str:
    """The last part of an image path."""
    return path.rpartition("/")[2]


def shown(text: str) -> str:
    """``text`` for a person: one line, printable, with odd bytes and control characters escaped."""
    if text.isprintable():
        return text
    raw = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in raw)


class FileTree(ABC):
    """Look-ups by image path over what a subclass says lies where."""

    def __init__(self) -> None:
        self.unreadable: list[Unreadable] = []
        self._folders: dict[str, str] = {"/": "/"}
        self._placed: dict[str, str | None] = {"/": "/"}

    @abstractmethod
    def entry(self, path: str) -> Node | None:
        """What lies at ``path``, whose folder is free of links; None when nothing does."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The sorted names in ``folder``, which is free of links; empty when it cannot be read."""

    def resolve(self, path: str, *, follow: bool = True) -> str | None:
        """``path`` without links, or None when it leads nowhere.

        With ``follow=False`` a link at the very end is left as it is.
        """
        if path.startswith("/"):
            folder, _, name = path.rpartition("/")
            known = self._folders.get(folder or "/")
            if known is not None and name not in ("", ".", ".."):
                here = join(known, name)
                node = self.entry(here)
                if node is None:
                    return None
                if node.kind != "link" or not follow:
                    return here
        found = self._walk(path, follow=follow, create=False)
        if found is not None and path.startswith("/"):
            folder, _, name = path.rpartition("/")
            if (folder or "/") not in self._folders and name not in ("", ".", ".."):
                resolved = self._walk(folder or "/", follow=True, create=False)
                if resolved is not None:
                    self._folders[folder or "/"] = resolved
        return found

    def place(self, path: str) -> str | None:
        """Where something new that is written to ``path`` ends up, its last part taken as it is.

        Folders that do not exist yet count as plain folders. None when links loop or a file stands in the way.
        """
        folder = self.place_folder(parent(path))
        node = None if folder is None else self.entry(folder)
        if folder is None or (node is not None and node.kind != "dir"):
            return None
        return join(folder, base(path))

    def place_folder(self, path: str) -> str | None:
        """Where a folder that is written to ``path`` ends up: links are followed to the end."""
        if path in self._placed:
            return self._placed[path]
        above, name = self._placed.get(parent(path)), base(path)
        if above is not None and name not in ("", ".", ".."):
            node = self.entry(join(above, name))
            plain = node is None or node.kind == "dir"
        else:
            plain = False
        found = join(above, name) if plain and above is not None else self._walk(path, follow=True, create=True)
        self._placed[path] = found
        return found

    def links(self, path: str, *, follow: bool = True) -> list[str]:
        """The symbolic links that a look-up of ``path`` passes, each where it lies, as far as it gets.

        With ``follow=False`` a link at the very end is not passed.
        """
        passed: list[str] = []
        self._walk(path, follow=follow, create=False, passed=passed)
        return passed

    def _walk(self, path: str, *, follow: bool, create: bool, passed: list[str] | None = None) -> str | None:
        todo = [part for part in reversed(path.split("/")) if part]
        here, hops = "/", 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                here = parent(here)
                continue
            there = join(here, part)
            node = self.entry(there)
            if node is None:
                if not create:
                    return None
            elif node.kind == "link" and (todo or follow):
                hops += 1
                if hops > MAX_HOPS:
                    return None
                if passed is not None:
                    passed.append(there)
                if node.target.startswith("/"):
                    here = "/"
                todo.extend(part for part in reversed(node.target.split("/")) if part)
                continue
            elif todo and node.kind != "dir":
                return None
            here = there
        return here

    def stat(self, path: str) -> Node | None:
        """What lies at ``path`` after all links, or None."""
        found = self.resolve(path)
        return None if found is None else self.entry(found)

    def is_file(self, path: str) -> bool:
        """Whether ``path`` leads to a regular file."""
        node = self.stat(path)
        return node is not None and node.kind == "file"

    def is_folder(self, path: str) -> bool:
        """Whether ``path`` leads to a folder."""
        node = self.stat(path)
        return node is not None and node.kind == "dir"

    def read(self, path: str, limit: int = MAX_TEXT) -> bytes | None:
        """The first ``limit`` bytes of the regular file that ``path`` leads to, or None."""
        found = self.resolve(path)
        node = None if found is None else self.entry(found)
        if found is None or node is None or node.kind != "file":
            return None
        if node.data is not None:
            return node.data[:limit]
        try:
            descriptor = open_file(node.host)
        except OSError as error:
            self.unreadable.append(Unreadable(path=found, reason=os.strerror(error.errno or errno.EIO)))
            return None
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(limit)

    def pieces(self, path: str, size: int, limit: int) -> Iterator[bytes]:
        """The first ``limit`` bytes of the regular file at ``path`` (free of links), ``size`` at a time; none if unreadable."""
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
        """``path`` (free of links) and everything below it, in order of names; links are not followed.

        What is in ``skip``, and that of which ``leave`` says so, is left out with all below it.
        """
        left = frozenset(skip)
        todo = [path]
        while todo:
            here = todo.pop()
            node = self.entry(here)
            if here in left or (leave is not None and leave(here)):
                continue
            if node is None:
                if here != path:  # listed, but not to be looked at: its path may be longer than the system takes
                    self.unreadable.append(Unreadable(path=here, reason="it cannot be looked at"))
                continue
            yield here, node
            if node.kind == "dir":
                todo.extend(join(here, name) for name in reversed(self.names(here)))

    def glob(self, pattern: str, passed: dict[str, None] | None = None) -> list[str]:
        """The image paths that a shell pattern (``*``, ``?``, ``[…]``) names, sorted, links at the end kept.

        As in a shell, a wildcard does not match a leading dot, a backslash takes the meaning of the character after it, and
        links in the middle are followed; those that were on the way to a match go into ``passed``.
        """
        on_the_way: dict[str, dict[str, None]] = {"/": {}}
        found = ["/"]
        parts = [part for part in pattern.split("/") if part]
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            text, wild = unescaped(part)
            reached: list[str] = []
            for folder in found:
                if wild:
                    names = [
                        name
                        for name in self.names(folder)
                        if fnmatch.fnmatchcase(name, text) and (text[0] == "." or name[0] != ".")
                    ]
                else:
                    names = [text]
                for name in names:
                    there = self.resolve(join(folder, name), follow=not last)
                    node = None if there is None else self.entry(there)
                    if there is not None and node is not None and (last or node.kind == "dir"):
                        reached.append(there)
                        if passed is not None:
                            links = self.links(join(folder, name), follow=not last)
                            on_the_way.setdefault(there, {}).update(on_the_way[folder] | dict.fromkeys(links))
            found = reached
        if passed is not None:
            for path in found:
                passed.update(on_the_way[path])
        return sorted(set(found))


class RootFileSystem(FileTree):
    """The root file system at the folder ``host`` of this machine."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host.rstrip("/")

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


class Overlay(FileTree):
    """``lower`` with things laid over it, as the image will be once a layer is added."""

    def __init__(self, lower: FileTree) -> None:
        super().__init__()
        self.lower = lower
        self.added: dict[str, Node] = {}
        self._inside: dict[str, set[str]] = {}

    def add(self, path: str, node: Node) -> None:
        """Lays ``node`` at ``path``, which is free of links; missing folders above it come into being."""
        self.added[path] = node
        self._placed = {"/": "/"}
        here = path
        while here != "/":
            above = parent(here)
            names = self._inside.setdefault(above, set())
            if base(here) in names:
                break
            names.add(base(here))
            here = above

    def remove(self, path: str) -> None:
        """Takes away again what was laid at ``path``."""
        if self.added.pop(path, None) is not None:
            self._placed = {"/": "/"}
            self._inside[parent(path)].discard(base(path))

    def entry(self, path: str) -> Node | None:
        node = self.added.get(path)
        if node is not None and node.kind != "dir":
            return node
        return self.lower.entry(path) or node or (Node(kind="dir") if path in self._inside else None)

    def names(self, folder: str) -> list[str]:
        lower = self.lower.entry(folder)
        below = self.lower.names(folder) if lower is not None and lower.kind == "dir" else []
        over = self._inside.get(folder)
        return sorted(over.union(below)) if over else below


def _below(root: str, path: str) -> str:
    return root + path if path != "/" else root or "/"


def kind_of(mode: int) -> str:
    """The :class:`Node` kind of a file mode."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else "special"


def open_file(host: str) -> int:
    """A descriptor on the regular file ``host``; OSError when it is anything else. Never blocks."""
    descriptor = os.open(host, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", host)
    return descriptor


def size_of(tree: RootFileSystem) -> int:
    """The bytes of the regular files of ``tree``, hard links once; nothing below its /proc, /sys and /dev."""
    total = 0
    seen: set[tuple[int, int]] = set()
    todo = [tree.host or "/"]
    left = {tree.host + name for name in ("/proc", "/sys", "/dev")}
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in left:
                    todo.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total
