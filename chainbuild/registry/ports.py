"""Who listens on a port of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainbuild.errors import NotReadyError
from chainbuild.userdirs import user_name
from chainbuild.wording import escaped

_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
_ALL_USERS: Final = re.compile(r"\s*0\s+0\s+4294967295\s*$")
# What `localhost` may mean: 127.0.0.1, 0.0.0.0, ::1, ::. Each group of eight digits is a word in the machine's byte order.
_LISTENING: Final = (
    ("/proc/net/tcp", ("0100007F", "7F000001", "00000000")),
    ("/proc/net/tcp6", ("0" * 24 + "01000000", "0" * 31 + "1", "0" * 32)),
)
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


def holder_of(port: int) -> str:
    """What listens on the TCP port, in words (`nginx (pid 812)`, `container web`); empty where that cannot be seen."""
    program = _from_proc(port) or _from_lsof(port)
    # A container's port is held by the engine: its own name says more.
    if not program or program.startswith(("docker", "com.docker", "rootlesskit", "vpnkit")):
        return _container(port) or program
    return program


def listening_users(port: int) -> frozenset[int]:
    """Return the numbers of the users whose processes listen on the TCP port at `localhost`, as far as they can be seen.

    The kernel says so (/proc/net/tcp, proc(5)), so no process can pretend to be another user's. A container's port is
    held by the engine: root, or the user of a rootless engine.
    """
    # In a user namespace, users outside it all have one number.
    with suppress(OSError):
        if not _ALL_USERS.match(Path("/proc/self/uid_map").read_text(encoding="ascii")):
            return frozenset()
    users: set[int] = set()
    for name, addresses in _LISTENING:
        with suppress(OSError), Path(name).open(encoding="ascii", buffering=4096) as table:
            next(table, None)
            for line in table:
                fields = line.split()
                # Sockets that listen come first; on a busy machine many thousands of others follow.
                if len(fields) < 10 or fields[3] != _LISTEN:
                    break
                address, _, number = fields[1].rpartition(":")
                if number == f"{port:04X}" and address in addresses:
                    users.add(int(fields[7]))
    return frozenset(users)


def listeners(table: str, port: int) -> Iterator[str]:
    """The socket inodes that listen on the port, from the text of /proc/net/tcp or tcp6 (proc(5))."""
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
                found = _SOCKET.fullmatch(str(descriptor.readlink()))
                if found and found[1] in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"{name} (pid {process.name})"
    return ""


def _from_lsof(port: int) -> str:
    import shutil

    if not shutil.which("lsof"):
        return ""
    told = _output("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
    fields = {line[:1]: line[1:] for line in told.splitlines()}
    return f"{fields['c']} (pid {fields['p']})" if {"c", "p"} <= fields.keys() else ""


def _container(port: int) -> str:
    import shutil

    if not shutil.which("docker"):
        return ""
    names = _output("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
    return f"container {names[0]}" if names else ""


def _output(*argv: str) -> str:
    # Late: every run asks who listens, and a run that finds the registry up starts no process.
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
    """Return a port to propose instead."""
    return port + 50 if port <= 65_485 else port - 50


def port_taken(port: int, holder: str) -> NotReadyError:
    """Return the error for a port that something else holds."""
    other = another_port(port)
    who = escaped(holder) or "another program"
    return NotReadyError(
        f"port {port}, which the chain registry needs, is taken by {who}, which is no registry",
        hint=f"Stop it, or use another port: --registry-port {other} or CHAINBUILD_REGISTRY_PORT={other}.",
    )
