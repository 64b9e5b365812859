"""Read layers for a rebase as they stream from the registry: their files, ELF files, and scripts. Nothing is unpacked."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.comparison.contents import RECORDS, Entry, entry_of
from chainbuild.minimize.elf import MAGIC, Elf, read_elf
from chainbuild.minimize.scripts import interpreters_of
from chainbuild.once import Once
from chainbuild.patterns import regex
from chainbuild.rebase.symbols import Symbols, SymbolsError, read_symbols
from chainbuild.rebase.tree import LayerContent
from chainbuild.references import Digest
from chainbuild.registry.contents import absolute, layer_members
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.tar import Member
from chainbuild.values import replace

_KEPT: Final = regex(
    rf"{RECORDS.pattern}|/etc/(passwd|group|shadow|gshadow|subuid|subgid|shells|ld\.so\.cache|ld\.so\.conf(\.d/.*)?"
    r"|ld-musl-.*\.path)|/var/lib/dpkg/(diversions|statoverride|triggers/(File|Unincorp))|/var/lib/apt/extended_states"
    r"|/var/cache/debconf/[^/]*\.dat|/etc/apk/world|/(usr/)?lib/apk/db/(triggers|scripts\.tar(\.gz)?)|(/usr)?/lib(32|64)?/(.*/)?ld[^/]*\.so\.\d+"
    r"|/(usr/)?lib/ld-musl-[^/]*\.so\.1"
)
"""Files that are kept whole: those of `RECORDS`, those that can be merged, and what the search for libraries reads."""
_HEAD: Final = 256
_IN_MEMORY: Final = 4 << 20
_LARGEST: Final = 4 << 30
"""The largest ELF file whose symbols are read, in bytes."""


class _ReadLayer(Struct, frozen=True, kw_only=True):
    """The content of a layer, and the image from which it was read."""

    image: RemoteImage
    layer: Descriptor
    content: LayerContent


class LayerReader:
    """Reads layers, each once, whichever images have it. Thread-safe."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._lock = threading.Lock()
        self._layers: Once[Digest, _ReadLayer] = Once()
        self._symbols: dict[bytes, Symbols | None] = {}

    def layers(self, image: RemoteImage, numbers: range | None = None) -> tuple[LayerContent, ...]:
        """Return the content of an image's layers, or of some of them. Errors: `RegistryError`."""
        chosen = image.layers if numbers is None else [image.layers[number] for number in numbers]
        return tuple(self._layer(image, layer) for layer in chosen)

    def symbols(self, contents: Collection[bytes]) -> Mapping[bytes, Symbols | None]:
        """Return the symbols of ELF files of layers that were read, by digest of content; None if they are damaged.

        The layers are read once more: few files are needed, and all symbols of an image would need too much memory.
        """
        with self._lock:
            missing = set(contents) - self._symbols.keys()
            for read in self._layers.known().values():
                if missing.isdisjoint(read.content.elves):
                    continue
                for content, symbols in self._read_symbols(read.image, read.layer, missing):
                    self._symbols[content] = symbols
                missing -= self._symbols.keys()
            return {content: self._symbols.get(content) for content in contents}

    def mentioned(self, image: RemoteImage, numbers: range, names: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return the files of some layers whose content mentions one of the names as a whole word, each with the name."""
        if not names:
            return ()
        words = b"|".join(re.escape(name.encode("utf-8", "surrogateescape")) for name in sorted(names))
        pattern = re.compile(rb"(?<![\w.+-])(?:" + words + rb")(?![\w+-]|\.\w)")
        longest = max(len(name.encode("utf-8", "surrogateescape")) for name in names) + 2
        found: list[tuple[str, str]] = []
        for layer in (image.layers[number] for number in numbers):
            for member in layer_members(self._registries, image.reference, layer):
                rest = b""
                for piece in member.chunks() if member.kind == "file" else ():
                    text = rest + piece
                    if match := pattern.search(text):
                        found.append((absolute(member.name), match[0].decode("utf-8", "surrogateescape")))
                        break
                    rest = text[-longest:]
        return tuple(found)

    def _layer(self, image: RemoteImage, layer: Descriptor) -> LayerContent:
        def read() -> _ReadLayer:
            return _ReadLayer(image=image, layer=layer, content=self._read(image, layer))

        return self._layers.get(layer.digest, read).content

    def _read(self, image: RemoteImage, layer: Descriptor) -> LayerContent:
        place = str(image.reference)
        kept = limits.Budget(limits.PACKAGE_FILES, f"the layer {layer.digest.short}", place)
        rows: list[tuple[str, Entry]] = []
        elves: dict[bytes, Elf] = {}
        scripts: dict[bytes, tuple[str, ...]] = {}
        for member in layer_members(self._registries, image.reference, layer):
            if member.kind != "file":
                rows.append(entry_of(member, kept, place))
                continue
            with SpooledTemporaryFile(_IN_MEMORY) as copy:
                copied = _Copied(member, copy)
                path, entry = entry_of(replace(member, chunks=copied.chunks), kept, place, keeps=_KEPT)
                rows.append((path, entry))
                if copied.is_elf:
                    copy.flush()
                    elf = read_elf(copy.fileno())
                    if isinstance(elf, Elf):
                        elves[entry.content] = elf
                elif names := interpreters_of(copied.head):
                    scripts[entry.content] = names
        return LayerContent(rows=tuple(rows), elves=elves, scripts=scripts)

    def _read_symbols(
        self, image: RemoteImage, layer: Descriptor, contents: Collection[bytes]
    ) -> Iterator[tuple[bytes, Symbols | None]]:
        for member in layer_members(self._registries, image.reference, layer):
            if member.kind != "file" or member.size > _LARGEST:
                continue
            with SpooledTemporaryFile(_IN_MEMORY) as copy:
                copied = _Copied(member, copy)
                digest = hashlib.sha256()
                for piece in copied.chunks():
                    digest.update(piece)
                if copied.is_elf and digest.digest() in contents:
                    copy.seek(0)
                    try:
                        yield digest.digest(), read_symbols(copy.read())
                    except SymbolsError:
                        yield digest.digest(), None


class _Copied:
    """Copies the content of a member to a file while it is read, if it is an ELF file, and keeps its first bytes."""

    def __init__(self, member: Member, copy: IO[bytes]) -> None:
        self._member = member
        self._copy = copy
        self.head = b""
        self.is_elf = False

    def chunks(self) -> Iterator[bytes]:
        for piece in self._member.chunks():
            if len(self.head) < _HEAD:
                before, self.head = self.head, self.head + piece[: _HEAD - len(self.head)]
                if not self.is_elf and self.head.startswith(MAGIC):
                    self.is_elf = True
                    self._copy.write(before)
            if self.is_elf:
                self._copy.write(piece)
            yield piece
