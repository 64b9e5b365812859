"""Elements: they write entries to streams of their own and read those of others."""

from __future__ import annotations

import logging.handlers
import os
from pathlib import Path
from typing import Any

import redis

# Atom's client cannot be imported without these, so neither can this.
import redistimeseries.client  # noqa: F401
import typing_extensions  # noqa: F401

from atom import serialization as ser

STREAM_LEN = 1024


class AtomError(Exception):
    """Something of Atom's did not work."""


class Element:
    """An element: connected to the nucleus from the start, and told of in the log."""

    def __init__(self, name: str) -> None:
        self.name = name
        host = os.getenv("ATOM_NUCLEUS_HOST")
        if host:
            self._client = redis.StrictRedis(host=host, port=int(os.getenv("ATOM_NUCLEUS_PORT", "6379")))
        else:
            self._client = redis.StrictRedis(unix_socket_path=os.getenv("ATOM_NUCLEUS_SOCKET", "/shared/redis.sock"))
        handler = logging.handlers.RotatingFileHandler(
            os.getenv("ATOM_LOG_DIR", "") + f"{name}.log", maxBytes=int(os.getenv("ATOM_LOG_FILE_SIZE", "2000"))
        )
        self.logger = logging.getLogger(name)
        self.logger.addHandler(handler)
        self.logger.setLevel("INFO")
        try:
            self._client.ping()
            script = Path(__file__).with_name("stream_reference.lua").read_text(encoding="utf-8")
            self._newest = self._client.script_load(script)
        except redis.RedisError as error:
            raise AtomError("Could not connect to nucleus!") from error
        self.logger.info("Element initialized.")

    @staticmethod
    def _key(element: str, stream: str) -> str:
        return f"stream:{element}:{stream}"

    def entry_write(self, stream_name: str, field_data_map: dict[str, Any], *, serialization: str | None = None) -> str:
        """Write an entry to a stream of this element; gives its id."""
        fields = {key: ser.serialize(value, serialization) for key, value in field_data_map.items()}
        fields["ser"] = str(serialization or "none").encode()
        return self._client.xadd(self._key(self.name, stream_name), fields, maxlen=STREAM_LEN).decode()

    def entry_read_n(self, element_name: str, stream_name: str, n: int) -> list[dict[str, Any]]:
        """The newest entries of a stream, the newest first."""
        found = self._client.xrevrange(self._key(element_name, stream_name), count=n)
        return [self._entry(uid, entry) for uid, entry in found]

    def newest(self, element_name: str, stream_name: str) -> list[Any]:
        """The newest entry as redis has it, by the script of the package."""
        return self._client.evalsha(self._newest, 1, self._key(element_name, stream_name))

    def get_all_streams(self, element_name: str = "*") -> list[str]:
        """The keys of all streams."""
        return sorted(key.decode() for key in self._client.scan_iter(self._key(element_name, "*")))

    @staticmethod
    def _entry(uid: bytes, raw: dict[bytes, bytes]) -> dict[str, Any]:
        how = raw.pop(b"ser", b"none").decode()
        entry = {key.decode(): ser.deserialize(value, how) for key, value in raw.items()}
        return entry | {"id": uid.decode()}
