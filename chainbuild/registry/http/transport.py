"""The seam between the registry client and the network: one request, one response.

`PlainTransport` speaks unencrypted HTTP over the standard library: a registry at localhost is queried in every run, and
importing urllib3 with TLS would take longer than the request. `PooledTransport` is urllib3: TLS, proxies, the system's
trust. Tests put an in-memory registry here. A transport neither retries nor follows redirects: the client decides that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.registry.http.headers import whole_number
from chainbuild.registry.http.watch import Watch
from chainbuild.values import Discreet

CHUNK: Final = 1 << 20
# Unneeded bytes of a body that are read nevertheless, because that is faster than a new connection.
SOON_READ: Final = 16 << 10

Fault = Literal["refused", "no-host", "tls", "timeout", "reset", "proxy", "not-http"]


class TransportError(Exception):
    """There was no response. `fault` is the reason; the text contains no more of the URL than the host.

    `not-http`: the response is not HTTP, or exceeds a limit, for example on headers.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


class Body(Struct, frozen=True):
    """What a request sends: `size` bytes, which `chunks()` gives anew at each call (so a request can be retried)."""

    size: int
    chunks: Callable[[], Iterable[bytes]]

    @classmethod
    def of(cls, data: bytes) -> Body:
        """Return these bytes."""
        # In pieces: each of them has its own time limit.
        return cls(len(data), lambda: (data[start : start + CHUNK] for start in range(0, len(data), CHUNK)))

    @classmethod
    def of_file(cls, path: Path) -> Body:
        """Return a file's content, read as it is sent."""
        return cls(path.stat().st_size, lambda: read_chunks(path))


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, a megabyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class HttpRequest(Discreet, frozen=True, kw_only=True, eq=False):
    """One HTTP request. `url` is absolute; `headers` may hold credentials and are never shown.

    `answer_seconds` is how long the headers of the answer may take; by default as long as `pace` says. `once`: it must not
    be sent a second time, not even after the server closed an idle connection, because the first may still be at work.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    pace: limits.Pace = field(default_factory=lambda: limits.PACE)
    answer_seconds: float | None = None
    once: bool = False

    @property
    def usual_seconds(self) -> float:
        """Return how long the headers of the answer may take: longer after an upload."""
        return self.pace.commit if self.body is not None and self.body.size else self.pace.answer

    @property
    def watch(self) -> Watch:
        """Return a new watch over the answer to this request."""
        return Watch(self.pace, self.usual_seconds if self.answer_seconds is None else self.answer_seconds)


class HttpResponse(Protocol):
    """One HTTP response. `headers` has lower-case names. It is read to its end or closed."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces of up to `CHUNK` bytes. Errors: `TransportError`."""
        ...

    def end_within(self, seconds: float) -> None:
        """Allow the rest of the body only so many seconds."""
        ...

    def close(self) -> None:
        """Leave the rest unread."""
        ...


class Transport(Protocol):
    """Sends requests; safe to use from several threads. Errors: `TransportError`."""

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and return as soon as the response's head is there."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


def checked_headers(status: int, pairs: Iterable[tuple[str, str]], netloc: str) -> dict[str, str]:
    """Return headers with lower-case names; repeated ones are joined with a comma (RFC 9110, 5.3).

    Errors: `TransportError` if the head of the answer is not one of HTTP: an informational status, a `Content-Length` that
    is not a number, headers that exceed the limit.
    """
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if not 200 <= status <= 599:
        raise TransportError("not-http", f"{netloc} answers with status {status}, which is not a final status")
    for name, value in headers.items():
        if len(name) + len(value) > limits.HEADER.value:
            raise TransportError("not-http", f"{netloc} sends a header of more than {limits.HEADER.shown}")
    lengths = {whole_number(length) for length in headers.get("content-length", "0").split(",")}
    if None in lengths or len(lengths) > 1:
        raise TransportError("not-http", f"{netloc} sends an invalid Content-Length")
    return headers


def split_url(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise TransportError("no-host", f"{url.partition('?')[0]!r} is not an address") from error


def broken_connection(error: Exception, watch: Watch) -> TransportError:
    """Return the error for a body that did not come to its end."""
    if watch.fault:
        return TransportError("timeout", watch.fault)
    return TransportError("reset", f"the connection broke while reading ({type(error).__name__})")
