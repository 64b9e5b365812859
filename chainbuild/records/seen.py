"""What this machine has seen of a registry's records, so that nobody puts an older one back unnoticed.

A signature says who wrote a record, not that it is the newest of its key: after `--refresh` the older record, with the
older packages in its image, still carries a good signature. Whoever can write to the registry could put it back. A user's
machine remembers the build time of every record that it used, and takes no older one of the same key.

It is a memory, not a state: without it, nothing is built again, and an older record is not noticed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainbuild.errors import NotReadyError
from chainbuild.records.record import Record
from chainbuild.references import ChainRegistry
from chainbuild.userdirs import private_folder, read_private, state_home, write_private

_SCHEMA: Final = "chainbuild.seen/1"
_MOST: Final = 20_000
_LARGEST: Final = 8 << 20
_TOLERANCE: Final = 0.002
"""Seconds: records hold milliseconds."""


class SeenRecords:
    """The newest build time of each key that this machine has used in one chain registry. Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: nothing is remembered."""
        self._path = path
        self._times: dict[str, float] | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, chain: ChainRegistry) -> SeenRecords:
        """Return the memory of a chain registry; an empty one if the user has no folder for it."""
        name = hashlib.sha256(str(chain).encode()).hexdigest()[:32]
        try:
            return cls(state_home() / "records" / f"{name}.json")
        except NotReadyError:
            return cls(None)

    def is_older(self, record: Record) -> bool:
        """Return whether this machine has used a newer record of the same key."""
        return self.is_before(record.key, record.built_at)

    def is_before(self, name: str, when: float) -> bool:
        """Return whether this machine has used something newer of that name; `when` is in seconds since the epoch."""
        return when + _TOLERANCE < self._known().get(name, 0.0)

    def remember(self, records: Iterable[Record]) -> None:
        """Remember records that were used or written. A folder that cannot be written to is no error."""
        self.remember_times({record.key: record.built_at for record in records})

    def remember_times(self, times: Mapping[str, float]) -> None:
        """Remember how new things were that were used, by name. A folder that cannot be written to is no error."""
        known = self._known()
        newer = {name: round(when, 3) for name, when in times.items() if when > known.get(name, 0.0) + _TOLERANCE}
        if not newer or self._path is None:
            return
        with self._lock, suppress(NotReadyError):
            # Another run may have written meanwhile.
            there = _read(self._path)
            whole = {
                key: max(there.get(key, 0.0), known.get(key, 0.0), newer.get(key, 0.0))
                for key in {*there, *known, *newer}
            }
            newest = sorted(whole.items(), key=lambda item: item[1])[-_MOST:]
            self._times = dict(newest)
            private_folder(self._path.parent)
            document = {"schema": _SCHEMA, "built_at": self._times}
            write_private(self._path, json.dumps(document, separators=(",", ":")).encode())

    def _known(self) -> dict[str, float]:
        with self._lock:
            if self._times is None:
                self._times = _read(self._path) if self._path else {}
            return self._times


def _read(path: Path) -> dict[str, float]:
    """Read the memory; what cannot be read is forgotten."""
    try:
        document = json.loads(read_private(path, _LARGEST) or b"{}")
        if document.get("schema") != _SCHEMA:
            return {}
        return {str(key): float(when) for key, when in document["built_at"].items()}
    except (NotReadyError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
