"""What of a folder's SIF files is published, and what is uploaded: only what differs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from chainbuild import events
from chainbuild.errors import ChainbuildError, NotReadyError
from chainbuild.singularity.collection import Collection, Sif, sha256_of
from chainbuild.singularity.places import Destination

State = Literal["published", "differs", "not published"]


class Compared(Struct, frozen=True, kw_only=True):
    """A SIF file against what is published under its name (`checksum` empty: nothing)."""

    sif: Sif
    checksum: str

    @property
    def state(self) -> State:
        """In words."""
        if not self.checksum:
            return "not published"
        return "published" if self.checksum == self.sif.sha256 else "differs"

    @property
    def step(self) -> str:
        """What a run calls it."""
        return f"singularity/{self.sif.file}"


def compare(place: Destination, sifs: Sequence[Sif]) -> tuple[Compared, ...]:
    """Each file against what is published. Errors: those of the place."""
    there = place.checksums(sifs) if sifs else {}
    return tuple(Compared(sif=one, checksum=there.get(one.file, "")) for one in sifs)


class Published(Struct, frozen=True, kw_only=True):
    """What was uploaded, and what failed, by the name that the run called it."""

    uploaded: tuple[Sif, ...]
    failures: Mapping[str, ChainbuildError] = field(default_factory=dict)


def publish(place: Destination, shelf: Collection, compared: Sequence[Compared], emit: events.Emit) -> Published:
    """Upload what differs, all of it whatever fails. Told as a run is."""
    started = time.monotonic()
    emit(events.RunStarted(steps=tuple(_announced(one) for one in compared)))
    uploaded: list[Sif] = []
    failures: dict[str, ChainbuildError] = {}
    for one in compared:
        if one.state == "published":
            emit(
                events.StepReused(
                    step=one.step, image=one.sif.file, digest=f"sha256:{one.sif.sha256}", size=one.sif.size
                )
            )
            continue
        try:
            _upload(place, shelf, one, emit)
            uploaded.append(one.sif)
        except ChainbuildError as error:
            failures[one.step] = error
    emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=not failures))
    return Published(uploaded=tuple(uploaded), failures=failures)


def _upload(place: Destination, shelf: Collection, one: Compared, emit: events.Emit) -> None:
    sif, started = one.sif, time.monotonic()
    path = shelf.path(sif.name)
    emit(events.StepStarted(step=one.step, activity="upload"))
    try:
        emit(events.StepProgress(step=one.step, doing="checking the checksum"))
        # Published is what was made, not what became of it.
        if sha256_of(path) != sif.sha256:
            raise NotReadyError(
                f"{sif.file} is not what its checksum says", where=str(path), hint="Make it again, with --refresh."
            )
        place.put(sif, path, events.paced(emit, one.step, "uploading"))
    except ChainbuildError as error:
        emit(events.StepFailed(step=one.step, seconds=time.monotonic() - started, message=error.message))
        raise
    seconds = time.monotonic() - started
    emit(
        events.StepFinished(
            step=one.step,
            activity="upload",
            image=sif.file,
            digest=f"sha256:{sif.sha256}",
            seconds=seconds,
            size=sif.size,
        )
    )


def _announced(one: Compared) -> events.PlannedStep:
    return events.PlannedStep(
        step=one.step,
        action="reuse" if one.state == "published" else "upload",
        reason=one.state,
        image=one.sif.file,
    )
