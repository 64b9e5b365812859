"""Make SIF files from images: skip files that exist, check the disk space, then fetch and convert one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild import events
from chainbuild.attestations.verification import envelopes_of
from chainbuild.errors import BuildFailedError, ChainbuildError, RegistryError, WrongUseError
from chainbuild.execution.session import Session
from chainbuild.host.folders import scratch_folder
from chainbuild.references import Digest
from chainbuild.singularity import sif as header
from chainbuild.singularity.collection import Collection, Sif, sha256_of
from chainbuild.singularity.images import RequestedSif
from chainbuild.singularity.layout import BlobStore, write_layout
from chainbuild.singularity.names import SUFFIX
from chainbuild.singularity.space import WorkFolders, check_space, needs
from chainbuild.singularity.tool import Conversion, Tool, find_on_path, words_of
from chainbuild.step_id import StepId

IMAGE_LABEL: Final = "io.github.chainbuild.image"
DIGEST_LABEL: Final = "io.github.chainbuild.digest"
ATTESTATIONS: Final = ".singularity.d/attestations"
"""The folder of the signed statements in a SIF file."""
_CACHE_FOLDER: Final = "chainbuild"

LogPath = Callable[[StepId], Path | None]


class PlannedSif(Struct, frozen=True, kw_only=True):
    """A requested image; `there` is its SIF file if one with the same digest exists."""

    wanted: RequestedSif
    there: Sif | None

    @property
    def reason(self) -> str:
        """Why it is made or not."""
        return "unchanged" if self.there else "requested"


class SifOutcome(Struct, frozen=True, kw_only=True):
    """The SIF files that exist now, in order, and the failures by id."""

    made: tuple[Sif, ...]
    failures: Mapping[StepId, ChainbuildError] = field(default_factory=dict)


def plan_sifs(shelf: Collection, wanted: Sequence[RequestedSif], *, refresh: bool = False) -> tuple[PlannedSif, ...]:
    """Return what to do for each requested image."""
    return tuple(PlannedSif(wanted=item, there=None if refresh else _current(shelf, item)) for item in wanted)


def _current(shelf: Collection, wanted: RequestedSif) -> Sif | None:
    sif = shelf.find(wanted.name)
    return sif if sif and sif.digest == wanted.image.digest else None


def create_sifs(
    session: Session,
    shelf: Collection,
    planned: Sequence[PlannedSif],
    places: WorkFolders,
    *,
    environ: Mapping[str, str],
    helper: bool = False,
    log_folder: Path | None = None,
    log_path: LogPath = lambda _: None,
) -> SifOutcome:
    """Make the missing SIF files; a failure does not stop the others. `helper`: use the helper image even if a tool exists.

    Emits the events of a run. Errors: `NotReadyError` before the start if there is not enough space; those of the helper
    image.
    """
    started = time.monotonic()
    todo = [item.wanted for item in planned if item.there is None]
    # Before the run is announced. Layers that several images share count once.
    check_space(needs(layer_sizes(todo), places, shelf.folder))
    session.emit(events.RunStarted(steps=tuple(_announced(item, shelf) for item in planned), log_folder=log_folder))
    failures: dict[StepId, ChainbuildError] = {}
    made: dict[StepId, Sif] = {}
    for item in planned:
        if item.there:
            made[item.wanted.step] = item.there
            session.emit(_reused(item.there, shelf, item.wanted.step))
    if todo:
        tool = _find_tool(session, environ, helper=helper)
        with _workplace(session, places, shelf, tool) as work:
            for number, requested in enumerate(todo):
                try:
                    made[requested.step] = _create(session, work, requested, log_path(requested.step))
                except ChainbuildError as error:
                    failures[requested.step] = error
                work.forget(todo[number + 1 :])
    session.emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=not failures))
    return SifOutcome(
        made=tuple(made[item.wanted.step] for item in planned if item.wanted.step in made), failures=failures
    )


def layer_sizes(wanted: Sequence[RequestedSif]) -> tuple[int, ...]:
    """Return for each image the size in bytes of the layers that no image before it has; largest image first."""
    seen: set[Digest] = set()
    sizes: list[int] = []
    for entry in sorted(wanted, key=lambda item: item.image.size, reverse=True):
        new = {layer.digest: layer.size for layer in entry.image.layers if layer.digest not in seen}
        seen.update(new)
        sizes.append(sum(new.values()))
    return tuple(sizes)


def _find_tool(session: Session, environ: Mapping[str, str], *, helper: bool) -> Tool:
    result = None if helper else find_on_path(environ)
    if result:
        session.emit(events.Message(text=f"making SIF files with {result.name}"))
        return result
    from chainbuild.singularity.helper import HelperTool, ensure_helper

    made = HelperTool(ensure_helper(session), environ)
    session.emit(events.Message(text=f"making SIF files with {made.name} of the helper image"))
    return made


# ---- one conversion -------------------------------------------------------------------------------------------------


class _Work(Struct, frozen=True, kw_only=True):
    """The folders of a run: `temporary` to unpack in, `layouts` on the disk of the blobs, `output` on the target disk."""

    temporary: Path
    layouts: Path
    output: Path
    blobs: BlobStore
    shared: bool
    """True if the blobs are kept for later runs."""
    shelf: Collection
    tool: Tool

    def forget(self, rest: Sequence[RequestedSif]) -> None:
        """Remove the layers that none of these images has."""
        if not self.shared:
            self.blobs.keep({layer.digest for item in rest for layer in item.image.layers})


@contextmanager
def _workplace(session: Session, places: WorkFolders, shelf: Collection, tool: Tool) -> Iterator[_Work]:
    cache = places.cache / _CACHE_FOLDER if places.cache else None
    if cache:
        cache.mkdir(exist_ok=True)
    with (
        scratch_folder(places.temporary) as temporary,
        scratch_folder(shelf.folder) as output,
        scratch_folder(cache) if cache else nullcontext(temporary) as fetched,
    ):
        blobs = BlobStore(session.registries, cache / "blobs" if cache else fetched / "blobs")
        yield _Work(
            temporary=temporary,
            layouts=fetched,
            output=output,
            blobs=blobs,
            shared=cache is not None,
            shelf=shelf,
            tool=tool,
        )


def _create(session: Session, work: _Work, wanted: RequestedSif, log_path: Path | None) -> Sif:
    started, step = time.monotonic(), wanted.step
    session.emit(events.StepStarted(step=step, activity="convert", log_path=log_path))
    try:
        sif = _convert(session, work, wanted)
    except ChainbuildError as error:
        if isinstance(error, BuildFailedError):
            error.log_path = log_path
        session.emit(events.StepFailed(step=step, seconds=time.monotonic() - started, message=error.message))
        raise
    session.emit(
        events.StepFinished(
            step=step,
            activity="convert",
            image=str(work.shelf.path(sif.name)),
            digest=str(sif.digest),
            seconds=time.monotonic() - started,
            size=sif.size,
        )
    )
    return sif


def _convert(session: Session, work: _Work, wanted: RequestedSif) -> Sif:
    step = wanted.step
    with (
        scratch_folder(work.temporary) as temporary,
        scratch_folder(work.layouts) as layouts,
        scratch_folder(work.output) as output,
    ):
        # No colon in the name: versions of the converter disagree on its meaning.
        layout = wanted.name.file.removesuffix(SUFFIX)
        labels = {IMAGE_LABEL: wanted.source, DIGEST_LABEL: str(wanted.image.digest)}
        lost = write_layout(
            work.blobs,
            wanted.image,
            layouts / layout,
            labels=labels,
            reads_zstd=work.tool.reads_zstd,
            told=events.paced(session.emit, step, "fetching layers"),
            files=_attestations(session, wanted),
        )
        if lost:
            text = f"{wanted.name}: these variables of the image have names that no shell can set: {', '.join(lost)}"
            session.warn(text)
        made = output / wanted.name.file

        def tell(line: str) -> None:
            session.emit(events.LogLine(step=step, vertex="apptainer", text=line))
            if doing := words_of(line):
                session.emit(events.StepProgress(step=step, doing=doing))

        conversion = Conversion(
            image=str(wanted.name),
            layout=layout,
            layouts=layouts,
            temporary=temporary,
            output=made,
            platform=wanted.platform,
        )
        work.tool.convert(conversion, tell)
        if not made.is_file():
            raise BuildFailedError(
                f"{work.tool.name} did not create a file for {wanted.name}", hint="Check its output with -v."
            )
        if header.set_architecture(made, wanted.platform):
            session.emit(
                events.LogLine(step=step, vertex="chainbuild", text=f"set architecture: {wanted.platform.oci}")
            )
        session.emit(events.StepProgress(step=step, doing="computing the checksum"))
        sif = Sif(
            name=wanted.name,
            image=wanted.source,
            digest=wanted.image.digest,
            platform=wanted.platform.oci,
            size=made.stat().st_size,
            sha256=sha256_of(made),
            tool=work.tool.name,
        )
        work.shelf.put(made, sif)
        return sif


def _attestations(session: Session, wanted: RequestedSif) -> dict[str, bytes]:
    """Return the signed statements about an image, by path in the SIF file. One that cannot be read causes a warning."""
    try:
        contents = envelopes_of(session.registries, wanted.image.reference)
    except RegistryError as error:
        session.warn(f"{wanted.name}: its attestations are left out: {error.message}")
        return {}
    return {f"{ATTESTATIONS}/{number:02d}.dsse.json": content for number, content in enumerate(contents, start=1)}


def _announced(item: PlannedSif, shelf: Collection) -> events.PlannedStep:
    return events.PlannedStep(
        step=item.wanted.step,
        action="reuse" if item.there else "convert",
        reason=item.reason,
        image=str(shelf.path(item.wanted.name)),
    )


def _reused(sif: Sif, shelf: Collection, step: StepId) -> events.StepReused:
    return events.StepReused(step=step, image=str(shelf.path(sif.name)), digest=str(sif.digest), size=sif.size)


def open_shelf(folder: Path) -> Collection:
    """Return the collection of a folder, and create the folder. Errors: `WrongUseError` if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUseError(
            f"cannot create {folder}: {error.strerror}", hint="Choose another folder with --folder."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WrongUseError(f"cannot write to {folder}", hint="Choose another folder with --folder.")
    return Collection(folder.absolute())
