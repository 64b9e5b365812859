"""The containers of managed registries: query and change them with `docker`.

Containers are addressed by id, so that a newer container is never mistaken for the queried one. Commands run outside the
tree, with a timeout, and failures come with a hint. Only this module runs `docker` for them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from chainbuild.errors import NotReadyError
from chainbuild.host.docker import GET_COMPOSE, engine_error, no_docker_command

if TYPE_CHECKING:
    import subprocess

LABEL: Final = "org.chainbuild.registry"
_STARTING_SECONDS: Final = 60.0
_KEPT: Final = "-kept"
_TAKEN: Final = "-taken-by-"
_LABELS: Final = ("", ".owner", ".data", ".started-by", ".command")
_FORMAT: Final = (
    "[{{json .ID}},{{json .Names}},{{json .State}},{{json .CreatedAt}},"
    + ",".join(f'{{{{json (.Label "{LABEL}{name}")}}}}' for name in _LABELS)
    + "]"
)


class Container(Struct, frozen=True, kw_only=True):
    """A container of a registry. `ours` if it has chainbuild's label; the other texts are empty if it has not.

    `owner` describes the user who started it (empty: started by hand, or by an earlier version of chainbuild).
    """

    id: str
    name: str
    ours: bool
    state: str = "running"
    created: str = ""
    """The creation time in the engine's format: `2026-11-26 10:26:13 +0000 UTC`."""
    owner: str = ""
    data: str = ""
    started_by: str = ""
    command: str = ""

    @property
    def kept(self) -> bool:
        """Return whether it runs until a user stops it."""
        return self.started_by != "run" or self.name.endswith(_KEPT)

    def is_left_over(self, owner: str) -> bool:
        """Return whether it is stopped and no one is about to start it; `owner` is this user."""
        if self.state in {"exited", "dead"}:
            return True
        return self.state == "created" and (self.owner == owner or self.age > _STARTING_SECONDS)

    @property
    def age(self) -> float:
        """Return the seconds since its creation; None if the engine's time is unreadable."""
        return _age(self.created)

    @property
    def being_taken(self) -> bool:
        """Return whether another user is checking whether it can be removed (see `ports`)."""
        return _TAKEN in self.name


def container_on(port: int) -> Container | None:
    """Return the running container that publishes a port; None if there is none (or no engine that answers)."""
    return next(iter(_containers("--filter", f"publish={port}") or ()), None)


def containers_for(port: int) -> tuple[Container, ...]:
    """Return chainbuild's containers for a port, including those that have stopped or are just starting.

    Errors: `NotReadyError` if no engine answers.
    """
    containers = _containers("--all", "--filter", f"label={LABEL}={port}")
    if containers is None:
        raise docker_error("cannot reach a Docker Engine", run_docker(["docker", "version"]))
    return containers


def containers_with(data: Path) -> tuple[Container, ...]:
    """Return the running containers of chainbuild with that data folder, whatever their port."""
    return _containers("--filter", f"label={LABEL}.data={data}") or ()


def _containers(*filters: str) -> tuple[Container, ...] | None:
    done = run_docker(["docker", "ps", "--no-trunc", *filters, "--format", _FORMAT])
    if done.returncode != 0:
        return None
    containers = []
    for line in done.stdout.splitlines():
        identity, names, state, created, label, owner, data, started_by, command = json.loads(line)
        containers.append(
            Container(
                id=identity,
                name=names.partition(",")[0],
                ours=bool(label),
                state=state,
                created=created,
                owner=_one_line(owner),
                data=data,
                started_by=started_by,
                command=_one_line(command),
            )
        )
    return tuple(containers)


def _age(created: str) -> float:
    """Return the seconds since a time that the engine wrote; None if it is unreadable."""
    from datetime import datetime

    try:
        return time.time() - datetime.strptime(created[:25], "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return 0.0


def _one_line(label: str) -> str:
    """Return a label escaped for display: other users can write labels."""
    return "".join(letter if letter.isprintable() else "?" for letter in label)[:300]


# ---- one container, by its id -------------------------------------------------------------------------------------------


def remove(container: str) -> None:
    """Stop and remove a container. Errors: `NotReadyError`."""
    done = run_docker(["docker", "rm", "--force", "--volumes", container], finish=True)
    if done.returncode != 0 and not any(
        sign in done.stderr.lower() for sign in ("no such container", "already in progress")
    ):
        raise docker_error("could not stop the registry", done)


def keep(container: Container) -> None:
    """Mark the container, for other users, as running until a user stops it. Errors: `NotReadyError`."""
    if not container.kept and not rename(container.id, container.name + _KEPT):
        raise NotReadyError(f"could not rename the container {container.name}", hint="See: docker ps.")


def rename(container: str, name: str) -> bool:
    """Rename a container; False if that failed."""
    return run_docker(["docker", "rename", container, name], finish=True).returncode == 0


def name_of(container: str) -> str:
    """Return a container's name; empty if there is no such container."""
    done = run_docker(["docker", "inspect", "--format", "{{.Name}}", container])
    return done.stdout.strip().removeprefix("/") if done.returncode == 0 else ""


def taken_name(container: Container) -> str:
    """Return the container's name while this process checks whether it can be removed."""
    return f"{container.name}{_TAKEN}{os.geteuid()}-{os.getpid()}"


def connections(container: str) -> int | None:
    """Return the number of outside connections of a registry's container; None if unknown."""
    done = run_docker(["docker", "exec", container, "cat", "/proc/net/tcp", "/proc/net/tcp6"])
    return count_connections(done.stdout) if "local_address" in done.stdout else None


def count_connections(tables: str, port: int = 5000) -> int:
    """Count the established connections to a port from other addresses than loopback (proc(5), /proc/net/tcp)."""
    count = 0
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[3] != "01" or fields[1].rpartition(":")[2] != f"{port:04X}":
            continue
        count += not _is_loopback(fields[2].rpartition(":")[0])
    return count


def _is_loopback(address: str) -> bool:
    """Return whether an address of /proc/net/tcp or tcp6 is 127.0.0.0/8, ::ffff:127.0.0.0/104 or ::1.

    Each group of eight digits is 32 bits in the machine's byte order.
    """
    groups = [bytes.fromhex(address[start : start + 8]) for start in range(0, len(address), 8)]
    ordered = b"".join(word[::-1] if sys.byteorder == "little" else word for word in groups)
    if len(ordered) == 4:
        return ordered[0] == 127
    return ordered == bytes(15) + b"\1" or (ordered[:12] == bytes(10) + b"\xff\xff" and ordered[12] == 127)


def collect_blobs(container: str) -> None:
    """Make a registry delete unreferenced blobs and clear its cache of them.

    The program is called `registry` in the published image and `docker-registry` in Debian's. The registry has a cache
    of blobs, so it is restarted afterwards. Errors: `NotReadyError` with its message.
    """
    for program in ("docker-registry", "registry"):
        done = run_docker(["docker", "exec", container, program, "garbage-collect", "/etc/docker/registry/config.yml"])
        if done.returncode == 0:
            break
    else:
        raise docker_error("garbage collection of the registry failed", done)
    restart(container)


def restart(container: str) -> None:
    """Restart a registry, so that it reads its data again. Errors: `NotReadyError`."""
    done = run_docker(["docker", "restart", "--time", "5", container], finish=True)
    if done.returncode != 0:
        raise docker_error("could not restart the registry", done)


COMMAND_SECONDS: Final = 120


def run_docker(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = COMMAND_SECONDS,
    finish: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own: Ctrl-C reaches only chainbuild, which stops the command in order.

    `finish`: an interrupt waits until the command has ended (a second one does not). A container whose creator is
    killed would start later nevertheless, without an owner.
    """
    # Imported on demand: a run with a running registry starts no process.
    import subprocess

    try:
        with subprocess.Popen(
            argv,
            env=environment,
            # Never the tree, so that the program does not read files from it.
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except KeyboardInterrupt:
                if finish:
                    process.communicate(timeout=seconds)
                raise
            finally:
                if process.poll() is None:
                    process.kill()
        return subprocess.CompletedProcess(argv, process.returncode, out, err)
    except FileNotFoundError as error:
        raise no_docker_command() from error
    except subprocess.TimeoutExpired as error:
        shown = " ".join(argv[:3])
        return subprocess.CompletedProcess(error.cmd, 124, "", f"{shown} did not finish within {seconds:.0f} s")


def neutral_environment() -> dict[str, str]:
    """Return an environment in which compose reads its file and nothing else: no `.env` of the current folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    return kept | {"COMPOSE_DISABLE_ENV_FILE": "1"}


def docker_error(what: str, done: subprocess.CompletedProcess[str]) -> NotReadyError:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = "\n".join(lines[-4:]) or f"docker exited with code {done.returncode}"
    if error := engine_error(done.stderr, said):
        return error
    lowered = said.lower()
    hint = "See: docker compose version; docker info"
    if "unknown shorthand flag" in lowered or "is not a docker command" in lowered:
        what, hint = "docker compose is not installed", GET_COMPOSE
    elif "address pools" in lowered:
        what, hint = "the Docker Engine has no more addresses for networks", "Remove unused ones: docker network prune."
    elif "no space left" in lowered:
        what, hint = "no space left", "docker system df; docker builder prune"
    return NotReadyError(f"{what}: {said}", hint=hint)
