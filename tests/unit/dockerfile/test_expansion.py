"""Variable expansion, compared with tables of BuildKit's behaviour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.dockerfile import ExpansionError, expand

ENV = {"A": "a", "E": "", "P": "x/y/a.txt", "S": "foo-bar-baz", "STAR": "a*b"}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("$A$A", "aa"),
        ("$Ab", ""),
        ("${A}b", "ab"),
        ("$", "$"),
        ("$NONE", ""),
        ("a$/b", "a$/b"),
        ("$1x", "x"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A"', "a"),
        ('"\\$A"', "$A"),
        ('"\\a"', "\\a"),
        ("a\\b", "ab"),
        ("a\\", "a"),
        ('"it\'s"', "it's"),
        ("'a\"b'", 'a"b'),
        ("'\\'", "\\"),
        ("${NONE:-d}", "d"),
        ("${NONE-d}", "d"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${A:-d}", "a"),
        ("${A:+d}", "d"),
        ("${E:+d}", ""),
        ("${E+d}", "d"),
        ("${NONE+d}", ""),
        ("${A:?no}", "a"),
        ("${A?no}", "a"),
        ("${E?no}", ""),
        ("${NONE:-$A}", "a"),
        ("${NONE:-${NONE2:-'q r'}}", "q r"),
        ("${NONE:-}", ""),
        ("${P#*/}", "y/a.txt"),
        ("${P##*/}", "a.txt"),
        ("${P%/*}", "x/y"),
        ("${P%%/*}", "x"),
        ("${P%.txt}", "x/y/a"),
        ("${P#z}", "x/y/a.txt"),
        ("${S#*-}", "bar-baz"),
        ("${S%-*}", "foo-bar"),
        ("${S%%-???}", "foo-bar"),
        ("${S/-/_}", "foo_bar-baz"),
        ("${S//-/_}", "foo_bar_baz"),
        ("${S//ba?/q}", "foo-q-q"),
        ("${S/b*/}", "foo-"),
        ("${S//-/}", "foobarbaz"),
        ("${STAR%\\**}", "a"),
        ("${STAR#a\\*}", "b"),
        ("${P//\\//-}", "x-y-a.txt"),
        ("${NONE/a/b}", ""),
        ("${S//Z/q}", "foo-bar-baz"),
        ("${A//?/bb}", "bb"),
    ],
)
def test_word_is_expanded_like_buildkit(word: str, text: str) -> None:
    assert expand(word, ENV).text == text


@pytest.mark.parametrize(
    "word",
    [
        "${",
        "${A",
        "${}",
        "${:A}",
        "${{A}}",
        "${A:",
        "${A:x}",
        "${A!b}",
        "'",
        '"',
        '"$A',
        "${NONE:?no}",
        "${E:?}",
        "${NONE?}",
        "${S/a",
        "${S/a/b",
        "${S#\\a}",
    ],
)
def test_invalid_word_is_rejected(word: str) -> None:
    with pytest.raises(ExpansionError):
        expand(word, ENV)


def test_required_variable_error_has_its_message() -> None:
    with pytest.raises(ExpansionError, match="NONE: say which"):
        expand("${NONE:?say which}", ENV)


def test_expanded_word_lists_used_and_missing_names() -> None:
    found = expand("$A ${NONE:-$E}", ENV)
    assert found.looked_up == {"A", "NONE", "E"}
    assert found.missing == {"NONE"}


def test_words_are_split_at_unquoted_space_only() -> None:
    assert expand("a 'b c' d\\ e $S", {"S": "x  y"}).words == ("a", "b c", "d e", "x", "y")


def test_escape_character_can_be_changed() -> None:
    assert expand("C:\\a`$A", ENV, escape="`").text == "C:\\a$A"


def test_raw_options_keep_quotes_escapes_and_unset_names() -> None:
    raw = expand("'a' \"b\" c\\d $NONE ${NONE:-x}", {}, raw_quotes=True, raw_escapes=True, keep_unset=True)
    assert raw.text == "'a' \"b\" c\\d $NONE ${NONE:-x}"


def test_hostile_patterns_are_fast() -> None:
    value = "a" * 2000
    assert expand("${V%%" + "*a" * 200 + "b}", {"V": value}).text == value


@given(st.text(max_size=60), st.dictionaries(st.sampled_from("ABC"), st.text(max_size=5)))
def test_arbitrary_word_expands_or_is_rejected(word: str, env: dict[str, str]) -> None:
    try:
        expand(word, env)
    except ExpansionError:
        return


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="$\\\"'\ufeff"), max_size=40))
def test_word_without_special_characters_is_unchanged(word: str) -> None:
    assert expand(word, ENV).text == word


@given(st.text(alphabet="ab/.", max_size=12), st.text(alphabet="ab/.", max_size=3))
def test_trims_agree_with_python(value: str, fixed: str) -> None:
    plain = fixed.replace("/", "\\/")
    assert expand("${V#" + plain + "}", {"V": value}).text == value.removeprefix(fixed)
    assert expand("${V%" + plain + "}", {"V": value}).text == value.removesuffix(fixed)
    if fixed:
        assert expand("${V//" + plain + "/x}", {"V": value}).text == value.replace(fixed, "x")
