"""A connection that speaks HTTP/1.1 without TLS (RFC 9112), one request at a time.

http.client does the same, but imports the mail parser and TLS, which takes longer than all requests of a plan. This reads
answers more strictly: whatever is not surely HTTP is an error, never a guess.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

from chainbuild.patterns import regex
from chainbuild.registry.http.watch import Watch, reader_of

_LONGEST_LINE: Final = 1 << 16
_MOST_HEADERS: Final = 100
_STATUS: Final = regex(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: .*)?")
_HEADER: Final = regex(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)")
_CHUNK_SIZE: Final = regex(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
_CONTINUE: Final = 100
_UNSENDABLE: Final = regex(r"[^ -~\x80-\xff]")
_TARGET: Final = regex(r"/[!-~]*")
_WITH_BODY: Final = frozenset({"PATCH", "POST", "PUT"})


Reader = io.BufferedReader


class HttpSyntaxError(ValueError):
    """What came is not HTTP/1.1, or what should be sent could not be."""


class PlainConnection:
    """A connection to `host:port`. It is opened when the first request is sent."""

    def __init__(self, netloc: str, seconds: float) -> None:
        """`seconds` is how long the connection may take to open."""
        self.sock: socket.socket | None = None
        self._netloc = netloc
        self._seconds = seconds

    def send(
        self, watch: Watch, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] | None
    ) -> None:
        """Send a request. Errors: `OSError`; `HttpSyntaxError` if an address or a header cannot be sent."""
        if not _TARGET.fullmatch(target):
            raise HttpSyntaxError("an address with characters that an address cannot have")
        fields = {"Host": self._netloc.removesuffix(":80"), "Accept-Encoding": "identity", **headers}
        if body is None and method in _WITH_BODY:
            fields["Content-Length"] = "0"
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any(_UNSENDABLE.search(line) for line in lines):
            raise HttpSyntaxError("a header with characters that a header cannot have")
        if self.sock is None:
            self.sock = self.connect()
        for data in chain([("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")], body or ()):
            self.sock.settimeout(watch.pace.transfer(len(data)))
            self.sock.sendall(data)

    def answer(self, watch: Watch, method: str) -> PlainAnswer:
        """Read the head of the answer. Errors: `OSError`; `HttpSyntaxError`."""
        if self.sock is None:
            raise ConnectionResetError("the connection is closed")
        watch.start_head()
        return PlainAnswer(reader_of(self.sock, watch), method)

    def close(self) -> None:
        """Close the connection."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def connect(self) -> socket.socket:
        """Return a new socket that is connected. Errors: `OSError`; `HttpSyntaxError` if the port is no number."""
        host, _, port = self._netloc.rpartition(":") if not self._netloc.endswith("]") else (self._netloc, "", "")
        if not host:
            host, port = self._netloc, ""
        if port and not (port.isascii() and port.isdecimal()):
            raise HttpSyntaxError("a port that is no number")
        # As bytes: Python would load the tables of international names for a text.
        name: Any = host.removeprefix("[").removesuffix("]").encode("ascii")
        sock = socket.create_connection((name, int(port or 80)), self._seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


class PlainAnswer:
    """An answer whose head has been read.

    `length` is how many bytes of the body are left, None if only its end will tell. `is_last`: the server closes the
    connection after it.
    """

    def __init__(self, reader: Reader, method: str) -> None:
        self._reader = reader
        self._chunk = 0
        self.ended = False
        try:
            version, self.status = _read_status(reader)
            self.headers = _read_headers(reader)
            while self.status == _CONTINUE:
                version, self.status = _read_status(reader)
                self.headers = _read_headers(reader)
        except BaseException:
            reader.close()
            raise
        fields: dict[str, str] = {}
        for name, value in self.headers:
            fields[name.lower()] = f"{fields[name.lower()]},{value}" if name.lower() in fields else value
        without_body = method == "HEAD" or self.status < 200 or self.status in {204, 304}
        coding = fields.get("transfer-encoding", "").strip().lower()
        self._is_chunked = coding == "chunked" and not without_body
        length = fields.get("content-length", "").partition(",")[0].strip()
        self.length: int | None = int(length) if length.isascii() and length.isdecimal() else None
        if without_body:
            self.length = 0
        elif self._is_chunked:
            self.length = None
        options = {option.strip().lower() for option in fields.get("connection", "").split(",")}
        self.is_last = "close" in options or (version == 0 and "keep-alive" not in options)
        if self.length is None and not self._is_chunked:
            self.is_last = True
        if self.length == 0:
            self._end()

    def read(self, size: int) -> bytes:
        """Return some bytes of the body, no more than `size`; none at its end, or if the connection broke.

        Errors: `OSError`; `HttpSyntaxError`.
        """
        if self.ended:
            return b""
        if self._is_chunked:
            return self._read_of_chunk(size)
        data = self._reader.read1(size if self.length is None else min(size, self.length))
        if self.length is not None:
            self.length -= len(data)
        if not data or self.length == 0:
            self._end()
        return data

    def close(self) -> None:
        """Leave the rest unread."""
        self.ended = True
        self._reader.close()

    def _end(self) -> None:
        self.ended = True
        self._reader.close()

    def _read_of_chunk(self, size: int) -> bytes:
        if not self._chunk:
            match = _CHUNK_SIZE.fullmatch(_line(self._reader))
            if match is None:
                raise HttpSyntaxError("a chunk without a size")
            self._chunk = int(match[1], 16)
            if not self._chunk:
                # The trailers, which say nothing that is needed.
                while _line(self._reader):
                    pass
                self._end()
                return b""
        data = self._reader.read1(min(size, self._chunk))
        if not data:
            raise HttpSyntaxError("the connection broke in the middle of a chunk")
        self._chunk -= len(data)
        if not self._chunk and _line(self._reader):
            raise HttpSyntaxError("a chunk that is longer than its size")
        return data


def _read_status(reader: Reader) -> tuple[int, int]:
    """Return the minor version and the status of a status line."""
    first = reader.readline(_LONGEST_LINE)
    if not first:
        raise ConnectionResetError("the server closed the connection without an answer")
    match = _STATUS.fullmatch(first.rstrip(b"\r\n"))
    if match is None or not first.endswith(b"\n"):
        raise HttpSyntaxError("no status line")
    return int(match[1]), int(match[2])


def _read_headers(reader: Reader) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    while line := _line(reader):
        match = _HEADER.fullmatch(line)
        if match is None or len(headers) == _MOST_HEADERS:
            raise HttpSyntaxError("a header that is none, or too many of them")
        headers.append((match[1].decode("latin-1"), match[2].strip(b" \t").decode("latin-1")))
    return headers


def _line(reader: Reader) -> bytes:
    """Return a line without its end."""
    line = reader.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise HttpSyntaxError("a line without an end")
    return line[:-1].removesuffix(b"\r")
