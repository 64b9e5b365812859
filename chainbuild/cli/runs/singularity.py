"""Run the commands of `chainbuild singularity`, with the views and logs of every run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from chainbuild.cli.output import open_quietly
from chainbuild.cli.runs.frame import Ended, run_in_frame, show_failures
from chainbuild.cli.settings import settings_from
from chainbuild.cli.show import Show
from chainbuild.errors import Problem, WrongUseError
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.requests.options import SessionOptions
from chainbuild.singularity.collection import Collection, Sif
from chainbuild.singularity.create import PlannedSif, SifOutcome, create_sifs, open_shelf, plan_sifs
from chainbuild.singularity.images import find_images
from chainbuild.singularity.names import chosen, split_words
from chainbuild.singularity.places import open_place
from chainbuild.singularity.publishing import Compared, compare, publish
from chainbuild.singularity.space import find_places
from chainbuild.text import short_digest, size
from chainbuild.ui import Mode, make_view, stdout
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span


class CreateOptions(SessionOptions, frozen=True, kw_only=True):
    """The options of `create`, as the user gave them."""

    images: Sequence[str]
    folder: Path
    platform: str | None = None
    refresh: bool = False
    helper: bool = False


def run_create(options: CreateOptions, show: Show) -> int:
    """Make SIF files, and return the exit code of the first failure. Failures are shown after the views have ended."""
    collector = ProblemCollector()
    settings = settings_from(root=options.root, registry=options.registry, port=options.port, builders=options.builders)
    platforms = parse_platforms(options.platform, collector) if options.platform else ()
    if collector.problems:
        raise WrongUseError(collector.problems)
    environ = dict(os.environ)
    places, shelf = find_places(environ), open_shelf(options.folder)
    if show.dry_run:
        with open_quietly(settings, json=show.json) as session:
            planned = plan_sifs(shelf, find_images(session, options.images, platforms), refresh=options.refresh)
        _show_plan(planned, shelf, as_json=show.json)
        return 0

    def work(session: Session, files: LogFiles) -> Ended:
        planned = plan_sifs(shelf, find_images(session, options.images, platforms), refresh=options.refresh)
        outcome = create_sifs(
            session,
            shelf,
            planned,
            places,
            environ=environ,
            helper=options.helper,
            log_folder=files.folder,
            log_path=files.path_of,
        )
        return Ended(
            failures=outcome.failures.values(),
            result=lambda: _show_made(outcome, shelf, as_json=show.json),
        )

    return run_in_frame(settings, work, mode=show.mode, verbosity=show.verbosity)


def _show_made(outcome: SifOutcome, shelf: Collection, *, as_json: bool) -> None:
    if as_json:
        rows = [json.loads(sif.facts) | {"path": str(shelf.path(sif.name))} for sif in outcome.made]
        stdout().write_json({"schema": "chainbuild.sifs/1", "files": rows}, in_stream=True)
    else:
        stdout().write([str(shelf.path(sif.name)) for sif in outcome.made])


def _show_plan(planned: tuple[PlannedSif, ...], shelf: Collection, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "action": "reuse" if item.there else "convert",
                "reason": item.reason,
                "image": item.wanted.source,
                "digest": str(item.wanted.image.digest),
                "platform": item.wanted.platform.oci,
                "path": str(shelf.path(item.wanted.name)),
            }
            for item in planned
        ]
        stdout().write_json({"schema": "chainbuild.sif-plan/1", "files": rows}, in_stream=True)
        return
    columns = tuple(Column(heading=text) for text in ("action", "file", "platform", "digest", "why"))
    lines = [
        (
            Span("reuse" if item.there else "convert", "good" if item.there else "busy"),
            Span(item.wanted.name.file),
            Span(item.wanted.platform.name),
            Span(short_digest(str(item.wanted.image.digest))),
            Span(item.reason),
        )
        for item in planned
    ]
    out = stdout()
    out.write(table(columns, lines, out.width))


# Published ------------------------------------------------------------------------------------------------------------


def _selected(names: tuple[str, ...], folder: Path) -> tuple[Collection, tuple[Sif, ...]]:
    """Return the folder's SIF files that match image names, file names or patterns. Errors: `WrongUseError`."""
    if not folder.is_dir():
        raise WrongUseError(f"{folder} is not a folder", hint="Pass the folder of the SIF files with --folder.")
    shelf = Collection(folder.absolute())
    sifs, patterns = shelf.all(), split_words(names)
    taken = [sif for sif in sifs if chosen(patterns, (str(sif.name),)) or chosen(patterns, (sif.file,))]
    unmatched = [text for text in patterns if not any(chosen((text,), (str(sif.name), sif.file)) for sif in sifs)]
    if unmatched:
        examples = ", ".join(str(sif.name) for sif in sifs[:3]) or "none"
        raise WrongUseError(
            Problem(message=f"{text!r} matches no SIF file in {folder}", hint=f"SIF files in the folder: {examples}.")
            for text in unmatched
        )
    return shelf, tuple(taken)


def run_list(names: tuple[str, ...], folder: Path, to: str | None, *, as_json: bool) -> int:
    """List SIF files, and return the exit code."""
    _, sifs = _selected(names, folder)
    place = open_place(to) if to else None
    states: dict[str, str] = {}
    only_there: tuple[str, ...] = ()
    if place:
        with closing(place):
            states = {item.sif.file: item.state for item in compare(place, sifs)}
            held = {sif.file for sif in Collection(folder).all()}
            only_there = () if names else tuple(name for name in place.files() or () if name not in held)
    if as_json:
        rows = [json.loads(sif.facts) | ({"state": states[sif.file]} if place else {}) for sif in sifs]
        document = {"schema": "chainbuild.sif-list/1", "files": rows, "only_published": list(only_there)}
        stdout().write_json(document)
        return 0
    texts = ("file", "platform", "size", "image", "digest", *(("published",) if place else ()))
    lines = [
        (
            Span(sif.file),
            Span(sif.platform),
            Span(size(sif.size)),
            Span(sif.image),
            Span(short_digest(str(sif.digest))),
            *((_shown(states[sif.file]),) if place else ()),
        )
        for sif in sifs
    ]
    lines += [
        (
            Span(name),
            Span(""),
            Span(""),
            Span(""),
            Span(""),
            Span("only published", "warn"),
        )
        for name in only_there
    ]
    out = stdout()
    columns = tuple(Column(heading=text, right=text == "size") for text in texts)
    out.write(table(columns, lines, out.width) if lines else [f"no SIF files in {folder}"])
    return 0


def _shown(state: str) -> Span:
    return Span("yes", "good") if state == "published" else Span(state, "warn")


def run_publish(
    names: tuple[str, ...], folder: Path, to: str | None, *, dry_run: bool, mode: Mode, verbosity: int
) -> int:
    """Publish SIF files, and return the exit code of the first failure. Failures are shown after the view has ended."""
    if not to:
        raise WrongUseError(
            "no destination given",
            hint="Use --to or CHAINBUILD_SINGULARITY_TO: a folder, sftp://, https:// (WebDAV) or oras:// address.",
        )
    shelf, sifs = _selected(names, folder)
    if not sifs:
        raise WrongUseError(f"no SIF files in {folder}", hint="Make some with chainbuild singularity create IMAGE.")
    place = open_place(to)
    with closing(place):
        compared = compare(place, sifs)
        if dry_run:
            return _show_uploads(compared, as_json=mode == "json")
        with make_view(mode, verbosity=verbosity) as view:
            published = publish(place, shelf, compared, view.emit)
    return int(show_failures(published.failures.values(), mode, view.shown_tails()))


def _show_uploads(compared: tuple[Compared, ...], *, as_json: bool) -> int:
    if as_json:
        rows = [{"file": item.sif.file, "state": item.state, "size": item.sif.size} for item in compared]
        stdout().write_json({"schema": "chainbuild.sif-uploads/1", "files": rows}, in_stream=True)
    else:
        lines = [
            (
                Span("keep" if item.state == "published" else "upload"),
                Span(item.sif.file),
                Span(size(item.sif.size)),
                _shown(item.state),
            )
            for item in compared
        ]
        columns = tuple(Column(heading=text, right=text == "size") for text in ("action", "file", "size", "published"))
        out = stdout()
        out.write(table(columns, lines, out.width))
    return 0
