"""JSON with comments: values are read unchanged, and errors have their line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.layouts.science.manifests import CommentedJsonError, parse_object, without_comments

DOCUMENT = b"""{
  # image is name given to the final build image in a series. This need not be
  # unique, "quoted" too
  "image": "sciserver-essentials",

  // the other form
  "version": "2.4", # behind a value
  "url": "https://host/#anchor"   // a string keeps what looks like one
}
"""


def test_comments_are_ignored() -> None:
    found = parse_object(DOCUMENT)
    assert found.values == {"image": "sciserver-essentials", "version": "2.4", "url": "https://host/#anchor"}
    assert found.lines == {"image": 4, "version": 7, "url": 8}


def test_numbers_keep_their_spelling() -> None:
    assert parse_object(b'{"version": 2.10, "other": 3}').values == {"version": "2.10", "other": "3"}


def test_byte_order_mark_is_accepted() -> None:
    assert parse_object(b'\xef\xbb\xbf{"a": "b"}').values == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b'{\n  "a": 1,\n  "b": ]\n}', 3, "not JSON"),
        (b'{\n "a": "open\n}', 2, "not JSON"),
        (b'{"a": "\xff"}', 1, "not UTF-8"),
        (b"[]", 1, "not a JSON object"),
        (b"", 1, "not JSON"),
        (b"[" * 100_000, 1, "not JSON"),
        (b'{\n /* block */ "a": 1}', 2, "not JSON"),
    ],
)
def test_syntax_error_has_its_line(text: bytes, line: int, said: str) -> None:
    with pytest.raises(CommentedJsonError, match=said) as caught:
        parse_object(text)
    assert caught.value.line == line


def test_duplicate_key_is_reported() -> None:
    found = parse_object(b'{\n"a": "1",\n"b": {"a": "no"},\n"a": "2"}')
    assert found.twice == (("a", 4),)
    assert found.lines == {"a": 4, "b": 3}


texts = st.text(alphabet=st.sampled_from('ab#/"\\ \n{}[]:,')) | st.text()
comments = st.sampled_from(["", ' # a comment "with { marks\n', "// another ] one\n", "\n", "  "])


@given(st.dictionaries(texts, texts | st.lists(texts, max_size=2), max_size=5), st.lists(comments, max_size=30))
def test_comments_between_tokens_change_no_value(values: dict[str, object], between: list[str]) -> None:
    words = _words(json.dumps(values))
    said = "".join(word + (between[place % len(between)] if between else "") for place, word in enumerate(words))
    assert parse_object(said.encode()).values == values


@given(texts)
def test_removing_comments_keeps_line_numbers(text: str) -> None:
    plain = without_comments(text)
    assert len(plain) == len(text)
    assert plain.count("\n") == text.count("\n")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_parsed_or_rejected(raw: bytes) -> None:
    line = 1
    try:
        parse_object(raw)
    except CommentedJsonError as error:
        line = error.line
    assert line >= 1


def _words(text: str) -> list[str]:
    """Split JSON into its tokens."""
    words, rest = [], text
    decoder = json.JSONDecoder()
    while rest:
        if rest[0] == '"':
            _, end = decoder.raw_decode(rest)
            words.append(rest[:end])
        else:
            end = 1
            words.append(rest[0])
        rest = rest[end:]
    return words
