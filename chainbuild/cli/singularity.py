"""`chainbuild singularity` as the commands do it: words read, views and logs around the run, its end told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from chainbuild.cli.output import open_quietly
from chainbuild.cli.settings import settings_from
from chainbuild.errors import ChainbuildError, ExitCode, Problem, WrongUseError
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import open_session
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.singularity.collection import Collection, Sif
from chainbuild.singularity.create import PlannedSif, SifOutcome, create_sifs, open_shelf, plan_sifs
from chainbuild.singularity.images import find_images
from chainbuild.singularity.names import chosen, split_words
from chainbuild.singularity.places import open_place
from chainbuild.singularity.publishing import Compared, compare, publish
from chainbuild.singularity.space import find_places
from chainbuild.text import short_digest, size
from chainbuild.ui import Mode, make_view, show_error, stderr, stdout, tell
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span


class CreateOptions(Struct, frozen=True, kw_only=True):
    """The words and flags of `create` as they were typed."""

    words: tuple[str, ...]
    folder: Path
    platform: str | None = None
    refresh: bool = False
    helper: bool = False
    dry_run: bool = False
    root: Path = Path()
    builders: tuple[str, ...] = ()
    registry: str | None = None
    port: int = 5000


def run_create(asked: CreateOptions, *, mode: Mode, verbosity: int) -> int:
    """Make SIF files; gives the exit code of the first failure, which is told when the views have ended."""
    collector = ProblemCollector()
    settings = settings_from(root=asked.root, registry=asked.registry, port=asked.port, builders=asked.builders)
    platforms = parse_platforms(asked.platform, collector) if asked.platform else ()
    if collector.problems:
        raise WrongUseError(collector.problems)
    environ = dict(os.environ)
    places, shelf = find_places(environ), open_shelf(asked.folder)
    if asked.dry_run:
        with open_quietly(settings, json=mode == "json") as session:
            planned = plan_sifs(shelf, find_images(session, asked.words, platforms), refresh=asked.refresh)
        _show_plan(planned, shelf, as_json=mode == "json")
        return 0
    folder = settings.root / ".chainbuild" / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    view, files = make_view(mode, verbosity=verbosity), LogFiles(folder)
    try:
        with files, view, open_session(settings, tell(view.emit, files.emit)) as session:
            planned = plan_sifs(shelf, find_images(session, asked.words, platforms), refresh=asked.refresh)
            outcome = create_sifs(
                session,
                shelf,
                planned,
                places,
                environ=environ,
                helper=asked.helper,
                log_folder=folder,
                log_path=files.path_of,
            )
    except BaseException as error:  # noqa: BLE001  # told by the same words as a failure
        return int(
            show_error(
                error,
                out=stdout(),
                err=stderr(),
                as_json=mode == "json",
                shown_tails=view.shown_tails(),
                log_folder=folder if folder.is_dir() else None,
            )
        )
    _show_made(outcome, shelf, as_json=mode == "json")
    return _failed(outcome.failures, mode, view.shown_tails())


def _failed(failures: Mapping[str, ChainbuildError], mode: Mode, shown: frozenset[tuple[str, ...]]) -> int:
    code = ExitCode.DONE
    for failure in failures.values():
        told = show_error(failure, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=shown)
        code = code or told
    return int(code)


def _show_made(outcome: SifOutcome, shelf: Collection, *, as_json: bool) -> None:
    if as_json:
        rows = [json.loads(one.facts) | {"path": str(shelf.path(one.name))} for one in outcome.made]
        stdout().write_json({"schema": "chainbuild.sifs/1", "files": rows}, in_stream=True)
    else:
        stdout().write([str(shelf.path(one.name)) for one in outcome.made])


def _show_plan(planned: tuple[PlannedSif, ...], shelf: Collection, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "action": "reuse" if one.there else "convert",
                "reason": one.reason,
                "image": one.wanted.source,
                "digest": str(one.wanted.image.digest),
                "platform": one.wanted.platform.oci,
                "path": str(shelf.path(one.wanted.name)),
            }
            for one in planned
        ]
        stdout().write_json({"schema": "chainbuild.sif-plan/1", "files": rows}, in_stream=True)
        return
    columns = tuple(Column(heading=text) for text in ("action", "file", "platform", "digest", "why"))
    lines = [
        (
            Span("reuse" if one.there else "convert", "good" if one.there else "busy"),
            Span(one.wanted.name.file),
            Span(one.wanted.platform.name),
            Span(short_digest(str(one.wanted.image.digest))),
            Span(one.reason),
        )
        for one in planned
    ]
    out = stdout()
    out.write(table(columns, lines, out.width))


# Published ------------------------------------------------------------------------------------------------------------


def _shelved(names: tuple[str, ...], folder: Path) -> tuple[Collection, tuple[Sif, ...]]:
    """The folder's SIF files that the words mean: images' names, files' names, patterns. Errors: `WrongUseError`."""
    if not folder.is_dir():
        raise WrongUseError(f"{folder} is no folder", hint="Name the folder of the SIF files with --folder.")
    shelf = Collection(folder.absolute())
    sifs, words = shelf.all(), split_words(names)
    taken = [one for one in sifs if chosen(words, (str(one.name),)) or chosen(words, (one.file,))]
    lost = [word for word in words if not any(chosen((word,), (str(one.name), one.file)) for one in sifs)]
    if lost:
        there = ", ".join(str(one.name) for one in sifs[:3]) or "none"
        raise WrongUseError(
            Problem(message=f"{word!r} matches no SIF file of {folder}", hint=f"There is, for example: {there}.")
            for word in lost
        )
    return shelf, tuple(taken)


def run_list(names: tuple[str, ...], folder: Path, to: str | None, *, as_json: bool) -> int:
    """List; gives the exit code."""
    _, sifs = _shelved(names, folder)
    place = open_place(to) if to else None
    states: dict[str, str] = {}
    only_there: tuple[str, ...] = ()
    if place:
        with closing(place):
            states = {one.sif.file: one.state for one in compare(place, sifs)}
            held = {one.file for one in Collection(folder).all()}
            only_there = () if names else tuple(name for name in place.files() or () if name not in held)
    if as_json:
        rows = [json.loads(one.facts) | ({"state": states[one.file]} if place else {}) for one in sifs]
        document = {"schema": "chainbuild.sif-list/1", "files": rows, "only_published": list(only_there)}
        stdout().write_json(document)
        return 0
    texts = ("file", "platform", "size", "image", "digest", *(("published",) if place else ()))
    lines = [
        (
            Span(one.file),
            Span(one.platform),
            Span(size(one.size)),
            Span(one.image),
            Span(short_digest(str(one.digest))),
            *((_shown(states[one.file]),) if place else ()),
        )
        for one in sifs
    ]
    lines += [
        (
            Span(name),
            Span(""),
            Span(""),
            Span(""),
            Span(""),
            Span("only there", "warn"),
        )
        for name in only_there
    ]
    out = stdout()
    columns = tuple(Column(heading=text, right=text == "size") for text in texts)
    out.write(table(columns, lines, out.width) if lines else [f"{folder} has no SIF files"])
    return 0


def _shown(state: str) -> Span:
    return Span("yes", "good") if state == "published" else Span(state, "warn")


def run_publish(
    names: tuple[str, ...], folder: Path, to: str | None, *, dry_run: bool, mode: Mode, verbosity: int
) -> int:
    """Publish; gives the exit code of the first failure, which is told when the view has ended."""
    if not to:
        raise WrongUseError(
            "where to publish is not said",
            hint="With --to ADDRESS or in CHAINBUILD_SINGULARITY_TO: a folder, sftp://, https:// (WebDAV) or oras://.",
        )
    shelf, sifs = _shelved(names, folder)
    if not sifs:
        raise WrongUseError(f"{folder} has no SIF files", hint="Make some: chainbuild singularity create IMAGE.")
    place = open_place(to)
    with closing(place):
        compared = compare(place, sifs)
        if dry_run:
            return _show_uploads(compared, as_json=mode == "json")
        with make_view(mode, verbosity=verbosity) as view:
            published = publish(place, shelf, compared, view.emit)
    return _failed(published.failures, mode, view.shown_tails())


def _show_uploads(compared: tuple[Compared, ...], *, as_json: bool) -> int:
    if as_json:
        rows = [{"file": one.sif.file, "state": one.state, "size": one.sif.size} for one in compared]
        stdout().write_json({"schema": "chainbuild.sif-uploads/1", "files": rows}, in_stream=True)
    else:
        lines = [
            (
                Span("keep" if one.state == "published" else "upload"),
                Span(one.sif.file),
                Span(size(one.sif.size)),
                _shown(one.state),
            )
            for one in compared
        ]
        columns = tuple(Column(heading=text, right=text == "size") for text in ("action", "file", "size", "published"))
        out = stdout()
        out.write(table(columns, lines, out.width))
    return 0
