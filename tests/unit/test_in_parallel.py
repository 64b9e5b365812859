"""`in_parallel`: results in order, the first error in order, one thread if one item is enough."""

from __future__ import annotations

import threading

import pytest

from chainbuild.in_parallel import in_parallel


def test_results_have_the_order_of_the_items_whatever_ends_first() -> None:
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(30)
        elif number == 1:
            later.set()
        return number * number

    assert in_parallel(work, range(20)) == tuple(number * number for number in range(20))


def test_one_item_is_done_by_the_caller() -> None:
    assert in_parallel(lambda _: threading.current_thread(), ["one"]) == (threading.current_thread(),)
    assert in_parallel(lambda _: threading.current_thread(), []) == ()
    assert set(in_parallel(lambda _: threading.current_thread(), range(3), at_once=1)) == {threading.current_thread()}


def test_first_error_in_order_is_raised() -> None:
    second = threading.Event()

    def work(number: int) -> None:
        if number == 1:
            assert second.wait(30)
            raise ValueError("the first")
        if number == 2:
            second.set()
            raise KeyError("the second")

    with pytest.raises(ValueError, match="the first"):
        in_parallel(work, range(4))
