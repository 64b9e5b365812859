"""Read the output of strace as calls, whatever names a traced program gives its files."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.trace import strace
from chainbuild.minimize.trace.strace import Call, Reading, descriptor_path, read_calls, text_of, unescape


def calls_in(text: str | bytes) -> tuple[list[Call], Reading]:
    reading = Reading()
    raw = text.encode() if isinstance(text, str) else text
    return list(read_calls(io.BytesIO(raw), reading)), reading


def only(text: str) -> Call:
    calls, _ = calls_in(text + "\n")
    assert len(calls) == 1
    return calls[0]


def test_call_with_descriptor_paths_is_read_completely() -> None:
    call = only('8     openat(AT_FDCWD</etc>, "passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>')
    assert (call.pid, call.name, call.result, call.path) == (8, "openat", 3, "/etc/passwd")
    assert call.arguments == (b"AT_FDCWD</etc>", b'"passwd"', b"O_RDONLY|O_CLOEXEC")
    assert descriptor_path(call.arguments[0]) == "/etc"
    assert text_of(call.arguments[1]) == "passwd"


def test_call_with_error_has_not_succeeded() -> None:
    call = only('8 openat(AT_FDCWD</>, "/none", O_RDONLY) = -1 ENOENT (No such file or directory)')
    assert (call.result, call.succeeded, call.path) == (-1, False, "")


def test_call_without_return_has_no_result() -> None:
    call = only("8  exit_group(0)                     = ?")
    assert (call.result, call.succeeded) == (None, False)


def test_arguments_with_brackets_and_quotes_split_at_outer_commas() -> None:
    call = only('8 execve("/bin/sh", ["sh", "-c", "a, (b) ]"], 0x7ffd /* 3 vars */) = 0')
    assert call.arguments == (b'"/bin/sh"', b'["sh", "-c", "a, (b) ]"]', b"0x7ffd /* 3 vars */")


@pytest.mark.parametrize("sign", ['"', "<"])
def test_unterminated_text_is_read_in_single_pass(sign: str) -> None:
    """A program can write such lines itself; each character is read once, whatever follows."""
    begun = "8 openat(AT_FDCWD, "
    found, _ = calls_in(begun + sign + f"\\{sign}" * 30_000 + "\n")
    assert [one.succeeded for one in found] in ([], [False])


def test_unfinished_call_is_joined_with_its_continuation() -> None:
    text = (
        '9 openat(AT_FDCWD</>, "/a", O_RDONLY <unfinished ...>\n'
        '10 openat(AT_FDCWD</>, "/b", O_RDONLY) = 4</b>\n'
        "9 <... openat resumed>) = 3</a>\n"
    )
    calls, _ = calls_in(text)
    assert [(call.pid, call.pending, call.result, call.path) for call in calls] == [
        (9, True, None, ""),
        (10, False, 4, "/b"),
        (9, False, 3, "/a"),
    ]
    assert text_of(calls[2].arguments[1]) == "/a"


def test_unfinished_clone_keeps_its_flags() -> None:
    text = (
        "8 clone(child_stack=NULL, flags=CLONE_FS|SIGCHLD <unfinished ...>\n"
        "8 <... clone resumed>, child_tidptr=0x55) = 16\n"
    )
    _, call = calls_in(text)[0]
    assert call.result == 16
    assert call.arguments[1] == b"flags=CLONE_FS|SIGCHLD"


def test_continuation_of_another_call_is_skipped() -> None:
    calls, _ = calls_in('9 openat(AT_FDCWD, "/a", O_RDONLY <unfinished ...>\n9 <... execve resumed>) = 0\n')
    assert [call.pending for call in calls] == [True]


def test_thread_taking_over_by_execve_keeps_its_call() -> None:
    text = (
        '12 execve("/bin/x", ["x"], 0x1 /* 0 vars */ <unfinished ...>\n'
        "8 +++ superseded by execve in pid 12 +++\n"
        "8 <... execve resumed>) = 0\n"
        "8 +++ exited with 0 +++\n"
    )
    calls, _ = calls_in(text)
    assert [(call.pid, call.name) for call in calls] == [
        (12, "execve"),
        (8, strace.SUPERSEDED),
        (8, "execve"),
        (8, strace.EXIT),
    ]
    assert calls[2].succeeded
    assert text_of(calls[2].arguments[0]) == "/bin/x"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "strace: Process 12 attached",
        "--- SIGCHLD {si_signo=SIGCHLD} ---",
        "8 --- SIGCHLD {si_signo=SIGCHLD} ---",
        '8 openat(AT_FDCWD, "/a"',
        "8 openat(",
        '8 openat("',
        "8 <... openat resumed>) = 3",
        "openat(AT_FDCWD) = 3",
        "99999999999 openat(AT_FDCWD) = 3",
        "8 openat(AT_FDCWD) = three",
    ],
)
def test_line_without_call_is_skipped(line: str) -> None:
    assert calls_in(line + "\n")[0] == []


@pytest.mark.parametrize(
    ("written", "raw"),
    [
        (rb"a\377\303\244", b"a\xff\xc3\xa4"),
        (rb"b\"<>,)=", b'b"<>,)='),
        (rb"c\\ d", b"c\\ d"),
        (rb"\1e9", b"\x01e9"),
        (rb"\0019", b"\x019"),
        (rb"\n\t\r\v\f", b"\n\t\r\v\f"),
        (rb"\x2f\x7e", b"/~"),
        (rb"\74\76", b"<>"),
        (rb"\777", b"\xff"),
        (b"plain", b"plain"),
    ],
)
def test_escapes_become_bytes(written: bytes, raw: bytes) -> None:
    assert unescape(written) == raw
    assert text_of(b'"' + written + b'"') == os.fsdecode(raw)


@pytest.mark.parametrize("argument", [b"", b'"', b"NULL", b'"cut"...', b"0x7ffe", b'"open'])
def test_argument_without_complete_text_is_none(argument: bytes) -> None:
    assert text_of(argument) is None


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        (b"3</etc/passwd>", "/etc/passwd"),
        (b"AT_FDCWD", ""),
        (b"3", ""),
        (b"5</tmp/x>(deleted)", ""),
        (b"AT_FDCWD</tmp/x (deleted)>", ""),
        (b"4<socket:[123]>", ""),
        (b"4<pipe:[9]>", ""),
        (rb"AT_FDCWD</d\74\76\"x\n>", '/d<>"x\n'),
        (b"3</a> more", ""),
    ],
)
def test_descriptor_path_is_absolute_or_empty(argument: bytes, path: str) -> None:
    assert descriptor_path(argument) == path


def test_line_over_limit_is_cut_and_next_line_is_read() -> None:
    long = b'8 openat(AT_FDCWD, "' + b"a" * (2 * strace.MAX_LINE) + b'", O_RDONLY) = 3\n'
    calls, reading = calls_in(long + b'8 openat(AT_FDCWD, "/b", O_RDONLY) = 3\n')
    assert [text_of(call.arguments[1]) for call in calls] == ["/b"]
    assert reading.cut


def test_calls_over_limit_are_cut() -> None:
    reading = Reading()
    lines = io.BytesIO(b'8 openat(AT_FDCWD, "/b", O_RDONLY) = 3\n' * 10)
    assert len(list(read_calls(lines, reading, limit=4))) == 4
    assert (reading.calls, reading.cut) == (4, True)


def test_pending_calls_over_limit_are_dropped() -> None:
    text = "".join(f'{pid} openat(AT_FDCWD, "/b" <unfinished ...>\n' for pid in range(strace.MAX_PENDING + 10))
    _, reading = calls_in(text)
    assert len(reading.pending) == strace.MAX_PENDING
    assert reading.cut


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_read_without_error(raw: bytes) -> None:
    for call in calls_in(raw)[0]:
        for argument in call.arguments:
            text_of(argument)
            descriptor_path(argument)


_PATHS = st.binary(min_size=1, max_size=60).map(lambda raw: b"/" + raw.replace(b"\0", b""))


def quoted(raw: bytes, also: bytes = b"") -> bytes:
    """Quote bytes as strace does (`string_quote` of its util.c), with octal numbers of three digits."""
    letters = {9: rb"\t", 10: rb"\n", 11: rb"\v", 12: rb"\f", 13: rb"\r", 34: rb"\"", 92: rb"\\"}
    return b"".join(
        letters.get(one) or (bytes((one,)) if 32 <= one < 127 and one not in also else b"\\%03o" % one) for one in raw
    )


@given(
    _PATHS, _PATHS, st.sampled_from([b" ", b" <unfinished ...>\n7 clone(a <unfinished ...>\n8 <... openat resumed>"])
)
def test_arbitrary_path_survives_strace_quoting(path: bytes, folder: bytes, between: bytes) -> None:
    line = b'8 openat(AT_FDCWD<%s>, "%s", O_RDONLY%s) = 3<%s>\n' % (
        quoted(folder, b"<>"),
        quoted(path),
        between.rstrip(b" "),
        quoted(path, b"<>"),
    )
    calls = [call for call in calls_in(line)[0] if call.result == 3]
    (call,) = calls
    assert text_of(call.arguments[1]) == os.fsdecode(path)
    gone = os.fsdecode(path).endswith(" (deleted)")
    assert call.path == ("" if gone else os.fsdecode(path))
