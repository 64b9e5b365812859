"""The registries that a run talks to: one client per host, made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from chainbuild.limits import Pace
from chainbuild.references import ImageReference
from chainbuild.registry.client import Notice, RegistryClient
from chainbuild.registry.http.auth import Lookup, from_docker_config
from chainbuild.registry.http.transport import Transport


class Registries:
    """A pool of clients by host. Thread-safe; a `with` closes its connections.

    `plain_http`: hosts (`host[:port]`) besides this machine to use without TLS. `transport` creates the
    transport of a host (tests put an in-memory registry here); None: the network. `pace`: how long they may take (default:
    `limits.PACE`). `notice` receives warnings about skipped content, each one once.
    """

    def __init__(
        self,
        *,
        plain_http: Iterable[str] = (),
        transport: Callable[[str], Transport] | None = None,
        credentials: Lookup = from_docker_config,
        pace: Pace | None = None,
        notice: Notice = lambda _: None,
    ) -> None:
        self._plain_http = frozenset(plain_http)
        self._transport = transport
        self._credentials = credentials
        self._pace = pace
        self._notice = notice
        self._noticed: set[str] = set()
        self._clients: dict[str, RegistryClient] = {}
        self._lock = threading.Lock()

    def client(self, where: str | ImageReference) -> RegistryClient:
        """Return the client for a host, or for the registry of a reference."""
        host = where.registry if isinstance(where, ImageReference) else where
        with self._lock:
            if host not in self._clients:
                self._clients[host] = RegistryClient(
                    host,
                    plain_http=True if host in self._plain_http else None,
                    transport=self._transport(host) if self._transport else None,
                    credentials=self._credentials,
                    pace=self._pace,
                    notice=self.notice,
                )
            return self._clients[host]

    def notice(self, text: str) -> None:
        """Warn about skipped content, once."""
        with self._lock:
            if text in self._noticed:
                return
            self._noticed.add(text)
        self._notice(text)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            clients = tuple(self._clients.values())
        for client in clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
