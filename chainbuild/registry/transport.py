"""The seam between the registry client and the network: one request, one response.

`PlainTransport` speaks unencrypted HTTP over the standard library: a registry at localhost is asked in every run, and
importing urllib3 with TLS would take longer than asking it. `PooledTransport` is urllib3: TLS, proxies, the system's
trust. Tests put an in-memory registry here. A transport neither retries nor follows redirects: the client decides that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

CHUNK: Final = 1 << 20
# Bytes of a body that nobody wants which are read all the same: that is sooner done than a connection made anew.
_SOON_READ: Final = 16 << 10

# Connecting is a matter of milliseconds to a host that answers; four seconds are two lost SYN packets (they are sent
# again after 1 s and 3 s). Reading may wait for a registry that moves a big upload into its storage.
CONNECT_SECONDS: Final = 4.0
READ_SECONDS: Final = 300.0

Fault = Literal["refused", "no-host", "tls", "timeout", "reset", "proxy"]


class TransportError(Exception):
    """No response came. `fault` says why; the text never has more of the URL than the host."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


@dataclass(frozen=True, slots=True)
class Body:
    """What a request sends: `size` bytes, which `chunks()` gives anew at each call (so a request can be retried)."""

    size: int
    chunks: Callable[[], Iterable[bytes]] = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> Body:
        """These bytes."""
        return cls(len(data), lambda: (data,))

    @classmethod
    def of_file(cls, path: Path) -> Body:
        """A file's content, read as it is sent."""
        return cls(path.stat().st_size, lambda: read_chunks(path))


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, a megabyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One HTTP request. `url` is absolute; `headers` may hold credentials and are never shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = None
    read_seconds: float = READ_SECONDS


class Response(Protocol):
    """One HTTP response. `headers` has lower-case names. It is read to its end or closed."""

    status: int
    headers: Mapping[str, str]

    def read(self) -> bytes:
        """The whole body. Errors: `TransportError`."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces. Errors: `TransportError`."""
        ...

    def close(self) -> None:
        """Leave the rest unread."""
        ...


class Transport(Protocol):
    """Sends requests; safe to use from several threads. Errors: `TransportError`."""

    def send(self, request: Request) -> Response:
        """Send, and return as soon as the response's head is there."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


def lowered(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers with lower-case names; repeated ones are joined with a comma (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


# ---- plain HTTP -----------------------------------------------------------------------------------------------------


class PlainTransport:
    """HTTP without TLS and without a proxy, for a registry on this machine or network. Keeps connections alive."""

    def __init__(self, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        import http.client

        parts = urlsplit(request.url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
        while True:
            connection, reused = self._take(parts.netloc)
            try:
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(request.read_seconds)
                body = request.body.chunks() if request.body else None
                connection.request(request.method, target, body=body, headers=headers)
                answer = connection.getresponse()
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # The server closed a connection that lay idle (RemoteDisconnected is a reset, too): no failure.
                if reused and isinstance(error, BrokenPipeError | ConnectionResetError):
                    continue
                raise _plain_fault(error, parts.netloc) from error
            return _PlainResponse(answer, lambda: self._give_back(parts.netloc, connection), connection.close)  # noqa: B023

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _take(self, netloc: str) -> tuple[Any, bool]:
        import http.client

        with self._lock:
            if connections := self._idle.get(netloc):
                return connections.pop(), True
        return http.client.HTTPConnection(netloc, timeout=self._connect_seconds), False

    def _give_back(self, netloc: str, connection: Any) -> None:
        with self._lock:
            self._idle.setdefault(netloc, []).append(connection)


class _PlainResponse:
    def __init__(self, answer: Any, done: Callable[[], None], drop: Callable[[], None]) -> None:
        self.status: int = answer.status
        self.headers: Mapping[str, str] = lowered(answer.getheaders())
        self._answer = answer
        self._done = done
        self._drop = drop
        self._open = True
        # A response without a body (to HEAD, 201, 204) is at its end already, but http.client only sees that by a read.
        if answer.isclosed() or answer.length == 0:
            answer.read()
            self._finish()

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        import http.client

        try:
            while chunk := self._answer.read(CHUNK):
                yield chunk
        except (http.client.HTTPException, OSError) as error:
            self._leave()
            raise TransportError("reset", f"the connection broke while reading ({type(error).__name__})") from error
        if self._answer.length:
            self._leave()
            raise TransportError("reset", f"the connection broke {self._answer.length} bytes before the end")
        self._finish()

    def close(self) -> None:
        if self._open and 0 < (self._answer.length or 0) <= _SOON_READ:
            with suppress(TransportError):
                self.read()
        self._leave()

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._drop()

    def _finish(self) -> None:
        if self._open:
            self._open = False
            if self._answer.will_close:
                self._drop()
            else:
                self._done()


def _plain_fault(error: Exception, netloc: str) -> TransportError:
    import socket

    if isinstance(error, TimeoutError):
        return TransportError("timeout", f"{netloc} does not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return TransportError("refused", f"{netloc} refuses connections")
    if isinstance(error, socket.gaierror):
        return TransportError("no-host", f"there is no host {netloc!r} ({error.strerror})")
    if isinstance(error, ConnectionError):
        return TransportError("reset", f"{netloc} closed the connection")
    if isinstance(error, OSError):
        return TransportError("refused", f"{netloc}: {error.strerror or error}")
    return TransportError("reset", f"{netloc} does not speak HTTP ({type(error).__name__})")


# ---- urllib3 --------------------------------------------------------------------------------------------------------


class PooledTransport:
    """HTTP and HTTPS over urllib3, with the system's trust (SSL_CERT_FILE counts) and the environment's proxies."""

    def __init__(self, connect_seconds: float = CONNECT_SECONDS, connections: int = 8) -> None:
        self._connect_seconds = connect_seconds
        self._connections = connections
        self._pools: dict[str, Any] = {}
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        import urllib3
        from urllib3 import exceptions

        parts = urlsplit(request.url)
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
        body: Any = request.body.chunks() if request.body is not None else None
        try:
            answer = self._pool(parts.scheme, parts.hostname or "").request(
                request.method,
                request.url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=self._connect_seconds, read=request.read_seconds),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (exceptions.HTTPError, OSError) as error:
            raise _pooled_fault(error, parts.netloc.rpartition("@")[2]) from error
        return _PooledResponse(answer)

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
            return self._pools[proxy]


class _PooledResponse:
    def __init__(self, answer: Any) -> None:
        self.status: int = answer.status
        self.headers: Mapping[str, str] = lowered(answer.headers.items())
        self._answer = answer

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        from urllib3 import exceptions

        try:
            yield from self._answer.stream(CHUNK)
        except (exceptions.HTTPError, OSError) as error:
            raise TransportError("reset", f"the connection broke while reading ({type(error).__name__})") from error
        finally:
            self._answer.release_conn()

    def close(self) -> None:
        left = self._answer.length_remaining
        if left is not None and left <= _SOON_READ:
            self._answer.drain_conn()
        else:
            self._answer.close()
        self._answer.release_conn()


def _tls_context() -> Any:
    import ssl

    return ssl.create_default_context()


def _proxy_for(scheme: str, host: str) -> str:
    """The proxy that the environment names for this host (HTTPS_PROXY, NO_PROXY, …), or nothing."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _pooled_fault(error: Exception, netloc: str) -> TransportError:
    from urllib3 import exceptions

    if isinstance(error, exceptions.ProxyError):
        return TransportError("proxy", f"the proxy does not let {netloc} through")
    if isinstance(error, exceptions.SSLError):
        return TransportError("tls", f"no TLS connection to {netloc}: {_tls_reason(error)}")
    if isinstance(error, exceptions.NameResolutionError):
        return TransportError("no-host", f"there is no host {netloc!r}")
    if isinstance(error, exceptions.NewConnectionError):
        return TransportError("refused", f"{netloc} refuses connections")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return TransportError("timeout", f"{netloc} does not answer in time")
    return TransportError("reset", f"{netloc} closed the connection ({type(error).__name__})")


def _tls_reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or inner)
