"""Lists in the arguments of the stages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.lists import ListWord, as_list, words_in


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("", []),
        (" , ,\t", []),
        ("/a /b", ["/a", "/b"]),
        ("/vnc/vnc.tar.gz,/usr/bin/platforms", ["/vnc/vnc.tar.gz", "/usr/bin/platforms"]),
        ("/a, /b ,/c\t/d\n", ["/a", "/b", "/c", "/d"]),
        (r"/a\,v /b\ c", ["/a,v", "/b c"]),
        (r"/a\*b /c\[", [r"/a\*b", r"/c\["]),
        ("/a /b,/a", ["/a", "/b"]),
        (r"/end\\ /b", [r"/end\\", "/b"]),
        ("/end\\", ["/end"]),
        ("? !", []),
    ],
)
def test_values_are_separated_by_commas_or_white_space(value: str, texts: list[str]) -> None:
    assert [word.text for word in words_in(value)] == texts


def test_prefixes_are_parsed() -> None:
    assert words_in("?/a !/b /c?") == (
        ListWord(text="/a", optional=True),
        ListWord(text="/b", taken_back=True),
        ListWord(text="/c?"),
    )


def test_required_value_overrides_optional_duplicate() -> None:
    assert words_in("?/a /a") == words_in("/a ?/a") == (ListWord(text="/a"),)


@given(st.text())
def test_written_list_is_read_back(value: str) -> None:
    words = words_in(value)
    assert words_in(as_list(words)) == words_in(as_list(words, ",")) == words


@given(st.text())
def test_value_contains_only_escaped_separators(value: str) -> None:
    for word in words_in(value):
        assert words_in(str(word)) == (word,)
