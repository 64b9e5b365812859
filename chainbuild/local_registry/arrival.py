"""Get a registry on the port: use a running one, start one, or wait for another user's to stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.host.folders import hide_from_git
from chainbuild.host.user_folders import private_folder
from chainbuild.local_registry import compose, containers, linger, ports
from chainbuild.local_registry import login as logins
from chainbuild.local_registry import ports as knock
from chainbuild.local_registry import ports as neighbours
from chainbuild.local_registry.leases import Leases, Mark, shown_command
from chainbuild.local_registry.ports import Reply
from chainbuild.values import replace

NEIGHBOUR_SECONDS: Final = 30.0
"""How long to wait for the registry of another user to go away."""

# A registry starts in half a second; a minute allows for a very busy machine.
READY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
_SETTLE_SECONDS: Final = 0.5
_SETTLE_TRIES: Final = 5
_TAKING_SECONDS: Final = 20.0
_TRIES: Final = 5
_OTHERS_START_SECONDS: Final = 2.0

Whose = Literal["own", "open", "other user", "foreign"]


class RegistryInstance(Struct, frozen=True, kw_only=True):
    """A port of this machine for a user: the data, the leases, the compose project and the login."""

    port: int
    data: Path
    leases: Leases
    project: compose.Compose
    login: Callable[[], logins.Login]

    @property
    def endpoint(self) -> str:
        """Return `localhost:PORT`."""
        return f"localhost:{self.port}"


class Joined(Struct, frozen=True, kw_only=True):
    """The registry that a run uses. If it is the user's own, the reply's connection is still open."""

    reply: Reply
    own: bool


class Arrival:
    """One attempt to get a registry. All methods require the mutex of the port."""

    def __init__(self, place: RegistryInstance, emit: Emit) -> None:
        self._place = place
        self._emit = emit

    def join(self, started_by: compose.StartedBy) -> Joined:
        """Find the registry or start it; the reply's connection stays open if the registry is the user's own."""
        patience = _Patience(self._emit)
        for tries_left in reversed(range(_TRIES)):
            reply = self._settled()
            if reply.answer == "nothing":
                reply = self._start(started_by) or self._settled()
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
                raise ports.port_taken(self._place.port, ports.holder_of(self._place.port))
            if whose != "own":
                reply.close()
                self._tell_about_stranger(whose)
                return Joined(reply=reply, own=False)
            if not self._is_taken_away():
                return Joined(reply=reply, own=True)
            reply.close()
        raise BusyError(
            f"the registry at {self._place.endpoint} keeps stopping", hint="Another user stops it: choose another port."
        )

    def _settled(self) -> Reply:
        """Ask what answers; a registry that is just starting gets a moment (the engine listens before the registry does).

        Errors: `NotReadyError` if a process of another user listens: it gets neither the login nor the images.
        """
        if stranger := ports.other_listener(self._place.port):
            raise ports.port_taken(self._place.port, stranger)
        for tries_left in reversed(range(_SETTLE_TRIES)):
            reply = knock.knock(self._place.endpoint)
            if reply.answer != "something else" or not tries_left:
                break
            reply.close()
            time.sleep(_SETTLE_SECONDS)
        return reply

    def _whose(self, reply: Reply) -> Whose:
        """Return the owner of the registry that answered."""
        if reply.challenge is None:
            return "open"
        realm = logins.read_realm(reply.challenge)
        if realm is None:
            return "foreign"
        return "own" if realm.login == self._place.login().id else "other user"

    def _is_taken_away(self) -> bool:
        """Return whether another user has just removed the registry, or waits for them to decide.

        Only a registry that a run started and that no living run holds can be taken: see `neighbours`.
        """
        mark = self._place.leases.marked()
        if mark is None:
            self._tell_of_other_data(self._place.leases.kept_data())
            return False
        if mark.until:
            linger.stop_clock(Path(mark.data), self._place.port)
            if linger.is_ending(mark.until):
                self._place.project.down(mark.container)
                return True
            mark = replace(mark, until=0.0)
            self._place.leases.mark(mark)
        if len(self._place.leases.holders()) > 1:
            self._tell_of_other_data(mark.data)
            return False
        limit = time.monotonic() + _TAKING_SECONDS
        while (container := containers.container_on(self._place.port)) is not None and container.being_taken:
            if time.monotonic() > limit:
                # The process that wanted to remove it died. It is this user's registry, and no run needs it.
                self._place.project.down(container.id)
                return True
            time.sleep(_SETTLE_SECONDS)
        if container is None:
            # It was removed, or Docker now uses another engine.
            return knock.ask(self._place.endpoint) != "registry"
        if not container.ours:
            return True
        if mark.data != str(self._place.data):
            # Left by a killed run, with data that this run does not want.
            self._place.project.down(container.id)
            return True
        if mark.container != container.id:
            self._place.leases.mark(Mark(container=container.id, data=container.data or mark.data))
        return False

    def _tell_of_other_data(self, data: str) -> None:
        if data and data != str(self._place.data):
            warn(self._emit, f"the registry at {self._place.endpoint} is already running with its data in {data}")

    def _meet_other_user(self, reply: Reply, patience: _Patience) -> None:
        """Take the port over from an unused registry, or wait briefly. Errors: `BusyError`."""
        container = containers.container_on(self._place.port)
        realm = logins.read_realm(reply.challenge or "")
        owner = (container.owner if container else "") or (realm.owner if realm else "another user")
        command = f": {container.command}" if container and container.command else ""
        if container is not None and container.kept and container.owner == logins.owner():
            raise NotReadyError(
                f"the registry at {self._place.endpoint} is yours, but its login differs from {logins.login_path()}",
                hint="Restart it: chainbuild registry down; chainbuild registry up.",
            )
        if container is not None and container.kept:
            raise self._busy(
                f"port {self._place.port} is used by the registry of {owner}, which runs until they stop it"
            )
        if container is not None and neighbours.take_away(container):
            patience.say(
                f"the run of {owner} that had the registry at {self._place.endpoint} has ended: taking over the port"
            )
            return
        if patience.ended:
            raise self._busy(f"port {self._place.port} is in use by the registry of {owner}{command}")
        patience.say(
            f"waiting up to {NEIGHBOUR_SECONDS:.0f} s for the registry of {owner} at {self._place.endpoint} to stop{command}"
        )
        time.sleep(_SETTLE_SECONDS)

    def _busy(self, message: str) -> BusyError:
        other = ports.another_port(self._place.port)
        return BusyError(
            message,
            hint=f"Wait for it, or use a port of your own: --registry-port {other} or CHAINBUILD_REGISTRY_PORT={other}.",
        )

    def _tell_about_stranger(self, whose: Whose) -> None:
        """Warn about a registry without a login, or one that chainbuild did not start."""
        if whose != "open":
            return
        container = containers.container_on(self._place.port)
        if container is not None and container.ours and not container.owner and not container.data:
            warn(
                self._emit,
                f"the registry at {self._place.endpoint} was started by an earlier version of chainbuild: it has no login, and "
                "every build can write to it. Restart it: chainbuild registry down; chainbuild registry up",
            )
        elif container is not None and container.ours:
            warn(
                self._emit,
                f"the registry at {self._place.endpoint} has no login: every user of this machine can write to it. "
                "Restart it: chainbuild registry down; chainbuild registry up",
            )

    def _start(self, started_by: compose.StartedBy) -> Reply | None:
        """Start the registry. Returns its first answer with the connection open; None if another one has the port."""
        hide_from_git(private_folder(self._place.data))
        login = self._place.login()
        logins.hand_to_registry(login, self._place.data)
        self._place.leases.note_kept(str(self._place.data) if started_by == "person" else "")
        if started_by == "run":
            # Write the mark first: if this run is killed, the next one knows the owner.
            self._place.leases.mark(Mark(container="", data=str(self._place.data)))
        began = time.monotonic()
        try:
            self._place.project.up(started_by, logins.owner(), shown_command(sys.argv), self._emit)
        except compose.PortTakenError:
            # Another user may have been faster: their registry is just starting, or existed only briefly.
            limit = time.monotonic() + _OTHERS_START_SECONDS
            while knock.ask(self._place.endpoint) != "registry" and time.monotonic() < limit:
                time.sleep(POLL_SECONDS)
            self._place.leases.unmark()
            return None
        limit = time.monotonic() + READY_SECONDS
        while (reply := knock.knock(self._place.endpoint)).answer != "registry":
            reply.close()
            if time.monotonic() > limit:
                raise NotReadyError(
                    f"the registry at {self._place.endpoint} is unreachable ({reply.answer})",
                    hint=self._place.project.logs(),
                )
            time.sleep(POLL_SECONDS)
        if reply.challenge is None and not self._place.project.own_file:
            reply.close()
            raise NotReadyError(
                f"the registry at {self._place.endpoint} started without a login: the Docker Engine does not see "
                f"{self._place.data}",
                hint="If chainbuild is in a container, or the engine on another machine or in a virtual machine: set "
                "CHAINBUILD_REGISTRY_DATA to a folder that both see under the same path.",
            )
        say(self._emit, f"the chain registry is running at {self._place.endpoint} ({time.monotonic() - began:.1f} s)")
        return reply


class _Patience:
    """Waits for another user's registry up to a limit, and reports that once."""

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
            say(self._emit, text)


def say(emit: Emit, text: str) -> None:
    """Emit a message for the user."""
    emit(Message(text=text))


def warn(emit: Emit, text: str) -> None:
    """Emit a warning for the user."""
    emit(Message(level="warning", text=text))
