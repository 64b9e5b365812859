"""The managed chain registry: a compose service on a port of this machine, up while runs (or a person) need it.

Three kinds of registry may answer on the port. One that a run brought up is marked as such (leases.py), and the last
run takes it down. One that a person brought up, with `chainbuild registry up` or by compose, stays up. Any other that
answers as a registry is somebody's own: it is used and never stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chainbuild import limits
from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.registry import compose
from chainbuild.registry.answers import is_registry
from chainbuild.registry.leases import SHARED_FOLDER, Holder, Lease, Leases, Mark
from chainbuild.registry.transport import PlainTransport, Request, TransportError
from chainbuild.wording import escaped

DEFAULT_PORT: Final = 5000
REGISTRY_IMAGE: Final = compose.REGISTRY_IMAGE
COMPOSE_FILE_NAME: Final = "docker-compose-registry.yml"
DATA_FOLDER_NAME: Final = "registry"

# A registry starts in 0.2 s; a minute is a machine that is busy with everything else.
_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
# Long enough for a registry that a busy disk keeps, short enough for a person who waits.
_PING_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 0.5

Answer = Literal["registry", "nothing", "something else"]
Kind = Literal["none", "run", "person", "foreign", "blocked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryStatus:
    """What is on the port.

    `kind`: `none`; `run` (the last run takes it down); `person` (stays up until `down`); `foreign` (a registry that is
    not chainbuild's); `blocked` (something that is no registry).
    """

    endpoint: str
    kind: Kind
    holder: str = ""
    """The container or program that holds the port, in words."""
    data: str = ""
    holders: tuple[Holder, ...] = ()

    @property
    def running(self) -> bool:
        """Whether a registry answers."""
        return self.kind in {"run", "person", "foreign"}


def ensure_image(emit: Emit, compose_file: Path | None = None) -> None:
    """See that the local store has the registry's image: pulled, else built from the distribution's package.

    Errors: `NotReadyError`.
    """
    compose.ensure_image(compose_file or shipped_compose_file(), emit)


def shipped_compose_file() -> Path:
    """The compose file that comes with chainbuild: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped" / COMPOSE_FILE_NAME
    return installed if installed.exists() else package.parent / COMPOSE_FILE_NAME


class ManagedRegistry:
    """The managed registry of a port. `data_folder` is where its content is kept: the user's tree's `registry/`."""

    def __init__(
        self,
        compose_file: Path | None = None,
        port: int = DEFAULT_PORT,
        data_folder: Path = Path(DATA_FOLDER_NAME),
        *,
        shared_folder: Path = SHARED_FOLDER,
    ) -> None:
        self.port = port
        self.endpoint = f"localhost:{port}"
        self._data = Path(os.path.abspath(data_folder))  # noqa: PTH100 - without following symlinks
        self._leases = Leases(port, shared_folder)
        self._compose = compose.Compose(compose_file or shipped_compose_file(), port, self._data)

    @contextmanager
    def lease(self, emit: Emit) -> Iterator[str]:
        """Have the registry (`localhost:PORT`) while the `with` lasts; whoever is last takes down what runs brought up.

        A registry that is up costs one ping and one file: no process is started. Errors: `NotReadyError`.
        """
        with self._leases.exclusive(lambda: _say(emit, "waiting for another run that starts or stops the registry")):
            lease = self._leases.take()
            try:
                self._see_to_it(emit)
            except BaseException:
                self._leave_surely(lease, emit)
                raise
        try:
            yield self.endpoint
        finally:
            with self._leases.exclusive():
                self._leave_surely(lease, emit)

    def up(self, emit: Emit) -> None:
        """Bring it up for a person: it stays up until `down`. One that runs brought up becomes the person's."""
        with self._leases.exclusive(lambda: _say(emit, "waiting for a run that starts or stops the registry")):
            answer = self._ask()
            if answer == "nothing":
                self._start(emit)
            elif answer != "registry":
                raise self._blocked()
            self._leases.unmark()

    def down(self, emit: Emit, *, force: bool = False) -> bool:
        """Take it down; False where none was up. The data stays.

        Errors: `BusyError` while runs hold leases (unless `force`); `NotReadyError` where what is on the port is not
        chainbuild's.
        """
        with self._leases.exclusive(lambda: _say(emit, "waiting for a run that starts or stops the registry")):
            holders = self._leases.holders()
            if holders and not force:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n"
                    + "\n".join(f"    {escaped(str(holder))}" for holder in holders),
                    hint="Wait for it, or take it down regardless with --force (those runs will fail).",
                )
            container = compose.container_on(self.port)
            if container is None or not container.ours:
                self._leases.unmark()
                if self._ask() == "nothing":
                    # A container that stopped by itself still stands there.
                    self._compose.down()
                    return False
                raise NotReadyError(
                    f"the registry at {self.endpoint} is not chainbuild's: {self._holder() or 'somebody else'} has it",
                    hint="Stop it where it was started.",
                )
            self._compose.down()
            self._leases.unmark()
            return True

    def sweep(self, emit: Emit, collect: Callable[[], None]) -> None:
        """Run `collect` while nobody else can need the registry, then let the registry free the blobs that nothing needs.

        Errors: `BusyError` while another run holds a lease.
        """
        with self._leases.exclusive(lambda: _say(emit, "waiting for a run that starts or stops the registry")):
            others = [holder for holder in self._leases.holders() if holder.pid != os.getpid()]
            if others:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n"
                    + "\n".join(f"    {escaped(str(holder))}" for holder in others),
                    hint="Collect when those runs have ended.",
                )
            collect()
            container = compose.container_on(self.port)
            if container is None or not container.ours:
                _say(emit, "the registry is not chainbuild's: it frees the space at its own next garbage collection")
                return
            compose.collect_blobs(container.name)
            limit = time.monotonic() + _READY_SECONDS
            while self._ask() != "registry" and time.monotonic() < limit:
                time.sleep(_POLL_SECONDS)

    def status(self) -> RegistryStatus:
        """What is on the port, who uses it, and who takes it down."""
        with self._leases.exclusive():
            holders, mark = self._leases.holders(), self._leases.marked()
            answer = self._ask()
            if answer == "nothing":
                return RegistryStatus(endpoint=self.endpoint, kind="none", holders=holders)
            container = compose.container_on(self.port)
            if answer == "something else":
                return RegistryStatus(endpoint=self.endpoint, kind="blocked", holder=self._holder())
            if container is None or not container.ours:
                return RegistryStatus(endpoint=self.endpoint, kind="foreign", holder=self._holder(), holders=holders)
            return RegistryStatus(
                endpoint=self.endpoint,
                kind="run" if _is_marked(mark, container) else "person",
                holder=f"container {container.name}",
                data=container.data,
                holders=holders,
            )

    # ---- phases; all need the mutex -------------------------------------------------------------------------------

    def _see_to_it(self, emit: Emit) -> None:
        """Find the registry or bring it up."""
        answer = self._ask()
        if answer == "something else":
            # A person's registry that is just starting: the engine listens before the registry does.
            time.sleep(_SETTLE_SECONDS)
            answer = self._ask()
        if answer == "registry":
            mark = self._leases.marked()
            if mark is not None and mark.data != str(self._data):
                _say(emit, f"the registry at {self.endpoint} is up already, with its data in {mark.data}")
            return
        if answer != "nothing":
            raise self._blocked()
        # Marked before it is up: killed in between, the next run still knows whose it is.
        self._leases.mark(Mark(container="", data=str(self._data)))
        self._start(emit)
        container = compose.container_on(self.port)
        self._leases.mark(Mark(container=container.instance if container else "", data=str(self._data)))

    def _leave_surely(self, lease: Lease, emit: Emit) -> None:
        """Leave, also where an interrupt comes in between; a second one is obeyed."""
        try:
            self._leave(lease, emit)
        except KeyboardInterrupt:
            self._leave(lease, emit)
            raise

    def _leave(self, lease: Lease, emit: Emit) -> None:
        """Give the lease back; whoever is last takes down what runs brought up."""
        lease.release()
        mark = self._leases.marked()
        if mark is None or self._leases.holders():
            return
        try:
            container = compose.container_on(self.port)
            # One that somebody started meanwhile is theirs.
            if container is None or _is_marked(mark, container):
                self._compose.down()
        except NotReadyError as error:
            # The run's result stands. The mark stays, so that the next run tries again.
            emit(Message(level="warning", text=f"the registry at {self.endpoint} could not be taken down: {error}"))
        else:
            self._leases.unmark()

    def _start(self, emit: Emit) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotReadyError(
                f"the registry's data folder cannot be made: {error.strerror}", where=str(self._data)
            ) from error
        began = time.monotonic()
        self._compose.up(emit)
        limit = time.monotonic() + _READY_SECONDS
        while (answer := self._ask()) != "registry":
            if time.monotonic() > limit:
                raise NotReadyError(
                    f"the registry does not answer at {self.endpoint} ({answer})", hint=self._compose.logs()
                )
            time.sleep(_POLL_SECONDS)
        _say(emit, f"the chain registry is up at {self.endpoint} ({time.monotonic() - began:.1f} s)")

    def _ask(self) -> Answer:
        return ask(self.endpoint)

    def _holder(self) -> str:
        from chainbuild.registry.ports import holder_of

        return holder_of(self.port)

    def _blocked(self) -> NotReadyError:
        return port_taken(self.port, self._holder())


def ask(endpoint: str, seconds: float = _PING_SECONDS) -> Answer:
    """What answers at `host:port`: a registry (OCI spec, "Determining Support"), nothing, something else."""
    transport = PlainTransport(connect_seconds=seconds)
    request = Request(method="GET", url=f"http://{endpoint}/v2/", answer_seconds=seconds)
    try:
        response = transport.send(request)
        response.end_within(seconds)
        body = limits.read_start(response.chunks(), limits.ERROR_BODY)
    except TransportError as error:
        # Reset: docker's proxy listens before the registry in the container does.
        return "nothing" if error.fault in {"refused", "no-host"} else "something else"
    finally:
        transport.close()
    return "registry" if is_registry(response.status, response.headers, body) else "something else"


def port_taken(port: int, holder: str) -> NotReadyError:
    """The error for a port that something else holds."""
    who = escaped(holder) or "another program"
    return NotReadyError(
        f"port {port}, which the chain registry needs, is taken by {who}, which is no registry",
        hint=f"Stop it, or take another port: --registry-port {port + 50} or CHAINBUILD_REGISTRY_PORT={port + 50}.",
    )


def _listed(holders: Iterable[Holder]) -> str:
    """Who holds leases, a line each: other users' command lines are in it."""
    return "\n".join(f"    {escaped(str(holder))}" for holder in holders)


def _is_marked(mark: Mark | None, container: compose.Container) -> bool:
    return mark is not None and container.ours and mark.container in {"", container.instance}


def _say(emit: Emit, text: str) -> None:
    emit(Message(text=text))
