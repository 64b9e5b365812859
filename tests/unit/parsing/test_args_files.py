"""Args files: the meaning of a line, and every problem of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import Problem
from chainbuild.model import BuildArg
from chainbuild.parsing.args_files import parse_args, parse_build_arg, read_args

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: not text.endswith("\r")
)


def pairs(text: str | bytes, **environ: str) -> list[tuple[str, str]]:
    raw = text.encode() if isinstance(text, str) else text
    args, problems = parse_args(raw, "f", environ)
    assert problems == ()
    return [(arg.name, arg.value) for arg in args]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n", []),
        ("A=1", [("A", "1")]),
        ("A=1\nB=2\n", [("A", "1"), ("B", "2")]),
        ("# a comment\n\n  # another\nA=1\n", [("A", "1")]),
        ("A=1\r\nB=2\r\n", [("A", "1"), ("B", "2")]),
        (b"\xef\xbb\xbfA=1\n", [("A", "1")]),
        ("A=", [("A", "")]),
        ("A=b=c", [("A", "b=c")]),
        ("A= b ", [("A", " b ")]),
        ("A=#1", [("A", "#1")]),
        ("A=\"quoted\" '$HOME' `id` $(id) ${X} \\n", [("A", "\"quoted\" '$HOME' `id` $(id) ${X} \\n")]),
        ("A=one\x0ctwo\u2028three\x85four", [("A", "one\x0ctwo\u2028three\x85four")]),
        ("A=gr\u00fc\u00df", [("A", "gr\u00fc\u00df")]),
        ("_a9=1", [("_a9", "1")]),
    ],
)
def test_values_are_taken_literally(text: str | bytes, expected: list[tuple[str, str]]) -> None:
    assert pairs(text) == expected


def test_bare_key_takes_environment_value() -> None:
    args, problems = parse_args(b"A=1\nTOKEN\n", "stock/x-amd64-args", {"TOKEN": "t"})
    assert problems == ()
    assert args == (
        BuildArg(name="A", value="1", origin="stock/x-amd64-args:1"),
        BuildArg(name="TOKEN", value="t", origin="stock/x-amd64-args:2 (environment)"),
    )
    assert pairs("TOKEN", TOKEN="") == [("TOKEN", "")]


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("A=1\nB\n", 2, "B has no value and is not set in the environment", "export B"),
        ("A = 1", 1, "'A = 1' is not KEY=VALUE", "Write A=1 "),
        ("export A=1", 1, "is not KEY=VALUE", "Write A=1 "),
        ("ARG A=1", 1, "is not KEY=VALUE", "Write A=1 "),
        ("--build-arg A=1", 1, "is not KEY=VALUE", "Write A=1 "),
        ("1A=1", 1, "'1A=1' is not KEY=VALUE", "Write KEY=VALUE"),
        ("=1", 1, "'=1' is not KEY=VALUE", "Write KEY=VALUE"),
        ("A-B=1", 1, "is not KEY=VALUE", "letters, digits"),
        ("A=1\nB=2\nA=3\n", 3, "duplicate argument A, already set at f:1", "Keep one"),
        ("A=1\0", 1, "NUL byte", ""),
        (b"A=1\nB=\xff\n", 2, "not UTF-8", "UTF-8"),
        (b"\xef\xbb\xbfA=1\n\xff\n", 2, "not UTF-8", "UTF-8"),
        (b"\xff\xfeA\x00", 1, "not UTF-8", "UTF-8"),
    ],
)
def test_wrong_line_is_a_problem_with_line_number(text: str | bytes, line: int, message: str, hint: str) -> None:
    raw = text.encode() if isinstance(text, str) else text
    _, problems = parse_args(raw, "f", {})
    (problem,) = problems
    assert (problem.path, problem.line) == ("f", line)
    assert message in problem.message
    assert hint in problem.hint


def test_problems_are_reported_together() -> None:
    args, problems = parse_args(b"A=1\nB C\nD\nA=2\nE=5\n", "f", {})
    assert [problem.line for problem in problems] == [2, 3, 4]
    assert [arg.name for arg in args] == ["A", "E"]


@given(st.lists(st.tuples(NAMES, VALUES), unique_by=lambda pair: pair[0]), st.booleans(), st.booleans(), st.booleans())
def test_written_args_read_back(said: list[tuple[str, str]], crlf: bool, bom: bool, last: bool) -> None:
    end = "\r\n" if crlf else "\n"
    text = end.join(f"{name}={value}" for name, value in said) + (end if last else "")
    assert pairs((b"\xef\xbb\xbf" if bom else b"") + text.encode()) == said


@given(st.binary(max_size=200))
def test_any_bytes_give_args_or_problems(raw: bytes) -> None:
    args, problems = parse_args(raw, "f", {})
    lines = raw.count(b"\n") + 1
    assert all(1 <= problem.line <= lines and problem.message and problem.hint for problem in problems)
    assert len({arg.name for arg in args}) == len(args)
    assert all("\0" not in arg.value and "\n" not in arg.value for arg in args)


def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        args, problems = read_args(path, "shown", {})
        assert args == ()
        assert [problem.path for problem in problems] == ["shown"]
        assert problems[0].message.startswith("cannot be read: ")


def test_readable_file_gives_args(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"A=1")
    assert read_args(tmp_path / "f", "f", {})[0] == (BuildArg(name="A", value="1", origin="f:1"),)


def test_build_arg_flag_is_parsed() -> None:
    assert parse_build_arg("A=b c", {}) == BuildArg(name="A", value="b c", origin="--build-arg")
    assert parse_build_arg("A", {"A": "x"}) == BuildArg(name="A", value="x", origin="--build-arg")
    for wrong in ("A", "", "A B=1", "=1"):
        problem = parse_build_arg(wrong, {})
        assert isinstance(problem, Problem)
        assert problem.message.startswith("--build-arg: ")
        assert problem.where == ""
