"""Apply a release plan, and the journal by which an interrupted one goes on.

What an apply or a rollback did so far, a line at a time: by it the next one says where it goes on.

Registries are what decides what is left to do; the journal only tells that it was begun, and when. It lies beside the
plan, in `.chainbuild/releases/`, one for each content of a plan.

Moves names in registries by digest. Every content is in its place before the first name moves.

A registry moves one name at a time, so the last part cannot be all or nothing; it is short, everything that could stand
against it was looked at before, and what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

from msgspec import Struct

from chainbuild.errors import BusyError, ChainbuildError, RegistryError, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.host.folders import OWN_FOLDER, make_own_folder, open_own_file, read_own_file
from chainbuild.references import ImageReference
from chainbuild.registry.artifacts import copy_attached
from chainbuild.registry.images import copy_image, put_tag
from chainbuild.registry.pool import Registries
from chainbuild.release.inspection import digest_now
from chainbuild.release.model import ReleasePlan
from chainbuild.release.promotions import Move
from chainbuild.text import plural

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


def put_contents(registries: Registries, moves: Sequence[Move], emit: Emit) -> None:
    """Have in every repository what its names are to mean, by digest; what is attached to the images goes with them."""
    placed: set[tuple[str, str]] = set()
    for move in moves:
        if move.done or move.source is None or move.index is None:
            continue
        target = ImageReference(move.name.registry, move.name.repository)
        if (target.name, str(move.after)) in placed:
            continue
        emit(Message(text=f"{move.source.name} → {target.name}"))
        for child in move.index.manifests:
            copy_image(registries, move.source.with_digest(child.digest), target)
            copy_attached(registries, move.source.with_digest(child.digest), target)
        client = registries.client(target)
        if client.head(target.repository, move.after) is None:
            client.put_manifest(target.repository, move.after, move.index.raw, move.index.media_type)
        placed.add((target.name, str(move.after)))


def move_names(registries: Registries, moves: Sequence[Move], journal: Journal, emit: Emit) -> None:
    """Let the names mean what they are to mean.

    Errors: `RegistryError` that says how far it came, where a name moved meanwhile or its registry refuses.
    """
    there = sum(move.done for move in moves)
    if journal.begun:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(journal.begun))
        emit(Message(text=f"going on where it stopped at {when}: {_of(there, moves)} had moved"))
    elif there:
        emit(Message(text=f"{_of(there, moves)} {'was' if there == 1 else 'were'} there already"))
    journal.note("begun", what=journal.what, names=[move.as_json() for move in moves])
    for move in moves:
        if move.done:
            continue
        try:
            _move(registries, move, journal)
        except (ChainbuildError, KeyboardInterrupt) as error:
            told = f"stopped when {_of(there, moves)} had moved; the same command goes on with {move.name}"
            if isinstance(error, KeyboardInterrupt):
                emit(Message(text=told))
                raise
            raise _with_hint(error, told) from error
        there += 1
    journal.note("done")


def _move(registries: Registries, move: Move, journal: Journal) -> None:
    now = digest_now(registries, move.name)
    if now not in {move.before, move.after}:
        raise RegistryError(
            f"somebody moved {move.name} meanwhile: it is {now.short if now else 'nothing'} now",
            hint="Look at what it is, and update the plan.",
        )
    put_tag(registries, move.name, move.after)
    journal.note("moved", name=str(move.name), to=str(move.after))


def _of(count: int, moves: Sequence[Move]) -> str:
    return f"{count} of {plural(len(moves), 'name')}"


def _with_hint(error: ChainbuildError, told: str) -> ChainbuildError:
    hint = f"{error.hint}\n{told}" if error.hint else told
    if isinstance(error, RegistryError):
        return type(error)(error.message, where=error.where, hint=hint)
    return RegistryError(error.message, where=error.where, hint=hint)
