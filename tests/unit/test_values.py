"""Values from documents, and copies of values with changed fields."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import pytest
from msgspec import Struct

from chainbuild.events import Message
from chainbuild.model import Ask, Secret
from chainbuild.values import convert, replace


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    y: int = 0


class Inner(Struct):
    x: reading_takes_a_while()  # type: ignore[valid-type]


class Outer(Struct):
    first: Inner
    second: int


READING, READ = Event(), Event()


def reading_takes_a_while() -> type:
    """Return the type of a field, as late as another thread's conversion or a moment allow."""
    READING.set()
    READ.wait(0.2)
    return int


def test_replace_changes_only_given_fields_of_struct() -> None:
    message = Message(at=1.0, text="before")
    assert replace(message, text="after") == Message(at=1.0, text="after")
    assert message.text == "before"


def test_replace_changes_only_given_fields_of_dataclass() -> None:
    assert replace(Point(x=1, y=2), y=3) == Point(x=1, y=3)


def test_compared_value_ignores_fields_that_do_not_count() -> None:
    ask = Ask(name="KEEP_DATA", value="1", option="stock", origin="args:1")
    other = replace(ask, origin="args:2")
    assert (ask, hash(ask)) == (other, hash(other))
    assert ask != replace(ask, value="0")
    assert ask != ("KEEP_DATA", "1", "stock", False)


def test_discreet_value_shows_none_of_its_fields() -> None:
    secret = Secret(id="token", spec="id=token,env=TOKEN")
    assert repr(secret) == "Secret(…)"
    assert secret.__rich_repr__() == []
    assert secret != Secret(id="token", spec="id=token,env=OTHER")


@pytest.mark.parametrize("value", [Message(at=1.0, text="before"), Point(x=1)])
def test_replace_of_unknown_field_raises_type_error(value: Message | Point) -> None:
    with pytest.raises(TypeError):
        replace(value, nothing=1)  # type: ignore[call-arg]


def test_convert_to_type_that_another_thread_reads_waits() -> None:
    def second() -> Outer:
        READING.wait()
        made = convert({"first": {"x": 1}, "second": 2}, Outer)
        READ.set()
        return made

    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(second), pool.submit(convert, {"first": {"x": 1}, "second": 2}, Outer)]
        assert [one.result() for one in made] == [Outer(Inner(1), 2)] * 2
