"""`chainbuild singularity` as the commands do it: words read, views and logs around the run, its end told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chainbuild.cli.settings import settings_from
from chainbuild.cli.speaking import open_quietly
from chainbuild.command_line import Collector, parse_platforms
from chainbuild.errors import ChainbuildError, ExitCode, WrongUseError
from chainbuild.logs import LogFiles
from chainbuild.session import open_session
from chainbuild.singularity.create import Outcome, Planned, create_sifs, open_shelf, plan_sifs
from chainbuild.singularity.images import find_images
from chainbuild.singularity.shelf import Shelf
from chainbuild.singularity.space import find_places
from chainbuild.ui import Mode, make_view, show_error, stderr, stdout, tell
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span
from chainbuild.wording import short_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
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


def run_create(asked: Asked, *, mode: Mode, verbosity: int) -> int:
    """Make SIF files; gives the exit code of the first failure, which is told when the views have ended."""
    collector = Collector()
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
                session, shelf, planned, places, environ=environ, helper=asked.helper, log_folder=folder,
                log_path=files.path_of,
            )  # fmt: skip
    except BaseException as error:  # noqa: BLE001  # told by the same words as a failure
        return int(
            show_error(
                error, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=view.shown_tails(),
                log_folder=folder if folder.is_dir() else None,
            )
        )  # fmt: skip
    _show_made(outcome, shelf, as_json=mode == "json")
    return _failed(outcome.failures, mode, view.shown_tails())


def _failed(failures: Mapping[str, ChainbuildError], mode: Mode, shown: frozenset[tuple[str, ...]]) -> int:
    code = ExitCode.DONE
    for failure in failures.values():
        told = show_error(failure, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=shown)
        code = code or told
    return int(code)


def _show_made(outcome: Outcome, shelf: Shelf, *, as_json: bool) -> None:
    if as_json:
        rows = [json.loads(one.facts) | {"path": str(shelf.path(one.name))} for one in outcome.made]
        stdout().write_raw(json.dumps({"schema": "chainbuild.sifs/1", "files": rows}) + "\n")
    else:
        stdout().write([str(shelf.path(one.name)) for one in outcome.made])


def _show_plan(planned: tuple[Planned, ...], shelf: Shelf, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "action": "reuse" if one.there else "convert", "reason": one.reason, "image": one.wanted.source,
                "digest": str(one.wanted.image.digest), "platform": one.wanted.platform.oci,
                "path": str(shelf.path(one.wanted.name)),
            }
            for one in planned
        ]  # fmt: skip
        stdout().write_raw(json.dumps({"schema": "chainbuild.sif-plan/1", "files": rows}) + "\n")
        return
    columns = tuple(Column(heading=text) for text in ("action", "file", "platform", "digest", "why"))
    lines = [
        (
            Span("reuse" if one.there else "convert", "good" if one.there else "busy"), Span(one.wanted.name.file),
            Span(one.wanted.platform.name), Span(short_digest(str(one.wanted.image.digest))), Span(one.reason),
        )
        for one in planned
    ]  # fmt: skip
    out = stdout()
    out.write(table(columns, lines, out.width))
