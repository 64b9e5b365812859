"""Collect the paths that the processes of a trace opened, executed and entered successfully.

A path is what the program requested, made absolute. strace shows the folder of a relative path (`AT_FDCWD</etc>`), but
not for `open`, `execve` and `chdir`; for these the current folder of each process is tracked through `chdir`, `fchdir`,
`fork` and `clone` (with `CLONE_FS`, parent and child share it; clone(2)).

Lookups do not count (`stat`, `access`, `readlink`, `O_PATH`): programs also look for optional files, and a test of a
production image checks that files are absent. Files that are opened only to be overwritten do not count either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from chainbuild.minimize.root import join
from chainbuild.minimize.trace.strace import EXIT, SUPERSEDED, Call, descriptor_path, text_of

MAX_PATHS = 200_000
"""The most different paths that are recorded."""
MAX_PROCESSES = 100_000
"""The most processes that are tracked at the same time."""
_MOST_FORKING = 64

CALLS = (
    "open",
    "openat",
    "openat2",
    "execve",
    "execveat",
    "chdir",
    "fchdir",
    "chroot",
    "pivot_root",
    "clone",
    "clone3",
    "fork",
    "vfork",
)
"""The calls that the model needs and that strace must trace. The tracer ignores those that a machine does not have."""

_FORKS = frozenset(("clone", "clone3", "fork", "vfork"))
_FLAG = re.compile(rb"[A-Z_]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """The first access to a path. `kind` is `opened`, `executed` or `entered`.

    `real` is the path at which the kernel found the file, free of links; empty if unknown. `program` is the program
    that accessed it; for an execution, the program that was executed before, empty for the first one.
    """

    path: str
    kind: str
    real: str = ""
    program: str = ""


@dataclass(kw_only=True, slots=True)
class _Place:
    """The current folder of a process (empty if unknown), and whether its root differs from the image's."""

    folder: str = ""
    moved: bool = False


@dataclass(kw_only=True, slots=True)
class _Process:
    place: _Place
    program: str = ""
    forking: tuple[bytes, ...] | None = None
    """The arguments of the pending call by which it creates another process."""


@dataclass(kw_only=True, slots=True)
class Accesses:
    """Collects the accesses of a trace. `folder` is the current folder of its first process."""

    folder: str = "/"
    found: dict[str, Access] = field(default_factory=dict)
    cut: bool = False
    executions: int = 0
    _processes: dict[int, _Process] = field(default_factory=dict)
    _forking: dict[int, None] = field(default_factory=dict)
    """The processes with a pending call that creates another one."""

    def feed(self, calls: Iterable[Call]) -> None:
        """Process the calls in the order in which they happened."""
        for call in calls:
            self._take(call)

    def _take(self, call: Call) -> None:
        if call.name == EXIT:
            self._processes.pop(call.pid, None)
            return
        if call.name == SUPERSEDED:
            if call.result in self._processes:
                self._processes[call.pid] = self._processes.pop(call.result)
            return
        process = self._processes.get(call.pid) or self._new_process(call.pid)
        if call.name in _FORKS:
            self._fork(process, call)
            return
        if call.pending or not call.succeeded:
            return
        match call.name:
            case "open":
                self._open(process, call, "", call.arguments[:2])
            case "openat" | "openat2" if call.arguments:
                folder = self._folder(process, call.arguments[0])
                self._open(process, call, folder, call.arguments[1:3])
            case "execve":
                self._execute(process, "", call.arguments[:1])
            case "execveat" if call.arguments:
                folder = self._folder(process, call.arguments[0])
                self._execute(process, folder, call.arguments[1:2])
            case "chdir":
                self._enter(process, call.arguments)
            case "fchdir" if call.arguments:
                process.place.folder = descriptor_path(call.arguments[0])
            case "chroot" | "pivot_root":
                process.place.moved = True
            case _:
                pass

    # Processes --------------------------------------------------------------------------------------------------------

    def _new_process(self, pid: int) -> _Process:
        """Add a process that no finished call has reported: its parent is a process that is creating another one now."""
        if not self._processes:
            return self._add(pid, _Process(place=_Place(folder=self.folder)))
        candidates = (self._processes.get(process) for process in self._forking)
        parents = [process for process in candidates if process is not None and process.forking is not None]
        if len(parents) == 1:
            return self._add(pid, _child(parents[0], parents[0].forking or ()))
        folders = {(process.place.folder, process.place.moved) for process in parents}
        folder, moved = folders.pop() if len(folders) == 1 else ("", any(moved for _, moved in folders))
        return self._add(pid, _Process(place=_Place(folder=folder, moved=moved)))

    def _add(self, pid: int, process: _Process) -> _Process:
        if len(self._processes) >= MAX_PROCESSES:
            self.cut = True
            del self._processes[next(iter(self._processes))]
        self._processes[pid] = process
        return process

    def _fork(self, process: _Process, call: Call) -> None:
        process.forking = call.arguments if call.pending else None
        if call.pending and len(self._forking) < _MOST_FORKING:
            self._forking[call.pid] = None
        else:
            self._forking.pop(call.pid, None)
        if call.result is not None and call.result > 0 and call.result not in self._processes:
            self._add(call.result, _child(process, call.arguments))

    # Paths ------------------------------------------------------------------------------------------------------------

    def _folder(self, process: _Process, descriptor: bytes) -> str:
        """Return the folder that a path is relative to; the current folder that strace shows corrects the model."""
        folder = descriptor_path(descriptor)
        if descriptor.startswith(b"AT_FDCWD"):
            if folder:
                process.place.folder = folder
            return process.place.folder
        return folder

    def _open(self, process: _Process, call: Call, folder: str, arguments: tuple[bytes, ...]) -> None:
        if len(arguments) < 2 or _is_written_anew(arguments[1]):
            return
        path = _absolute(text_of(arguments[0]), folder or (process.place.folder if call.name == "open" else ""))
        if process.place.moved or not path:
            path = call.path
        self._note(path, "opened", call.path, process)

    def _execute(self, process: _Process, folder: str, arguments: tuple[bytes, ...]) -> None:
        self.executions += 1
        text = text_of(arguments[0]) if arguments else None
        # execveat(fd, "", …, AT_EMPTY_PATH) executes the file that the descriptor refers to.
        path = folder if text == "" else _absolute(text, folder or process.place.folder)
        if not process.place.moved:
            self._note(path, "executed", "", process)
        process.program = path

    def _enter(self, process: _Process, arguments: tuple[bytes, ...]) -> None:
        path = _absolute(text_of(arguments[0]) if arguments else None, process.place.folder)
        process.place.folder = path
        if not process.place.moved:
            self._note(path, "entered", "", process)

    def _note(self, path: str, kind: str, real: str, process: _Process) -> None:
        earlier = self.found.get(path)
        if not path or "\0" in path or (earlier is not None and (earlier.kind == "executed" or kind != "executed")):
            return
        if earlier is None and len(self.found) >= MAX_PATHS:
            self.cut = True
            return
        self.found[path] = Access(path=path, kind=kind, real=real, program=process.program)


def _child(process: _Process, arguments: tuple[bytes, ...]) -> _Process:
    """Return the process or thread that `process` creates by a call with these arguments."""
    shared = any(b"CLONE_FS" in argument for argument in arguments)
    place = process.place if shared else _Place(folder=process.place.folder, moved=process.place.moved)
    return _Process(place=place, program=process.program)


def _is_written_anew(flags: bytes) -> bool:
    """Return whether a file is opened only as a reference (`O_PATH`), or only for writing new content (open(2))."""
    names = frozenset(_FLAG.findall(flags))
    if names.intersection((b"O_PATH", b"O_TRUNC", b"O_EXCL", b"O_TMPFILE", b"__O_TMPFILE")):
        return True
    return b"O_CREAT" in names and b"O_WRONLY" in names


def _absolute(path: str | None, folder: str) -> str:
    """Make a path absolute; empty if that is not possible. Links and `..` are kept."""
    if not path:
        return ""
    if path.startswith("/"):
        return path
    if not folder:
        return ""
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return folder if path in ("", ".") else join(folder, path)
