"""A proxy that returns wrong answers of a registry, for `test_faulty_registry`.

A fault is a function of an exchange. It can request the real answer (`exchange.real()`), and writes any answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json; charset=utf-8"
_PAUSE = threading.Event()


@dataclass(frozen=True, slots=True)
class Real:
    """The real answer of the registry."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """A request and the connection that it came from."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes, upstream: str) -> None:
        self.method = str(handler.command)
        self.path = handler.path
        self.agent = str(handler.headers.get("User-Agent") or "")
        self._handler = handler
        self._body = body
        self._upstream = upstream
        self._real: Real | None = None
        self._held: bytearray | None = None

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Send everything written in the block at once, so that a client cannot tell the parts from each other."""
        self._held = bytearray()
        yield
        held, self._held = bytes(self._held), None
        self.raw(held)

    def real(self) -> Real:
        """Return the real answer of the registry; the request is sent only once."""
        if self._real is None:
            connection = http.client.HTTPConnection(self._upstream, timeout=30)
            headers = {name: value for name, value in self._handler.headers.items() if name.lower() != "connection"}
            connection.request(self.method, self.path, body=self._body or None, headers=headers)
            answer = connection.getresponse()
            self._real = Real(answer.status, dict(answer.getheaders()), answer.read())
            connection.close()
        return self._real

    def raw(self, *pieces: bytes) -> None:
        """Write these bytes."""
        if self._held is not None:
            self._held += b"".join(pieces)
            return
        for piece in pieces:
            self._handler.wfile.write(piece)
        self._handler.wfile.flush()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Write an HTTP response. Header names have `_` for `-`."""
        named = {"Content-Length": str(len(body))} | {key.replace("_", "-"): value for key, value in headers.items()}
        self.write(status, named, body)

    def write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Write a response with exactly these headers."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.raw(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1", "replace"))
        if self.method != "HEAD":
            self.raw(body)

    def error(self, status: int, code: str, **headers: str) -> None:
        """Write an error document."""
        body = json.dumps({"errors": [{"code": code, "message": "no", "detail": None}]}).encode()
        self.answer(status, body, Content_Type=JSON, **headers)

    def pass_on(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        body: Callable[[bytes], bytes] = bytes,
        drop: tuple[str, ...] = (),
    ) -> None:
        """Write the real answer of the registry, with another body or other headers."""
        headers = headers or {}
        real = self.real()
        changed = body(real.body)
        lowered = {name.lower() for name in (*drop, "Transfer-Encoding", *(key.replace("_", "-") for key in headers))}
        kept = {name: value for name, value in real.headers.items() if name.lower() not in lowered}
        if self.method != "HEAD" and "content-length" not in lowered:
            kept["Content-Length"] = str(len(changed))
        self.write(real.status, kept | {key.replace("_", "-"): value for key, value in headers.items()}, changed)

    def hang(self) -> None:
        """Keep the connection open until the client closes it."""
        with contextlib.suppress(OSError):
            self._handler.connection.settimeout(20)
            self._handler.connection.recv(1)

    def reset(self) -> None:
        """Close the connection with a reset."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.connection.close()

    def pour(self, pattern: bytes) -> None:
        """Write this repeatedly until the client closes the connection."""
        block = pattern * (1 + (64 << 10) // len(pattern))
        while True:
            self.raw(block)

    def drip(self, pieces: Iterator[bytes], seconds: float = 0.05) -> None:
        """Write the pieces with a pause between them."""
        for piece in pieces:
            _PAUSE.wait(seconds)
            self.raw(piece)


Fault = Callable[[Exchange], None]


def always(_exchange: Exchange) -> bool:
    """Match every request."""
    return True


@dataclass(slots=True)
class Proxy:
    """Forward requests to a registry, but answer up to `times` of those that match `where` with `fault`."""

    upstream: str
    host: str = ""
    fault: Fault | None = None
    where: Callable[[Exchange], bool] = always
    times: int = -1
    seen: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, fault: Fault | None, where: Callable[[Exchange], bool] = always, times: int = -1) -> None:
        """Return wrong answers from now on."""
        with self._lock:
            self.fault, self.where, self.times = fault, where, times
            self.seen.clear()

    def handle(self, exchange: Exchange) -> bool:
        """Answer a request; return True if the answer is wrong."""
        with self._lock:
            fault = self.fault if self.times and self.fault and self.where(exchange) else None
            if fault:
                self.times -= 1
                self.seen.append(f"{exchange.method} {exchange.path}")
        if fault:
            fault(exchange)
        else:
            exchange.pass_on()
        return fault is not None


@contextlib.contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """Run a proxy on a free port."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _exchange(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "")
            body = b"".join(self._chunks()) if chunked else self.rfile.read(size)
            if chunked:
                del self.headers["Transfer-Encoding"]
                self.headers["Content-Length"] = str(len(body))
            try:
                wrong = proxy.handle(Exchange(self, body, proxy.upstream))
            except (OSError, ValueError):
                wrong = True
            self.close_connection = self.close_connection or wrong

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _exchange  # noqa: N815

        def send_error(self, *_: Any, **__: Any) -> None:
            # A builder starts with TLS and falls back to HTTP only if the answer is HTTP.
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    proxy.host = f"localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.set(None)
        server.shutdown()
        server.server_close()
        thread.join()


# ---- kinds of wrong answers ------------------------------------------------------------------------------------------

PAGE = b"<html><body>Please log in</body></html>"
DEEP = b'{"errors":' + b"[" * 100_000


def _status(status: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda exchange: exchange.answer(status, body, **headers)


def _error(status: int, code: str, **headers: str) -> Fault:
    return lambda exchange: exchange.error(status, code, **headers)


def _redirect(location: str, status: int = 307) -> Fault:
    return lambda exchange: exchange.answer(status, Location=location)


def _challenge(challenge: str) -> Fault:
    return lambda exchange: exchange.error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)


def _raw(*pieces: bytes) -> Fault:
    return lambda exchange: exchange.raw(*pieces)


def _body(change: Callable[[bytes], bytes], **headers: str) -> Fault:
    return lambda exchange: exchange.pass_on(headers, body=change)


def _headers(drop: tuple[str, ...] = (), **headers: str) -> Fault:
    return lambda exchange: exchange.pass_on(headers, drop=drop)


def _chunked(*chunks: bytes) -> Fault:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda exchange: exchange.raw(head, *chunks)


def _poured(head: bytes, pattern: bytes) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.raw(head)
        exchange.pour(pattern)

    return fault


def _cut(exchange: Exchange) -> None:
    """Send the right length but only half of the content."""
    real = exchange.real()
    exchange.write(real.status, real.headers, b"")
    exchange.raw(real.body[: len(real.body) // 2])


def _stall(exchange: Exchange) -> None:
    """Announce more bytes than are sent, and keep the connection open."""
    real = exchange.real()
    exchange.write(real.status, real.headers | {"Content-Length": str(len(real.body) + 100)}, real.body)
    exchange.hang()


def _drip(exchange: Exchange) -> None:
    real = exchange.real()
    if exchange.method == "HEAD":
        exchange.pass_on()
        return
    exchange.write(real.status, real.headers | {"Content-Length": "100000"}, b"")
    exchange.drip(b"x" for _ in range(1000))


def _drip_headers(exchange: Exchange) -> None:
    exchange.raw(b"HTTP/1.1 200 OK\r\n")
    exchange.drip(b"X" for _ in range(1000))


def _hang(exchange: Exchange) -> None:
    exchange.hang()


def _pages(exchange: Exchange) -> None:
    """Return lists whose every page has a next page."""
    number = int(exchange.path.rpartition("=")[2]) if "page=" in exchange.path else 0
    link = f'</v2/x/tags/list?page={number + 1}>; rel="next"'
    exchange.answer(200, b'{"name":"x","tags":[],"repositories":[]}', Content_Type=JSON, Link=link)


def _same_page(exchange: Exchange) -> None:
    exchange.pass_on({"Link": f'<{exchange.path}>; rel="next"'})


def _hostile_names(exchange: Exchange) -> None:
    """Return the real names and others that no tool accepts."""

    def change(body: bytes) -> bytes:
        document = json.loads(body)
        for key in ("tags", "repositories"):
            if isinstance(document.get(key), list):
                document[key] += ["\x1b[2Jred", "x" * 300, "a b", "", "../..", "\u202egnp", None, 3, {}, [], "a\nb"]
        return json.dumps(document).encode()

    if exchange.path.partition("?")[0].endswith(("/tags/list", "/_catalog")):
        exchange.pass_on(body=change)
    else:
        exchange.pass_on()


def _twice(exchange: Exchange) -> None:
    """Send a second response after the real one, as if it belonged to the next request."""
    with exchange.at_once():
        exchange.pass_on()
        exchange.raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    exchange.hang()


def _body_after_head(exchange: Exchange) -> None:
    with exchange.at_once():
        exchange.pass_on()
        if exchange.method == "HEAD":
            exchange.raw(b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
    if exchange.method == "HEAD":
        exchange.hang()


def _encoded(exchange: Exchange) -> None:
    import gzip

    exchange.pass_on({"Content-Encoding": "gzip"}, body=gzip.compress)


DIGEST = f"sha256:{'0' * 64}"
OK = b"HTTP/1.1 200 OK\r\n"

KINDS: dict[str, Fault] = {
    # Temporary errors.
    "429": _error(429, "TOOMANYREQUESTS"),
    "429 for an hour": _error(429, "TOOMANYREQUESTS", Retry_After="3600"),
    "429 with a superscript to wait": _error(429, "TOOMANYREQUESTS", Retry_After="\u00b2"),
    "429 with a negative time to wait": _error(429, "TOOMANYREQUESTS", Retry_After="-5"),
    "403 for a rate limit": _error(403, "TOOMANYREQUESTS"),
    "408": _status(408),
    "500": _error(500, "UNKNOWN"),
    "502 with a page": _status(502, PAGE, Content_Type="text/html"),
    "503": _error(503, "UNAVAILABLE"),
    "503 that says MANIFEST_UNKNOWN": _error(503, "MANIFEST_UNKNOWN"),
    "504": _status(504),
    "522": _status(522, PAGE, Content_Type="text/html"),
    # Unclear forms of "not found".
    "404 with a page": _status(404, PAGE, Content_Type="text/html"),
    "404 with a line of text": _status(404, b"404 page not found\n", Content_Type="text/plain"),
    "404 with nothing": _status(404),
    "404 with another code": _error(404, "UNKNOWN"),
    "404 with DENIED": _error(404, "DENIED"),
    "404 with deep JSON": _status(404, DEEP, Content_Type=JSON),
    "410": _status(410),
    "400 with garbage": _status(400, b"\x00\xff" * 100),
    "418 with an endless body": _poured(b"HTTP/1.1 418 X\r\nContent-Type: application/json\r\n\r\n", b"[" * 100),
    "501": _status(501),
    "204": _status(204),
    "206": _status(206, b"{}"),
    "304": _status(304),
    # Logins.
    "401 without a challenge": _error(401, "UNAUTHORIZED"),
    "401 with 60 kB of letters": _challenge("Bearer " + "A" * 60_000),
    "401 with 15 kB of letters": _challenge("Bearer " + "A" * 15_000),
    "401 with an unknown scheme": _challenge("Negotiate"),
    "401 with a realm of a bad port": _challenge('Bearer realm="http://localhost:99999999/t"'),
    "401 with a realm of half an IPv6": _challenge('Bearer realm="http://[::1/t"'),
    "401 with a realm of a long label": _challenge(f'Bearer realm="http://{"a" * 70}.example/t"'),
    "401 with a realm of an empty label": _challenge('Bearer realm="http://a..b/t"'),
    "401 with a realm where nobody listens": _challenge('Bearer realm="http://localhost:9/t"'),
    "401 with escapes": _challenge('\x1b[31m Bearer realm="\x1b[2J"'),
    "401 with Basic": _challenge('Basic realm="x"'),
    "403": _error(403, "DENIED"),
    # Redirects.
    "a redirect without a Location": _status(307),
    "a redirect to a bad port": _redirect("http://localhost:99999999/x"),
    "a redirect to port 0": _redirect("http://localhost:0/x"),
    "a redirect with a space": _redirect("http://localhost/a b"),
    "a redirect to half an IPv6": _redirect("http://[::1/x"),
    "a redirect to a long label": _redirect(f"http://{'a' * 70}.example/x"),
    "a redirect to an empty label": _redirect("http://a..b/x"),
    "a redirect to FTP": _redirect("ftp://localhost/x"),
    "a redirect to itself": lambda exchange: exchange.answer(307, Location=exchange.path),
    "a redirect to where nobody listens": _redirect("http://localhost:9/x"),
    "a redirect of 20 kB": _redirect("/" + "a" * 12_000),
    "a redirect with escapes": _redirect("/\x1b[2J"),
    # Bodies.
    "200 with a page": _status(200, PAGE, Content_Type="text/html"),
    "200 with nothing": _status(200),
    "200 with an empty object": _status(200, b"{}", Content_Type=JSON),
    "200 with a list": _status(200, b"[]", Content_Type=JSON),
    "200 with zeros": _status(200, bytes(1000)),
    "200 with deep JSON": _status(200, DEEP, Content_Type=JSON),
    "a flipped bit": _body(lambda body: body[:-1] + bytes([body[-1] ^ 1]) if body else b""),
    "a space at the end": _body(lambda body: body + b" "),
    "half of the content": _body(lambda body: body[: len(body) // 2]),
    "half of the content, and the end": _cut,
    "more announced than comes": _stall,
    "an unpaired surrogate": _body(lambda body: body.replace(b'"schemaVersion"', b'"\\ud800":1,"schemaVersion"')),
    "a compressed body": _encoded,
    "a body that drips": _drip,
    "a body without end": _poured(OK + b"Content-Type: application/json\r\n\r\n", b"x" * 1000),
    # Headers.
    "a Content-Length in words": _headers(Content_Length="many"),
    "a Content-Length of a superscript": _headers(Content_Length="\u00b2"),
    "a negative Content-Length": _headers(Content_Length="-1"),
    "a Content-Length that is too short": _headers(Content_Length="3"),
    "a Content-Length of exabytes": _headers(Content_Length=str(1 << 62)),
    "two Content-Lengths": _raw(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    "another digest": _headers(Docker_Content_Digest=DIGEST),
    "a digest that is none": _headers(Docker_Content_Digest="sha256:\x1b[31m"),
    "no headers but the length": _headers(("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version")),
    "another Content-Type": _headers(Content_Type="text/html"),
    "a header of 70 kB": _headers(X_Header="a" * 70_000),
    "a header of 20 kB": _headers(X_Header="a" * 20_000),
    "200 headers": _raw(OK + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n"),
    "headers with escapes": _headers(X_Header="\x1b[2J\x9b31m"),
    # Lists.
    "pages without end": _pages,
    "a page that is its own next": _same_page,
    "a Link that is none": _headers(Link="/v2/x; rel=next"),
    "a Link to a bad port": _headers(Link='<http://localhost:99999999/>; rel="next"'),
    "a Link to half an IPv6": _headers(Link='<http://[::1>; rel="next"'),
    "names that are none": _hostile_names,
    # Not HTTP.
    "nothing": _raw(),
    "half a status line": _raw(b"HTTP/1.1 2"),
    "another protocol": _raw(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"),
    "a status of 999": _status(999),
    "a status in words": _raw(b"HTTP/1.1 OK 200\r\n\r\n"),
    "103 instead of an answer": _raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "100 without end": _poured(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": _poured(OK, b"X-Header: a\r\n"),
    "headers that drip": _drip_headers,
    "a negative chunk size": _chunked(b"-5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk size of -1": _chunked(b"-1\r\nabcde"),
    "a chunk size in words": _chunked(b"ten\r\nabcde\r\n0\r\n\r\n"),
    "a chunk that ends early": _chunked(b"ff\r\nabc"),
    "a chunk size without end": _poured(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers without end": _poured(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: a\r\n"),
    "a reset": lambda exchange: exchange.reset(),
    "no answer": _hang,
    "a second answer": _twice,
    "a body after HEAD": _body_after_head,
}


def _lost(exchange: Exchange) -> None:
    """Let the registry process the request, but drop its response."""
    exchange.real()
    exchange.reset()


def _lost_to_a_proxy(exchange: Exchange) -> None:
    exchange.real()
    exchange.answer(504, PAGE, Content_Type="text/html")


def _done_twice(exchange: Exchange) -> None:
    """Act as a proxy that repeats the request if the response is lost: the upload session is unknown by then."""
    exchange.real()
    exchange.error(404, "BLOB_UPLOAD_UNKNOWN")


def _accepted(exchange: Exchange) -> None:
    exchange.real()
    exchange.answer(202)


UPLOADS: dict[str, Fault] = {
    "a lost answer": _lost,
    "a lost answer of a proxy": _lost_to_a_proxy,
    "a request that was sent twice": _done_twice,
    "202 for what is stored": _accepted,
    "500 before anything is stored": _error(500, "UNKNOWN"),
    "429 before anything is stored": _error(429, "TOOMANYREQUESTS"),
    "a reset before anything is stored": lambda exchange: exchange.reset(),
    "an upload that is not known": _error(404, "BLOB_UPLOAD_UNKNOWN"),
    "a Location of a bad port": lambda exchange: exchange.answer(202, Location="http://localhost:99999999/"),
    "a Location with a space": lambda exchange: exchange.answer(202, Location="/v2/a b"),
    "no Location": _status(202),
    "413": _status(413),
    "405": _error(405, "UNSUPPORTED"),
    "another digest": lambda exchange: exchange.pass_on({"Docker-Content-Digest": DIGEST}),
    "no answer": _hang,
}
