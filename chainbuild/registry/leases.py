"""Who uses the managed registry of a port: leases that survive nobody, and the mark of a registry that runs brought up.

A lease is a file under a kernel lock (flock) that its holder keeps open: when the holder dies, however it dies, the
lock is gone and the lease is void. Everything is decided under one more lock, the mutex of the port, so that no run
takes away what another has just found.

The files are in a folder that all users and all checkouts of the machine share, because a port is shared by them, too.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from chainbuild.errors import NotReadyError

# Not tempfile.gettempdir(): two runs must find the same folder, whatever their environment's TMPDIR is.
SHARED_FOLDER: Final = Path("/tmp/chainbuild-leases")  # noqa: S108 - made for sharing; see `_prepare` for what keeps it safe

_POLL: Final = 0.02
_SAY_SO_AFTER: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a lease. `started` is seconds since the epoch."""

    pid: int
    command: str
    started: float

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.started))
        return f"pid {self.pid} since {since}: {self.command}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """The registry on the port was brought up by a run, and the last run takes it down.

    `container` is its id and start time, by which one that a person started later is told apart; empty while the run
    that made the mark had not seen it come up.
    """

    container: str
    data: str


class Lease:
    """A lease that is held; `release` gives it back (so does the end of the process)."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(handle)


class Leases:
    """The leases, the mutex and the mark of one port."""

    def __init__(self, port: int, folder: Path = SHARED_FOLDER) -> None:
        self._shared = folder
        self._folder = folder / str(port)

    @contextmanager
    def exclusive(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the port's mutex; `on_wait` is called once if that takes long (somebody is bringing it up or down)."""
        self._prepare()
        handle = _open_shared(self._folder / "mutex")
        try:
            started, told = time.monotonic(), False
            while not _lock(handle):
                if not told and time.monotonic() - started > _SAY_SO_AFTER:
                    told = True
                    on_wait()
                time.sleep(_POLL)
            yield
        finally:
            os.close(handle)

    def take(self) -> Lease:
        """Take a lease for this process. Needs the mutex."""
        path = self._folder / f"lease-{os.getpid()}-{time.monotonic_ns()}"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        _lock(handle)
        holder = Holder(pid=os.getpid(), command=shown_command(sys.argv), started=time.time())
        os.write(handle, json.dumps(asdict(holder)).encode())
        return Lease(path, handle)

    def holders(self) -> tuple[Holder, ...]:
        """Who holds a lease now, longest first; leases of the dead are swept away. Needs the mutex."""
        found: list[Holder] = []
        for path in self._folder.glob("lease-*"):
            with suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if _lock(handle):
                        path.unlink()
                    else:
                        found.append(_read_holder(handle, path))
                finally:
                    os.close(handle)
        return tuple(sorted(found, key=lambda holder: holder.started))

    def mark(self, mark: Mark) -> None:
        """Note that runs own the registry. Needs the mutex."""
        aside = self._folder / f"mark.{os.getpid()}"
        aside.write_text(json.dumps(asdict(mark)), encoding="utf-8")
        aside.replace(self._folder / "mark")

    def marked(self) -> Mark | None:
        """The mark, if there is one. Needs the mutex."""
        try:
            body: Any = json.loads((self._folder / "mark").read_text(encoding="utf-8"))
            return Mark(container=str(body["container"]), data=str(body["data"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError):
            # Half a mark is no mark: what is not surely ours is not taken down.
            return None

    def unmark(self) -> None:
        """From now on the registry is nobody's or a person's. Needs the mutex."""
        with suppress(FileNotFoundError):
            (self._folder / "mark").unlink()

    def _prepare(self) -> None:
        """Make the folders. They are sticky and open to all, like /tmp; files are made with O_EXCL or O_NOFOLLOW."""
        for folder in (self._shared, self._folder):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                folder.chmod(0o1777)
            if folder.is_symlink() or not folder.is_dir():
                raise NotReadyError(f"{folder} is in the way: it is not a folder", hint=f"Remove {folder}.")


def shown_command(argv: Sequence[str]) -> str:
    """A command line as others may see it: what follows a `=` may be secret and is left out."""
    words = [Path(argv[0]).name if argv else "python", *argv[1:]]
    shown = " ".join(word if "=" not in word else word.partition("=")[0] + "=…" for word in words)
    return shown if len(shown) <= 200 else shown[:199] + "…"


def _open_shared(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        # Opening another user's file with O_CREAT is refused in sticky folders (fs.protected_regular): two ways.
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(handle: int, path: Path) -> Holder:
    pid = path.name.split("-")[1]
    try:
        body: Any = json.loads(os.read(handle, 4096))
        started = float(body["started"])
        time.localtime(started)  # another user's file: a time that cannot be shown is none
        return Holder(pid=int(body["pid"]), command=str(body["command"]), started=started)
    except (ValueError, LookupError, TypeError, ArithmeticError, OSError, RecursionError):
        return Holder(pid=int(pid) if pid.isdigit() else 0, command="(starting)", started=time.time())
