"""How the values of an entry become bytes: "msgpack", or "none" for what is bytes or text already."""

from typing import Any

import msgpack


def serialize(value: Any, method: str | None) -> Any:
    """What redis is given."""
    return msgpack.packb(value, use_bin_type=True) if method == "msgpack" else value


def deserialize(value: bytes, method: str | None) -> Any:
    """The value again; bytes where nothing was done to it."""
    return msgpack.unpackb(value, raw=False) if method == "msgpack" else value
