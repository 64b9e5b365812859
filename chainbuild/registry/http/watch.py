"""Limits on reading from a connection: total time, minimum rate, and amount per read.

http.client and urllib3 parse status lines, headers, chunk sizes and trailers themselves. Both can be made to read forever
or to exhaust memory there (`100 Continue` without end, a chunk size of -1 or of a gigabyte of digits). So the limits are
below them: each answer reads from its socket through a `Watch`, whatever the parser above does with it.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from chainbuild import limits

# What a parser may read beside the content that it was asked for: its own buffer, chunk sizes, trailers.
_OVERHEAD: Final = 128 << 10

_current = threading.local()


class WatchError(TimeoutError):
    """A limit of a `Watch` was hit. It is a `TimeoutError`, so HTTP libraries pass it on as they pass on a timeout."""


class Watch:
    """The limits on one answer. `fault` describes the exceeded limit; empty if none."""

    def __init__(self, pace: limits.Pace, answer_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace
        self.fault = ""
        self.sent = False
        """True if the request was sent completely."""
        self.leftover = False
        """True if more was received than the response has: the connection must not be reused."""
        self.closing = False
        self.overrun = False
        """True if more was received at once than HTTP allows."""
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._began = clock()
        self._deadline = self._began + answer_seconds
        self._deadline_words = f"no answer within {answer_seconds:g} s"
        self._is_body = False
        self._received = 0
        self._left = limits.HEADERS.value
        self._words = ""

    def start_head(self) -> None:
        """Expect the status line and the headers from now on."""
        self.sent = True
        self._deadline = self._clock() + self._answer_seconds
        self._left = limits.HEADERS.value

    def start_body(self) -> None:
        """Expect the body from now on."""
        self._is_body = True
        self._began, self._received = self._clock(), 0
        self._deadline, self._deadline_words = float("inf"), ""
        self._left = _OVERHEAD

    def end_within(self, seconds: float) -> None:
        """Allow that many seconds for the rest of the response."""
        self._deadline, self._deadline_words = self._clock() + seconds, f"the answer did not end within {seconds:g} s"

    def grant(self, size: int) -> None:
        """Allow `size` bytes of content to be read, and what belongs to them."""
        self._left = size + _OVERHEAD

    def seconds(self) -> float:
        """Return how long the next read may wait. Errors: `WatchError` if no time is left."""
        left, self._words = min(self._limits())
        if left <= 0:
            raise self.hit(self._words)
        return left

    def expired(self) -> WatchError:
        """Return the error for a read that waited for `seconds`."""
        return self.hit(self._words)

    def took(self, size: int) -> None:
        """Count bytes that were read. Errors: `WatchError` if they are more than was allowed at one go."""
        self._received += size
        self._left -= size
        if self._left < 0:
            self.overrun = True
            raise self.hit(
                "an answer with a chunk size or trailers that are not HTTP"
                if self._is_body
                else f"headers of more than {limits.HEADERS.shown}"
            )

    def hit(self, words: str) -> WatchError:
        """Note which limit was hit, and return the error."""
        self.fault = self.fault or words
        return WatchError(words)

    def _limits(self) -> list[tuple[float, str]]:
        now = self._clock()
        limits_left = [(self._deadline - now, self._deadline_words)]
        if self._is_body:
            slowest = self._began + self.pace.transfer(self._received)
            limits_left.append(
                (self.pace.silence, f"nothing more for {self.pace.silence:g} s in the middle of an answer")
            )
            limits_left.append((slowest - now, f"less than {self.pace.rate:,} bytes per second"))
        return limits_left


class _WatchedReader(io.RawIOBase):
    """The reading end of a socket, under a watch."""

    def __init__(self, raw: Any, sock: Any, watch: Watch) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._watch.closing:
            return 0
        self._sock.settimeout(self._watch.seconds())
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            raise self._watch.expired() from None
        self._watch.took(count or 0)
        return count

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Buffer(io.BufferedReader):
    """Reads ahead of the parser, and notes what the parser did not take."""

    def __init__(self, raw: _WatchedReader, watch: Watch) -> None:
        super().__init__(raw)
        self._watch = watch

    def close(self) -> None:
        if not self.closed:
            # From here on the reader below says that there is no more, so nothing is waited for.
            self._watch.closing = True
            self._watch.leftover = bool(self.peek(1))
        super().close()


def watched(connection_class: type[Any]) -> type[Any]:
    """Return a subclass of `http.client.HTTPConnection` (or urllib3's) whose answers are read under the current watch.

    Pieces of a body that it sends must each be taken within the time that their size needs.
    """

    class Watched(connection_class):  # type: ignore[misc]
        response_class: Any
        last_watch: Watch | None = None

        @property
        def is_connected(self) -> bool:
            """Return whether urllib3 may use it again."""
            clean = self.last_watch is None or not self.last_watch.leftover
            return clean and bool(super().is_connected)

        def send(self, data: Any) -> None:
            if self.sock is None and self.auto_open:
                self.connect()
            pace = _current.watch.pace
            self.sock.settimeout(pace.transfer(len(data) if isinstance(data, bytes | bytearray | memoryview) else 0))
            super().send(data)

        def getresponse(self) -> Any:
            usual = self.response_class
            self.last_watch = _current.watch
            self.response_class = partial(_answer, _current.watch)
            try:
                return super().getresponse()
            finally:
                self.response_class = usual

    return Watched


def under(watch: Watch) -> None:
    """Make this watch the one for the requests that this thread sends from now on."""
    _current.watch = watch


def _answer(watch: Watch, sock: Any, *arguments: Any, **keywords: Any) -> Any:
    import http.client

    watch.start_head()
    answer = http.client.HTTPResponse(sock, *arguments, **keywords)
    reader: Any = answer.fp
    answer.fp = _Buffer(_WatchedReader(reader.detach(), sock, watch), watch)
    return answer
