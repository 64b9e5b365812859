"""Read the output of strace (`strace -f -y -o FILE`): system calls with their arguments and results.

The format is that of strace 5 and newer: a line is `PID NAME(ARGUMENTS) = RESULT`. If another process interrupts it,
the call is split into two lines, `PID NAME(ARGUMENTS <unfinished ...>` and `PID <... NAME resumed>REST`. Strings are
quoted, with C escapes. With `-y`, a file descriptor is followed by the kernel's path for it: `3</etc/passwd>`.

A traced program chooses its paths, so the content is untrusted: lines, pending calls and the number of calls are
limited, the time to read a line grows only linearly with its length, and lines that are not calls are skipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_LINE = 64 << 10
"""The longest line that is read, in bytes. Three escaped paths of 4096 bytes each (PATH_MAX) fit."""
MAX_CALLS = 5_000_000
"""The most calls that are read from a file."""
MAX_PENDING = 2048
"""The most processes that may be inside a call at the same time."""

_LINE = re.compile(
    rb"(?P<pid>\d{1,10})\s+(?:"
    rb"<\.\.\. (?P<resumed>\w{1,40}) resumed>"
    rb"|(?P<name>\w{1,40})\("
    rb"|\+\+\+ (?P<end>exited with|killed by)"
    rb"|\+\+\+ superseded by execve in pid (?P<superseded>\d{1,10}))"
)
_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*"?(?:\.\.\.)?|<(?:[^<>\\]|\\.)*>?|[^"<(\[{)\]},]+|.', re.DOTALL)
_OPENING, _CLOSING = frozenset((b"(", b"[", b"{")), frozenset((b")", b"]", b"}"))
_UNFINISHED = b"<unfinished ...>"
_RESULT = re.compile(
    rb"\s*= (?P<number>-?\d{1,20}|\?)(?:<(?P<path>(?:[^<>\\]|\\.)*)>(?P<deleted>\(deleted\))?)?", re.DOTALL
)
_DESCRIPTOR = re.compile(
    rb"(?:AT_FDCWD|-?\d{1,10})(?:<(?P<path>(?:[^<>\\]|\\.)*)>(?P<deleted>\(deleted\))?)?", re.DOTALL
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b", b"e": b"\x1b"}
_GONE = " (deleted)"

EXIT = "exit"
"""The name of the pseudo-call for the end of a process."""
SUPERSEDED = "superseded"
"""The name of the pseudo-call for a thread that took over its process by execve; the result is its former id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A system call: the process (or thread) id, its name, the arguments as strace wrote them, and the result.

    `result` is None if the call did not return. `path` is the path of the returned file descriptor, or empty. If
    `pending`, the call has begun and its result follows in a separate call.
    """

    pid: int
    name: str
    arguments: tuple[bytes, ...] = ()
    result: int | None = None
    path: str = ""
    pending: bool = False

    @property
    def succeeded(self) -> bool:
        """Return whether the call returned without an error."""
        return self.result is not None and self.result >= 0


@dataclass(kw_only=True, slots=True)
class Reading:
    """What a reader reports in addition to the calls: their number, and whether a limit was reached."""

    calls: int = 0
    cut: bool = False
    pending: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """The unfinished calls, by process: the name and the arguments so far."""


def read_calls(stream: BinaryIO, reading: Reading, *, limit: int = MAX_CALLS) -> Iterator[Call]:
    """Yield the calls of `stream` in order; `reading` is updated on the way. Malformed lines are skipped."""
    for line in _lines(stream, reading):
        call = _read_line(line, reading)
        if call is None:
            continue
        if reading.calls >= limit:
            reading.cut = True
            return
        reading.calls += 1
        yield call


def _lines(stream: BinaryIO, reading: Reading) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE):
        if line.endswith(b"\n") or len(line) < MAX_LINE:
            yield line
            continue
        reading.cut = True
        while len(rest := stream.readline(MAX_LINE)) == MAX_LINE and not rest.endswith(b"\n"):
            pass


def _read_line(line: bytes, reading: Reading) -> Call | None:
    match = _LINE.match(line)
    if match is None:
        return None
    pid, pending = int(match["pid"]), reading.pending
    if match["end"]:
        pending.pop(pid, None)
        return Call(pid=pid, name=EXIT)
    if match["superseded"]:
        former = int(match["superseded"])
        if former in pending:
            pending[pid] = pending.pop(former)
        return Call(pid=pid, name=SUPERSEDED, result=former)
    rest = line[match.end() :]
    if match["resumed"]:
        name, start = pending.pop(pid, ("", b""))
        if name != match["resumed"].decode("ascii") or len(start) + len(rest) > 2 * MAX_LINE:
            return None
        rest = start + rest
    else:
        name = match["name"].decode("ascii")
    arguments, end, unfinished = split_arguments(rest)
    if unfinished:
        if len(pending) >= MAX_PENDING:
            reading.cut = True
            return None
        pending[pid] = (name, rest[:end])
        return Call(pid=pid, name=name, arguments=arguments, pending=True)
    result = _RESULT.match(rest, end)
    if result is None:
        return None
    number = None if result["number"] == b"?" else int(result["number"])
    return Call(pid=pid, name=name, arguments=arguments, result=number, path=_path_of(result))


def split_arguments(text: bytes) -> tuple[tuple[bytes, ...], int, bool]:
    """Split the text after the opening parenthesis of a call at its commas.

    Returns the arguments, the position after the closing parenthesis (or after the mark of an unfinished call), and
    whether the call is unfinished. A text without a closing parenthesis ends where it is cut off.
    """
    arguments: list[bytes] = []
    parts: list[bytes] = []
    depth = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == _UNFINISHED:
            return _finish(arguments, parts), match.start(), True
        if piece in _OPENING:
            depth += 1
        elif piece in _CLOSING:
            if depth == 0:
                return _finish(arguments, parts), match.end(), False
            depth -= 1
        elif piece == b"," and depth == 0:
            arguments.append(b"".join(parts).strip())
            parts.clear()
            continue
        parts.append(piece)
    return _finish(arguments, parts), len(text), False


def _finish(arguments: list[bytes], parts: list[bytes]) -> tuple[bytes, ...]:
    last = b"".join(parts).strip()
    return (*arguments, last) if arguments or last else ()


def text_of(argument: bytes) -> str | None:
    """Return the content of a quoted argument, or None if it is not a string or was abbreviated.

    Bytes that are not UTF-8 become surrogate escapes (PEP 383), as everywhere in this package.
    """
    if len(argument) < 2 or not argument.startswith(b'"') or not argument.endswith(b'"'):
        return None
    return os.fsdecode(unescape(argument[1:-1]))


def descriptor_path(argument: bytes) -> str:
    """Return the path that `-y` shows for a file descriptor or `AT_FDCWD`; empty if there is none or it was deleted."""
    match = _DESCRIPTOR.fullmatch(argument)
    return _path_of(match) if match else ""


def _path_of(match: re.Match[bytes]) -> str:
    raw = match["path"]
    if not raw or match["deleted"]:
        return ""
    path = os.fsdecode(unescape(raw))
    return path if path.startswith("/") and not path.endswith(_GONE) else ""


def unescape(raw: bytes) -> bytes:
    r"""Replace the escapes of a C string: `\n`, `\"`, `\\`, octal `\303`, hexadecimal `\xc3`."""
    return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes((int(match[1], 8) & 0xFF,))
    if match[2]:
        return bytes((int(match[2], 16),))
    return _LETTERS.get(match[3], match[3])
