"""Apply a release plan: move tags in registries by digest, after all content is in place.

A registry moves one tag at a time, so the last part is not atomic. It is short, everything that could fail was checked
before, and an interrupted run can be resumed.

The journal has a line for each change that an apply or a rollback made. The registries decide what is left to do; the
journal only says that it began, and when. It is next to the plan in `.chainbuild/releases/`, one file for each content of
a plan.
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
"""The limit of a journal in bytes, far more than any release writes."""


class Journal(Struct, frozen=True, kw_only=True):
    """A journal that this process has locked, and the operation that it is for.

    `begun` is when an earlier run of the same operation began to move tags without finishing, in seconds since the epoch;
    0: there is none.
    """

    path: Path
    what: What
    begun: float
    _file: IO[str]
    _now: Callable[[], float]

    def note(self, event: str, **what: Any) -> None:
        """Write a line and flush it to disk, so that it survives a crash or a power failure."""
        line = {"at": round(self._now(), 3), "event": event, **what}
        self._file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def journal_path(plan: ReleasePlan) -> Path:
    """Return the path of a plan's journal."""
    return plan.path.parent / FOLDER / f"{plan.identity[:16]}.jsonl"


def begun_at(path: Path, what: What) -> float:
    """Return when an unfinished run of the operation began; 0 if it finished or another operation began after it.

    Incomplete lines are ignored.
    """
    begun = 0.0
    try:
        lines = read_own_file(path, _LARGEST).decode("utf-8", "replace").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        try:
            value = json.loads(line)
            event, at = value["event"], float(value["at"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if event == "begun":
            begun = at if value.get("what") == what else 0.0
        elif event == "done":
            begun = 0.0
    return begun


@contextmanager
def open_journal(plan: ReleasePlan, what: What, now: Callable[[], float] = time.time) -> Iterator[Journal]:
    """Open and lock the plan's journal. Errors: `BusyError` if it is locked; `WrongUseError` if it cannot be written."""
    path = journal_path(plan)
    begun = begun_at(path, what)
    try:
        make_own_folder(plan.path.parent, FOLDER.name)
        file = open_own_file(path, append=True)
    except OSError as error:
        raise WrongUseError(
            f"cannot write {path}: {error.strerror}",
            hint="The journal is needed to resume. Free the path and retry.",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"another process is applying or rolling back {plan.shown}", hint="Wait until it has finished."
            ) from None
        yield Journal(path=path, what=what, begun=begun, _file=file, _now=now)


def put_contents(registries: Registries, moves: Sequence[Move], emit: Emit) -> None:
    """Copy the images of every move, their index and their attached artifacts to the target repositories, by digest."""
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
    """Point each tag at its planned digest.

    Errors: `RegistryError` with the progress so far, if a tag moved meanwhile or its registry rejects the change.
    """
    moved = sum(move.done for move in moves)
    if journal.begun:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(journal.begun))
        emit(Message(text=f"resuming the run that stopped at {when}: {_of(moved, moves)} had moved"))
    elif moved:
        emit(Message(text=f"{_of(moved, moves)} {'was' if moved == 1 else 'were'} moved before"))
    journal.note("begun", what=journal.what, names=[move.as_json() for move in moves])
    for move in moves:
        if move.done:
            continue
        try:
            _move(registries, move, journal)
        except (ChainbuildError, KeyboardInterrupt) as error:
            message = (
                f"Stopped after {_of(moved, moves)} had moved. Run the same command again to resume at {move.name}."
            )
            if isinstance(error, KeyboardInterrupt):
                emit(Message(text=message))
                raise
            raise _with_hint(error, message) from error
        moved += 1
    journal.note("done")


def _move(registries: Registries, move: Move, journal: Journal) -> None:
    now = digest_now(registries, move.name)
    if now not in {move.before, move.after}:
        raise RegistryError(
            f"{move.name} was moved by another user: it is {now.short if now else 'missing'} now",
            hint="Check the image, and update the plan.",
        )
    put_tag(registries, move.name, move.after)
    journal.note("moved", name=str(move.name), to=str(move.after))


def _of(count: int, moves: Sequence[Move]) -> str:
    return f"{count} of {plural(len(moves), 'name')}"


def _with_hint(error: ChainbuildError, message: str) -> ChainbuildError:
    hint = f"{error.hint}\n{message}" if error.hint else message
    if isinstance(error, RegistryError):
        return type(error)(error.message, where=error.where, hint=hint)
    return RegistryError(error.message, where=error.where, hint=hint)
