"""Read the files of an image from its layers as they stream out of the registry. Nothing is unpacked or run.

Layers are applied as the OCI image spec says ("Applying Changesets"). The database files of package managers are kept
whole, so that the code that reads them in a root file system (`minimize.packages`) can read them here.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.minimize.packages import Ownership, owned
from chainbuild.minimize.root import Node, RootFileSystem, join, parent
from chainbuild.patterns import regex
from chainbuild.references import Digest
from chainbuild.registry.contents import OPAQUE, WHITEOUT, absolute, layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member
from chainbuild.values import replace

RECORDS: Final = regex(
    r"/var/lib/dpkg/(status|info/[^/]+\.list|status\.d/.+)|(/usr)?/lib/apk/db/installed|(/usr/lib|/etc)/os-release"
    r"|/.*/[^/]+\.(dist|egg)-info(/(METADATA|PKG-INFO|RECORD))?"
)
"""Files that are kept whole: those that the readers of `minimize.packages` open."""


class Entry(Struct, frozen=True, kw_only=True):
    """The entry at a path. `kind` as in `minimize.root.Node`; `content` is the raw sha256 of a file's bytes.

    `owner` is `uid:gid`; `xattrs` are the extended attributes by name. Times are left out, because they differ in every
    build.
    """

    kind: str
    mode: int = 0o755
    owner: str = "0:0"
    size: int = 0
    content: bytes = b""
    target: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    data: bytes | None = None


class LayeredRoot(RootFileSystem):
    """A root file system that exists only as layers. `name` is its name in errors.

    Errors: `LimitError` if it has too many files and folders to hold in memory.
    """

    def __init__(self, layers: Iterable[Iterable[tuple[str, Entry]]], name: str = "the image") -> None:
        super().__init__("")
        self._entries = limits.Budget(limits.FILES, name)
        self._letters = limits.Budget(limits.PATHS, name)
        self.files: dict[str, Entry] = {"/": Entry(kind="dir")}
        self._below: dict[str, set[str]] = {}
        for layer in layers:
            self.add_layer(layer)

    def entry(self, path: str) -> Node | None:
        entry = self.files.get(path)
        if entry is None:
            return None
        # A file that was not kept has no content here. Nothing reads it.
        return Node(kind=entry.kind, target=entry.target, size=entry.size, data=entry.data or b"")

    def names(self, folder: str) -> list[str]:
        return sorted(self._below.get(folder, ()))

    @property
    def size(self) -> int:
        """The size of its files in bytes."""
        return sum(entry.size for entry in self.files.values())

    def take(self, other: LayeredRoot) -> None:
        """Become a copy of another root, to which layers can be added without changing the other."""
        self.files = dict(other.files)
        self._below = {folder: set(names) for folder, names in other._below.items()}
        self._entries.spend(other._entries.spent)
        self._letters.spend(other._letters.spent)

    def add_layer(self, layer: Iterable[tuple[str, Entry]]) -> None:
        """Apply a layer on top of the others."""
        rows = list(layer)
        for path, _ in rows:  # whiteouts apply to lower layers only, wherever in the layer they are
            name = posixpath.basename(path)
            if name == OPAQUE:
                for child in self.names(parent(path)):
                    self.remove(join(parent(path), child))
            elif name.startswith(WHITEOUT):
                self.remove(join(parent(path), name.removeprefix(WHITEOUT)))
        for path, entry in rows:
            if posixpath.basename(path).startswith(WHITEOUT) or path == "/":
                continue
            path = self._placed_at(path)  # noqa: PLW2901
            existing = self.files.get(path)
            if entry.kind == "hard":
                # A hard link without a target is invalid: the tar could not be unpacked.
                entry = self.files.get(entry.target, Entry(kind="special"))  # noqa: PLW2901
            if existing is not None and not (existing.kind == entry.kind == "dir"):
                self.remove(path)
            self.put(path, entry)

    def _placed_at(self, path: str) -> str:
        """Return where a path of a layer is unpacked: links in lower layers are followed within the root."""
        above = self.files.get(parent(path))
        if above is not None and above.kind == "dir":
            return path
        folder = self._walk(parent(path), follow=True, create=True)
        return path if folder is None else join(folder, posixpath.basename(path))

    def put(self, path: str, entry: Entry) -> None:
        """Add what a layer has at a path, whose folder is free of links; folders that are missing are created."""
        self._count(path)
        self.files[path] = entry
        while path != "/":
            above = parent(path)
            self._below.setdefault(above, set()).add(posixpath.basename(path))
            folder = self.files.get(above)
            if folder is not None and folder.kind == "dir":
                return
            self._count(above)
            self.files[above] = Entry(kind="dir")
            path = above

    def _count(self, path: str, entries: int = 1) -> None:
        """Count an entry that is added, or removed if `entries` is -1."""
        if (path in self.files) == (entries < 0):
            self._entries.spend(entries)
            self._letters.spend(entries * len(path))

    def remove(self, path: str) -> None:
        """Remove what a layer deletes or replaces: the entry at a path, and everything below it."""
        todo = [path]
        self._below.get(parent(path), set()).discard(posixpath.basename(path))
        while todo:
            current = todo.pop()
            self._count(current, -1)
            self.files.pop(current, None)
            todo += [join(current, name) for name in self._below.pop(current, ())]


class Contents(Struct, frozen=True, kw_only=True):
    """The files of an image by path, their unpacked size in bytes, and the packages that own them."""

    files: Mapping[str, Entry]
    unpacked: int
    ownership: Ownership


def read_contents(registries: Registries, *images: RemoteImage) -> tuple[Contents, ...]:
    """Return the contents of each image. A layer that several images share is read once. Errors: `RegistryError`."""
    sources: dict[Digest, tuple[RemoteImage, Descriptor]] = {}
    for image in images:
        for layer in image.layers:
            sources.setdefault(layer.digest, (image, layer))
    rows = limits.Budget(limits.ALL_MEMBERS, " and ".join(str(image.reference) for image in images))
    read = in_parallel(
        lambda pair: tuple(layer_entries(registries, pair[0], pair[1], rows)), sources.values(), at_once=STREAMS
    )
    layers = dict(zip(sources, read, strict=True))
    results = []
    for image in images:
        root = LayeredRoot((layers[layer.digest] for layer in image.layers), str(image.reference))
        results.append(Contents(files=root.files, unpacked=root.size, ownership=owned(root)))
    return tuple(results)


def read_layers(
    registries: Registries, image: RemoteImage, numbers: range
) -> tuple[tuple[tuple[str, Entry], ...], ...]:
    """Return the entries of some layers of an image, each with the digests of its files. Errors: as `layer_entries`."""
    rows = limits.Budget(limits.ALL_MEMBERS, str(image.reference))
    layers = [image.layers[number] for number in numbers]
    return in_parallel(lambda layer: tuple(layer_entries(registries, image, layer, rows)), layers, at_once=STREAMS)


def layer_entries(
    registries: Registries, image: RemoteImage, layer: Descriptor, rows: limits.Budget, *, digests: bool = True
) -> Iterator[tuple[str, Entry]]:
    """Yield the path and the entry of every member of a layer of an image; whiteouts are files.

    Without `digests`, no entry has content. Errors: as `layer_members`; `LimitError` for more members than `rows` allows.
    """
    place = str(image.reference)
    kept = limits.Budget(limits.PACKAGE_FILES, f"the layer {layer.digest.short}", place)
    for member in layer_members(registries, image.reference, layer):
        rows.spend(1)
        yield entry_of(member, kept, place, digests=digests)


def entry_of(
    member: Member, kept: limits.Budget, place: str, *, digests: bool = True, keeps: re.Pattern[str] = RECORDS
) -> tuple[str, Entry]:
    """Return the path and entry of a tar member; keep the content of files whose path matches, within the limit."""
    path = absolute(member.name)
    mode, owner = stat.S_IMODE(member.mode), sys.intern(f"{member.uid}:{member.gid}")
    if member.kind == "hard":
        return path, Entry(kind="hard", target=absolute(member.target))
    if member.kind == "link":
        return path, Entry(kind="link", mode=0o777, owner=owner, target=member.target, xattrs=member.xattrs)
    bare = Entry(kind=member.kind, mode=mode, owner=owner, xattrs=member.xattrs)
    if member.kind != "file":
        return path, bare
    if not digests:
        return path, replace(bare, size=member.size)
    keep = keeps.fullmatch(path) is not None
    if keep:
        # Check the declared size before reading.
        limits.PACKAGE_FILE.check(member.size, path, place)
        kept.spend(member.size)
    content, data = _digested(member.chunks, keep=keep)
    return path, replace(bare, size=member.size, content=content, data=data)


def _digested(chunks: Callable[[], Iterator[bytes]], *, keep: bool) -> tuple[bytes, bytes | None]:
    digest, kept = hashlib.sha256(), bytearray()
    for chunk in chunks():
        digest.update(chunk)
        if keep:
            kept += chunk
    return digest.digest(), bytes(kept) if keep else None
