"""Limits on everything that is read from a registry, an image or a tree, on time and tries, and the readers that enforce them.

Nobody who can write to a registry, publish an image or send a tree may exhaust memory, disk or time. Each limit is
defined only here, with the reason for its value. The values are far above what real content needs: a limit that a real
image reaches is a bug. Code reads them as attributes of this module (`limits.MANIFEST`), so that tests can replace them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from chainbuild.errors import DamagedContentError, LimitError
from chainbuild.text import binary_size

Unit = Literal["bytes", "entries", "levels", "pages", "names", "members", "layers", "steps"]


class Limit(Struct, frozen=True):
    """The largest accepted `value` of `name`, in `unit`s."""

    name: str
    value: int
    unit: Unit = "bytes"

    @property
    def shown(self) -> str:
        """The value as text: `8 MiB`, `5,000 pages`."""
        return binary_size(self.value) if self.unit == "bytes" else f"{self.value:,} {self.unit}"

    def check(self, amount: int, what: str, where: str = "", hint: str = "") -> None:
        """Check an amount. Errors: `LimitError` if it exceeds the limit; its default hint is about registries."""
        if amount > self.value:
            raise self.error(what, where, hint)

    def error(self, what: str, where: str = "", hint: str = "") -> LimitError:
        """Return the error for `what` exceeding the limit at `where`."""
        return LimitError(f"{what} exceeds the limit on {self.name}, {self.shown}", where=where, hint=hint)


class Budget:
    """A limit on a sum. Thread-safe."""

    def __init__(self, limit: Limit, what: str, where: str = "") -> None:
        self._limit = limit
        self._what = what
        self._where = where
        self._lock = threading.Lock()
        self.spent = 0

    def spend(self, amount: int) -> None:
        """Add to the sum; a negative amount subtracts. Errors: `LimitError` as soon as the sum exceeds the limit."""
        with self._lock:
            self.spent += amount
            spent = self.spent
        self._limit.check(spent, self._what, self._where)


# ---- answers of a registry -------------------------------------------------------------------------------------------

# The status line and all headers of an answer. http.client alone would take 100 headers of 64 KiB each.
HEADERS: Final = Limit("the headers of an answer", 128 << 10)
# One header. Signed storage URLs and token server challenges have at most 2 KiB.
HEADER: Final = Limit("one header of an answer", 16 << 10)
# A URL in a header. As above; no server accepts longer ones.
ADDRESS: Final = Limit("an address in an answer", 8 << 10)
# How much of an error's body is read, to quote the registry. The rest is ignored.
ERROR_BODY: Final = Limit("the body of an error", 64 << 10)
# A token server's answer. Tokens with many scopes have 10 KiB.
TOKEN: Final = Limit("a token server's answer", 1 << 20)
# Registries must accept manifests of 4 MiB, and most accept no larger ones (OCI distribution spec, "Pushing Manifests").
MANIFEST: Final = Limit("the size of a manifest", 8 << 20)
# An image's config. One with 1,000 history entries has 300 kB; containerd reads 8 MiB at most.
CONFIG: Final = Limit("the size of an image's config", 8 << 20)
# A record, or a statement of a chain's steps (2 kB per step).
ARTIFACT: Final = Limit("the size of a record", 64 << 20)
# A page of a list has up to 1,000 names of up to 255 characters.
LIST_PAGE: Final = Limit("the size of a page of a list", 4 << 20)
# Registries with small pages have 100 names on each.
LIST_PAGES: Final = Limit("the pages of a list", 5_000, "pages")
LIST_NAMES: Final = Limit("the names of a list", 500_000, "names")
# Nothing legitimate is deeper than ten levels. Python's own limit depends on the version and raises RecursionError.
JSON_DEPTH: Final = Limit("the depth of JSON", 64, "levels")
# Entries of an index: platforms and their attestations, and everything attached to an image.
INDEX_ENTRIES: Final = Limit("the entries of an index", 10_000, "entries")
# An index may contain indexes (OCI image spec). In practice they are at most two levels deep.
INDEX_DEPTH: Final = Limit("the depth of indexes in indexes", 4, "levels")
# Docker's storage drivers stack 127 layers.
LAYERS: Final = Limit("the layers of an image", 1_000, "layers")
# int64, the type of a descriptor's size (OCI image spec, "Descriptor").
DESCRIPTOR_SIZE: Final = Limit("the size in a descriptor", (1 << 63) - 1)

# A WebDAV server's list of a folder: 1 kB per file. Anything beyond it is not read.
WEBDAV: Final = Limit("a list of a WebDAV server", 16 << 20)

# The checksum or the facts file of a SIF file: 700 bytes. Anything beyond it is not read.
SIDECAR: Final = Limit("a file beside a SIF file", 64 << 10)

# ---- content of an image ---------------------------------------------------------------------------------------------

# A blob that is streamed or downloaded. The largest registries accept layers of 50 GiB.
BLOB: Final = Limit("the size of a blob", 128 << 30)
# The unpacked size of a layer. Compressors reach 1:1,000 (gzip) and 1:32,000 (zstd), so the stored size does not limit it.
UNPACKED: Final = Limit("the unpacked size of a layer", 256 << 30)
# The members of one layer. The largest images have a million files in total.
MEMBERS: Final = Limit("the members of a layer", 2_000_000, "members")
# The members of all layers that are examined together (comparing two images). 500 bytes of memory each.
ALL_MEMBERS: Final = Limit("the members of all layers together", 4_000_000, "members")
# Metadata of one member: pax records (a path, a link target, extended attributes, up to 64 KiB each), GNU long names, the
# map of a sparse file.
MEMBER_HEADERS: Final = Limit("the headers of one member of a layer", 1 << 20)
# One path of a layer. Linux opens paths of up to 4 KiB.
PATH: Final = Limit("the length of a path in a layer", 16 << 10)
# All paths of one image with their folders, which are held in memory. A million files have 80 MB.
PATHS: Final = Limit("the paths of an image", 512 << 20)
# All files and folders of one image, which are held in memory.
FILES: Final = Limit("the files of an image", 2_000_000, "entries")
# A package manager's file, which is held in memory. With all of Debian installed, the dpkg status has 60 MB.
PACKAGE_FILE: Final = Limit("the size of a package manager's file", 64 << 20)
# All such files of one layer: status, file lists, metadata of Python distributions. Large images have 30 MB.
PACKAGE_FILES: Final = Limit("the package managers' files of a layer", 256 << 20)
# The steps named by an image's labels: each one is a request for its record.
TRAIL: Final = Limit("the steps of an image's trail", 2_000, "steps")
# The stored (compressed) size of a document that is attached to an image.
ATTACHED: Final = Limit("the stored size of an attached document", 128 << 20)
# The same, unpacked. chainbuild's own bill of materials has 700 bytes per file.
ATTACHED_UNPACKED: Final = Limit("the unpacked size of an attached document", 512 << 20)

# A statement about stage arguments, with its signature. A thousand patterns have 200 kB.
ASKED: Final = Limit("the size of a statement about stage arguments", 4 << 20)
# Documents with such statements that are examined for one image: one per key and statement. Each one costs a signature
# verification.
ASKED_DOCUMENTS: Final = Limit("the documents about the stage arguments of an image", 200, "entries")
# The tags in one such document; the oldest are dropped. For a team that tags an image on every commit, this covers the last
# few weeks.
ASKED_TAGS: Final = Limit("the tags in a document about stage arguments", 200, "entries")

# ---- package repositories ---------------------------------------------------------------------------------------------

# The list of a suite's indices, with its signature. Debian's has 150 kB.
RELEASE: Final = Limit("the size of a Release file", 16 << 20)
# A package index as it is stored. Debian's largest one has 9 MB.
PACKAGE_INDEX: Final = Limit("the stored size of a package index", 256 << 20)
# The same, unpacked. Those of Debian and Ubuntu have 60 to 80 MB.
PACKAGE_INDEX_UNPACKED: Final = Limit("the unpacked size of a package index", 768 << 20)
# The page of a project in a Python index. The largest ones of PyPI have 10 MB.
PROJECT_PAGE: Final = Limit("the size of a project's page", 64 << 20)
# A file of an image that says where it takes packages from, or a keyring. Debian's archive keyring has 60 kB.
PACKAGE_SETTINGS: Final = Limit("the size of a package manager's settings", 4 << 20)
# All settings, keyrings and package lists of a layer that are kept.
LAYER_PACKAGES: Final = Limit("the package data of a layer", 128 << 20)

# ---- attestations ------------------------------------------------------------------------------------------------------

# A signature in cosign's form: 300 bytes of JSON. cosign itself adds few more.
SIGNED_CLAIM: Final = Limit("the size of a signed claim", 64 << 10)
# The signatures or the attestations of an image, each one a layer. cosign reads as many; each costs a verification.
ATTESTATIONS: Final = Limit("the signatures and attestations of an image", 1_000, "entries")
# A statement about how an image was made: 300 bytes for each file that a step copies.
STATEMENT: Final = Limit("the size of an attestation", 64 << 20)
# All attestations of an image together. A statement and a bill of materials of the largest images have 60 MB; several signers
# may attest the same image.
STATEMENTS: Final = Limit("the size of all attestations of an image", 512 << 20)
# A public key in PEM has 200 bytes.
KEY_FILE: Final = Limit("the size of a key", 64 << 10)

# ---- trees ------------------------------------------------------------------------------------------------------------

# A manifest or template of a tree.
TREE_FILE: Final = Limit("the size of a file that is read from the tree", 4 << 20)
# The comment header of a package's Dockerfile, which is YAML. The longest of jetson-containers has 1 kB.
PACKAGE_HEADER: Final = Limit("the size of a package's header", 64 << 10)
# How many folders of a tree are searched for Dockerfiles. Linux has 6,000.
FOLDERS: Final = Limit("the folders of a tree", 200_000, "entries")
# How deep these folders are. Trees of people have ten levels.
FOLDER_DEPTH: Final = Limit("the depth of folders", 100, "levels")
# The expansion of a template, or all parameters of an image: nested parameters multiply.
TEMPLATE: Final = Limit("the expanded size of a template", 4 << 20)
# All templates and parameters of a tree, which are held in memory.
TEMPLATES: Final = Limit("the expanded size of all templates", 256 << 20)
# Nesting of parameters.
TEMPLATE_DEPTH: Final = Limit("the depth of parameters in parameters", 32, "levels")

# ---- time -------------------------------------------------------------------------------------------------------------


class Pace(Struct, frozen=True, kw_only=True):
    """How long a registry may take, in seconds.

    A transfer may take as long as its size needs at `rate`: slow but real networks are accepted, a server that sends a
    byte now and then is not.
    """

    connect: float = 4.0
    """Until a connection is open. Two lost packets are resent after 1 s and 3 s."""
    answer: float = 60.0
    """Until the headers of an answer arrive. A registry that is a proxy may need some seconds."""
    commit: float = 300.0
    """As `answer`, after an upload: registries copy a large blob into their storage before they answer."""
    silence: float = 30.0
    """Without a byte during an answer."""
    grace: float = 60.0
    """Extra time for a transfer beyond what its size needs at `rate`."""
    rate: int = 16 << 10
    """The slowest transfer, in bytes per second: 128 kbit/s."""
    error: float = 5.0
    """For the body of an error, which is only quoted."""
    leftover: float = 1.0
    """For draining the unneeded rest of an answer, to keep the connection open."""
    call: float = 180.0
    """For a request with all retries, redirects, logins and waits, excluding the transfer of content."""
    listing: float = 300.0
    """For all pages of a list."""
    waits: tuple[float, ...] = (0.2, 0.8, 4.0)
    """Between retries. Their sum covers the restart of a registry and the one-second window of most rate limits."""
    again: tuple[float, ...] = (0.3, 1.2, 3.0)
    """Before requesting truncated content once more. A registry on a busy disk needs a second for a small file."""
    retry_after: float = 30.0
    """The longest accepted wait (Retry-After). If the registry asks for more, the error is reported immediately."""

    def transfer(self, size: int) -> float:
        """Return the seconds that a transfer of `size` bytes may take."""
        return self.grace + size / self.rate


PACE: Final = Pace()

# Longer than any counter, time or size in a document, and still short enough to print.
_LONGEST_NUMBER: Final = 32
_PIECE: Final = 1 << 20

# ---- readers ----------------------------------------------------------------------------------------------------------


def read_all(chunks: Iterable[bytes], limit: Limit, what: str, where: str = "") -> bytes:
    """Join chunks of bytes. Errors: `LimitError` as soon as they exceed the limit."""
    joined = bytearray()
    for chunk in chunks:
        joined += chunk
        limit.check(len(joined), what, where)
    return bytes(joined)


def read_file(path: Path, limit: Limit | None = None) -> bytes:
    """Read a regular file of a tree. Errors: `LimitError`; `OSError`, also if it is not a regular file."""
    limit = limit or TREE_FILE
    content = _read_regular(path, limit.value + 1)
    limit.check(len(content), path.name)
    return content


def read_tree_file(path: Path) -> bytes:
    """Read a file of a tree whose unreadability is reported with its path: a Dockerfile, an args file, a test, a manifest.

    Errors: `OSError`, also if it is not a regular file (opening a FIFO would hang) or is larger than `TREE_FILE`.
    """
    try:
        return read_file(path)
    except LimitError as error:
        raise OSError(errno.EFBIG, f"larger than {TREE_FILE.shown}") from error


def read_head(path: Path, limit: Limit) -> bytes:
    """Read the start of a regular file, up to the limit. Errors: `OSError`."""
    return _read_regular(path, limit.value)


def _read_regular(path: Path, size: int) -> bytes:
    # Non-blocking: opening a FIFO or a device in place of the file would hang.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(size)


def read_start(chunks: Iterable[bytes], limit: Limit) -> bytes:
    """Return the first bytes, up to the limit, without consuming more chunks than necessary."""
    joined = bytearray()
    for chunk in chunks:
        joined += chunk
        if len(joined) >= limit.value:
            break
    return bytes(joined[: limit.value])


def counted(chunks: Iterable[bytes], budget: Budget) -> Iterator[bytes]:
    """Yield chunks of bytes while the budget lasts. Errors: `LimitError`."""
    for chunk in chunks:
        budget.spend(len(chunk))
        yield chunk


def check_text(raw: bytes, what: str, where: str = "") -> None:
    """Check that bytes are UTF-8 without decoding all of them into memory. Errors: `DamagedContentError`."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(raw), _PIECE):
            decoder.decode(raw[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DamagedContentError(f"{what} is not UTF-8 text", where=where) from error


def inflate(data: bytes, limit: Limit, what: str, where: str = "") -> bytes:
    """Decompress gzip (RFC 1952, including several members), never holding more than the limit in memory.

    Errors: `LimitError`; `DamagedContentError` if the data is not gzip or is truncated.
    """
    import zlib

    unpacked = bytearray()
    rest = data
    try:
        while rest:
            # 31: expect a gzip header and trailer, and verify the trailer's checksum.
            inflater = zlib.decompressobj(31)
            while not inflater.eof:
                # One byte more than allowed, to detect the end of a document of exactly that size.
                unpacked += inflater.decompress(rest, limit.value - len(unpacked) + 1)
                limit.check(len(unpacked), what, where)
                rest = inflater.unconsumed_tail
                if not rest and not inflater.eof:
                    raise DamagedContentError(f"{what} is cut off", where=where)
            # Zeros after the last member are padding, which gzip itself accepts.
            rest = inflater.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise DamagedContentError(f"{what} is not gzip: {error}", where=where) from error
    return bytes(unpacked)


def read_json(raw: bytes, what: str, where: str = "", *, has_file_names: bool = False) -> Any:
    """Parse JSON (RFC 8259) in UTF-8, without NaN, infinite numbers, unpaired surrogates or excessive depth.

    The result can always be written as JSON, compared and shown. `has_file_names`: allow unpaired surrogates, which are
    bytes of file names (PEP 383). Errors: `DamagedContentError`; `LimitError` for the depth.
    """
    try:
        text = raw.decode("utf-8")
        document = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole_number)
    except RecursionError as error:
        raise JSON_DEPTH.error(what, where) from error
    except ValueError as error:
        raise DamagedContentError(f"{what} is not JSON: {error}", where=where) from error
    # Every container has one of these characters, so most documents need no further check.
    if text.count("[") + text.count("{") > JSON_DEPTH.value:
        _check_depth(document, what, where)
    if "\\u" in text and not has_file_names:
        try:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DamagedContentError(f"{what} has an unpaired surrogate in a string", where=where) from error
    return document


def read_object(raw: bytes, what: str, where: str = "", *, has_file_names: bool = False) -> dict[str, Any]:
    """Parse a JSON object, with the same rules as `read_json`."""
    document = read_json(raw, what, where, has_file_names=has_file_names)
    if not isinstance(document, dict):
        raise DamagedContentError(f"{what} is not a JSON object", where=where)
    return document


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a number that can be represented")
    return value


def _whole_number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _check_depth(document: Any, what: str, where: str) -> None:
    level: list[Any] = [document] if isinstance(document, dict | list) else []
    depth = 0
    while level:
        depth += 1
        JSON_DEPTH.check(depth, what, where)
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
