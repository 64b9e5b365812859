"""Both transports against servers that do not keep to HTTP: an answer, or a `TransportError`, within the limits.

The servers are the other ends of socket pairs: no address is bound, and what they send is there before it is read.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.registry.http import plain_transport, pooled_transport
from chainbuild.registry.http.plain_transport import PlainTransport
from chainbuild.registry.http.pooled_transport import PooledTransport
from chainbuild.registry.http.transport import Body, HttpRequest, Transport, TransportError
from chainbuild.registry.http.watch import Watch, WatchError, watched
from chainbuild.values import replace

QUICK = limits.Pace(answer=0.2, commit=0.2, silence=0.1, grace=0.2, error=0.1, leftover=0.05, rate=1 << 20)
OK = b"HTTP/1.1 200 OK\r\n"
URL = "http://registry.example/v2/"


class Servers:
    """Gives each new connection the next of `answers`; a callable is run in a thread with the server's end."""

    def __init__(self) -> None:
        self.answers: list[bytes | Callable[[socket.socket], None]] = []
        self.opened = 0
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        self.opened += 1
        ours, theirs = socket.socketpair()
        self._ends.append(theirs)
        answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            theirs.sendall(answer)
            theirs.shutdown(socket.SHUT_WR)
        else:
            thread = threading.Thread(target=self._run, args=(answer, theirs))
            self._threads.append(thread)
            thread.start()
        return ours

    @staticmethod
    def _run(answer: Callable[[socket.socket], None], end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            answer(end)

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for thread in self._threads:
            thread.join()


def make(kind: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Transport:
    if kind == "plain":

        class Plain(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = servers.connect()

        monkeypatch.setattr(plain_transport, "_plain_connection", lambda: watched(Plain))
        return PlainTransport()

    class Pooled(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return servers.connect()

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = watched(Pooled)

    monkeypatch.setattr(pooled_transport, "_pool_classes", lambda: {"http": Pool, "https": Pool})
    monkeypatch.setattr(pooled_transport, "_proxy_for", lambda *_: "")
    return PooledTransport()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


@pytest.fixture(params=["plain", "pooled"])
def transport(request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
    made = make(request.param, servers, monkeypatch)
    yield made
    made.close()


def get(transport: Transport, method: str = "GET", pace: limits.Pace = QUICK, **more: Any) -> tuple[int, bytes]:
    response = transport.send(HttpRequest(method=method, url=URL, pace=pace, **more))
    try:
        return response.status, b"".join(response.chunks())
    finally:
        response.close()


# ---- answers that are wrong -------------------------------------------------------------------------------------------

WRONG = {
    "nothing": b"",
    "half a status line": b"HTT",
    "no status": b"HTTP/1.1\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 ABC OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "an informational status": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
    "a protocol switch": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a status of 999": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a Content-Length in words": OK + b"Content-Length: many\r\n\r\nabc",
    "a Content-Length of superscripts": OK + "Content-Length: ²\r\n\r\nabc".encode("latin-1"),
    "a negative Content-Length": OK + b"Content-Length: -3\r\n\r\nabc",
    "a Content-Length with an underscore": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "two Content-Lengths that differ": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a body shorter than its Content-Length": OK + b"Content-Length: 30\r\n\r\nabc",
    "a negative chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
    "a chunk size of -1": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabcde",
    "a chunk size in words": OK + b"Transfer-Encoding: chunked\r\n\r\nten\r\nabcde\r\n0\r\n\r\n",
    "a chunk that ends early": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "chunks without an end": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "a header of 70 kB": OK + b"X-Header: " + b"a" * 70_000 + b"\r\n\r\n",
    "a header of 20 kB": OK + b"Link: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "200 headers": OK + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n",
}


@pytest.mark.parametrize("kind", WRONG)
def test_send_with_a_wrong_answer_raises_a_transport_error(transport: Transport, servers: Servers, kind: str) -> None:
    servers.answers = [WRONG[kind]]
    with pytest.raises(TransportError):
        get(transport)


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "100 Continue without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": (OK, b"X-Header: abc\r\n"),
    "a status line without end": (b"HTTP/1.1 200 ", b"O"),
    "a chunk size without end": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers without end": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: abc\r\n"),
    "an endless chunk of size -1": (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"a"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_send_with_an_endless_answer_raises_within_the_limits(
    transport: Transport, servers: Servers, kind: str
) -> None:
    first, pattern = ENDLESS[kind]

    def pour(end: socket.socket) -> None:
        end.sendall(first)
        while True:
            end.sendall(pattern * 4096)

    servers.answers = [pour]
    with pytest.raises(TransportError):
        get(transport)


def drip(first: bytes, then: Iterable[bytes], pause: float) -> Callable[[socket.socket], None]:
    def run(end: socket.socket) -> None:
        wait = threading.Event()
        end.sendall(first)
        for piece in then:
            wait.wait(pause)
            end.sendall(piece)
        wait.wait(0.3)

    return run


SLOW = {
    "no answer at all": (drip(b"", (), 0), "no answer within 0.2 s"),
    "headers that drip": (drip(OK, [b"X"] * 100, 0.02), "no answer within 0.2 s"),
    "no body": (drip(OK + b"Content-Length: 5\r\n\r\n", (), 0), "nothing more for 0.1 s"),
    "a body that drips": (drip(OK + b"Content-Length: 500\r\n\r\n", [b"x"] * 100, 0.02), "less than 1,048,576 bytes"),
    "chunks that drip": (
        drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", [b"1\r\nx\r\n"] * 100, 0.02),
        "less than 1,048,576 bytes",
    ),
    "a body without an end that drips": (drip(OK + b"\r\n", [b"x"] * 100, 0.02), "less than 1,048,576 bytes"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_send_with_a_slow_answer_names_the_limit(transport: Transport, servers: Servers, kind: str) -> None:
    """A registry that sends a byte now and then never lets a time limit on single reads run out."""
    answer, words = SLOW[kind]
    # The other limit never comes first, however slow this machine is.
    pace = replace(QUICK, grace=60) if "nothing more" in words else replace(QUICK, silence=60)
    servers.answers = [answer]
    with pytest.raises(TransportError, match=words) as raised:
        get(transport, pace=pace)
    assert raised.value.fault == "timeout"


def test_send_with_a_steady_answer_outlives_the_grace(transport: Transport, servers: Servers) -> None:
    """A transfer at the lowest rate or faster can take as long as its size needs."""
    piece = b"x" * 100_000
    servers.answers = [drip(OK + b"Content-Length: 1500000\r\n\r\n", [piece] * 15, 0.03)]
    assert get(transport, pace=replace(QUICK, silence=60, rate=10_000)) == (200, piece * 15)


def test_send_with_chunks_of_one_byte_returns_the_whole(transport: Transport, servers: Servers) -> None:
    body = b"0123456789" * 600
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    servers.answers = [OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"]
    assert get(transport) == (200, body)


def test_close_of_a_response_that_stalls_does_not_wait_for_it(transport: Transport, servers: Servers) -> None:
    """The rest of an unused answer is read to keep the connection, but only for a short time."""
    servers.answers = [drip(OK + b"Content-Length: 500\r\n\r\n", [b"x"] * 100, 0.02), OK + b"Content-Length: 0\r\n\r\n"]
    response = transport.send(HttpRequest(method="GET", url=URL, pace=QUICK))
    response.close()
    assert get(transport) == (200, b"")
    assert servers.opened == 2


def test_send_after_leftover_bytes_uses_a_new_connection(transport: Transport, servers: Servers) -> None:
    """A body after HEAD, or after a body, must not pass for the answer to the next request."""
    wrong = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def leave_more(end: socket.socket) -> None:
        end.sendall(OK + b"Content-Length: 2\r\n\r\n" + wrong)
        threading.Event().wait(0.5)

    servers.answers = [leave_more, OK + b"Content-Length: 4\r\n\r\nreal"]
    assert get(transport, "HEAD")[0] == 200
    assert get(transport) == (200, b"real")


def test_send_of_an_upload_that_is_refused_early_returns_the_answer(transport: Transport, servers: Servers) -> None:
    def refuse(end: socket.socket) -> None:
        end.recv(100)
        end.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        end.shutdown(socket.SHUT_RDWR)

    servers.answers = [refuse]
    assert get(transport, "PUT", body=Body.of(b"x" * (8 << 20)))[0] == 413


def test_send_of_upload_that_is_never_read_raises(transport: Transport, servers: Servers) -> None:
    def ignore(_end: socket.socket) -> None:
        threading.Event().wait(0.6)

    servers.answers = [ignore]
    with pytest.raises(TransportError):
        get(transport, "PUT", body=Body.of(b"x" * (8 << 20)))


@pytest.mark.parametrize(
    "host", ["a..b", "x" * 64 + ".example", "ünï.example", "[::1", "registry.example:99999999", "a b"]
)
@pytest.mark.parametrize("kind", [PlainTransport, PooledTransport])
def test_send_to_a_host_that_cannot_be_raises_a_transport_error(kind: type[Any], host: str) -> None:
    """The user may type anything as a registry, and the libraries below raise UnicodeError, InvalidURL and others."""
    made = kind()
    try:
        with pytest.raises((TransportError, AssertionError)):
            made.send(HttpRequest(method="GET", url=f"http://{host}/v2/", pace=QUICK))
    finally:
        made.close()


pieces = st.lists(
    st.sampled_from(
        [
            OK,
            b"HTTP/1.1 ",
            b"200",
            b"404",
            b"100 Continue",
            b"\r\n",
            b"\r\n\r\n",
            b"Content-Length: ",
            b"5",
            b"-1",
            b"\xb2",
            b"Transfer-Encoding: chunked",
            b"Location: ",
            b"0\r\n\r\n",
            b"5\r\nabcde\r\n",
            b"fffffffff",
            b";",
            b":",
            b" ",
            b"\x00",
            b"\xff",
            b"Connection: keep-alive",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)


@given(pieces, st.sampled_from(["plain", "pooled"]), st.sampled_from(["GET", "HEAD", "PUT"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_send_with_any_bytes_is_an_answer_or_a_transport_error(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, kind: str, method: str
) -> None:
    servers = Servers()
    servers.answers = [answer] * 3
    made = make(kind, servers, monkeypatch)
    try:
        with contextlib.suppress(TransportError):
            assert 200 <= get(made, method)[0] <= 599
    finally:
        made.close()
        servers.close()


# ---- the watch itself -------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_watch_of_a_large_upload_and_download_lasts_as_long_as_it_moves() -> None:
    """Days of a slow but real transfer are fine, in the speed that the limits state."""
    clock = Clock()
    watch = Watch(limits.PACE, 60, clock)
    watch.start_body()
    for _ in range(20_000):
        watch.grant(1 << 20)
        clock.now += (1 << 20) / limits.PACE.rate
        watch.took(1 << 20)
        assert watch.seconds() > 0
    assert clock.now > 10 * 24 * 3600


def test_watch_of_a_transfer_below_the_rate_ends_it() -> None:
    clock = Clock()
    watch = Watch(limits.PACE, 60, clock)
    watch.start_body()

    def wait_and_read() -> None:
        watch.seconds()
        clock.now += 20
        watch.grant(1 << 20)
        watch.took(1000)

    for _ in range(4):
        wait_and_read()
    with pytest.raises(WatchError, match="less than 16,384 bytes per second"):
        wait_and_read()
    assert watch.fault


def test_watch_of_an_answer_waits_for_the_set_time() -> None:
    clock = Clock()
    watch = Watch(limits.PACE, 60, clock)
    watch.start_head()
    assert watch.seconds() == 60
    clock.now += 59
    assert watch.seconds() == 1
    clock.now += 1
    with pytest.raises(WatchError, match="no answer within 60 s"):
        watch.seconds()


def test_watch_of_a_quoted_error_gives_it_less_time() -> None:
    clock = Clock()
    watch = Watch(limits.PACE, 60, clock)
    watch.start_body()
    watch.end_within(5)
    assert watch.seconds() == 5
