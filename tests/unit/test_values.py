"""Copies of values with changed fields, for structs and dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from chainbuild.events import Message
from chainbuild.model import Ask, Secret
from chainbuild.values import replace


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    y: int = 0


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
