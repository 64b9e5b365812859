"""Formatting of numbers and foreign text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import text as wording


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (-5, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (81_200_000, "81.2 MB"),
        (81_000_000, "81 MB"),
        (912_400_000, "912 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1 GB"),
        (1_050_000_000, "1.05 GB"),
        (9_996_000_000, "10 GB"),
        (7 * 10**18, "7000 PB"),
    ],
)
def test_size_is_decimal_with_three_digits(count: int, text: str):
    # There is no unit after the last one.
    assert wording.size(count) == text if count < 10**18 else wording.size(count).endswith("PB")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (-1, "0.0s"),
        (3.24, "3.2s"),
        (9.96, "10s"),
        (42.4, "42s"),
        (59.6, "1m00s"),
        (247, "4m07s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (3720, "1h02m"),
        (360_000, "100h00m"),
    ],
)
def test_duration_has_two_units_at_most(seconds: float, text: str):
    assert wording.duration(seconds) == text


def test_counts_shares_digests_and_activities_are_formatted():
    assert wording.plural(1, "step") == "1 step"
    assert wording.plural(0, "step") == "0 steps"
    assert wording.plural(2, "library", "libraries") == "2 libraries"
    assert wording.share(81, 912) == "9 %"
    assert wording.share(1, 1000) == "under 1 %"
    assert wording.share(1, 0) == ""
    assert wording.short_digest("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"
    assert wording.past("build") == "built"
    assert wording.past("something else") == "something else"
    assert wording.going_on("minimize") == "minimizing"
    assert wording.going_on("x") == "busy with x"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;32mgreen\x1b[0m text", "green text"),
        ("\x1b[2J\x1b[H\x1b[?25lcleared", "cleared"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1b(Bcharset \x1b7saved\x1bcreset", "charset savedreset"),
        ("\x9b31mred", "red"),
        (" 10%\r 50%\r100% done\r", "100% done"),
        ("10%\b\b\b99%", "99%"),
        ("a\tb", "a       b"),
        ("bell\x07 null\x00", "bell null"),
        ("left \u202eright", "left right"),
        ("bad \udc80 byte", "bad \ufffd byte"),
        ("unfinished \x1b[", "unfinished ["),
        ("grüße 日本", "grüße 日本"),
    ],
)
def test_visible_removes_escapes_from_build_output(raw: str, shown: str):
    assert wording.visible(raw) == shown


@given(st.text())
def test_visible_text_never_acts_on_terminal(text: str):
    shown = wording.visible(text)
    assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in shown)
    shown.encode("utf-8")


@given(st.text(), st.integers(min_value=0, max_value=40))
def test_clip_result_fits_width(text: str, width: int):
    shown = wording.clip(wording.visible(text), width)
    assert wording.cells(shown) <= width


def test_clip_adds_ellipsis_and_counts_wide_letters():
    assert wording.clip("abcdef", 6) == "abcdef"
    assert wording.clip("abcdef", 4) == "abc…"
    assert wording.clip("日本語です", 6) == "日本…"
    assert wording.clip("abcdef", 5, ellipsis="...") == "ab..."
    assert wording.clip("abcdef", 0) == ""


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stok", "Perhaps you meant 'stock'. "),
        ("stock", "Perhaps you meant 'stock'. "),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_perhaps_you_meant_suggests_similar_word(word: str, said: str):
    assert wording.perhaps_you_meant(word, ["graphics", "stock"]) == said
    assert wording.perhaps_you_meant(word, []) == ""


def test_perhaps_you_meant_uses_given_format():
    assert wording.perhaps_you_meant("nam", {"name"}, "%({})s".format) == "Perhaps you meant %(name)s. "
