"""Compare a folder's SIF files with the published files, and upload those that differ."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from chainbuild import events
from chainbuild.errors import ChainbuildError, NotReadyError
from chainbuild.singularity.collection import Collection, Sif, sha256_of
from chainbuild.singularity.places.destination import Destination
from chainbuild.step_id import StepId

State = Literal["published", "differs", "not published"]


class Compared(Struct, frozen=True, kw_only=True):
    """A SIF file and the checksum that is published under its name (empty: not published)."""

    sif: Sif
    checksum: str

    @property
    def state(self) -> State:
        """The state as text."""
        if not self.checksum:
            return "not published"
        return "published" if self.checksum == self.sif.sha256 else "differs"

    @property
    def step(self) -> StepId:
        """The id of the upload in a run."""
        return StepId.parse(f"singularity/{self.sif.file}")


def compare(place: Destination, sifs: Sequence[Sif]) -> tuple[Compared, ...]:
    """Compare each file with the published one. Errors: those of the place."""
    existing = place.checksums(sifs) if sifs else {}
    return tuple(Compared(sif=item, checksum=existing.get(item.file, "")) for item in sifs)


class Published(Struct, frozen=True, kw_only=True):
    """The uploaded files, and the failures by id."""

    uploaded: tuple[Sif, ...]
    failures: Mapping[StepId, ChainbuildError] = field(default_factory=dict)


def publish(place: Destination, shelf: Collection, compared: Sequence[Compared], emit: events.Emit) -> Published:
    """Upload the files that differ; a failure does not stop the others. Emits the events of a run."""
    started = time.monotonic()
    emit(events.RunStarted(steps=tuple(_announced(item) for item in compared)))
    uploaded: list[Sif] = []
    failures: dict[StepId, ChainbuildError] = {}
    for item in compared:
        if item.state == "published":
            emit(
                events.StepReused(
                    step=item.step, image=item.sif.file, digest=f"sha256:{item.sif.sha256}", size=item.sif.size
                )
            )
            continue
        try:
            _upload(place, shelf, item, emit)
            uploaded.append(item.sif)
        except ChainbuildError as error:
            failures[item.step] = error
    emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=not failures))
    return Published(uploaded=tuple(uploaded), failures=failures)


def _upload(place: Destination, shelf: Collection, item: Compared, emit: events.Emit) -> None:
    sif, started = item.sif, time.monotonic()
    path = shelf.path(sif.name)
    emit(events.StepStarted(step=item.step, activity="upload"))
    try:
        emit(events.StepProgress(step=item.step, doing="checking the checksum"))
        # Publish only what was made, not a file that changed since.
        if sha256_of(path) != sif.sha256:
            raise NotReadyError(
                f"{sif.file} does not match its checksum",
                where=str(path),
                hint="Make it again with --refresh.",
            )
        place.put(sif, path, events.paced(emit, item.step, "uploading"))
    except ChainbuildError as error:
        emit(events.StepFailed(step=item.step, seconds=time.monotonic() - started, message=error.message))
        raise
    seconds = time.monotonic() - started
    emit(
        events.StepFinished(
            step=item.step,
            activity="upload",
            image=sif.file,
            digest=f"sha256:{sif.sha256}",
            seconds=seconds,
            size=sif.size,
        )
    )


def _announced(item: Compared) -> events.PlannedStep:
    return events.PlannedStep(
        step=item.step,
        action="reuse" if item.state == "published" else "upload",
        reason=item.state,
        image=item.sif.file,
    )
