"""The frame of every run: its log folder, its view, its session, and the errors that end it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from msgspec import Struct

from chainbuild.errors import ExitCode
from chainbuild.events import Message
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
) -> int:
    """Run, and return the exit code of the first failure. Errors are shown after the view has ended.

    `building`: whether steps are built (see `open_session`).
    """
    folder = settings.root / ".chainbuild" / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    view, files = make_view(mode, verbosity=verbosity), LogFiles(folder)
    try:
        with files, view, open_session(settings, tell(view.emit, files.emit), building=building) as session:
            ended = work(session, files)
    except BaseException as error:  # noqa: BLE001  # shown in the same way as a step's failure
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
    if files.trouble:
        view.emit(Message(level="warning", text=files.trouble))
    ended.result()
    code = show_failures(ended.failures, mode, view.shown_tails())
    if code is ExitCode.DONE and ended.notice:
        view.emit(Message(text=ended.notice))
    return int(code or ended.code)


def show_failures(failures: Iterable[BaseException], mode: Mode, shown: frozenset[tuple[str, ...]]) -> ExitCode:
    """Show errors, and return the exit code of the first one. `shown` are the log tails that the view has shown."""
    code = ExitCode.DONE
    for failure in failures:
        failure_code = show_error(failure, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=shown)
        code = code or failure_code
    return code
