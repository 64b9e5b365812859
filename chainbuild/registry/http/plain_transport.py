"""Requests over http.client: the transport of commands that build nothing, which imports no more than the standard library."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from chainbuild import limits
from chainbuild.registry.http.transport import (
    CHUNK,
    SOON_READ,
    HttpRequest,
    HttpResponse,
    TransportError,
    broken_connection,
    checked_headers,
    split_url,
)
from chainbuild.registry.http.watch import Watch, under, watched


class PlainTransport:
    """HTTP without TLS and without a proxy, for a registry on this machine or network. Keeps connections alive."""

    def __init__(self, connect_seconds: float | None = None) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def send(self, request: HttpRequest) -> HttpResponse:
        import http.client

        parts = split_url(request.url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
        while True:
            watch = request.watch
            connection: Any = None
            reused = False
            try:
                connection, reused = self._take(parts.netloc, request.pace, fresh=request.once)
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

    def _take(self, netloc: str, pace: limits.Pace, *, fresh: bool = False) -> tuple[Any, bool]:
        """Return a connection, and whether it is an idle one (never if `fresh`)."""
        while True:
            with self._lock:
                connection = self._idle[netloc].pop() if self._idle.get(netloc) and not fresh else None
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
            raise broken_connection(error, self._watch) from error
        if self._answer.length:
            self._leave()
            raise TransportError("reset", f"the connection broke {self._answer.length} bytes before the end")
        self._finish()

    def end_within(self, seconds: float) -> None:
        self._watch.end_within(seconds)

    def close(self) -> None:
        if self._open and 0 < (self._answer.length or 0) <= SOON_READ:
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
