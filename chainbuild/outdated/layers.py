"""Read from the layers of images what says which packages they have and where these came from, without pulling an image.

Of each layer a small extract is kept in the user's cache folder, under the layer's digest: the databases of dpkg and apk
reduced to names and versions, the metadata of Python distributions, and the settings and keyrings of package managers. So
every layer is read once, however many images have it. The extracts of images in the chain registry are kept there, too, for
other machines.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from chainbuild import limits
from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.host.user_folders import cache_home
from chainbuild.in_parallel import STREAMS, in_parallel
from chainbuild.minimize.packages import paragraphs
from chainbuild.once import Once
from chainbuild.outdated.fetching import Store
from chainbuild.outdated.shared_extracts import SharedExtracts
from chainbuild.patterns import regex
from chainbuild.registry.contents import WHITEOUT, absolute, layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.values import decode_msgpack

FOLDER: Final = "packages"
_FORM: Final = 3
"""Increment if an extract gets other content."""
_LINK_LEVELS: Final = 4
"""Links to folders that package data is below are this near to the root, such as `/lib` and `/usr/local/lib/python3`."""
_DATABASE: Final = regex(r"/var/lib/dpkg/(?:status|arch|status\.d/[^/]+)|(?:/usr)?/lib/apk/db/installed")
_SETTINGS: Final = regex(
    r"/etc/apt/(?:sources\.list|preferences|apt\.conf|trusted\.gpg)(?:\.d/[^/]+)?|/etc/apk/.+"
    r"|(?:/usr/share|/usr/lib|/lib)/apk/(?:keys|repositories\.d)/.+"
    r"|/etc/machine-id|.*\.(?:gpg|asc|pgp)|/etc/pip\.conf|/root/\.pip/pip\.conf|/root/\.config/pip/pip\.conf|/usr/local/pip\.conf"
)
_DISTRIBUTION: Final = regex(
    r"/.*/(?:[^/]+\.dist-info/(?:METADATA|INSTALLER|direct_url\.json)|[^/]+\.egg-info(?:/PKG-INFO)?)"
)
_DPKG_FIELDS: Final = ("Package", "Status", "Architecture", "Version", "Source")
_APK_FIELDS: Final = frozenset("PVAo")
_METADATA_FIELDS: Final = ("Name", "Version", "Requires-Dist")


class _Row(Struct, frozen=True, array_like=True):
    """A member of a layer: its path, its kind as in `comparison.contents.Entry`, the target of a link, and reduced content."""

    path: str
    kind: str
    target: str = ""
    data: bytes = b""


class _Extract(Struct, frozen=True, kw_only=True):
    form: int
    digest: str
    rows: tuple[_Row, ...]


class LayerReader:
    """Reads extracts of layers, each once. Thread-safe. `read_layers` and `read_bytes` count the layers that were streamed."""

    def __init__(
        self, registries: Registries, store: Store | None = None, shared: SharedExtracts | None = None
    ) -> None:
        self._registries = registries
        self._shared = shared
        self._store = store or Store(_folder)
        self._extracts: Once[str, tuple[_Row, ...]] = Once()
        self._lock = threading.Lock()
        self.read_layers = 0
        self.read_bytes = 0

    def root(self, image: RemoteImage, count: int | None = None) -> LayeredRoot:
        """Return the package data of an image as a root file system, of all its layers or of the lowest ones.

        Errors: `RegistryError`.
        """
        layers: Sequence[Descriptor] = image.layers[:count]
        missing = [layer for layer in layers if str(layer.digest) not in self._extracts]
        in_parallel(lambda layer: self._rows(image, layer), missing, at_once=STREAMS)
        return LayeredRoot((_entries(self._rows(image, layer)) for layer in layers), str(image.reference))

    def _rows(self, image: RemoteImage, layer: Descriptor) -> tuple[_Row, ...]:
        return self._extracts.get(str(layer.digest), lambda: self._found(image, layer))

    def _found(self, image: RemoteImage, layer: Descriptor) -> tuple[_Row, ...]:
        digest = str(layer.digest)
        rows = _decoded(self._store.read(digest, limits.LAYER_PACKAGES.value), digest)
        if rows is not None:
            return rows
        raw = self._shared.read(image, layer) if self._shared else None
        rows = _decoded(raw, digest)
        if raw is None or rows is None:
            return self._read(image, layer)
        self._store.write(digest, raw)
        return rows

    def _read(self, image: RemoteImage, layer: Descriptor) -> tuple[_Row, ...]:
        rows = tuple(_members(self._registries, image, layer))
        with self._lock:
            self.read_layers += 1
            self.read_bytes += layer.size
        extract = msgspec.msgpack.encode(_Extract(form=_FORM, digest=str(layer.digest), rows=rows))
        self._store.write(str(layer.digest), extract)
        if self._shared:
            self._shared.write(image, layer, extract)
        return rows


def _decoded(raw: bytes | None, digest: str) -> tuple[_Row, ...] | None:
    """Return the rows of an extract; None if it is not one of that layer in today's form."""
    try:
        kept = decode_msgpack(raw, _Extract) if raw else None
    except msgspec.MsgspecError:
        return None
    return kept.rows if kept is not None and (kept.form, kept.digest) == (_FORM, digest) else None


def _folder() -> Path:
    return cache_home() / FOLDER


def _entries(rows: Iterable[_Row]) -> Iterator[tuple[str, Entry]]:
    for row in rows:
        yield row.path, Entry(kind=row.kind, size=len(row.data), target=row.target, data=row.data)


def _members(registries: Registries, image: RemoteImage, layer: Descriptor) -> Iterator[_Row]:
    """Yield the members of a layer that matter. The digest of the layer is checked at its end."""
    place = str(image.reference)
    kept = limits.Budget(limits.LAYER_PACKAGES, f"the layer {layer.digest.short}", place)
    for member in layer_members(registries, image.reference, layer):
        path = absolute(member.name)
        if posixpath.basename(path).startswith(WHITEOUT):
            row = _Row(path, "file")
        elif member.kind == "link" and (path.count("/") <= _LINK_LEVELS or _is_kept(path)):
            row = _Row(path, "link", member.target)
        elif member.kind == "hard" and _is_kept(path):
            row = _Row(path, "hard", absolute(member.target))
        elif member.kind == "file" and _is_kept(path):
            if _DATABASE.fullmatch(path):
                limits.PACKAGE_FILE.check(member.size, path, place)
            elif member.size > limits.PACKAGE_SETTINGS.value:
                continue  # no keyring or setting is that large, but any file may have such a name
            row = _Row(path, "file", "", reduced(path, b"".join(member.chunks())))
        else:
            continue
        kept.spend(len(path) + len(row.data))
        yield row


def _is_kept(path: str) -> bool:
    return any(pattern.fullmatch(path) is not None for pattern in (_DATABASE, _SETTINGS, _DISTRIBUTION))


# Reduced content ------------------------------------------------------------------------------------------------------


def reduced(path: str, content: bytes) -> bytes:
    """Return the part of a file that is kept: of package databases and metadata only the fields that count."""
    if path.startswith("/var/lib/dpkg/status") and not path.endswith(".md5sums"):
        return _reduced_status(content)
    if _DATABASE.fullmatch(path) and path.endswith("/installed"):
        return _reduced_apk(content)
    if path.endswith(".md5sums"):
        return b""
    if path.endswith(("/METADATA", "/PKG-INFO", ".egg-info")):
        return _reduced_metadata(content)
    if path.endswith("/direct_url.json"):
        return b"{}"  # that it exists is enough, and it may hold a login
    return content


def _reduced_status(content: bytes) -> bytes:
    blocks = []
    for _, fields in paragraphs(content.decode("utf-8", "surrogateescape")):
        lines = [f"{name}: {fields[name]}" for name in _DPKG_FIELDS if fields.get(name)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks).encode("utf-8", "surrogateescape")


def _reduced_apk(content: bytes) -> bytes:
    lines = []
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        is_field = line[1:2] == ":" and line[0] in _APK_FIELDS
        # Folders of distributions tell which of these belong to packages.
        if not line or is_field or (line.startswith("F:") and line.endswith((".dist-info", ".egg-info"))):
            lines.append(line)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _reduced_metadata(content: bytes) -> bytes:
    head = content.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    lines = head.decode("utf-8", "replace").split("\n")
    return "\n".join(line for line in lines if line.partition(":")[0] in _METADATA_FIELDS).encode()
