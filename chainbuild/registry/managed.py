"""The user's managed chain registry: a container on a port of this machine, up while runs (or a person) need it.

Several kinds of registry may answer on the port. One that a run started is marked as such (`leases`), and the last run
stops it. One that a person started, with `chainbuild registry up` or with compose, runs until a person stops it. Both
know the user's login (`login`), so one request tells them from the registry of another user of the machine, which is
left alone while it is needed (`neighbours`). Any other registry is used as it is and never stopped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.registry import compose, docker_login, neighbours, ports
from chainbuild.registry import login as logins
from chainbuild.registry.credentials import Credentials, Lookup, from_docker_config
from chainbuild.registry.leases import Holder, Lease, Leases, Mark, all_leases, default_folder, shown_command
from chainbuild.registry.transport import PlainTransport, Request, TransportError
from chainbuild.userdirs import data_home, private_folder

DEFAULT_PORT: Final = 5000
REGISTRY_IMAGE: Final = compose.REGISTRY_IMAGE
COMPOSE_FILE_NAME: Final = "docker-compose-registry.yml"
NEIGHBOUR_SECONDS: Final = 30.0
"""How long to wait for the registry of another user to go away."""

# A registry starts in half a second; a minute is a machine that is busy with everything else.
_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
# Long enough for a registry on a busy disk, short enough for a person who waits.
_PING_SECONDS: Final = 5.0
_LARGEST_ANSWER: Final = 1 << 16
_GLANCE_SECONDS: Final = 15.0
"""How long a look waits for a run that starts or stops a registry."""
_SETTLE_SECONDS: Final = 0.5
_SETTLE_TRIES: Final = 5
_TAKING_SECONDS: Final = 20.0
_TRIES: Final = 5
_OTHERS_START_SECONDS: Final = 2.0

Answer = Literal["registry", "nothing", "something else"]
Kind = Literal["none", "run", "person", "foreign", "other-user", "blocked"]
Whose = Literal["own", "open", "other user", "foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryStatus:
    """What is on the port.

    `kind`: `none`; `run` (the last run stops it); `person` (it runs until `down`); `foreign` (a registry that is not
    chainbuild's); `other-user` (the managed registry of another user); `blocked` (something that is no registry).
    """

    endpoint: str
    kind: Kind
    holder: str = ""
    """The container or program that holds the port, in words."""
    owner: str = ""
    """The user whose registry it is, if it is a managed one with a login."""
    data: str = ""
    login: bool = False
    """Whether the registry demands a login."""
    holders: tuple[Holder, ...] = ()

    @property
    def running(self) -> bool:
        """Whether a registry answers."""
        return self.kind in {"run", "person", "foreign", "other-user"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What answered on the port. `presence` is the connection that was asked through; it is open until it is closed."""

    answer: Answer
    challenge: str | None = None
    """The `WWW-Authenticate` header; None if the registry demands no login."""
    presence: PlainTransport | None = None

    def close(self) -> None:
        """Close the connection."""
        if self.presence is not None:
            self.presence.close()


def ensure_image(emit: Emit, compose_file: Path | None = None) -> None:
    """See that the local store has the registry's image: pulled, else built from the distribution's package.

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

    `data_folder` is where its content is kept (default: the user's one place); `leases_folder` and `compose_file` are
    for tests and for users who bring their own.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        data_folder: Path | None = None,
        *,
        compose_file: Path | None = None,
        leases_folder: Path | None = None,
        docker_login: bool = True,
    ) -> None:
        self.port = port
        self.endpoint = f"localhost:{port}"
        self.data = Path(os.path.abspath(data_folder or default_data_folder()))  # noqa: PTH100 - links stay as they are
        self._private = leases_folder or default_folder()
        self._leases = Leases(port, leases_folder)
        self._login: logins.Login | None = None
        self._docker_login = docker_login
        self.is_own = False
        """Whether the registry that a lease is held on is this user's: the login is for it, and its data is in `data`."""
        self._compose = compose.Compose(
            compose_file or shipped_compose_file(), port, self.data,
            private=self._private / str(port), own_file=compose_file is not None,
        )  # fmt: skip

    # ---- for runs -----------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, emit: Emit) -> Iterator[str]:
        """Have the registry (`localhost:PORT`) while the `with` lasts; the last run stops what a run started.

        If the registry is up, that costs one request and a few small files: no process is started.

        Errors: `NotReadyError`; `BusyError` if another user's run needs the port.
        """
        lease: Lease | None = None
        reply: Reply | None = None
        stored: docker_login.Stored | None = None
        try:
            while reply is None:
                try:
                    with self._exclusive(emit):
                        lease = lease or self._leases.take(self.data)
                        reply = self._join(emit, "run")
                        if self.is_own and self._docker_login:
                            stored = self._tell_docker(emit)
                except compose.ImageMissingError:
                    # Without the mutex: this may take minutes.
                    ensure_image(emit)
            with docker_login.docker_config(stored):
                yield self.endpoint
        finally:
            if reply is not None:
                reply.close()
            if lease is not None:
                with self._exclusive(emit):
                    self._leave_surely(lease, emit)

    def credentials(self, host: str) -> Credentials | None:
        """Return the login for a registry: the user's own for this one while a lease is held, else Docker's."""
        if host == self.endpoint and self.is_own and self._login is not None:
            return self._login.credentials
        return from_docker_config(host)

    @property
    def lookup(self) -> Lookup:
        """The credentials for a pool of clients."""
        return self.credentials

    # ---- for people ---------------------------------------------------------------------------------------------------

    def up(self, emit: Emit) -> None:
        """Start it for a person: it runs until `down`. One that a run started becomes the person's.

        Errors: as `lease`.
        """
        reply: Reply | None = None
        while reply is None:
            try:
                with self._exclusive(emit):
                    reply = self._join(emit, "person")
                    try:
                        if self._leases.marked() is not None:
                            container = compose.container_on(self.port)
                            if container is not None and container.ours:
                                compose.keep(container)
                            self._leases.unmark()
                        if self.is_own and self._docker_login:
                            self._tell_docker(emit)
                    finally:
                        reply.close()
            except compose.ImageMissingError:
                ensure_image(emit)

    def down(self, emit: Emit, *, force: bool = False) -> bool:
        """Stop it; False if none was up. The data stays.

        Errors: `BusyError` while runs hold leases (unless `force`); `NotReadyError` if what is on the port is not this
        user's.
        """
        with self._exclusive(emit):
            holders = self._leases.holders()
            if holders and not force:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n" + "\n".join(f"    {holder}" for holder in holders),
                    hint="Wait for it, or stop it regardless with --force (those runs will fail).",
                )
            container = compose.container_on(self.port)
            if container is not None and container.ours and self._is_mine(container):
                self._compose.down(container.id)
                self._leases.unmark()
                return True
            self._leases.unmark()
            if container is None and self._ask() == "nothing":
                # A container that stopped by itself is still there.
                self._compose.clear(logins.owner())
                return False
            whose = container.owner if container is not None and container.ours else ""
            raise NotReadyError(
                f"the registry at {self.endpoint} was not started by you: {whose or self._holder() or 'another user'} "
                "has the port",
                hint="Stop it where it was started.",
            )

    def sweep(self, emit: Emit, collect: Callable[[], None]) -> None:
        """Run `collect` while no other run can need the data, then let the registry free the blobs that nothing needs.

        Errors: `BusyError` while another run uses the data, on this port or another one.
        """
        with self._exclusive(emit), ExitStack() as stack:
            others = [holder for holder in self._leases.holders() if holder.pid != os.getpid()]
            for leases in all_leases(self._private):
                # The same data may be served on another port or, if the home folder is shared, by another machine.
                if leases.place != self._leases.place:
                    stack.enter_context(leases.exclusive(seconds=_GLANCE_SECONDS))
                    others += [holder for holder in leases.holders() if holder.data == str(self.data)]
            if others:
                raise BusyError(
                    f"the registry at {self.endpoint} is in use:\n" + "\n".join(f"    {holder}" for holder in others),
                    hint="Collect when those runs have ended.",
                )
            collect()
            container = compose.container_on(self.port)
            if container is None or not container.ours or not self._is_mine(container):
                _say(emit, "the registry is not chainbuild's: it frees the space at its own next garbage collection")
                return
            compose.collect_blobs(container.id)
            for other in compose.containers_with(self.data):
                # Every registry remembers which blobs there were.
                if other.id != container.id:
                    compose.restart(other.id)
            limit = time.monotonic() + _READY_SECONDS
            while self._ask() != "registry" and time.monotonic() < limit:
                time.sleep(_POLL_SECONDS)

    def status(self) -> RegistryStatus:
        """Return what is on the port, who uses it, and who stops it."""
        with self._leases.exclusive(seconds=_GLANCE_SECONDS):
            holders, mark = self._leases.holders(), self._leases.marked()
            if stranger := self._other_listener():
                return RegistryStatus(endpoint=self.endpoint, kind="blocked", holder=stranger)
            reply = self._knock()
            reply.close()
            if reply.answer == "nothing":
                return RegistryStatus(endpoint=self.endpoint, kind="none", holders=holders)
            if reply.answer == "something else":
                return RegistryStatus(endpoint=self.endpoint, kind="blocked", holder=self._holder())
            realm = logins.read_realm(reply.challenge or "")
            login = reply.challenge is not None
            container = compose.container_on(self.port)
            if realm is not None and realm.login != self._own_login().id:
                return RegistryStatus(
                    endpoint=self.endpoint, kind="other-user", holder=self._holder(), owner=realm.owner, login=login
                )
            if container is None or not container.ours:
                return RegistryStatus(
                    endpoint=self.endpoint, kind="foreign", holder=self._holder(), holders=holders, login=login
                )
            return RegistryStatus(
                endpoint=self.endpoint,
                kind="run" if _is_marked(mark, container) else "person",
                holder=f"container {container.name}",
                owner=realm.owner if realm else container.owner,
                data=container.data,
                login=login,
                holders=holders,
            )

    # ---- phases; all need the mutex -----------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self, emit: Emit) -> Iterator[None]:
        def say(holder: str) -> None:
            _say(emit, f"waiting for a run that starts or stops the registry: {holder}")

        with self._leases.exclusive(say):
            yield

    def _join(self, emit: Emit, started_by: compose.StartedBy) -> Reply:
        """Find the registry or start it; the reply's connection stays open if the registry is the user's own."""
        self.is_own = False
        patience = _Patience(emit)
        for tries_left in reversed(range(_TRIES)):
            reply = self._settled()
            if reply.answer == "nothing":
                reply = self._start(emit, started_by) or self._settled()
            if reply.answer == "nothing" and tries_left:
                continue
            while reply.answer == "registry" and (whose := self._whose(reply)) == "other user":
                reply.close()
                self._meet_other_user(reply, patience)
                reply = self._settled()
            if reply.answer == "nothing" and tries_left:
                continue
            if reply.answer != "registry":
                reply.close()
                raise port_taken(self.port, self._holder())
            if whose != "own":
                reply.close()
                self._tell_about_stranger(emit, whose)
                return Reply(answer="registry", challenge=reply.challenge)
            if not self._is_taken_away(emit):
                self.is_own = True
                return reply
            reply.close()
        raise BusyError(f"the registry at {self.endpoint} comes and goes", hint="Another user stops it: choose a port.")

    def _settled(self) -> Reply:
        """Ask; a registry that is just starting gets a moment (the engine listens before the registry does).

        Errors: `NotReadyError` if a process of another user listens: it gets neither the login nor the images.
        """
        if stranger := self._other_listener():
            raise port_taken(self.port, stranger)
        for tries_left in reversed(range(_SETTLE_TRIES)):
            reply = self._knock()
            if reply.answer != "something else" or not tries_left:
                break
            reply.close()
            time.sleep(_SETTLE_SECONDS)
        return reply

    def _whose(self, reply: Reply) -> Whose:
        """Return whose registry answered."""
        if reply.challenge is None:
            return "open"
        realm = logins.read_realm(reply.challenge)
        if realm is None:
            return "foreign"
        return "own" if realm.login == self._own_login().id else "other user"

    def _other_listener(self) -> str:
        """Return the process of another user that listens on the port, in words; nothing if there is none.

        The engine listens for a container: as root, or as the user whose engine it is.
        """
        others = sorted(ports.listening_users(self.port) - {0, os.geteuid()})
        return f"a program of user {_name_of(others[0])}" if others else ""

    def _is_taken_away(self, emit: Emit) -> bool:
        """Return whether another user has just removed the registry, or waits for them to decide.

        Only a registry that a run started and that no living run holds can be taken: see `neighbours`.
        """
        mark = self._leases.marked()
        if mark is None:
            return False
        if len(self._leases.holders()) > 1:
            if mark.data != str(self.data):
                _say(emit, f"the registry at {self.endpoint} is up already, with its data in {mark.data}")
            return False
        limit = time.monotonic() + _TAKING_SECONDS
        while (container := compose.container_on(self.port)) is not None and container.being_taken:
            if time.monotonic() > limit:
                # Whoever wanted to take it died over it. It is this user's registry, and no run needs it.
                self._compose.down(container.id)
                return True
            time.sleep(_SETTLE_SECONDS)
        if container is None:
            # Removed; or Docker speaks to another engine by now.
            return self._ask() != "registry"
        if not container.ours:
            return True
        if mark.container != container.id:
            self._leases.mark(Mark(container=container.id, data=container.data or mark.data))
        return False

    def _meet_other_user(self, reply: Reply, patience: _Patience) -> None:
        """Take the port over from a registry that nobody needs, or wait a moment. Errors: `BusyError`."""
        container = compose.container_on(self.port)
        realm = logins.read_realm(reply.challenge or "")
        owner = (container.owner if container else "") or (realm.owner if realm else "another user")
        command = f": {container.command}" if container and container.command else ""
        if container is not None and container.kept:
            raise self._busy(f"port {self.port} has the registry of {owner}, which runs until they stop it")
        if container is not None and neighbours.take_away(container):
            patience.say(f"the run of {owner} that had the registry at {self.endpoint} has ended: taking the port over")
            return
        if patience.ended:
            raise self._busy(f"port {self.port} is in use by the registry of {owner}{command}")
        patience.say(
            f"waiting up to {NEIGHBOUR_SECONDS:.0f} s for the registry of {owner} at {self.endpoint} to stop{command}"
        )
        time.sleep(_SETTLE_SECONDS)

    def _busy(self, message: str) -> BusyError:
        other = self.port + 50 if self.port <= 65_485 else self.port - 50
        return BusyError(
            message,
            hint=f"Wait for it, or use a port of your own: --registry-port {other} or CHAINBUILD_REGISTRY_PORT={other}.",
        )

    def _tell_about_stranger(self, emit: Emit, whose: Whose) -> None:
        """Say what is weaker about a registry without a login, or that it is not chainbuild's."""
        if whose != "open":
            return
        container = compose.container_on(self.port)
        if container is not None and container.ours and not container.owner and not container.data:
            _warn(
                emit,
                f"the registry at {self.endpoint} was started by an earlier version of chainbuild: it has no login, and "
                "every build can write to it. Restart it: chainbuild registry down; chainbuild registry up",
            )
        elif container is not None and container.ours:
            _say(
                emit,
                f"the registry at {self.endpoint} has no login: every user of this machine can write to it. "
                "Restart it: chainbuild registry down; chainbuild registry up",
            )

    def _is_mine(self, container: compose.Container) -> bool:
        """Return whether this user started a container of chainbuild (by hand: whether it has this user's data)."""
        if container.owner:
            return container.owner == logins.owner()
        return container.data in {"", str(self.data)}

    def _leave_surely(self, lease: Lease, emit: Emit) -> None:
        """Leave, even if an interrupt comes in between; a second one is obeyed."""
        try:
            self._leave(lease, emit)
        except KeyboardInterrupt:
            self._leave(lease, emit)
            raise

    def _leave(self, lease: Lease, emit: Emit) -> None:
        """Release the lease; the last run stops what a run started."""
        lease.release()
        mark = self._leases.marked()
        if mark is None or self._leases.holders():
            return
        try:
            if mark.container:
                self._compose.down(mark.container)
            else:
                self._compose.clear(logins.owner())
        except NotReadyError as error:
            # The run's result stands. The mark stays, so that the next run tries again.
            _warn(emit, f"the registry at {self.endpoint} could not be stopped: {error}")
        else:
            self._leases.unmark()

    def _start(self, emit: Emit, started_by: compose.StartedBy) -> Reply | None:
        """Start the registry. Returns its first answer with the connection open; None if another one has the port."""
        private_folder(self.data)
        login = self._own_login()
        logins.hand_to_registry(login, self.data)
        if started_by == "run":
            # Marked before it is up: killed in between, the next run still knows whose it is.
            self._leases.mark(Mark(container="", data=str(self.data)))
        began = time.monotonic()
        try:
            self._compose.up(started_by, logins.owner(), shown_command(sys.argv), emit)
        except compose.PortTakenError:
            # Another user may have been quicker: their registry is just starting, or was there for a moment only.
            limit = time.monotonic() + _OTHERS_START_SECONDS
            while self._ask() != "registry" and time.monotonic() < limit:
                time.sleep(_POLL_SECONDS)
            self._leases.unmark()
            return None
        limit = time.monotonic() + _READY_SECONDS
        while (reply := self._knock()).answer != "registry":
            reply.close()
            if time.monotonic() > limit:
                raise NotReadyError(
                    f"the registry does not answer at {self.endpoint} ({reply.answer})", hint=self._compose.logs()
                )
            time.sleep(_POLL_SECONDS)
        if reply.challenge is None and not self._compose.own_file:
            reply.close()
            raise NotReadyError(
                f"the registry at {self.endpoint} started without a login: the Docker Engine does not see {self.data}",
                hint="If chainbuild is in a container, or the engine on another machine or in a virtual machine: set "
                "CHAINBUILD_REGISTRY_DATA to a folder that both see under the same path.",
            )
        _say(emit, f"the chain registry is up at {self.endpoint} ({time.monotonic() - began:.1f} s)")
        return reply

    def _tell_docker(self, emit: Emit) -> docker_login.Stored:
        stored = docker_login.ensure_docker_login(self.endpoint, self._own_login())
        if text := docker_login.explain(stored, self.endpoint):
            _say(emit, text)
        return stored

    def _own_login(self) -> logins.Login:
        if self._login is None:
            self._login = logins.ensure_login()
        return self._login

    def _ask(self) -> Answer:
        reply = self._knock()
        reply.close()
        return reply.answer

    def _knock(self) -> Reply:
        return knock(self.endpoint)

    def _holder(self) -> str:
        return ports.holder_of(self.port)


class _Patience:
    """How long a run waits for another user's registry; says so once."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._limit: float | None = None
        self._said: set[str] = set()

    @property
    def ended(self) -> bool:
        if self._limit is None:
            self._limit = time.monotonic() + NEIGHBOUR_SECONDS
        return time.monotonic() > self._limit

    def say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _say(self._emit, text)


def ask(endpoint: str, seconds: float = _PING_SECONDS) -> Answer:
    """Return what answers at `host:port`: a registry (OCI spec, "Determining Support"), nothing, something else."""
    reply = knock(endpoint, seconds)
    reply.close()
    return reply.answer


def knock(endpoint: str, seconds: float = _PING_SECONDS) -> Reply:
    """Ask what is at `host:port`, and keep the connection open."""
    transport = PlainTransport(connect_seconds=seconds)
    request = Request(method="GET", url=f"http://{endpoint}/v2/", read_seconds=seconds)
    try:
        response = transport.send(request)
        body = b""
        for chunk in response.chunks():
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                transport.close()
                return Reply(answer="something else")
    except TransportError as error:
        transport.close()
        # Reset: docker's proxy listens before the registry in the container does.
        return Reply(answer="nothing" if error.fault in {"refused", "no-host"} else "something else")
    if not is_registry(response.status, response.headers, body):
        transport.close()
        return Reply(answer="something else")
    challenge = response.headers.get("www-authenticate", "") if response.status == 401 else None
    return Reply(answer="registry", challenge=challenge, presence=transport)


def is_registry(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether an answer to `GET /v2/` is a registry's: 200 or 401, with its header or an empty JSON object."""
    if status not in {200, 401}:
        return False
    if headers.get("docker-distribution-api-version", "").startswith("registry/2"):
        return True
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return document == {} if status == 200 else isinstance(document, dict) and "errors" in document


def port_taken(port: int, holder: str) -> NotReadyError:
    """Return the error for a port that something else holds."""
    other = port + 50 if port <= 65_485 else port - 50
    return NotReadyError(
        f"port {port}, which the chain registry needs, is taken by {holder or 'another program'}, which is no registry",
        hint=f"Stop it, or use another port: --registry-port {other} or CHAINBUILD_REGISTRY_PORT={other}.",
    )


def _is_marked(mark: Mark | None, container: compose.Container) -> bool:
    return mark is not None and container.ours and mark.container in {"", container.id}


def _name_of(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def _say(emit: Emit, text: str) -> None:
    emit(Message(text=text))


def _warn(emit: Emit, text: str) -> None:
    emit(Message(level="warning", text=text))
