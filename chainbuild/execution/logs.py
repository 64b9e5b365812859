"""Write the files of a run: a log per step, and a journal of all events. For people; no decision depends on them.

<root>/.chainbuild/logs/<run-id>/amd64-stock-20-openblas.log
<root>/.chainbuild/logs/<run-id>/events.jsonl
<root>/.chainbuild/logs/latest -> <run-id>
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from msgspec import Struct

from chainbuild import events
from chainbuild.host.folders import OWN_FOLDER, make_own_folder, open_own_file
from chainbuild.patterns import regex
from chainbuild.step_id import StepId
from chainbuild.text import duration

JOURNAL: Final = "events.jsonl"
LATEST: Final = "latest"
KEPT_RUNS: Final = 20

_UNSAFE: Final = regex(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 160


class _StepLog(Struct, kw_only=True):
    path: Path
    started_at: float
    vertex: str = ""
    file: IO[str] | None = None


class LogFiles:
    """A listener that writes a run's files into `folder`. Thread-safe. Use it in a `with`, or call `close`.

    No file is created before the first event. Files are written line by line, so they are complete whatever ends the
    process, and `tail -f` can follow them. If writing fails, logging stops and `trouble` has the reason; the build goes on.
    """

    def __init__(self, folder: Path, *, kept_runs: int = KEPT_RUNS) -> None:
        self.folder = folder
        self.trouble = ""
        self._kept_runs = kept_runs
        self._lock = threading.RLock()
        self._journal: IO[str] | None = None
        self._steps: dict[StepId, _StepLog] = {}
        self._names: dict[StepId, str] = {}
        self._closed = False

    @property
    def begun(self) -> bool:
        """Return whether an event was written."""
        return self._journal is not None

    def emit(self, event: events.Event) -> None:
        """Write an event. May be called from any thread."""
        with self._lock:
            if self._closed or self.trouble:
                return
            try:
                self._write(event)
            except OSError as error:
                self.trouble = f"the logs in {self.folder} are incomplete: {error.strerror or error}"
                self.close()

    def path_of(self, step: StepId) -> Path:
        """Return the path of a step's log file, which may not exist yet."""
        with self._lock:
            if step not in self._names:
                self._names[step] = _free_name(step, {name.lower() for name in self._names.values()})
            return self.folder / self._names[step]

    def close(self) -> None:
        """Close all files; later events are ignored."""
        with self._lock:
            self._closed = True
            for log in self._steps.values():
                _close(log.file)
                log.file = None
            _close(self._journal)
            self._journal = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, event: events.Event) -> None:
        if self._journal is None:
            self._journal = self._open_folder()
        self._journal.write(event.as_json_line() + "\n")
        match event:
            case events.StepStarted():
                log = self._open(event.step, event.at)
                self._note(log, event.at, f"==== {event.activity}")
                log.vertex = ""
            case events.LogLine():
                self._line(event)
            case events.StepFinished():
                self._note_and_close(event.step, event.at, f"==== done in {duration(event.seconds)}: {event.digest}")
            case events.StepFailed():
                self._note_and_close(
                    event.step, event.at, f"==== failed after {duration(event.seconds)}: {event.message}"
                )
            case events.StepWarnings() if not event.reused:
                log = self._open(event.step, event.at)
                for warning in event.warnings:
                    self._note(log, event.at, f"==== {events.labelled('warning', str(warning))}")
                if (more := event.total - len(event.warnings)) > 0:
                    self._note(log, event.at, f"==== {more} more warnings")
            case events.Verdict():
                result = "passed" if event.passed else "FAILED"
                log = self._open(event.step, event.at)
                self._note(log, event.at, f"==== {event.proof} {result}: {event.summary}")
                for finding in event.findings:
                    self._note(log, event.at, finding)
            case _:
                return

    def _line(self, event: events.LogLine) -> None:
        log = self._open(event.step, event.at)
        if event.vertex != log.vertex:
            log.vertex = event.vertex
            self._note(log, event.at, f"---- {event.vertex}")
        self._note(log, event.at, event.text)

    def _note(self, log: _StepLog, at: float, text: str) -> None:
        if log.file is not None:
            stamp = f"{max(at - log.started_at, 0.0):10.3f}  "
            log.file.write("".join(f"{stamp}{line}\n" for line in text.split("\n")))

    def _note_and_close(self, step: StepId, at: float, text: str) -> None:
        """Write a note and close the log. Every executed step has a log file, even if nothing was printed."""
        log = self._open(step, at)
        self._note(log, at, text)
        _close(log.file)
        log.file = None

    def _open(self, step: StepId, at: float) -> _StepLog:
        log = self._steps.get(step)
        if log is None:
            log = self._steps[step] = _StepLog(path=self.path_of(step), started_at=at)
        if log.file is None:
            log.file = _open_lines(log.path)
        return log

    def _open_folder(self) -> IO[str]:
        # Logs contain build output and belong to the user only. Logs of earlier runs are in the same folder.
        logs = self.folder.parent
        if logs.parent.name == OWN_FOLDER:
            make_own_folder(logs.parent.parent, logs.name, self.folder.name, mode=0o700)
        else:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = _open_lines(self.folder / JOURNAL)
        _point_latest(self.folder)
        prune(self.folder.parent, keep=self._kept_runs)
        return journal


def prune(logs: Path, *, keep: int = KEPT_RUNS) -> tuple[Path, ...]:
    """Remove all but the newest `keep` runs under `logs`, and return the removed folders.

    Only folders with a journal are runs; the journal of a running build is always among the newest. Folders that cannot be
    removed are left.
    """
    runs = []
    with contextlib.suppress(OSError):
        for folder in logs.iterdir():
            with contextlib.suppress(OSError):
                if not folder.is_symlink():
                    runs.append(((folder / JOURNAL).stat().st_mtime_ns, folder.name, folder))
    old = [folder for _, _, folder in sorted(runs, reverse=True)[max(keep, 1) :]]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return tuple(old)


def file_name(step: StepId) -> str:
    """Return the name of a step's log: its id joined by `-`, without characters special to file systems or shells."""
    name = _UNSAFE.sub("_", str(step).replace("/", "-")).lstrip(".-")[:_LONGEST_NAME]
    return f"{name or 'step'}.log"


def _free_name(step: StepId, taken: set[str]) -> str:
    """Return an unused log name. Two ids can share a name (`a/b-c`, `a-b/c`, or by case on macOS); add a number then."""
    name, number = file_name(step), 2
    while name.lower() in taken:
        name, number = f"{file_name(step).removesuffix('.log')}~{number}.log", number + 1
    return name


def _open_lines(path: Path) -> IO[str]:
    """Open a file for appending, line-buffered and without newline translation."""
    return open_own_file(path, append=True, newline="")


def _point_latest(folder: Path) -> None:
    """Point `latest` at the folder atomically; do nothing if the file system has no symbolic links."""
    latest = folder.parent / LATEST
    temporary = folder.parent / f".{LATEST}-{os.getpid()}-{threading.get_ident()}"
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(latest)
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _close(file: IO[str] | None) -> None:
    if file is not None:
        with contextlib.suppress(OSError):
            file.close()
