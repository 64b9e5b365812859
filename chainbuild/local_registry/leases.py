"""The leases of runs that need the managed registry of a port.

A lease is a file under a kernel lock (flock(2)) that its holder keeps open: if the holder dies for any reason, the
kernel drops the lock and the lease is void. Every decision is made under another lock, the mutex of the port, so that
no run stops a registry that another run has just found.

The files are the user's own: in a private folder, one for each machine (a home folder may be on a network file system)
and port. Other users cannot read, write, lock or replace them.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.host.user_folders import private_folder, read_private, state_home, write_private

MUTEX_SECONDS: Final = 240.0
"""The timeout for the mutex: longer than starting (`compose up` and the first response) or stopping can take."""
_POLL: Final = 0.02
_SAY_SO_AFTER: Final = 1.0
_LONGEST_FILE: Final = 4096
_LONGEST_COMMAND: Final = 200


class Holder(Struct, frozen=True, kw_only=True):
    """A process that holds a lease or the mutex. `started` is in seconds since the epoch; `data` is the registry's folder."""

    pid: int
    command: str
    started: float
    data: str = ""

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.started))
        return f"pid {self.pid} since {since}: {self.command}"


class Mark(Struct, frozen=True, kw_only=True):
    """The note that a run started the registry on the port, so that the last run stops it.

    `container` is the container's id; empty until the run that wrote the mark has seen the container. `until` is when it
    stops by itself, in seconds since the epoch (see `linger`); 0 while runs need it.
    """

    container: str
    data: str
    until: float = 0.0


class Lease:
    """A lease that this process holds. It also ends with the process."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle

    def release(self) -> None:
        """Release the lease; further calls do nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(handle)


class Leases:
    """The leases, the mutex and the mark of one port.

    `folder` contains all of the user's; the default is below the XDG state folder, by machine.
    """

    def __init__(self, port: int, folder: Path | None = None) -> None:
        self.port = port
        self._place = folder
        self._is_prepared = False

    @property
    def place(self) -> Path:
        """Return the folder of this port's files."""
        return (self._place or default_folder()) / str(self.port)

    @contextmanager
    def exclusive(
        self, on_wait: Callable[[str], None] = lambda _: None, seconds: float = MUTEX_SECONDS
    ) -> Iterator[None]:
        """Hold the port's mutex.

        `on_wait` is called once if that takes long, with the process that holds it (`pid 812 since …: chainbuild …`).

        Errors: `BusyError` if the mutex is not free after that many seconds; `NotReadyError` if the folder is not
        private or cannot be written to.
        """
        if not self._is_prepared:
            if self._place is None:
                private_folder(state_home())
            private_folder(self.place)
            self._is_prepared = True
        path = self.place / "mutex"
        handle = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            started, said = time.monotonic(), False
            while not _lock(handle):
                waited = time.monotonic() - started
                if waited > seconds:
                    raise BusyError(
                        f"another run has been starting or stopping the registry for {seconds:.0f} s: "
                        f"{_read_holder(handle)}",
                        hint="If it hangs, end it, and run the command again.",
                    )
                if not said and waited > _SAY_SO_AFTER:
                    said = True
                    on_wait(str(_read_holder(handle)))
                time.sleep(_POLL)
            _write_holder(handle)
            yield
        finally:
            os.close(handle)

    def take(self, data: Path | None = None) -> Lease:
        """Take a lease on the registry with that data folder for this process. Needs the mutex. Errors: `NotReadyError`."""
        path = self.place / f"lease-{os.getpid()}-{time.monotonic_ns()}"
        handle = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        _lock(handle)
        _write_holder(handle, str(data or ""))
        return Lease(path, handle)

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds a lease now, longest first. Needs the mutex. Leases of dead processes are removed."""
        found: list[Holder] = []
        for path in self.place.glob("lease-*"):
            with suppress(OSError, NotReadyError):
                handle = _open(path, os.O_RDONLY)
                try:
                    if _lock(handle):
                        path.unlink()
                    else:
                        found.append(_read_holder(handle))
                finally:
                    os.close(handle)
        return tuple(sorted(found, key=lambda holder: holder.started))

    def mark(self, mark: Mark) -> None:
        """Note that runs own the registry. Needs the mutex. Errors: `NotReadyError`."""
        write_private(self.place / "mark", json.dumps(asdict(mark)).encode(), durable=False)

    def marked(self) -> Mark | None:
        """Return the mark, if there is one. Needs the mutex."""
        try:
            body: Any = json.loads(read_private(self.place / "mark", _LONGEST_FILE) or b"")
            until = float(body.get("until", 0))
            time.localtime(until)  # a time that cannot be shown is none
            return Mark(container=str(body["container"]), data=str(body["data"]), until=until)
        except (
            NotReadyError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            OSError,
            RecursionError,
        ):
            # A damaged mark is no mark: what is not surely a run's is not stopped.
            return None

    def unmark(self) -> None:
        """Note that the registry is not (or no longer) the runs'. Needs the mutex."""
        with suppress(OSError):
            (self.place / "mark").unlink()

    def note_kept(self, data: str) -> None:
        """Note which data the registry has that a person keeps up; nothing: none is kept. Needs the mutex."""
        if data:
            write_private(self.place / "kept", data.encode("utf-8", "surrogateescape"), durable=False)
        else:
            with suppress(OSError):
                (self.place / "kept").unlink()

    def kept_data(self) -> str:
        """Return which data the registry had that a person last kept up. For messages only. Needs the mutex."""
        with suppress(NotReadyError):
            return (read_private(self.place / "kept", _LONGEST_FILE) or b"").decode("utf-8", "surrogateescape")
        return ""


def all_leases(folder: Path) -> Iterator[Leases]:
    """Return the leases of every port and machine, if `folder` is the default one; else of every port in it."""
    machines = folder.parent.iterdir() if folder == default_folder() else iter([folder])
    for machine in machines:
        with suppress(OSError):
            for place in machine.iterdir():
                if place.name.isdecimal():
                    yield Leases(int(place.name), machine)


def default_folder() -> Path:
    """Return the folder of all leases of the user on this machine."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in os.uname().nodename)
    return state_home() / "registry" / (name.strip(".") or "localhost")


def shown_command(argv: Sequence[str]) -> str:
    """Return a command line as others may see it: without what follows a `=`, which may be secret."""
    words = [Path(argv[0]).name if argv else "python", *argv[1:]]
    shown = " ".join(word if "=" not in word else word.partition("=")[0] + "=…" for word in words)
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    return shown if len(shown) <= _LONGEST_COMMAND else shown[: _LONGEST_COMMAND - 1] + "…"


def _open(path: Path, flags: int) -> int:
    """Open a regular file of the folder; a FIFO or a link in its place is an error, never a wait."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error.strerror or type(error).__name__) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _refused(path, "not a regular file")
    return handle


def _refused(path: Path, why: str) -> NotReadyError:
    return NotReadyError(
        f"could not take a lease on the registry: {why}",
        where=str(path),
        hint=f"Check the free space and the permissions, remove {path.name} if it is not a regular file, "
        "or choose another place with XDG_STATE_HOME.",
    )


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NotReadyError(
            f"the file system of the leases does not support locks: {error.strerror}",
            where=str(default_folder()),
            hint="Set XDG_STATE_HOME to a folder on a local disk.",
        ) from error
    return True


def _write_holder(handle: int, data: str = "") -> None:
    """Write who holds the file. A full disk does not matter: what counts is the lock."""
    holder = Holder(pid=os.getpid(), command=shown_command(sys.argv), started=time.time(), data=data)
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)


def _read_holder(handle: int) -> Holder:
    try:
        body: Any = json.loads(os.pread(handle, _LONGEST_FILE, 0))
        started = float(body["started"])
        time.localtime(started)  # a time that cannot be shown is none
        return Holder(pid=int(body["pid"]), command=str(body["command"]), started=started, data=str(body["data"]))
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return Holder(pid=0, command="(a process that is just starting)", started=time.time())
