"""SIF files from images: what is there already is skipped, the rest is fetched, checked for room, and converted in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild import events
from chainbuild.errors import BuildFailedError, ChainbuildError, WrongUseError
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

IMAGE_LABEL: Final = "io.github.chainbuild.image"
DIGEST_LABEL: Final = "io.github.chainbuild.digest"
_CACHE_FOLDER: Final = "chainbuild"

LogPath = Callable[[str], Path | None]


class PlannedSif(Struct, frozen=True, kw_only=True):
    """What is done with a wanted image: `there` is its SIF where that is of the same digest."""

    wanted: RequestedSif
    there: Sif | None

    @property
    def reason(self) -> str:
        """Why, in words."""
        return "unchanged" if self.there else "asked for"


class SifOutcome(Struct, frozen=True, kw_only=True):
    """The SIF files that there are now, in order; and what failed, by the name that the run called it."""

    made: tuple[Sif, ...]
    failures: Mapping[str, ChainbuildError] = field(default_factory=dict)


def plan_sifs(shelf: Collection, wanted: Sequence[RequestedSif], *, refresh: bool = False) -> tuple[PlannedSif, ...]:
    """What would be done."""
    return tuple(PlannedSif(wanted=one, there=None if refresh else _standing(shelf, one)) for one in wanted)


def _standing(shelf: Collection, wanted: RequestedSif) -> Sif | None:
    there = shelf.find(wanted.name)
    return there if there and there.digest == wanted.image.digest else None


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
    """Make what is to be made, all of it whatever fails. `helper`: with the helper image even where a tool is on PATH.

    Told as a run is. Errors: `NotReadyError` before anything is begun where there is no room; those of the helper image.
    """
    started = time.monotonic()
    todo = [one.wanted for one in planned if one.there is None]
    # Before anything is said to be begun. What many images share is counted once.
    check_space(needs(layer_sizes(todo), places, shelf.folder))
    session.emit(events.RunStarted(steps=tuple(_announced(one, shelf) for one in planned), log_folder=log_folder))
    failures: dict[str, ChainbuildError] = {}
    made: dict[str, Sif] = {}
    for one in planned:
        if one.there:
            made[one.wanted.step] = one.there
            session.emit(_reused(one.there, shelf, one.wanted.step))
    if todo:
        tool = _find_tool(session, environ, helper=helper)
        with _workplace(session, places, shelf, tool) as work:
            for number, wanted in enumerate(todo):
                try:
                    made[wanted.step] = _create(session, work, wanted, log_path(wanted.step))
                except ChainbuildError as error:
                    failures[wanted.step] = error
                work.forget(todo[number + 1 :])
    session.emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=not failures))
    return SifOutcome(
        made=tuple(made[one.wanted.step] for one in planned if one.wanted.step in made), failures=failures
    )


def layer_sizes(wanted: Sequence[RequestedSif]) -> tuple[int, ...]:
    """For each image the bytes of those layers that no image before it has; the biggest image is counted whole."""
    seen: set[Digest] = set()
    sizes: list[int] = []
    for one in sorted(wanted, key=lambda item: item.image.size, reverse=True):
        new = {layer.digest: layer.size for layer in one.image.layers if layer.digest not in seen}
        seen.update(new)
        sizes.append(sum(new.values()))
    return tuple(sizes)


def _find_tool(session: Session, environ: Mapping[str, str], *, helper: bool) -> Tool:
    found = None if helper else find_on_path(environ)
    if found:
        session.emit(events.Message(text=f"making SIF files with {found.name}"))
        return found
    from chainbuild.singularity.helper import HelperTool, ensure_helper

    made = HelperTool(ensure_helper(session), environ)
    session.emit(events.Message(text=f"making SIF files with {made.name} of the helper image"))
    return made


# ---- one conversion -------------------------------------------------------------------------------------------------


class _Work(Struct, frozen=True, kw_only=True):
    """Where a run works: `temporary` to unpack in, `layouts` on the disk of the blobs, `output` on that of the shelf."""

    temporary: Path
    layouts: Path
    output: Path
    blobs: BlobStore
    shared: bool
    """Whether the blobs stay there for the next time."""
    shelf: Collection
    tool: Tool

    def forget(self, rest: Sequence[RequestedSif]) -> None:
        """Remove the layers that none of these images has."""
        if not self.shared:
            self.blobs.keep({layer.digest for one in rest for layer in one.image.layers})


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
        # Without a colon: versions of the converter differ in what they take behind one for.
        layout = wanted.name.file.removesuffix(SUFFIX)
        labels = {IMAGE_LABEL: wanted.source, DIGEST_LABEL: str(wanted.image.digest)}
        lost = write_layout(
            work.blobs,
            wanted.image,
            layouts / layout,
            labels=labels,
            reads_zstd=work.tool.reads_zstd,
            told=events.paced(session.emit, step, "fetching layers"),
        )
        if lost:
            text = f"{wanted.name}: no shell can set these variables of the image: {', '.join(lost)}"
            session.emit(events.Message(level="warning", text=text))
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
                f"{work.tool.name} made no file of {wanted.name}", hint="See what it printed with -v."
            )
        if header.set_architecture(made, wanted.platform):
            session.emit(events.LogLine(step=step, vertex="chainbuild", text=f"marked as for {wanted.platform.oci}"))
        session.emit(events.StepProgress(step=step, doing="taking the checksum"))
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


def _announced(one: PlannedSif, shelf: Collection) -> events.PlannedStep:
    return events.PlannedStep(
        step=one.wanted.step,
        action="reuse" if one.there else "convert",
        reason=one.reason,
        image=str(shelf.path(one.wanted.name)),
    )


def _reused(sif: Sif, shelf: Collection, step: str) -> events.StepReused:
    return events.StepReused(step=step, image=str(shelf.path(sif.name)), digest=str(sif.digest), size=sif.size)


def open_shelf(folder: Path) -> Collection:
    """The shelf of a folder, which is made. Errors: `WrongUseError` where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUseError(f"{folder} cannot be made: {error.strerror}", hint="Name another --folder.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WrongUseError(f"{folder} cannot be written to", hint="Name another --folder.")
    return Collection(folder.absolute())
