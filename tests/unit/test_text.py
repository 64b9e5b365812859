from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.text import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("4h30m", 16200),
        ("7d", 604800),
        ("2w", 1209600),
        ("1.5h", 5400),
        ("0s", 0),
        ("1d2h3m4s", 93784),
        (" 4H30M ", 16200),
        ("0.5s", 0.5),
    ],
)
def test_duration_is_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "5", "h", "4h 30m", "30m4h", "1h1h", "-1h", "1y", "1,5h", "4h30", "1e3s", "1.h", ".5h", "\u0661h"]
)
def test_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(WrongUseError, match="is not a duration") as caught:
        parse_duration(text)
    assert "4h30m" in str(caught.value)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_duration_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_wrong_use(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except WrongUseError:
        return
