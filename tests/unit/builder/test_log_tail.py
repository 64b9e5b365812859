"""What is shown of a failed instruction's output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.builder.progress import TAIL_LINES, LogTail


def tail(lines: list[tuple[str, bool]]) -> tuple[str, ...]:
    made = LogTail()
    for text, stderr in lines:
        made.add(text, stderr=stderr)
    return made.lines()


def test_error_of_a_parallel_make_is_kept() -> None:
    shown = tail(
        [
            *((f"early {number}", False) for number in range(50)),
            ("foo.c:1: error: no such thing", True),
            *((f"CC {number}.o", False) for number in range(100)),
            ("make: *** [all] Error 2", True),
        ]
    )
    assert shown[0] == "foo.c:1: error: no such thing"
    assert shown[1] == "… 80 lines …"
    assert shown[2] == "CC 80.o"
    assert shown[-1] == "make: *** [all] Error 2"
    assert len(shown) <= TAIL_LINES


def test_few_lines_are_shown_as_they_came() -> None:
    lines = [(f"{number}", number % 2 == 0) for number in range(TAIL_LINES)]
    assert tail(lines) == tuple(text for text, _ in lines)


@given(st.lists(st.booleans(), max_size=200))
def test_log_tail_is_in_order_and_limited(kinds: list[bool]) -> None:
    shown = tail([(str(number), stderr) for number, stderr in enumerate(kinds)])
    assert len(shown) <= TAIL_LINES
    numbers = [int(text) for text in shown if text.isdigit()]
    assert numbers == sorted(set(numbers))
    ending = [str(number) for number in range(len(kinds))][-(TAIL_LINES - 9) :]
    assert [*shown[len(shown) - len(ending) :]] == ending
    gaps = [int(text.split()[1]) for text in shown if text.startswith("…")]
    assert all(gap > 0 for gap in gaps)
