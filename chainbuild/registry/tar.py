"""Read the members of a streamed tar, with a limit on everything that is kept in memory.

Python's `tarfile` reads the headers that belong to a member (pax records, GNU's long names, the map of a sparse file) whole,
however large they are, parses some of them in quadratic time, and mistakes a damaged header in the middle for the end. Layers
are untrusted, so this module reads them itself: POSIX ustar and pax (POSIX.1-2017, pax, "pax Interchange Format"), the old
and the GNU format with their long names and numbers, and sparse files in all four ways that GNU tar writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, Final, Literal

from msgspec import Struct

from chainbuild import limits

if TYPE_CHECKING:
    from tarfile import TarInfo

Kind = Literal["file", "dir", "link", "hard", "special"]
"""What a member is: `link` is a symbolic link, `hard` another name of a file that came before."""

_BLOCK: Final = 512
_PIECE: Final = 1 << 20
# Extended headers: pax (also Solaris's form), global pax, and GNU's long names and targets.
_PAX: Final = frozenset({b"x", b"X"})
_PAX_GLOBAL: Final = b"g"
_LONG_NAME: Final = b"L"
_LONG_LINK: Final = b"K"
_EXTENDED: Final = _PAX | {_PAX_GLOBAL, _LONG_NAME, _LONG_LINK}
_OLD_SPARSE: Final = b"S"
_OLD_FILE: Final = b"\0"
_FILES: Final = frozenset({b"0", b"\0", b"7", _OLD_SPARSE})
# Types without content, whatever size their header has. Unknown types are special, and may have some.
_BARE: Final[dict[bytes, Kind]] = {
    b"1": "hard",
    b"2": "link",
    b"3": "special",
    b"4": "special",
    b"5": "dir",
    b"6": "special",
}
XATTR: Final = "SCHILY.xattr."
"""Begins the key of an extended attribute in a pax header, as in the layers of images (OCI image spec, "File Attributes")."""
_LONGEST_NUMBER: Final = 24
_EMPTY: Final = b"\0" * _BLOCK

Extent = tuple[int, int]
"""Where a piece of a sparse file begins, and its length."""


class TarError(ValueError):
    """The stream is not a tar, or is damaged."""


class Member(Struct, frozen=True, kw_only=True):
    """A member of a tar. `size` is that of the content that `chunks` yields.

    Names are decoded with surrogate escapes (PEP 383). `xattrs` are its extended attributes by name, sorted, for example
    `security.capability`. `chunks` is valid until the next member is asked for.
    """

    name: str
    kind: Kind
    size: int = 0
    target: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    chunks: Callable[[], Iterator[bytes]]


class _Header(Struct):
    """The header of a member with all that belongs to it. `stored` is the size of its content in the stream."""

    info: TarInfo
    kind: Kind
    stored: int
    size: int
    xattrs: tuple[tuple[str, bytes], ...] = ()
    extents: tuple[Extent, ...] | None = None


def members(stream: IO[bytes], what: str, where: str = "") -> Iterator[Member]:
    """Read a tar. `what` and `where` name it in errors.

    Errors: `TarError`; `LimitError`; and whatever reading the stream raises.
    """
    reader = _Reader(stream, what, where)
    count = limits.Budget(limits.MEMBERS, what, where)
    names = limits.Budget(limits.PATHS, what, where)
    while (header := reader.next()) is not None:
        count.spend(1)
        info = header.info
        for text in (info.name, info.linkname):
            limits.PATH.check(len(text), what, where)
            names.spend(len(text))
        names.spend(sum(len(name) + len(value) for name, value in header.xattrs))
        yield Member(
            name=info.name,
            kind=header.kind,
            size=header.size,
            target=info.linkname,
            mode=info.mode,
            uid=info.uid,
            gid=info.gid,
            xattrs=header.xattrs,
            chunks=partial(reader.content, header),
        )
        reader.skip()


class _Reader:
    """Reads headers and content in their order, and knows where the stream is."""

    def __init__(self, stream: IO[bytes], what: str, where: str) -> None:
        self._stream = stream
        self._what = what
        self._where = where
        self._unpacked = limits.Budget(limits.UNPACKED, what, where)
        self._headers = limits.Budget(limits.MEMBER_HEADERS, what, where)
        self._global: dict[str, bytes] = {}
        self._left = 0
        """Bytes of the current member's content that were not read yet, without padding."""
        self._padding = 0

    def next(self) -> _Header | None:
        """Read the next member's header; None at the end."""
        self._headers = limits.Budget(limits.MEMBER_HEADERS, self._what, self._where)
        pax: dict[str, bytes] = {}
        long_name = long_link = b""
        while (block := self._block()) is not None:
            info = _parse(block)
            if info.type not in _EXTENDED:
                return self._member(info, block, self._global | pax, long_name, long_link)
            body = self._extension(info.size)
            if info.type == _LONG_NAME:
                long_name = body.partition(b"\0")[0]
            elif info.type == _LONG_LINK:
                long_link = body.partition(b"\0")[0]
            elif info.type == _PAX_GLOBAL:
                self._global |= _records(body)
                held = sum(len(key) + len(value) for key, value in self._global.items())
                limits.MEMBER_HEADERS.check(held, self._what, self._where)
            else:
                pax |= _records(body)
        if pax or long_name or long_link:
            raise TarError("the tar ends after an extended header")
        return None

    def content(self, header: _Header) -> Iterator[bytes]:
        """Yield the content of the member that `next` returned last, with the holes of a sparse file."""
        if header.extents is None:
            while self._left:
                yield self._piece(self._left)
            return
        at = 0
        for start, length in header.extents:
            yield from self._zeros(start - at)
            at, end = start, start + length
            while at < end:
                piece = self._piece(end - at)
                at += len(piece)
                yield piece
        yield from self._zeros(header.size - at)

    def skip(self) -> None:
        """Skip the unread rest of the current member."""
        while self._left:
            self._piece(self._left)
        if self._padding:
            self._exactly(self._padding)
            self._padding = 0

    # ---- headers ----------------------------------------------------------------------------------------------------

    def _member(
        self, info: TarInfo, block: bytes, pax: dict[str, bytes], long_name: bytes, long_link: bytes
    ) -> _Header:
        kind: Kind = "file" if info.type in _FILES else _BARE.get(info.type, "special")
        if long_name:
            info.name = _text(long_name)
        if long_link:
            info.linkname = _text(long_link)
        if "path" in pax:
            info.name = _text(pax["path"]).rstrip("/")
        if "linkpath" in pax:
            info.linkname = _text(pax["linkpath"])
        if kind == "file" and info.type == _OLD_FILE and info.name.endswith("/"):
            # The oldest tars have no type for folders.
            kind = "dir"
        info.name = info.name.rstrip("/") if kind == "dir" else info.name
        info.uid, info.gid = _owner(pax, "uid", info.uid), _owner(pax, "gid", info.gid)
        stored = 0 if kind == "dir" or info.type in _BARE else _whole(pax, "size", info.size)
        if stored < 0:
            raise TarError("a negative size in a header")
        self._left, self._padding = stored, -stored % _BLOCK
        xattrs = sorted((key.removeprefix(XATTR), value) for key, value in pax.items() if key.startswith(XATTR))
        header = _Header(info=info, kind=kind, stored=stored, size=stored, xattrs=tuple(xattrs))
        if info.type == _OLD_SPARSE:
            self._old_sparse(header, block)
        elif kind == "file" and any(key.startswith("GNU.sparse.") for key in pax):
            self._pax_sparse(header, pax)
        return header

    def _old_sparse(self, header: _Header, block: bytes) -> None:
        """GNU's own format: four extents in the header, and blocks with 21 more as long as one says so."""
        extents = _table(block[386:482])
        more, header.size = block[482], _number(block[483:495])
        while more:
            block = self._exactly(_BLOCK)
            self._headers.spend(_BLOCK)
            extents += _table(block[:504])
            more = block[504]
        self._lay_out(header, extents)

    def _pax_sparse(self, header: _Header, pax: dict[str, bytes]) -> None:
        """The formats 0.0 and 0.1 (the map is in pax records) and 1.0 (it comes before the content)."""
        if "GNU.sparse.name" in pax:
            header.info.name = _text(pax["GNU.sparse.name"])
        size = _whole(pax, "GNU.sparse.realsize", _whole(pax, "GNU.sparse.size", header.stored))
        if "GNU.sparse.map" in pax:
            numbers = [_decimal(text) for text in pax["GNU.sparse.map"].split(b",")]
        elif pax.get("GNU.sparse.major") == b"1":
            numbers = self._map()
        elif "GNU.sparse.offset" in pax:
            numbers = [_decimal(text) for text in pax["GNU.sparse.offset"].split(b"\0")]
        else:
            return
        header.size = size
        self._lay_out(header, list(zip(numbers[::2], numbers[1::2], strict=True)) if not len(numbers) % 2 else None)

    def _map(self) -> list[int]:
        """Return the map of format 1.0: a count and then as many pairs of numbers, each on a line, padded to whole blocks."""
        buffer = b""
        numbers: list[int] = []
        needed = 1
        while len(numbers) < needed:
            line, newline, rest = buffer.partition(b"\n")
            if not newline:
                if len(buffer) > _LONGEST_NUMBER:
                    raise TarError("the map of a sparse file is damaged")
                self._headers.spend(_BLOCK)
                buffer += self._block_of_content()
                continue
            buffer = rest
            numbers.append(_decimal(line))
            if len(numbers) == 1:
                needed = 1 + 2 * numbers[0]
        return numbers[1:]

    def _lay_out(self, header: _Header, extents: list[Extent] | None) -> None:
        """Accept a map after checking that it describes the content: in order, within the size, as long as it."""
        at = total = 0
        for start, length in extents if extents is not None else [(-1, 0)]:
            if start < at or length < 0 or start + length > header.size:
                raise TarError("the map of a sparse file is damaged")
            at, total = start + length, total + length
        if total != self._left or header.size < 0:
            raise TarError("the map of a sparse file does not match its content")
        # The holes count as unpacked bytes, too: a file of eight exabytes takes one block.
        self._unpacked.spend(header.size - total)
        header.extents = tuple(extents or ())

    # ---- the stream -------------------------------------------------------------------------------------------------

    def _block(self) -> bytes | None:
        """Return a header's block; None at the end, which is a block of zeros or the end of the stream."""
        block = self._read(_BLOCK)
        if not block or block == _EMPTY:
            return None
        if len(block) < _BLOCK:
            raise TarError("the tar ends in the middle of a header")
        self._unpacked.spend(_BLOCK)
        return block

    def _extension(self, size: int) -> bytes:
        if size < 0:
            raise TarError("a negative size in a header")
        self._headers.spend(size)
        body = self._exactly(size + -size % _BLOCK)
        return body[:size]

    def _block_of_content(self) -> bytes:
        size = min(_BLOCK, self._left)
        if size < _BLOCK:
            raise TarError("the map of a sparse file is cut off")
        return self._piece(size)

    def _piece(self, most: int) -> bytes:
        """Return up to that many bytes of the current member's content, and at least one."""
        piece = self._stream.read(min(most, self._left, _PIECE))
        if not piece:
            raise TarError("the tar ends in the middle of a file")
        self._left -= len(piece)
        self._unpacked.spend(len(piece))
        return piece

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise TarError("the tar ends in the middle of a member")
        self._unpacked.spend(size)
        return data

    def _read(self, size: int) -> bytes:
        """Return that many bytes; fewer only at the end of the stream."""
        data = bytearray()
        while len(data) < size and (piece := self._stream.read(size - len(data))):
            data += piece
        return bytes(data)

    def _zeros(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = bytes(min(size, _PIECE))
            size -= len(piece)
            yield piece


def _parse(block: bytes) -> TarInfo:
    import tarfile

    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise TarError(f"a header is damaged: {error}") from error


def _records(body: bytes) -> dict[str, bytes]:
    """Return the records of a pax header: `LENGTH KEY=VALUE` and a line break each, the length counting all of it."""
    records: dict[str, bytes] = {}
    at = 0
    offsets: list[bytes] = []
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + _LONGEST_NUMBER)
        end = at + (_decimal(body[at:space]) if space > at else 0)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(body) or body[end - 1 : end] != b"\n" or not equals:
            raise TarError("a pax header is damaged")
        name = key.decode("utf-8", "surrogateescape")
        if name in {"GNU.sparse.offset", "GNU.sparse.numbytes"}:
            # Format 0.0 repeats both for every extent.
            offsets.append(value)
        else:
            records[name] = value
        at = end
    if offsets:
        records["GNU.sparse.offset"] = b"\0".join(offsets)
    return records


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _whole(pax: dict[str, bytes], key: str, usual: int) -> int:
    """Return a number of a pax header."""
    return _decimal(pax[key]) if key in pax else usual


def _owner(pax: dict[str, bytes], key: str, usual: int) -> int:
    """Return the number of a user or group; one that is damaged is that of the header, as for other tools."""
    try:
        return _whole(pax, key, usual)
    except TarError:
        return usual


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > _LONGEST_NUMBER:
        raise TarError(f"{text[:40]!r} is not a number")
    return int(text)


def _number(field: bytes) -> int:
    """Return a number of a header's block: octal, or binary if its first bit is set (GNU)."""
    if field[:1] >= b"\x80":
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    if digits and not all(byte in b"01234567" for byte in digits):
        raise TarError(f"{digits!r} is not a number")
    return int(digits or b"0", 8)


def _table(raw: bytes) -> list[Extent]:
    rows = [(_number(raw[at : at + 12]), _number(raw[at + 12 : at + 24])) for at in range(0, len(raw), 24)]
    return [(start, length) for start, length in rows if start or length]
