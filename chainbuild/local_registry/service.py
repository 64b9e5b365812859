"""The user's managed chain registry: a container on a port of this machine, running while runs (or the user) need it.

Several kinds of registry may answer on the port. One that a run started is marked as such (`leases`), and the last run
stops it. One that a user started, with `chainbuild registry up` or with compose, runs until a user stops it. Both
have the user's login (`login`), so one request distinguishes them from another user's registry, which is
not touched while it is needed (`ports`). Any other registry is used unchanged and never stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Emit
from chainbuild.host.user_folders import data_home
from chainbuild.local_registry import DEFAULT_PORT, compose, containers, linger, ports
from chainbuild.local_registry import login as docker_login
from chainbuild.local_registry import login as logins
from chainbuild.local_registry import ports as knock
from chainbuild.local_registry.arrival import POLL_SECONDS, READY_SECONDS, Arrival, Joined, RegistryInstance, say, warn
from chainbuild.local_registry.leases import Holder, Lease, Leases, Mark, all_leases, default_folder
from chainbuild.registry.http.auth import Credentials, from_docker_config
from chainbuild.text import escaped
from chainbuild.values import replace

REGISTRY_IMAGE: Final = compose.REGISTRY_IMAGE
COMPOSE_FILE_NAME: Final = "docker-compose-registry.yml"
_GLANCE_SECONDS: Final = 15.0
"""In seconds: how long a status query waits for a run that starts or stops a registry."""

Kind = Literal["none", "run", "person", "foreign", "other-user", "blocked"]


class RegistryStatus(Struct, frozen=True, kw_only=True):
    """The state of the port.

    `kind`: `none`; `run` (the last run stops it); `person` (it runs until `down`); `foreign` (a registry that is not
    chainbuild's); `other-user` (the managed registry of another user); `blocked` (something that is no registry).
    """

    endpoint: str
    kind: Kind
    holder: str = ""
    """A description of the container or program that uses the port."""
    owner: str = ""
    """The user whose registry it is, if it is a managed one with a login."""
    data: str = ""
    login: bool = False
    """Whether the registry demands a login."""
    holders: tuple[Holder, ...] = ()
    until: float = 0.0
    """When it stops by itself, in seconds since the epoch; 0 if it does not."""

    @property
    def running(self) -> bool:
        """Return whether a registry responds."""
        return self.kind in {"run", "person", "foreign", "other-user"}


def ensure_image(emit: Emit, compose_file: Path | None = None) -> None:
    """Ensure that the local store has the registry's image: pull it, else build it from the distribution's package.

    Errors: `NotReadyError`.
    """
    compose.ensure_image(compose_file or shipped_compose_file(), emit)


def shipped_compose_file() -> Path:
    """Return the compose file that comes with chainbuild: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped" / COMPOSE_FILE_NAME
    return installed if installed.exists() else package.parent / COMPOSE_FILE_NAME


def default_data_folder() -> Path:
    """Return the folder of the user's managed registry."""
    return data_home() / "registry"


class ManagedRegistry:
    """The user's managed registry on a port.

    `data_folder` is where its content is kept (default: the user's data folder); `leases_folder` and `compose_file` are
    for tests and custom setups. `linger`: how many seconds it stays up after the last run.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        data_folder: Path | None = None,
        *,
        compose_file: Path | None = None,
        leases_folder: Path | None = None,
        docker_login: bool = True,
        linger: float = 0.0,
    ) -> None:
        self.port = port
        self.linger = linger
        self.endpoint = f"localhost:{port}"
        self.data = Path(os.path.abspath(data_folder or default_data_folder()))  # noqa: PTH100 - links stay as they are
        self._private = leases_folder or default_folder()
        self._leases = Leases(port, leases_folder)
        self._docker_login = docker_login
        self.is_own = False
        """True if the leased registry is this user's: it has the user's login, and its data is in `data`."""
        self._compose = compose.Compose(
            compose_file or shipped_compose_file(),
            port,
            self.data,
            private=self._private / str(port),
            own_file=compose_file is not None,
        )
        self._login = lru_cache(maxsize=1)(logins.ensure_login)
        self._place = RegistryInstance(
            port=port, data=self.data, leases=self._leases, project=self._compose, login=self._login
        )

    # ---- for runs -----------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, emit: Emit) -> Iterator[str]:
        """Keep the registry (`localhost:PORT`) running for the `with` block; the last run stops one that a run started.

        If the registry is running, this takes one request and a few small files, and starts no process.

        Errors: `NotReadyError`; `BusyError` if another user's run needs the port.
        """
        lease: Lease | None = None
        joined: Joined | None = None
        stored: docker_login.Stored | None = None
        message = ""
        try:
            while joined is None:
                try:
                    with self._exclusive(emit):
                        lease = lease or self._leases.take(self.data)
                        joined = self._join(emit, "run")
                        if self.is_own and self._docker_login:
                            stored = self._tell_docker(emit)
                except compose.ImageMissingError:
                    # Release the mutex: this may take minutes.
                    ensure_image(emit)
            with docker_login.docker_config(stored):
                yield self.endpoint
        except NotReadyError as error:
            message = str(error)
            raise
        finally:
            if joined is not None:
                joined.reply.close()
            if lease is not None:
                with self._exclusive(emit):
                    self._leave_surely(lease, emit, message)

    def credentials(self, host: str) -> Credentials | None:
        """Return the login for a registry: the user's own for this one while a lease is held, else Docker's."""
        if host == self.endpoint and self.is_own:
            return self._login().credentials
        return from_docker_config(host)

    # ---- for people ---------------------------------------------------------------------------------------------------

    def up(self, emit: Emit) -> None:
        """Start it until `down`. This includes one that a run started.

        Errors: as `lease`.
        """
        joined: Joined | None = None
        while joined is None:
            try:
                with self._exclusive(emit):
                    joined = self._join(emit, "person")
                    try:
                        if mark := self._leases.marked():
                            container = containers.container_on(self.port)
                            if container is not None and container.ours:
                                containers.keep(container)
                            self._leases.unmark()
                            self._leases.note_kept(mark.data)
                        if self.is_own and self._docker_login:
                            self._tell_docker(emit)
                    finally:
                        joined.reply.close()
            except compose.ImageMissingError:
                ensure_image(emit)

    def down(self, emit: Emit, *, force: bool = False) -> bool:
        """Stop it; False if none was running. The data is kept.

        Errors: `BusyError` while runs hold leases (unless `force`); `NotReadyError` if the registry on the port is not this
        user's.
        """
        with self._exclusive(emit):
            holders = self._leases.holders()
            if holders and not force:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n{_listed(holders)}",
                    hint="Wait for it, or stop it regardless with --force (those runs will fail).",
                )
            container = containers.container_on(self.port)
            if container is not None and container.ours and self._is_mine(container):
                self._compose.down(container.id)
                self._leases.unmark()
                self._leases.note_kept("")
                linger.stop_clock(Path(container.data or self.data), self.port)
                return True
            self._leases.unmark()
            self._leases.note_kept("")
            if container is None and knock.ask(self.endpoint) == "nothing":
                # A container that stopped by itself still exists.
                self._compose.clear(logins.owner())
                return False
            whose = container.owner if container is not None and container.ours else ""
            whose = whose or ports.holder_of(self.port) or "another user"
            raise NotReadyError(
                f"the registry at {self.endpoint} was not started by you: {whose} has the port",
                hint="Stop it where it was started.",
            )

    def sweep(self, emit: Emit, collect: Callable[[], None]) -> None:
        """Run `collect` while no other run can use the data, then make the registry free unreferenced blobs.

        Errors: `BusyError` while another run uses the data, on this port or another one.
        """
        with self._exclusive(emit), ExitStack() as stack:
            others = [holder for holder in self._leases.holders() if holder.pid != os.getpid()]
            for leases in all_leases(self._private):
                # The same data may be served on another port or, if the home folder is shared, by another machine.
                if leases.place != self._leases.place:
                    stack.enter_context(leases.exclusive(seconds=_GLANCE_SECONDS))
                    others += [holder for holder in leases.holders() if holder.data == str(self.data)]
                    if leases.place.parent == self._private:
                        self._end_lingering(leases)
            if others:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n{_listed(others)}",
                    hint="Run it again after those runs have ended.",
                )
            collect()
            container = containers.container_on(self.port)
            if container is None or not container.ours or not self._is_mine(container):
                say(emit, "chainbuild does not manage this registry: it frees the space at its next garbage collection")
                return
            containers.collect_blobs(container.id)
            for other in containers.containers_with(self.data):
                # Every registry caches its list of blobs.
                if other.id != container.id:
                    containers.restart(other.id)
            limit = time.monotonic() + READY_SECONDS
            while knock.ask(self.endpoint) != "registry" and time.monotonic() < limit:
                time.sleep(POLL_SECONDS)

    def status(self) -> RegistryStatus:
        """Return what is on the port, who uses it, and who stops it."""
        with self._leases.exclusive(seconds=_GLANCE_SECONDS):
            holders, mark = self._leases.holders(), self._leases.marked()
            if stranger := ports.other_listener(self.port):
                return RegistryStatus(endpoint=self.endpoint, kind="blocked", holder=stranger)
            reply = knock.knock(self.endpoint)
            reply.close()
            if reply.answer == "nothing":
                return RegistryStatus(endpoint=self.endpoint, kind="none", holders=holders)
            if reply.answer == "something else":
                return RegistryStatus(endpoint=self.endpoint, kind="blocked", holder=ports.holder_of(self.port))
            realm = logins.read_realm(reply.challenge or "")
            login = reply.challenge is not None
            container = containers.container_on(self.port)
            until = mark.until if mark is not None and not holders and mark.until > time.time() else 0.0
            if realm is not None and realm.login != self._login().id:
                return RegistryStatus(
                    endpoint=self.endpoint,
                    kind="other-user",
                    holder=ports.holder_of(self.port),
                    owner=realm.owner,
                    login=login,
                )
            if container is None or not container.ours:
                return RegistryStatus(
                    endpoint=self.endpoint,
                    kind="foreign",
                    holder=ports.holder_of(self.port),
                    holders=holders,
                    login=login,
                )
            return RegistryStatus(
                endpoint=self.endpoint,
                kind="run" if _is_marked(mark, container) else "person",
                holder=f"container {container.name}",
                owner=realm.owner if realm else container.owner,
                data=container.data,
                login=login,
                holders=holders,
                until=until if _is_marked(mark, container) else 0.0,
            )

    # ---- phases; all need the mutex -----------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self, emit: Emit) -> Iterator[None]:
        def on_wait(holder: str) -> None:
            say(emit, f"waiting for a run that starts or stops the registry: {holder}")

        with self._leases.exclusive(on_wait):
            yield

    def _join(self, emit: Emit, started_by: compose.StartedBy) -> Joined:
        self.is_own = False
        joined = Arrival(self._place, emit).join(started_by)
        self.is_own = joined.own
        return joined

    def _is_mine(self, container: containers.Container) -> bool:
        """Return whether this user started a container of chainbuild (if started by hand: whether it has this user's data)."""
        if container.owner:
            return container.owner == logins.owner()
        return container.data in {"", str(self.data)}

    def _leave_surely(self, lease: Lease, emit: Emit, said: str = "") -> None:
        """Leave even if interrupted once; a second interrupt takes effect."""
        try:
            self._leave(lease, emit, said)
        except KeyboardInterrupt:
            self._leave(lease, emit, said)
            raise

    def _leave(self, lease: Lease, emit: Emit, said: str) -> None:
        """Release the lease; the last run stops what a run started. `said` is the error that ends the run anyway."""
        lease.release()
        mark = self._leases.marked()
        if mark is None or self._leases.holders():
            return
        try:
            if mark.container and not said and self._stays(mark, emit):
                return
            if mark.container:
                self._compose.down(mark.container)
            else:
                self._compose.clear(logins.owner())
        except NotReadyError as error:
            # The run's result is valid. Keep the mark, so that the next run tries again.
            if str(error) != said:
                warn(emit, f"the registry at {self.endpoint} was not stopped: {error}")
        else:
            self._leases.unmark()

    def _stays(self, mark: Mark, emit: Emit) -> bool:
        """Let the registry stay up for a while; False if it is to stop now."""
        if self.linger <= 0:
            return False
        if self._compose.own_file:
            warn(emit, "--registry-linger has no effect on a registry of your own compose file")
            return False
        # Note it first: if this run is killed, the next one knows that the registry may stop.
        self._leases.mark(replace(mark, until=time.time() + self.linger))
        try:
            linger.start_clock(mark.container, Path(mark.data), self.port, self.linger)
        except NotReadyError as error:
            warn(emit, f"the registry at {self.endpoint} stops now: {error}")
            return False
        return True

    def _end_lingering(self, leases: Leases) -> None:
        """Stop a registry on another port that has this data and that only waits for its end. Needs that port's mutex."""
        mark = leases.marked()
        if mark is not None and mark.until and mark.data == str(self.data) and not leases.holders():
            containers.remove(mark.container)
            leases.unmark()

    def _tell_docker(self, emit: Emit) -> docker_login.Stored:
        stored = docker_login.ensure_docker_login(self.endpoint, self._login())
        if text := docker_login.explain(stored, self.endpoint):
            say(emit, text)
        return stored


def _listed(holders: Iterable[Holder]) -> str:
    """Return who holds leases, a line each; command lines are in it."""
    return "\n".join(f"    {escaped(str(holder))}" for holder in holders)


def _is_marked(mark: Mark | None, container: containers.Container) -> bool:
    return mark is not None and container.ours and mark.container in {"", container.id}
