"""Copies of values with changed fields, for structs and dataclasses."""

from __future__ import annotations

import pytest

from chainbuild.events import Message
from chainbuild.model import Ask
from chainbuild.values import replace


def test_replace_changes_only_given_fields_of_struct() -> None:
    message = Message(at=1.0, text="before")
    assert replace(message, text="after") == Message(at=1.0, text="after")
    assert message.text == "before"


def test_replace_changes_only_given_fields_of_dataclass() -> None:
    ask = Ask(name="KEEP_DATA", value="1", option="stock")
    assert replace(ask, value="0") == Ask(name="KEEP_DATA", value="0", option="stock")


@pytest.mark.parametrize("value", [Message(at=1.0, text="before"), Ask(name="KEEP_DATA", value="1", option="stock")])
def test_replace_of_unknown_field_raises_type_error(value: Message | Ask) -> None:
    with pytest.raises(TypeError):
        replace(value, nothing=1)  # type: ignore[call-arg]
