"""Globs with many wildcards agree with a simple definition, and are fast: a slow glob would time out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.context.dockerignore import parse_ignore
from chainbuild.context.globs import Token, compile_glob
from chainbuild.context.search import name_matcher
from chainbuild.dockerfile import find_facts, parse
from chainbuild.dockerfile.expansion import TooLongError, expand
from chainbuild.references import Platform

AMD = Platform.parse("amd64")
TOKENS = st.lists(
    st.sampled_from(
        [
            Token("one", "a"),
            Token("one", "/"),
            Token("one", "[^/]"),
            Token("many", "[^/]"),
            Token("many", "."),
            Token("folders"),
            Token("one", "[ab]"),
            Token("start"),
        ]
    ),
    max_size=9,
)


@given(TOKENS, st.text(alphabet="ab/\n", max_size=10))
def test_compile_glob_agrees_with_regex(tokens: list[Token], name: str) -> None:
    expected = re.compile("".join(token.regex for token in tokens) + r"\Z").match(name) is not None
    assert compile_glob(tokens)(name) is expected


@given(TOKENS, st.text(alphabet="ab/\n", max_size=8))
def test_compile_glob_with_many_wildcards_agrees_with_regex(tokens: list[Token], name: str) -> None:
    tokens = [*tokens, Token("many", "b"), Token("many", "[^/]"), Token("folders")]
    expected = re.compile("".join(token.regex for token in tokens) + r"\Z").match(name) is not None
    assert compile_glob(tokens)(name) is expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*" * 12 + "b", "a/a/b"),
        ("*a" * 12 + "b", "a" * 80 + "b"),
        ("**/" * 12 + "b", "a/a/b"),
        ("**/*a" * 12 + "b", "aa/" * 40 + "ab"),
        ("?*" * 20 + "b", "a" * 80 + "b"),
        ("[a]*" * 20 + "b", "a" * 80 + "b"),
    ],
)
def test_ignore_pattern_with_many_wildcards_is_fast(pattern: str, path: str) -> None:
    assert not parse_ignore(pattern.encode()).ignores("a" * 80)
    assert not parse_ignore(pattern.encode()).ignores("/".join(["a" * 40] * 50))
    assert parse_ignore(pattern.encode()).ignores(path)


@pytest.mark.parametrize("pattern", ["*" * 12 + "b", "*a" * 40 + "b", "?*" * 40 + "b", "[a]*" * 40 + "b"])
def test_copy_pattern_with_many_wildcards_is_fast(pattern: str) -> None:
    matches = name_matcher(pattern)
    assert not matches("a" * 255)
    assert matches("a" * 200 + "b")


def test_env_that_grows_exponentially_selects_all_files() -> None:
    body = "ENV A=aaaaaaaaaaaaaaaa\n" + "ENV A=$A$A$A$A$A$A$A$A\n" * 40
    found = find_facts(
        parse(f"FROM scratch\n{body}COPY $A /\n".encode(), "D"), args={}, target_platform=AMD, build_platform=AMD
    )
    assert found.sources.everything
    assert not found.problems
    found = find_facts(
        parse(f"FROM scratch\n{body}ENV A=x\nCOPY $A /\n".encode(), "D"),
        args={},
        target_platform=AMD,
        build_platform=AMD,
    )
    assert found.sources.patterns == ("x",)
    globals_ = "ARG A=aaaaaaaaaaaaaaaa\n" + "ARG A=$A$A$A$A$A$A$A$A\n" * 40
    found = find_facts(
        parse(f"{globals_}FROM scratch\nARG A\nCOPY $A /\n".encode(), "D"),
        args={},
        target_platform=AMD,
        build_platform=AMD,
    )
    assert found.sources.everything


@pytest.mark.parametrize(
    "word", ["${V//*a*a*a*b/x}", "${V//a?a?a?b/x}", "${V/" + "*a" * 300 + "b/x}", "${V##" + "*a" * 300 + "b}"]
)
def test_expansion_with_hostile_patterns_ends(word: str) -> None:
    try:
        assert set(expand(word, {"V": "a" * 50_000}).text) == {"a"}
    except TooLongError:
        return


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        ("$0", "xax"),
        ("[$0]", "x[a]x"),
        ("$$", "x$x"),
        ("${0}0", "xa0x"),
        ("$1", "xx"),
        ("$name", "xx"),
        ("$", "x$x"),
        ("$0a", "xx"),
    ],
)
def test_global_replacement_is_expanded_like_go(replacement: str, text: str) -> None:
    env = {"V": "xax", "R": replacement}
    assert expand("${V//a/$R}", env).text == text
    assert expand("${V/a/$R}", env).text == f"x{replacement}x"


def test_stages_with_too_many_variables_select_all_files() -> None:
    text = "FROM scratch AS s0\n" + "".join(f"FROM s{at} AS s{at + 1}\nENV E{at}=a\n" for at in range(4000))
    found = find_facts(parse(f"{text}COPY $E1 /\n".encode(), "D"), args={}, target_platform=AMD, build_platform=AMD)
    assert found.sources.everything
    text = "FROM scratch\n" + "ARG A=$B\n" * 20_000
    assert not find_facts(parse(text.encode(), "D"), args={}, target_platform=AMD, build_platform=AMD).problems
