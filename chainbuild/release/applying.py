"""Moves names in registries by digest. Every content is in its place before the first name moves.

A registry moves one name at a time, so the last part cannot be all or nothing; it is short, everything that could stand
against it was looked at before, and what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from chainbuild.errors import ChainbuildError, RegistryError
from chainbuild.events import Emit, Message
from chainbuild.references import ImageReference
from chainbuild.registry.images import copy_image, put_tag
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import copy_attached
from chainbuild.release.journal import Journal
from chainbuild.release.looking import digest_now
from chainbuild.release.moves import Move
from chainbuild.wording import plural


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
