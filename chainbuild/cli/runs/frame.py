"""The frame of every run: its log folder, its view, its session, and the errors that end it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from chainbuild.cli.runs.reports import write_reports_of_run
from chainbuild.cli.show import NO_REPORTS, ReportFiles
from chainbuild.errors import ChainbuildError, ExitCode
from chainbuild.events import Message, RunFailed
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.ui import Mode, make_view, show_error, stderr, stdout, tell


class Ended(Struct, frozen=True, kw_only=True):
    """How a run ended: the errors of its steps, and the exit code and the line on stderr if there are none."""

    failures: Iterable[BaseException] = ()
    code: ExitCode = ExitCode.DONE
    notice: str = ""
    result: Callable[[], None] = lambda: None
    """Prints the result on stdout, after the view has ended and before the errors are shown."""


def run_in_frame(
    settings: Settings,
    work: Callable[[Session, LogFiles], Ended],
    *,
    mode: Mode,
    verbosity: int,
    building: bool = False,
    reports: ReportFiles = NO_REPORTS,
) -> int:
    """Run, and return the exit code of the first failure. Errors are shown after the view has ended.

    `building`: whether steps are built (see `open_session`). `reports` are written however the run ends.
    """
    reports.check()
    folder = settings.root / ".chainbuild" / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    view, files = make_view(mode, verbosity=verbosity), LogFiles(folder)

    def write_reports() -> None:
        if reports:
            write_reports_of_run(folder, reports, lambda text: view.emit(Message(level="warning", text=text)))

    try:
        with (
            files,
            view,
            _failure_in(files, always=bool(reports)),
            open_session(settings, tell(view.emit, files.emit), building=building) as session,
        ):
            ended = work(session, files)
    except BaseException as error:  # noqa: BLE001  # shown in the same way as a step's failure
        write_reports()
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
    write_reports()
    if files.trouble:
        view.emit(Message(level="warning", text=files.trouble))
    ended.result()
    code = show_failures(ended.failures, mode, view.shown_tails())
    if code is ExitCode.DONE and ended.notice:
        view.emit(Message(text=ended.notice))
    return int(code or ended.code)


@contextmanager
def _failure_in(files: LogFiles, *, always: bool) -> Iterator[None]:
    """Write the error that ends a run into its journal, if that has been begun or `always`."""
    try:
        yield
    except BaseException as error:
        if files.begun or always:
            interrupted = isinstance(error, KeyboardInterrupt)
            message = "interrupted" if interrupted else str(error) or type(error).__name__
            code = error.exit_code if isinstance(error, ChainbuildError) else ExitCode.BUG
            code = ExitCode.INTERRUPTED if interrupted else code
            files.emit(RunFailed(message=message, exit_code=int(code), interrupted=interrupted))
        raise


def show_failures(failures: Iterable[BaseException], mode: Mode, shown: frozenset[tuple[str, ...]]) -> ExitCode:
    """Show errors, and return the exit code of the first one. `shown` are the log tails that the view has shown."""
    code = ExitCode.DONE
    for failure in failures:
        failure_code = show_error(failure, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=shown)
        code = code or failure_code
    return code
