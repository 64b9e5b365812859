"""Connections are kept: a registry gets hundreds of small requests, and each connection costs a handshake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chainbuild.registry.http.plain_transport import PlainTransport
from chainbuild.registry.http.pooled_transport import PooledTransport
from chainbuild.registry.http.transport import Body, HttpRequest, Transport

LONG = 1 << 20


@dataclass(slots=True)
class Server:
    """The address of the server, and the connections to it."""

    url: str = ""
    connections: list[Any] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that keeps connections alive and answers like a registry."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            told.connections.append(self.client_address)
            super().setup()

        def answer(self, status: int, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(404, b"{}" * 50) if self.path == "/missing" else self.answer(200, b"x" * LONG)

        def do_HEAD(self) -> None:
            self.answer(404 if self.path == "/missing" else 200, b"{}" * 50)

        def do_POST(self) -> None:
            self.answer(202, b"")

        def do_PUT(self) -> None:
            self.answer(201, b"")

        def do_DELETE(self) -> None:
            self.answer(204, b"")

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    told.url = f"http://127.0.0.1:{served.server_address[1]}"
    yield told
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture(params=[PlainTransport, PooledTransport])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Each of the two transports."""
    made: Transport = request.param()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/there", 200),
        ("HEAD", "/missing", 404),
        ("GET", "/missing", 404),
        ("POST", "/uploads", 202),
        ("PUT", "/manifest", 201),
        ("DELETE", "/blob", 204),
    ],
)
def test_unread_short_response_keeps_the_connection(
    transport: Transport, server: Server, method: str, path: str, status: int
) -> None:
    for _ in range(5):
        body = Body.of(b"content") if method in ("POST", "PUT") else None
        answer = transport.send(HttpRequest(method=method, url=server.url + path, body=body))
        assert answer.status == status
        answer.close()
        answer.close()
    assert len(server.connections) == 1


def test_fully_read_response_keeps_the_connection(transport: Transport, server: Server) -> None:
    for _ in range(3):
        assert len(b"".join(transport.send(HttpRequest(method="GET", url=server.url + "/blob")).chunks())) == LONG
    assert len(server.connections) == 1


def test_unread_long_response_closes_the_connection(transport: Transport, server: Server) -> None:
    for _ in range(2):
        transport.send(HttpRequest(method="GET", url=server.url + "/blob")).close()
    assert len(server.connections) == 2
