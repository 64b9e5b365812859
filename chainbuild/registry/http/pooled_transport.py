"""Requests over urllib3: a pool of connections, TLS, and proxies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

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

        parts = split_url(request.url)
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
            raise broken_connection(error, self._watch) from error
        finally:
            self._answer.release_conn()

    def end_within(self, seconds: float) -> None:
        self._watch.end_within(seconds)

    def close(self) -> None:
        left = self._answer.length_remaining
        if left is not None and left <= SOON_READ:
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
