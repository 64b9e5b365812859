"""Find out who listens on a port, who uses the registry there, and what responds.

Part of it concerns the registry of another user on the port: whether a run of theirs needs it, and how to remove it if not.

Users cannot see each other's leases. What they can see is the container, if the Docker Engine is one for all of them. So
each run of chainbuild keeps one connection to the registry open as long as it needs the registry; the kernel closes the
connection when the process dies, however it dies. A registry that a run started (its label says so), and that has no
connection from outside, is needed by no one.

Between looking and removing, a new run of the owner may come. Both sides therefore announce themselves before they
look (Dekker's algorithm): whoever wants to remove renames the container and then counts the connections; a run of the
owner that finds a registry without living runs connects first and then reads the container's name. At least one of them
sees the other, and that one steps back. The container is removed by its id, so it is never a later one.

A probe of the port tells a registry, nothing and anything else apart, and may keep its connection open.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import NotReadyError
from chainbuild.host.user_folders import user_name
from chainbuild.local_registry import containers
from chainbuild.patterns import regex
from chainbuild.registry.http.answers import is_registry
from chainbuild.registry.http.plain_transport import PlainTransport
from chainbuild.registry.http.transport import HttpRequest, TransportError
from chainbuild.text import escaped

_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
_ALL_USERS: Final = regex(r"\s*0\s+0\s+4294967295\s*$")
# What `localhost` may mean: 127.0.0.1, 0.0.0.0, ::1, ::. Each group of eight digits is a word in the machine's byte order.
_LISTENING: Final = (
    ("/proc/net/tcp", ("0100007F", "7F000001", "00000000")),
    ("/proc/net/tcp6", ("0" * 24 + "01000000", "0" * 31 + "1", "0" * 32)),
)
_SOCKET: Final = regex(r"socket:\[(\d+)\]")


def holder_of(port: int) -> str:
    """Return what listens on the TCP port, in words (`nginx (pid 812)`, `container web`); empty if that cannot be seen."""
    program = _from_proc(port) or _from_lsof(port)
    # The engine holds a container's port; the container's name is more useful.
    if not program or program.startswith(("docker", "com.docker", "rootlesskit", "vpnkit")):
        return _container(port) or program
    return program


def listening_users(port: int) -> frozenset[int]:
    """Return the numbers of the users whose processes listen on the TCP port at `localhost`, as far as they can be seen.

    This comes from the kernel (/proc/net/tcp, proc(5)), so no process can impersonate another user. A container's port is
    held by the engine: root, or the user of a rootless engine.
    """
    # In a user namespace, all users outside it have the same number.
    with suppress(OSError):
        if not _ALL_USERS.match(Path("/proc/self/uid_map").read_text(encoding="ascii")):
            return frozenset()
    users: set[int] = set()
    for name, addresses in _LISTENING:
        with suppress(OSError), Path(name).open(encoding="ascii", buffering=4096) as table:
            next(table, None)
            for line in table:
                fields = line.split()
                # Listening sockets come first; on a busy machine thousands of others follow.
                if len(fields) < 10 or fields[3] != _LISTEN:
                    break
                address, _, number = fields[1].rpartition(":")
                if number == f"{port:04X}" and address in addresses:
                    users.add(int(fields[7]))
    return frozenset(users)


def listeners(table: str, port: int) -> Iterator[str]:
    """Yield the socket inodes that listen on the port, from the text of /proc/net/tcp or tcp6 (proc(5))."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN and fields[1].rpartition(":")[2] == f"{port:04X}":
            yield fields[9]


def _from_proc(port: int) -> str:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            inodes.update(listeners(Path(table).read_text(encoding="ascii"), port))
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                match = _SOCKET.fullmatch(str(descriptor.readlink()))
                if match and match[1] in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"{name} (pid {process.name})"
    return ""


def _from_lsof(port: int) -> str:
    import shutil

    if not shutil.which("lsof"):
        return ""
    output = _output("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
    fields = {line[:1]: line[1:] for line in output.splitlines()}
    return f"{fields['c']} (pid {fields['p']})" if {"c", "p"} <= fields.keys() else ""


def _container(port: int) -> str:
    import shutil

    if not shutil.which("docker"):
        return ""
    names = _output("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
    return f"container {names[0]}" if names else ""


def _output(*argv: str) -> str:
    # Imported on demand: a run with a running registry starts no process.
    import subprocess

    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def other_listener(port: int) -> str:
    """Return the process of another user that listens on the port, in words; nothing if there is none.

    The engine listens for a container: as root, or as the user whose engine it is.
    """
    others = sorted(listening_users(port) - {0, os.geteuid()})
    return f"a program of user {user_name(others[0])}" if others else ""


def another_port(port: int) -> int:
    """Return a free port to suggest."""
    return port + 50 if port <= 65_485 else port - 50


def port_taken(port: int, holder: str) -> NotReadyError:
    """Return the error for a port that another program uses."""
    other = another_port(port)
    who = escaped(holder) or "another program"
    return NotReadyError(
        f"port {port} of the chain registry is in use by {who}, which is not a registry",
        hint=f"Stop it, or use another port: --registry-port {other} or CHAINBUILD_REGISTRY_PORT={other}.",
    )


YOUNG_SECONDS: Final = 15.0
"""In seconds: the run that started a younger registry may not be connected yet."""
_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.05


def is_needed(container: str) -> bool:
    """Return whether a registry has a connection from outside; True if unknown.

    A closed connection remains visible for some milliseconds.
    """
    for _ in range(_LOOKS):
        count = containers.connections(container)
        if count == 0:
            return False
        time.sleep(_BETWEEN_LOOKS)
    return True


def take_away(container: containers.Container) -> bool:
    """Remove the registry of another user if no run needs it; return whether it was removed.

    A new one is kept; otherwise two users who start at once would remove each other's forever.

    Errors: `NotReadyError` if the engine cannot remove it.
    """
    if container.kept or container.being_taken or container.age < YOUNG_SECONDS or is_needed(container.id):
        return False
    announced = containers.taken_name(container)
    if not containers.rename(container.id, announced):
        return False
    try:
        # A third user may have renamed it at the same time: the last name applies.
        if containers.name_of(container.id) != announced:
            return False
        if is_needed(container.id):
            # Unless the owner has renamed it in the meantime to keep it.
            if containers.name_of(container.id) == announced:
                containers.rename(container.id, container.name)
            return False
    except BaseException:
        containers.rename(container.id, container.name)
        raise
    containers.remove(container.id)
    return True


# In seconds: long enough for a registry on a busy disk, short enough for a waiting user.
_PING_SECONDS: Final = 5.0

Answer = Literal["registry", "nothing", "something else"]


class Reply(Struct, frozen=True, kw_only=True):
    """The response on the port. `presence` is the connection used, which stays open until `close`."""

    answer: Answer
    challenge: str | None = None
    """The `WWW-Authenticate` header; None if the registry demands no login."""
    presence: PlainTransport | None = None

    def close(self) -> None:
        """Close the connection."""
        if self.presence is not None:
            self.presence.close()


def ask(endpoint: str, seconds: float = _PING_SECONDS) -> Answer:
    """Return what responds at `host:port`: a registry (OCI spec, "Determining Support"), nothing, something else."""
    reply = knock(endpoint, seconds)
    reply.close()
    return reply.answer


def knock(endpoint: str, seconds: float = _PING_SECONDS) -> Reply:
    """Probe `host:port` and keep the connection open."""
    transport = PlainTransport(connect_seconds=seconds)
    request = HttpRequest(method="GET", url=f"http://{endpoint}/v2/", answer_seconds=seconds)
    try:
        response = transport.send(request)
        response.end_within(seconds)
        body = limits.read_start(response.chunks(), limits.ERROR_BODY)
        if len(body) == limits.ERROR_BODY.value:
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
