"""Tables of Dockerfiles and their parsed instructions; arbitrary bytes never make the reader raise."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chainbuild.dockerfile import Heredoc, find_facts, parse
from chainbuild.references import Platform

AMD = Platform.parse("amd64")


def shapes(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return (keyword, words) of every instruction in every stage."""
    parsed = parse(text.encode(), "Dockerfile")
    assert not parsed.problems
    return [(found.keyword, found.words) for stage in parsed.stages for found in stage.instructions]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nCOPY a b /", [("COPY", ("a", "b", "/"))]),
        ("from a\ncopy\ta   b /  ", [("COPY", ("a", "b", "/"))]),
        ("FROM a\r\nCOPY a \\\r\n b /\r\n", [("COPY", ("a", "b", "/"))]),
        ("FROM a\nCOPY a \\  \n# x\n   # y\n\n b /", [("COPY", ("a", "b", "/"))]),
        ("FROM a\nCOPY a\\\nb /", [("COPY", ("ab", "/"))]),
        ("# escape=`\nFROM a\nCOPY a\\ `\n b\\\nRUN x", [("COPY", ("a\\", "b\\")), ("RUN", ("x",))]),
        ("FROM a\nRUN x \\\\\nRUN y", [("RUN", ("x", "\\\\")), ("RUN", ("y",))]),
        ('FROM a\nCOPY ["a b", "/c"]', [("COPY", ("a b", "/c"))]),
        ('FROM a\nCOPY --chown=1:1 ["a b", "/c"]', [("COPY", ("a b", "/c"))]),
        ("FROM a\nCOPY ['a', '/c']", [("COPY", ("['a',", "'/c']"))]),
        ("FROM a\nRUN cat <<EOF\nCOPY x y\nEOF\nUSER u", [("RUN", ("cat", "<<EOF")), ("USER", ("u",))]),
        ("FROM a\nRUN a <<A <<-'B'\n1\nA\n2\n\t\tB\nUSER u", [("RUN", ("a", "<<A", "<<-'B'")), ("USER", ("u",))]),
        ("FROM a\nRUN echo $((1<<2)) <<< x\nUSER u", [("RUN", ("echo", "$((1<<2))", "<<<", "x")), ("USER", ("u",))]),
        ("FROM a\nRUN it's <<EOF\nUSER u", [("RUN", ("it's", "<<EOF")), ("USER", ("u",))]),
        ('FROM a\nRUN ["x", "<<EOF"]\nUSER u', [("RUN", ("x", "<<EOF")), ("USER", ("u",))]),
        ("FROM a\nCMD x <<EOF\nUSER u", [("CMD", ("x", "<<EOF")), ("USER", ("u",))]),
        ("FROM a\nENV a=b 'c=d e' f=\"g h\" i=j\\ k", [("ENV", ("a=b", "'c=d e'", 'f="g h"', "i=j\\ k"))]),
    ],
)
def test_instructions_are_split_into_words(text: str, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert shapes(text) == expected


def test_instructions_have_lines_flags_and_original_text() -> None:
    parsed = parse(
        b"# c\n\nFROM --platform=linux/arm64 a AS One\n\nCOPY --from=x --link \\\n --chown=a a /\nRUN b", "D"
    )
    (stage,) = parsed.stages
    assert (stage.name, stage.line, stage.platform) == ("one", 3, "linux/arm64")
    copy, run = stage.instructions
    assert (copy.line, copy.end_line, run.line) == (5, 6, 7)
    assert copy.original == "COPY --from=x --link \\\n --chown=a a /"
    assert (copy.flag("from"), copy.flag("link"), copy.flag("chown"), copy.flag("chmod")) == ("x", "", "a", None)


def test_quotes_in_flags_are_removed() -> None:
    parsed = parse(b'FROM a\nRUN --mount=type=bind,source="a b",target=/x --network=none -- --y z', "D")
    (run,) = parsed.stages[0].instructions
    assert run.flag_values("mount") == ("type=bind,source=a b,target=/x",)
    assert run.words == ("--y", "z")


def test_here_documents_are_read() -> None:
    parsed = parse(b'FROM a\nCOPY <<A <<-"B" /x/\n$a\nA\n\tb\n\tB\nONBUILD RUN <<C\nc\nC\n', "D")
    copy, trigger = parsed.stages[0].instructions
    assert copy.heredocs == (
        Heredoc(word="<<A", name="A", expand=True, strip_tabs=False, content="$a\n"),
        Heredoc(word='<<-"B"', name="B", expand=False, strip_tabs=True, content="\tb\n"),
    )
    assert trigger.trigger is not None
    assert trigger.trigger.heredocs[0].content == "c\n"
    assert trigger.end_line == 9


@pytest.mark.parametrize(
    ("text", "syntax", "escape"),
    [
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a", "docker/dockerfile:1", "`"),
        ("#ESCAPE = `\n#Syntax=a/b c\nFROM a", "a/b", "`"),
        ("\ufeff# syntax=a/b\nFROM a", "a/b", "\\"),
        ("#!/usr/bin/x\n# syntax=a/b\nFROM a", "a/b", "\\"),
        ("# a comment\n# syntax=a/b\nFROM a", "", "\\"),
        ("\n# syntax=a/b\nFROM a", "", "\\"),
        ("FROM a\n# syntax=a/b", "", "\\"),
        ("# check=skip=all\n# syntax=a/b\nFROM a", "a/b", "\\"),
        ("// syntax=a/b\n", "a/b", "\\"),
        ('{"syntax": "a/b"}', "a/b", "\\"),
    ],
)
def test_directives_set_syntax_and_escape(text: str, syntax: str, escape: str) -> None:
    parsed = parse(text.encode(), "D")
    assert (parsed.syntax, parsed.escape) == (syntax, escape)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 0, "no FROM"),
        ("RUN x\nFROM a", 1, "RUN before the first FROM"),
        ("FROM a\n\nCOPPY a b", 3, "unknown instruction 'COPPY'"),
        ("FROM a b", 1, "FROM needs one image"),
        ("FROM", 1, "FROM needs one image"),
        ("FROM a AS 1x", 1, "invalid stage name"),
        ("FROM a\nCOPY a", 2, "at least one source"),
        ("FROM a\nRUN <<EOF\nx", 2, "unterminated"),
        ("# escape=x\nFROM a", 1, "invalid escape"),
        ("# escape=`\n# escape=`\nFROM a", 2, "duplicate"),
        ('FROM a\nCMD ["x", 1]', 2, "strings only"),
        ("FROM a\nONBUILD FROM b", 2, "cannot be an ONBUILD trigger"),
        ("FROM a\nENV X", 2, "ENV needs a name and a value"),
        ("FROM a\nUSER", 2, "USER needs an argument"),
    ],
)
def test_syntax_problem_has_its_line(text: str, line: int, part: str) -> None:
    problems = parse(text.encode(), "dir/Dockerfile").problems
    assert [(each.path, each.line) for each in problems if part in each.message] == [("dir/Dockerfile", line)]


def test_unknown_instruction_hint_has_the_nearest_name() -> None:
    assert parse(b"FROM a\nCOYP a b", "D").problems[0].hint == "Perhaps you meant COPY."


LINES = st.sampled_from(
    [
        "FROM a",
        "FROM $X AS b",
        "FROM --platform=$Y b as c",
        "ARG X",
        "ARG X=${Y:-z",
        "ARG X=${Y:-${Z}}",
        "ENV a=$b c",
        "COPY --from=b x /y",
        "COPY --from=$X a b",
        "COPY <<A b",
        "A",
        "RUN --mount=type=bind,from=9 x",
        "RUN x \\",
        "# c",
        'RUN --mount="a,\'b" <<-E',
        "ONBUILD COPY a b",
        "ONBUILD ONBUILD",
        "ADD http://a/b git@h:x ${X%%*a*} /",
        'COPY ["a", "\\ud800"]',
        "COPY ${X/a*/b} ${X//?/} /",
        "COPY ${{ /",
        "# escape=`",
        "# syntax=x",
        "  ",
        "<<",
        "COPY --parents a/./b c",
        "RUN <<'A B' <<\"",
        "ARG",
        "ENV",
        "COPY $1$@ ${-} \ud800".encode("utf-8", "replace").decode(),
    ]
)


def evaluate(raw: bytes) -> None:
    parsed = parse(raw, "D")
    find_facts(parsed, args={"X": "x", "BUILDKIT_SYNTAX": ""}, target_platform=AMD, build_platform=AMD, target="b")
    find_facts(parsed, args={}, target_platform=AMD, build_platform=AMD, contexts=["b", "a"])


@given(st.binary(max_size=400))
@example(b"FROM a\nCOPY " + b"${X:-" * 5000)
@example(b"COPY " + b"[" * 100_000)
@example(b"FROM a\nCOPY \xff\xfe [ /")
@example(b'FROM a\nCOPY ["\\ud800", "\\udc80"]')
@example(b"FROM a\nRUN --mount=\x00\xff x")
def test_arbitrary_bytes_are_read(raw: bytes) -> None:
    evaluate(raw)


@given(st.lists(st.one_of(LINES, st.text(alphabet="$ {}:-+#%/\\`\"'<>=,[]ab\t", max_size=20)), max_size=15))
def test_arbitrary_dockerfile_lines_are_read(lines: list[str]) -> None:
    evaluate("\n".join(lines).encode("utf-8", "surrogateescape"))


@given(st.lists(LINES, max_size=12))
def test_windows_line_ends_give_the_same_result(lines: list[str]) -> None:
    unix, windows = ("x\n".join(["FROM a", *lines]), "x\r\n".join(["FROM a", *lines]))
    one, two = parse(unix.encode(), "D"), parse(windows.encode(), "D")
    assert [
        [(found.keyword, found.words, found.flags, found.line) for found in stage.instructions] for stage in one.stages
    ] == [
        [(found.keyword, found.words, found.flags, found.line) for found in stage.instructions] for stage in two.stages
    ]
