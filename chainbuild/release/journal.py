"""What an apply or a rollback did so far, a line at a time: by it the next one says where it goes on.

Registries are what decides what is left to do; the journal only tells that it was begun, and when. It lies beside the
plan, in `.chainbuild/releases/`, one for each content of a plan.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

from msgspec import Struct

from chainbuild.errors import BusyError, WrongUseError
from chainbuild.release.model import ReleasePlan
from chainbuild.tree_folder import OWN_FOLDER, make_own_folder, open_own_file, read_own_file

What = Literal["apply", "rollback"]
FOLDER: Final = Path(OWN_FOLDER) / "releases"
_LARGEST: Final = 16 << 20
"""Bytes of a journal: far more than any release writes."""


class Journal(Struct, frozen=True, kw_only=True):
    """A journal that is held by this process, for what it does.

    `begun` is when names began to move by the same and did not all arrive, in seconds since the epoch; 0: not so.
    """

    path: Path
    what: What
    begun: float
    _file: IO[str]
    _now: Callable[[], float]

    def note(self, event: str, **what: Any) -> None:
        """Write a line, so that it outlives this process and the machine's power."""
        line = {"at": round(self._now(), 3), "event": event, **what}
        self._file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def journal_path(plan: ReleasePlan) -> Path:
    """Where the journal of a plan lies."""
    return plan.path.parent / FOLDER / f"{plan.identity[:16]}.jsonl"


def begun_at(path: Path, what: What) -> float:
    """When names last began to move by that and did not all arrive; 0: they did, or something else was begun since.

    Lines that were not written to their end say nothing.
    """
    begun = 0.0
    try:
        lines = read_own_file(path, _LARGEST).decode("utf-8", "replace").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        try:
            said = json.loads(line)
            event, at = said["event"], float(said["at"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if event == "begun":
            begun = at if said.get("what") == what else 0.0
        elif event == "done":
            begun = 0.0
    return begun


@contextmanager
def open_journal(plan: ReleasePlan, what: What, now: Callable[[], float] = time.time) -> Iterator[Journal]:
    """Hold the plan's journal. Errors: `BusyError` where another process does; `WrongUseError` where it cannot be written."""
    path = journal_path(plan)
    begun = begun_at(path, what)
    try:
        make_own_folder(plan.path.parent, FOLDER.name)
        file = open_own_file(path, append=True)
    except OSError as error:
        raise WrongUseError(
            f"{path} cannot be written: {error.strerror}", hint="It has to be known how far it came."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"{plan.shown} is being applied or rolled back by another process", hint="Wait until it has ended."
            ) from None
        yield Journal(path=path, what=what, begun=begun, _file=file, _now=now)
