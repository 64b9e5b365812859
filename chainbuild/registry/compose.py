"""The registry's container, by `docker compose` and `docker`: for a run that starts or stops it, and for no other."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from chainbuild.errors import NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.userdirs import write_private

if TYPE_CHECKING:
    import subprocess

REGISTRY_IMAGE: Final = "registry:2"
BUILD_BASE: Final = "debian:bookworm-slim"
LABEL: Final = "org.chainbuild.registry"
DATA_IN_CONTAINER: Final = "/var/lib/registry"

# Pulls and builds end by themselves; this is for a network that swallows packets.
_PULL_SECONDS: Final = 120
_BUILD_SECONDS: Final = 900
_COMMAND_SECONDS: Final = 120
_WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_GOING_AWAY: Final = ("marked for removal", "removal of container", "no such container", "_fence not found")
# The port on the host, or the name of the container, which is made of the port: another user was quicker.
_TAKEN_PORT: Final = ("port is already allocated", "address already in use", "is already in use by container")
_STARTING_SECONDS: Final = 60.0
_KEPT: Final = "-kept"
_TAKEN: Final = "-taken-by-"

_LABELS: Final = ("", ".owner", ".data", ".started-by", ".command")
_FORMAT: Final = (
    "[{{json .ID}},{{json .Names}},{{json .State}},{{json .CreatedAt}},"
    + ",".join(f'{{{{json (.Label "{LABEL}{name}")}}}}' for name in _LABELS)
    + "]"
)

StartedBy = Literal["run", "person"]


class ImageMissingError(Exception):
    """The local image store has no image of the registry."""


class PortTakenError(NotReadyError):
    """Something else has the port, or is just getting it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A container of a registry. `ours` if it has chainbuild's label; the other texts are empty if it has not.

    `owner` is the user who started it, in words (empty: by hand, or by an earlier version of chainbuild).
    """

    id: str
    name: str
    ours: bool
    state: str = "running"
    created: str = ""
    """When, as the engine writes it: `2026-11-26 10:26:13 +0000 UTC`."""
    owner: str = ""
    data: str = ""
    started_by: str = ""
    command: str = ""

    @property
    def kept(self) -> bool:
        """Whether it runs until a person stops it."""
        return self.started_by != "run" or self.name.endswith(_KEPT)

    def is_left_over(self, owner: str) -> bool:
        """Return whether it does not run and nobody is about to start it; `owner` is this user, who is not."""
        if self.state in {"exited", "dead"}:
            return True
        return self.state == "created" and (self.owner == owner or _age(self.created) > _STARTING_SECONDS)

    @property
    def being_taken(self) -> bool:
        """Whether another user is just deciding whether it may be removed (see `neighbours`)."""
        return _TAKEN in self.name


def container_on(port: int) -> Container | None:
    """Return the running container that publishes a port; None if there is none (or no engine that answers)."""
    return next(iter(_containers("--filter", f"publish={port}") or ()), None)


def containers_for(port: int) -> tuple[Container, ...]:
    """Return chainbuild's containers for a port, those that have stopped or are just starting among them.

    Errors: `NotReadyError` if no engine answers.
    """
    found = _containers("--all", "--filter", f"label={LABEL}={port}")
    if found is None:
        raise _failed("no Docker Engine answers", _run(["docker", "version"]))
    return found


def containers_with(data: Path) -> tuple[Container, ...]:
    """Return the running containers of chainbuild with that data folder, whatever their port."""
    return _containers("--filter", f"label={LABEL}.data={data}") or ()


def _containers(*filters: str) -> tuple[Container, ...] | None:
    done = _run(["docker", "ps", "--no-trunc", *filters, "--format", _FORMAT])
    if done.returncode != 0:
        return None
    found = []
    for line in done.stdout.splitlines():
        identity, names, state, created, label, owner, data, started_by, command = json.loads(line)
        found.append(
            Container(
                id=identity, name=names.partition(",")[0], ours=bool(label), state=state, created=created,
                owner=_one_line(owner), data=data, started_by=started_by, command=_one_line(command),
            )
        )  # fmt: skip
    return tuple(found)


def _age(created: str) -> float:
    """Return the seconds since a time that the engine wrote; none if it cannot be read."""
    from datetime import datetime

    try:
        return time.time() - datetime.strptime(created[:25], "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return 0.0


def _one_line(label: str) -> str:
    """Return a label as it may be shown: other users write them, too."""
    return "".join(letter if letter.isprintable() else "?" for letter in label)[:300]


class Compose:
    """The compose project of a port."""

    def __init__(self, compose_file: Path, port: int, data: Path, *, private: Path, own_file: bool = False) -> None:
        """`private` is a private folder; `own_file` if the compose file is the user's, not the one of chainbuild."""
        self._file = compose_file
        self._private = private
        self._port = port
        self._data = data
        self._project = f"chainbuild-registry-{port}"
        self.own_file = own_file

    def up(self, started_by: StartedBy, owner: str, command: str, emit: Emit) -> None:
        """Start the container. Returns before the registry answers.

        Errors: `ImageMissingError`; `PortTakenError`; `NotReadyError` if there is no engine or no compose.
        """
        for container in containers_for(self._port):
            # Without force: the engine refuses if it runs by now.
            if container.is_left_over(owner):
                _run(["docker", "rm", container.id])
        user = _container_user()
        if user != "0:0":
            _own_files(self._data, user, emit)
        environment = _neutral_environment() | {
            "CHAINBUILD_REGISTRY_PORT": str(self._port),
            "CHAINBUILD_REGISTRY_DATA": str(self._data),
            "CHAINBUILD_REGISTRY_USER": user,
            "CHAINBUILD_REGISTRY_OWNER": owner,
            "CHAINBUILD_REGISTRY_STARTED_BY": started_by,
            "CHAINBUILD_REGISTRY_COMMAND": command,
        }
        words = ["up", "--detach", "--no-build", "--no-recreate"]
        files = []
        if not self.own_file:
            words += ["--pull", "never"]
            files = self._both_loopbacks(user)
        for wait in (*_WAITS, None):
            done = self._call(*words, environment=environment, files=files)
            said = done.stderr.lower()
            if done.returncode == 0:
                return
            if "no such image" in said:
                raise ImageMissingError
            # Left by a killed run: the engine is still removing what that run's compose had begun.
            if wait is None or not any(sign in said for sign in _GOING_AWAY):
                break
            time.sleep(wait)
        # The half-made container must not be what the next run finds.
        self.clear(owner)
        if any(sign in said for sign in _TAKEN_PORT):
            raise PortTakenError(f"port {self._port} is taken", hint=done.stderr.strip()[-500:])
        raise _failed("the registry does not start", done)

    def down(self, container: str) -> None:
        """Remove the container with that id and the network; the data stays. Errors: `NotReadyError`."""
        remove(container)
        self._remove_rest()

    def clear(self, owner: str) -> None:
        """Remove what killed runs of this user left on the port, and the network. Errors: `NotReadyError`."""
        for container in containers_for(self._port):
            if container.is_left_over(owner):
                _run(["docker", "rm", container.id])
            elif container.owner == owner and not container.kept:
                remove(container.id)
        self._remove_rest()

    def _remove_rest(self) -> None:
        if self.own_file:
            self._call("down")
        # The engine refuses if a container is in the network: another user's, say, that came meanwhile.
        _run(["docker", "network", "rm", f"{self._project}_fence"], finish=True)

    def _both_loopbacks(self, user: str) -> list[Path]:
        """Return a compose file that publishes the port on ::1, too.

        Most programs try ::1 first if they are to reach `localhost`: whoever listens there gets what is for the registry.
        """
        if (user == "0:0" and os.geteuid() != 0) or not _has_loopback6():
            # An engine that maps users may be unable to publish there.
            return []
        path = self._private / "both-loopbacks.yml"
        address = f'"[::1]:{self._port}:5000"'
        write_private(path, f"services: {{registry: {{ports: [{address}]}}}}\n".encode(), durable=False)
        return [path]

    def logs(self) -> str:
        """Return the last lines that the registry printed."""
        done = self._call("logs", "--no-color", "--no-log-prefix", "--tail", "5")
        return (done.stdout + done.stderr).strip()

    def _call(
        self, *arguments: str, environment: Mapping[str, str] | None = None, files: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        argv = ["docker", "compose"]
        for path in (self._file, *files):
            argv += ["--file", str(path)]
        argv += ["--project-name", self._project, *arguments]
        return _run(argv, environment=environment or _neutral_environment(), finish=True)


def _neutral_environment() -> dict[str, str]:
    """Return an environment in which compose reads its file and nothing else: no `.env` of the current folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    return kept | {"COMPOSE_DISABLE_ENV_FILE": "1"}


def _has_loopback6() -> bool:
    import socket

    if sys.platform != "linux":
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _container_user() -> str:
    """Return the user and group that the registry runs as: the owner of the data, as the engine's containers see it.

    An engine that maps users (a rootless one, Docker Desktop) shows the user's files as root's.
    """
    if os.geteuid() == 0 or sys.platform != "linux":
        return "0:0"
    what = "{{.Server.Platform.Name}} {{range .Server.Components}}{{.Name}} {{end}}"
    done = _run(["docker", "version", "--format", what])
    if done.returncode != 0 or "rootlesskit" in done.stdout or "Docker Desktop" in done.stdout:
        return "0:0"
    return f"{os.geteuid()}:{os.getegid()}"


# ---- a container, by its id: never another one that came in its place ---------------------------------------------------


def remove(container: str) -> None:
    """Stop and remove a container. Errors: `NotReadyError`."""
    done = _run(["docker", "rm", "--force", "--volumes", container], finish=True)
    if done.returncode != 0 and not any(
        sign in done.stderr.lower() for sign in ("no such container", "already in progress")
    ):
        raise _failed("the registry does not stop", done)


def keep(container: Container) -> None:
    """Note at the container itself, for other users, that it runs until a person stops it. Errors: `NotReadyError`."""
    if not container.kept and not rename(container.id, container.name + _KEPT):
        raise NotReadyError(f"could not rename the container {container.name}", hint="See: docker ps.")


def rename(container: str, name: str) -> bool:
    """Rename a container; False if that failed."""
    return _run(["docker", "rename", container, name], finish=True).returncode == 0


def name_of(container: str) -> str:
    """Return a container's name; empty if there is no such container."""
    done = _run(["docker", "inspect", "--format", "{{.Name}}", container])
    return done.stdout.strip().removeprefix("/") if done.returncode == 0 else ""


def taken_name(container: Container) -> str:
    """Return the name for a container while this process decides whether it may be removed."""
    return f"{container.name}{_TAKEN}{os.geteuid()}-{os.getpid()}"


def connections(container: str) -> int | None:
    """Return how many connections from outside a registry's container has; None if that cannot be seen."""
    done = _run(["docker", "exec", container, "cat", "/proc/net/tcp", "/proc/net/tcp6"])
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

    Each group of eight digits is a word in the machine's byte order.
    """
    words = [bytes.fromhex(address[start : start + 8]) for start in range(0, len(address), 8)]
    ordered = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    if len(ordered) == 4:
        return ordered[0] == 127
    return ordered == bytes(15) + b"\1" or (ordered[:12] == bytes(10) + b"\xff\xff" and ordered[12] == 127)


def _own_files(data: Path, user: str, emit: Emit) -> None:
    """Give the user the files in their data folder that belong to root: earlier versions ran the registry as root.

    Errors: `NotReadyError`.
    """
    number, top = os.geteuid(), data / "docker"
    looked = (top, top / "registry/v2/repositories", top / "registry/v2/blobs/sha256")
    found = [path.lstat() for path in looked if path.is_dir()]
    # What a registry that ran as root by hand has written is open within the folder, which is closed.
    if all(one.st_uid == number or one.st_mode & 0o002 for one in found):
        return
    emit(Message(text=f"taking over the files in {data}, which belong to another user"))
    argv = [
        "docker", "run", "--rm", "--network", "none", "--user", "0:0", "--cap-drop", "ALL", "--cap-add", "CHOWN",
        "--cap-add", "DAC_READ_SEARCH", "--security-opt", "no-new-privileges", "--pull", "never",
        "--mount", f'type=bind,"source={data}",target=/data', "--entrypoint", "chown",
        REGISTRY_IMAGE, "-hR", user, "/data/docker",
    ]  # fmt: skip
    done = _run(argv, seconds=_BUILD_SECONDS)
    if done.returncode != 0:
        raise _failed(f"the files in {data} belong to another user", done)


def collect_blobs(container: str) -> None:
    """Let a registry delete the blobs that no manifest needs, and forget that it had them.

    The program is called `registry` in the published image and `docker-registry` in Debian's. It answers from a cache
    of what it once had, so it is started again afterwards. Errors: `NotReadyError` with its own words.
    """
    for program in ("docker-registry", "registry"):
        done = _run(["docker", "exec", container, program, "garbage-collect", "/etc/docker/registry/config.yml"])
        if done.returncode == 0:
            break
    else:
        raise _failed("the registry could not collect its garbage", done)
    restart(container)


def restart(container: str) -> None:
    """Start a registry again, so that it reads its data anew. Errors: `NotReadyError`."""
    done = _run(["docker", "restart", "--time", "5", container], finish=True)
    if done.returncode != 0:
        raise _failed("the registry could not be started again", done)


def has_image(name: str) -> bool:
    """Whether the local store has an image of that name. Errors: `NotReadyError` where no engine answers."""
    done = _run(["docker", "image", "inspect", "--format", "{{.Id}}", name])
    if done.returncode == 0:
        return True
    if "no such image" in done.stderr.lower():
        return False
    raise _failed("no Docker Engine answers", done)


def ensure_image(compose_file: Path, emit: Emit) -> None:
    """See that the local store has the registry's image: pulled, else built, its base pulled or bootstrapped.

    Errors: `NotReadyError`.
    """
    if has_image(REGISTRY_IMAGE):
        return
    emit(Message(text=f"getting the registry's image, {REGISTRY_IMAGE}"))
    if _pulled(REGISTRY_IMAGE):
        return
    emit(Message(text=f"{REGISTRY_IMAGE} cannot be pulled: building it from Debian's docker-registry package"))
    if not has_image(BUILD_BASE) and not _pulled(BUILD_BASE):
        from chainbuild import bootstrap

        bootstrap.bootstrap_local(BUILD_BASE, emit)
    # The default builder, always: it sees the local store, and what it builds is in there.
    environment = _neutral_environment() | {"BUILDX_BUILDER": "default", "CHAINBUILD_REGISTRY_DATA": "."}
    argv = ["docker", "compose", "--file", str(compose_file), "build", "--quiet"]
    done = _run(argv, environment=environment, seconds=_BUILD_SECONDS)
    if done.returncode != 0:
        raise _failed("the registry's image does not build", done)


def _pulled(name: str) -> bool:
    return _run(["docker", "pull", "--quiet", name], seconds=_PULL_SECONDS).returncode == 0


def _run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = _COMMAND_SECONDS,
    finish: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own: a Ctrl-C is for chainbuild, which ends what it began in order.

    `finish`: an interrupt waits until the command has ended (a second one does not). A container that is half made when
    its maker is killed comes up all the same, later, and is nobody's then.
    """
    # Late: a run that finds the registry up starts no process.
    import subprocess

    try:
        with subprocess.Popen(
            argv,
            env=environment,
            # Never the tree: no program that is started here looks for files in it.
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
        raise NotReadyError("there is no docker command", hint="Install Docker, or run script/setup.") from error
    except subprocess.TimeoutExpired as error:
        shown = " ".join(argv[:3])
        return subprocess.CompletedProcess(error.cmd, 124, "", f"{shown} did not end in {seconds:.0f} s")


def _failed(what: str, done: subprocess.CompletedProcess[str]) -> NotReadyError:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = "\n".join(lines[-4:]) or f"exit code {done.returncode}"
    lowered = said.lower()
    hint = "See: docker compose version; docker info"
    if "cannot connect to the docker daemon" in lowered or "is the docker daemon running" in lowered:
        what, hint = "no Docker Engine answers", "Start it (script/setup does so on Debian), or see DOCKER_HOST."
    elif "permission denied" in lowered and "docker" in lowered:
        what, hint = "no right to use the Docker Engine", "Add yourself to the docker group, or use a rootless engine."
    elif "unknown shorthand flag" in lowered or "is not a docker command" in lowered:
        what, hint = "docker compose is not installed", "apt-get install docker-compose-plugin, or script/setup."
    elif "address pools" in lowered:
        what, hint = "the Docker Engine has no more addresses for networks", "Remove unused ones: docker network prune."
    elif "no space left" in lowered:
        what, hint = "no space left", "docker system df; docker builder prune"
    return NotReadyError(f"{what}: {said}", hint=hint)
