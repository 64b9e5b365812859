"""Fetch indices from package repositories, and keep them in the user's cache folder.

A kept index is requested again with its ETag and its time (RFC 9110, "Conditional Requests"), so an unchanged one is not
transferred again. Only HTTP and HTTPS are used, without any login. The addresses come from images: sizes and times are
limited, and what arrives is data that is verified by others.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

import msgspec
from msgspec import Struct, field

from chainbuild import limits
from chainbuild.errors import LimitError, NotReadyError
from chainbuild.host.user_folders import cache_home, private_folder, read_private, write_private
from chainbuild.once import Once
from chainbuild.outdated.model import SourceError, SourceState
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, Transport, TransportError
from chainbuild.text import without_login
from chainbuild.values import decode_msgpack

FOLDER: Final = "indices"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_VALIDATORS: Final = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
_NOT_FOUND: Final = frozenset({404, 410})
_ROOM: Final = 1 << 16
"""Bytes of a kept file beside the content."""


class _Kept(Struct, frozen=True, kw_only=True):
    """A file of the cache folder: the headers for the next request, and the content."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes


class Store:
    """Files in the user's cache folder, by name. Without a usable folder, nothing is kept."""

    def __init__(self, folder: Callable[[], Path] = lambda: cache_home() / FOLDER) -> None:
        self._folder = folder

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file that this user wrote; None if there is none."""
        try:
            return read_private(self._path(name), limit)
        except NotReadyError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Keep a file, if that is possible."""
        try:
            private_folder(self._folder())
            write_private(self._path(name), content, durable=False)
        except NotReadyError:
            return

    def _path(self, name: str) -> Path:
        return self._folder() / hashlib.sha256(name.encode()).hexdigest()[:40]


class Fetcher:
    """Fetches addresses, each only once. Thread-safe. `requests` and `received` count what was transferred, in bytes."""

    def __init__(self, transport: Transport, store: Store, pace: limits.Pace | None = None) -> None:
        self._transport = transport
        self._store = store
        self._pace = pace or limits.PACE
        self._lock = threading.Lock()
        self._results: Once[str, bytes | SourceError] = Once()
        self.requests = 0
        self.received = 0

    def get(self, url: str, limit: limits.Limit, *, accept: str = "*/*", keep: bool = True) -> bytes:
        """Return the content at an address. Errors: `SourceError`, `MISSING` only if the server says so."""
        result = self._results.get(url, lambda: self._answer(url, limit, accept, keep=keep))
        if isinstance(result, SourceError):
            raise SourceError(result.state, result.reason)
        return result

    def forget(self, url: str) -> None:
        """Do not hold the content of an address in memory any longer."""
        self._results.forget(url)

    def _answer(self, url: str, limit: limits.Limit, accept: str, *, keep: bool) -> bytes | SourceError:
        try:
            return self._asked(url, limit, accept, keep=keep)
        except SourceError as error:
            return error

    def _asked(self, url: str, limit: limits.Limit, accept: str, *, keep: bool) -> bytes:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise SourceError(SourceState.UNSUPPORTED, f"{urlsplit(url).scheme or 'no'} scheme in its address")
        kept = self._kept(url, limit) if keep else None
        headers = {"User-Agent": "chainbuild", "Accept": accept, "Accept-Encoding": "identity"}
        if kept is not None:
            headers |= {ask: kept.headers[name] for name, ask in _VALIDATORS.items() if name in kept.headers}
        try:
            response = self._send(url, headers)
            if response.status == 304 and kept is not None:
                response.close()
                return kept.content
            content = self._content(url, response, limit)
        except TransportError as error:
            raise SourceError(SourceState.UNREACHABLE, str(error)) from None
        except LimitError as error:
            raise SourceError(SourceState.UNSUPPORTED, error.message) from None
        validators = {name: response.headers[name] for name in _VALIDATORS if name in response.headers}
        if keep:
            self._store.write(url, msgspec.msgpack.encode(_Kept(url=url, headers=validators, content=content)))
        return content

    def _content(self, url: str, response: HttpResponse, limit: limits.Limit) -> bytes:
        if response.status != 200:
            response.close()
            state = SourceState.MISSING if response.status in _NOT_FOUND else SourceState.UNREACHABLE
            raise SourceError(state, f"{without_login(url)}: the server answers {response.status}")
        response.end_within(self._pace.transfer(limit.value))
        try:
            content = limits.read_all(response.chunks(), limit, without_login(url))
        finally:
            response.close()
        with self._lock:
            self.received += len(content)
        return content

    def _kept(self, url: str, limit: limits.Limit) -> _Kept | None:
        raw = self._store.read(url, limit.value + _ROOM)
        try:
            kept = decode_msgpack(raw, _Kept) if raw else None
        except msgspec.MsgspecError:
            return None
        return kept if kept is not None and kept.url == url else None

    def _send(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"}:
                raise SourceError(SourceState.UNREACHABLE, f"it redirects to {parts.scheme or 'nothing'}")
            address = urldefrag(without_login(url)).url
            with self._lock:
                self.requests += 1
            response = self._transport.send(HttpRequest(method="GET", url=address, headers=headers, pace=self._pace))
            location = response.headers.get("location", "")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = urljoin(url, location)
        raise SourceError(SourceState.UNREACHABLE, "it redirects too often")
