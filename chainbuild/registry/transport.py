"""The seam between the registry client and the network: one request, one response.

`PlainTransport` speaks unencrypted HTTP over the standard library: a registry at localhost is queried in every run, and
importing urllib3 with TLS would take longer than the request. `PooledTransport` is urllib3: TLS, proxies, the system's
trust. Tests put an in-memory registry here. A transport neither retries nor follows redirects: the client decides that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from chainbuild import limits
from chainbuild.registry.headers import whole_number
from chainbuild.registry.watch import Watch, under, watched

CHUNK: Final = 1 << 20
# Unneeded bytes of a body that are read nevertheless, because that is faster than a new connection.
_SOON_READ: Final = 16 << 10

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


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """One HTTP request. `url` is absolute; `headers` may hold credentials and are never shown.

    `answer_seconds` is how long the headers of the answer may take; by default as long as `pace` says.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = None
    pace: limits.Pace = field(default_factory=lambda: limits.PACE)
    answer_seconds: float | None = None

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


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise TransportError("no-host", f"{url.partition('?')[0]!r} is not an address") from error


# ---- plain HTTP -----------------------------------------------------------------------------------------------------


class PlainTransport:
    """HTTP without TLS and without a proxy, for a registry on this machine or network. Keeps connections alive."""

    def __init__(self, connect_seconds: float | None = None) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def send(self, request: HttpRequest) -> HttpResponse:
        import http.client

        parts = _split(request.url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
        while True:
            watch = request.watch
            connection: Any = None
            reused = False
            try:
                connection, reused = self._take(parts.netloc, request.pace)
                answer = _exchange(connection, watch, request, target, headers)
                checked = checked_headers(answer.status, answer.getheaders(), parts.netloc)
            except (http.client.HTTPException, OSError, ValueError, TransportError) as error:
                if connection is not None:
                    connection.close()
                # The server closed a connection that lay idle (RemoteDisconnected is a reset, too): no failure.
                if reused and isinstance(error, BrokenPipeError | ConnectionResetError):
                    continue
                # What came was the rest of an earlier answer, which a broken server sent too late.
                garbage = isinstance(error, http.client.HTTPException) or watch.overrun
                if reused and garbage and request.method in {"GET", "HEAD"}:
                    continue
                if isinstance(error, TransportError):
                    raise
                raise _plain_fault(error, parts.netloc, watch) from error
            return _PlainResponse(
                answer,
                checked,
                watch,
                lambda: self._give_back(parts.netloc, connection),  # noqa: B023
                connection.close,
            )

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _take(self, netloc: str, pace: limits.Pace) -> tuple[Any, bool]:
        while True:
            with self._lock:
                connection = self._idle[netloc].pop() if self._idle.get(netloc) else None
            if connection is None:
                seconds = pace.connect if self._connect_seconds is None else self._connect_seconds
                return _plain_connection()(netloc, timeout=seconds), False
            if not _has_something_to_read(connection.sock):
                return connection, True
            connection.close()

    def _give_back(self, netloc: str, connection: Any) -> None:
        with self._lock:
            self._idle.setdefault(netloc, []).append(connection)


@lru_cache(maxsize=1)
def _plain_connection() -> type[Any]:
    import http.client

    return watched(http.client.HTTPConnection)


def _exchange(connection: Any, watch: Watch, request: HttpRequest, target: str, headers: Mapping[str, str]) -> Any:
    under(watch)
    if connection.sock is None:
        connection.connect()
    try:
        body = request.body.chunks() if request.body else None
        connection.request(request.method, target, body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        # A server that rejects an upload may respond and close during the upload.
        if request.body is None:
            raise
        # If there is no answer, the first error is the one that says what happened.
        with suppress(Exception):
            return connection.getresponse()
        raise
    return connection.getresponse()


def _has_something_to_read(sock: Any) -> bool:
    """Return whether an idle connection was closed by the server, or has bytes that belong to no request."""
    import select

    if sock is None:
        return False
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


class _PlainResponse:
    def __init__(
        self,
        answer: Any,
        headers: Mapping[str, str],
        watch: Watch,
        done: Callable[[], None],
        drop: Callable[[], None],
    ) -> None:
        self.status: int = answer.status
        self.headers = headers
        self._answer = answer
        self._watch = watch
        self._done = done
        self._drop = drop
        self._open = True
        watch.start_body()
        # A response without a body (to HEAD, 201, 204) is at its end already, but http.client only sees that by a read.
        if answer.isclosed() or answer.length == 0:
            answer.read()
            self._finish()

    def chunks(self) -> Iterator[bytes]:
        import http.client

        try:
            while chunk := self._read():
                yield chunk
        except (http.client.HTTPException, OSError, ValueError) as error:
            self._leave()
            raise _broken(error, self._watch) from error
        if self._answer.length:
            self._leave()
            raise TransportError("reset", f"the connection broke {self._answer.length} bytes before the end")
        self._finish()

    def end_within(self, seconds: float) -> None:
        self._watch.end_within(seconds)

    def close(self) -> None:
        if self._open and 0 < (self._answer.length or 0) <= _SOON_READ:
            self._watch.end_within(self._watch.pace.leftover)
            with suppress(TransportError):
                for _ in self.chunks():
                    pass
        self._leave()

    def _read(self) -> bytes:
        self._watch.grant(CHUNK)
        # Not `read`, which would collect chunks until it has as many bytes: however small a server cuts its chunks.
        chunk: bytes = self._answer.read1(CHUNK)
        left = self._answer.chunk_left
        if isinstance(left, int) and left < 0:
            # http.client takes a sign for a part of a number, and then whatever comes for the chunk.
            raise ValueError("a chunk of a negative size")
        if not chunk and self._answer.length == 0:
            self._answer.read()  # only this tells http.client that the answer is at its end
        return chunk

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._answer.close()
            self._drop()

    def _finish(self) -> None:
        if self._open:
            self._open = False
            if self._answer.will_close or self._watch.leftover:
                self._drop()
            else:
                self._done()


def _broken(error: Exception, watch: Watch) -> TransportError:
    """Return the error for a body that did not come to its end."""
    if watch.fault:
        return TransportError("timeout", watch.fault)
    return TransportError("reset", f"the connection broke while reading ({type(error).__name__})")


def _plain_fault(error: Exception, netloc: str, watch: Watch) -> TransportError:
    import socket

    if watch.fault:
        return TransportError("timeout", f"{netloc}: {watch.fault}")
    if isinstance(error, TimeoutError):
        return TransportError("timeout", f"{netloc} timed out")
    if isinstance(error, ConnectionRefusedError):
        return TransportError("refused", f"{netloc} refuses connections")
    if isinstance(error, socket.gaierror):
        return TransportError("no-host", f"there is no host {netloc!r} ({error.strerror})")
    if isinstance(error, ConnectionError):
        return TransportError("reset", f"{netloc} closed the connection")
    if isinstance(error, OSError):
        return TransportError("refused", f"{netloc}: {error.strerror or error}")
    if not watch.sent:
        return TransportError("no-host", f"{netloc!r} is not a valid host")
    return TransportError("not-http", f"{netloc} does not speak HTTP ({type(error).__name__})")


# ---- urllib3 --------------------------------------------------------------------------------------------------------


class PooledTransport:
    """HTTP and HTTPS over urllib3, with the system's trust (SSL_CERT_FILE counts) and the environment's proxies."""

    def __init__(self, connect_seconds: float | None = None, connections: int = 8) -> None:
        self._connect_seconds = connect_seconds
        self._connections = connections
        self._pools: dict[str, Any] = {}
        self._lock = threading.Lock()

    def send(self, request: HttpRequest) -> HttpResponse:
        import http.client

        import urllib3
        from urllib3 import exceptions

        parts = _split(request.url)
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
        body: Any = request.body.chunks() if request.body is not None else None
        watch = request.watch
        under(watch)
        seconds = request.pace.connect if self._connect_seconds is None else self._connect_seconds
        try:
            answer = self._pool(parts.scheme, parts.hostname or "").request(
                request.method,
                request.url,
                body=body,
                headers=headers,
                # The watch limits what is read; this is only what urllib3 sets in between.
                timeout=urllib3.Timeout(connect=seconds, read=request.pace.commit),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise _pooled_fault(error, parts.netloc.rpartition("@")[2], watch) from error
        try:
            checked = checked_headers(answer.status, answer.headers.items(), parts.netloc)
        except TransportError:
            answer.close()
            answer.release_conn()
            raise
        return _PooledResponse(answer, checked, watch)

    def close(self) -> None:
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.clear()

    def _pool(self, scheme: str, host: str) -> Any:
        import urllib3

        proxy = _proxy_for(scheme, host)
        with self._lock:
            if proxy not in self._pools:
                # The default context loads the system's store and honours SSL_CERT_FILE and SSL_CERT_DIR; urllib3
                # alone would not. Made once per pool: loading the store takes 10 to 20 ms.
                context = _tls_context()
                arguments: dict[str, Any] = {"maxsize": self._connections, "ssl_context": context}
                if proxy:
                    from urllib3.util import parse_url

                    credentials = parse_url(proxy).auth
                    proxy_headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
                    self._pools[proxy] = urllib3.ProxyManager(proxy, proxy_headers=proxy_headers, **arguments)
                else:
                    self._pools[proxy] = urllib3.PoolManager(**arguments)
                self._pools[proxy].pool_classes_by_scheme = _pool_classes()
            return self._pools[proxy]


@lru_cache(maxsize=1)
def _pool_classes() -> Mapping[str, type[Any]]:
    """urllib3's pools, of connections that are read under a watch."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    usual: Mapping[str, type[Any]] = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
    return {
        scheme: type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": watched(pool.ConnectionCls)})
        for scheme, pool in usual.items()
    }


class _PooledResponse:
    def __init__(self, answer: Any, headers: Mapping[str, str], watch: Watch) -> None:
        self.status: int = answer.status
        self.headers = headers
        self._answer = answer
        self._watch = watch
        watch.start_body()

    def chunks(self) -> Iterator[bytes]:
        import http.client

        from urllib3 import exceptions

        pieces = self._answer.stream(CHUNK)
        try:
            while True:
                self._watch.grant(CHUNK)
                piece = next(pieces, None)
                if piece is None:
                    break
                yield piece
        except (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            self._answer.close()
            raise _broken(error, self._watch) from error
        finally:
            self._answer.release_conn()

    def end_within(self, seconds: float) -> None:
        self._watch.end_within(seconds)

    def close(self) -> None:
        left = self._answer.length_remaining
        if left is not None and left <= _SOON_READ:
            self._watch.end_within(self._watch.pace.leftover)
            with suppress(TransportError):
                for _ in self.chunks():
                    pass
        else:
            self._answer.close()
        self._answer.release_conn()


def _tls_context() -> Any:
    import ssl

    return ssl.create_default_context()


def _proxy_for(scheme: str, host: str) -> str:
    """Return the proxy that the environment names for this host (HTTPS_PROXY, NO_PROXY, …), or nothing."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _pooled_fault(error: Exception, netloc: str, watch: Watch) -> TransportError:
    import http.client

    from urllib3 import exceptions

    if watch.fault:
        return TransportError("timeout", f"{netloc}: {watch.fault}")
    if isinstance(error, exceptions.ProxyError):
        return TransportError("proxy", f"the proxy refuses to connect to {netloc}")
    if isinstance(error, exceptions.SSLError):
        return TransportError("tls", f"no TLS connection to {netloc}: {_tls_reason(error)}")
    if isinstance(error, exceptions.NameResolutionError):
        return TransportError("no-host", f"there is no host {netloc!r}")
    if isinstance(error, exceptions.NewConnectionError):
        return TransportError("refused", f"{netloc} refuses connections")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return TransportError("timeout", f"{netloc} timed out")
    if not watch.sent and isinstance(error, ValueError):
        return TransportError("no-host", f"{netloc!r} is not a valid host")
    inner = error.args[1] if isinstance(error, exceptions.ProtocolError) and len(error.args) > 1 else error
    if isinstance(inner, http.client.HTTPException | ValueError) and not isinstance(inner, ConnectionError):
        return TransportError("not-http", f"{netloc} does not speak HTTP ({type(inner).__name__})")
    return TransportError("reset", f"{netloc} closed the connection ({type(error).__name__})")


def _tls_reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or inner)
