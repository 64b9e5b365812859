"""The pieces of a RUN's command. `tests/engine/test_shell_pieces.py` runs them in shells."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.dockerfile.shell_pieces import FUNCTION, marked, split_pieces
from tests.support.shell_commands import chains, commands


def pieces(command: str, *, errexit: bool = False) -> list[str]:
    return [command[piece.start : piece.end] for piece in split_pieces(command, errexit=errexit)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("make", ["make"]),
        ("a && b && c", ["a", "b", "c"]),
        ("set -eux; a; b && c; d", ["set -eux", "a", "b", "c", "d"]),
        ("set -ex && a && b; c", ["set -ex", "a", "b", "c"]),
        ("set -o errexit\na\n\n# note\nb\n", ["set -o errexit", "a", "b"]),
        ("cd /x; ./configure && make && make install", ["cd /x; ./configure", "make", "make install"]),
        ("a && b; c && d", ["a && b; c", "d"]),
        ("a && b || c && d", ["a && b || c", "d"]),
        ("a && \\\n  b &&\n# note\nc", ["a", "b", "c"]),
        ("if x; then y && z; fi && q", ["if x; then y && z; fi", "q"]),
        ("if x; then if y; then z; fi fi && q", ["if x; then if y; then z; fi fi", "q"]),
        ("case $x in a|b) c && d;; (e) f;; esac && h", ["case $x in a|b) c && d;; (e) f;; esac", "h"]),
        ("for f in *; do a && b; done && c", ["for f in *; do a && b; done", "c"]),
        ("while read x; do :; done < f && b", ["while read x; do :; done < f", "b"]),
        ("f() { a && b; } && f", ["f() { a && b; }", "f"]),
        ("(a && b) && { c && d; } && e", ["(a && b)", "{ c && d; }", "e"]),
        ('x=$(a && b) && y=`c && d` && echo "$(e && "f")"', ["x=$(a && b)", "y=`c && d`", 'echo "$(e && "f")"']),
        ("echo 'a && b' \"c && d\" e\\&\\&f && g", ["echo 'a && b' \"c && d\" e\\&\\&f", "g"]),
        ("[[ a && b ]] && (( i && j )) && echo $((1 << 2))", ["[[ a && b ]]", "(( i && j ))", "echo $((1 << 2))"]),
        ("a 2>&1 | b >&2 && c <<< d", ["a 2>&1 | b >&2", "c <<< d"]),
        ("cat > f <<EOF && b\nx && y\nEOF\n", ["cat > f <<EOF", "b\nx && y\nEOF\n"]),
        ("echo done && echo fi", ["echo done", "echo fi"]),
    ],
)
def test_command_is_split_where_shell_goes_on_only_after_success(command: str, expected: list[str]) -> None:
    assert pieces(command) == expected


@pytest.mark.parametrize(
    "command",
    [
        "a; b; c",
        "a & b && c",
        "a && b &",
        "a || b || c",
        "set -e; set +e; a; b",
        "a &> log && b",
        "a && echo 'unfinished",
        "a && (b",
        "a && b)",
        "a && $'it\\'s' && b",
        "a && fi",
        "a && ",
        "cat <<EOF && b\nx",
        "function f { a && b; } && c",
        "((a); b) && c",
        f"{FUNCTION} && b",
        "",
    ],
)
def test_command_that_cannot_be_split_safely_is_one_piece(command: str) -> None:
    assert pieces(command) == [command]


def test_option_of_shell_splits_at_semicolons() -> None:
    assert pieces("a; b", errexit=True) == ["a", "b"]


def test_piece_that_reads_last_status_stays_with_command_before() -> None:
    assert pieces("set -e; a && b; echo $?; c") == ["set -e", "a", "b; echo $?", "c"]


@given(chains)
def test_chain_has_one_piece_per_operand(operands: list[str]) -> None:
    assert pieces(" && ".join(operands)) == operands


@given(commands(), st.booleans())
def test_pieces_are_in_order_and_nothing_but_operators_is_between_them(command: str, errexit: bool) -> None:
    spans = split_pieces(command, errexit=errexit)
    assert spans[0].start >= 0
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(span.start < span.end for span in spans)
    for before, after in pairwise(spans):
        between = command[before.end - 1 : after.start]
        assert ("&&" if after.chained else ";") in between.replace("\n", ";")


@given(commands(), st.booleans())
def test_marked_command_is_unchanged_but_for_marks(command: str, errexit: bool) -> None:
    spans = split_pieces(command, errexit=errexit)
    text = marked(command, spans, ["label"] * len(spans), "/piece")
    head, _, rest = text.partition(" }; ")
    for number in range(1, len(spans) + 1):
        for mark in (f"{FUNCTION} {number} ; ", f"{FUNCTION} {number} && "):
            rest = rest.replace(mark, "", 1)
    assert rest == command
    assert head.startswith(f"{FUNCTION}() {{")
