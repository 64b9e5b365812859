"""The compose project of the managed registry: start and stop its container and network, and get its image."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from chainbuild.errors import NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.host.user_folders import write_private
from chainbuild.local_registry import containers
from chainbuild.local_registry.containers import docker_error, neutral_environment, run_docker

if TYPE_CHECKING:
    import subprocess

REGISTRY_IMAGE: Final = "registry:2"
BUILD_BASE: Final = "debian:bookworm-slim"

# In seconds: pulls and builds end by themselves; this covers a network that drops packets.
_PULL_SECONDS: Final = 120
_BUILD_SECONDS: Final = 900
_WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_GOING_AWAY: Final = ("marked for removal", "removal of container", "no such container", "_fence not found")
# The port, or the container name derived from it, is taken: another user was faster.
_TAKEN_PORT: Final = ("port is already allocated", "address already in use", "is already in use by container")

StartedBy = Literal["run", "person"]


class ImageMissingError(Exception):
    """The local image store lacks the registry's image."""


class PortTakenError(NotReadyError):
    """Another program uses the port, or is about to."""


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
        for container in containers.containers_for(self._port):
            # Without force: the engine refuses if it is running.
            if container.is_left_over(owner):
                run_docker(["docker", "rm", container.id])
        user = _container_user()
        if user != "0:0":
            _own_files(self._data, user, emit)
        environment = neutral_environment() | {
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
            error = done.stderr.lower()
            if done.returncode == 0:
                return
            if "no such image" in error:
                raise ImageMissingError
            # The engine is still removing the containers of a killed run.
            if wait is None or not any(sign in error for sign in _GOING_AWAY):
                break
            time.sleep(wait)
        # Remove the incomplete container, so that the next run does not find it.
        self.clear(owner)
        if any(sign in error for sign in _TAKEN_PORT):
            raise PortTakenError(f"port {self._port} is taken", hint=done.stderr.strip()[-500:])
        raise docker_error("could not start the registry", done)

    def down(self, container: str) -> None:
        """Remove the container with that id and the network; the data stays. Errors: `NotReadyError`."""
        containers.remove(container)
        self._remove_rest()

    def clear(self, owner: str) -> None:
        """Remove the containers that this user's killed runs left on the port, and the network. Errors: `NotReadyError`."""
        for container in containers.containers_for(self._port):
            if container.is_left_over(owner):
                run_docker(["docker", "rm", container.id])
            elif container.owner == owner and not container.kept:
                containers.remove(container.id)
        self._remove_rest()

    def _remove_rest(self) -> None:
        if self.own_file:
            self._call("down")
        # The engine refuses if the network has a container, for example another user's new one.
        run_docker(["docker", "network", "rm", f"{self._project}_fence"], finish=True)

    def _both_loopbacks(self, user: str) -> list[Path]:
        """Return a compose file that also publishes the port on ::1.

        Most programs try ::1 first for `localhost`, so another listener there would receive the registry's requests.
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
        return run_docker(argv, environment=environment or neutral_environment(), finish=True)


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
    done = run_docker(["docker", "version", "--format", what])
    if done.returncode != 0 or "rootlesskit" in done.stdout or "Docker Desktop" in done.stdout:
        return "0:0"
    return f"{os.geteuid()}:{os.getegid()}"


def _own_files(data: Path, user: str, emit: Emit) -> None:
    """Change the owner of root's files in the user's data folder: earlier versions ran the registry as root.

    Errors: `NotReadyError`.
    """
    number, top = os.geteuid(), data / "docker"
    looked = (top, top / "registry/v2/repositories", top / "registry/v2/blobs/sha256")
    entries = [path.lstat() for path in looked if path.is_dir()]
    # Files of a registry that was run by hand as root are writable inside the closed folder.
    if all(entry.st_uid == number or entry.st_mode & 0o002 for entry in entries):
        return
    emit(Message(text=f"taking over the files in {data}, which belong to another user"))
    argv = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "0:0",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
        "--cap-add",
        "DAC_READ_SEARCH",
        "--security-opt",
        "no-new-privileges",
        "--pull",
        "never",
        "--mount",
        f'type=bind,"source={data}",target=/data',
        "--entrypoint",
        "chown",
        REGISTRY_IMAGE,
        "-hR",
        user,
        "/data/docker",
    ]
    done = run_docker(argv, seconds=_BUILD_SECONDS)
    if done.returncode != 0:
        raise docker_error(f"the files in {data} belong to another user", done)


def has_image(name: str) -> bool:
    """Return whether the local store has an image of that name. Errors: `NotReadyError` if no engine answers."""
    done = run_docker(["docker", "image", "inspect", "--format", "{{.Id}}", name])
    if done.returncode == 0:
        return True
    if "no such image" in done.stderr.lower():
        return False
    raise docker_error("cannot reach a Docker Engine", done)


def ensure_image(compose_file: Path, emit: Emit) -> None:
    """Ensure that the local store has the registry's image: pull it, else build it on a pulled or bootstrapped base.

    Errors: `NotReadyError`.
    """
    if has_image(REGISTRY_IMAGE):
        return
    emit(Message(text=f"getting the registry's image, {REGISTRY_IMAGE}"))
    if _pulled(REGISTRY_IMAGE):
        return
    emit(Message(text=f"{REGISTRY_IMAGE} could not be pulled; building it from Debian's docker-registry package"))
    if not has_image(BUILD_BASE) and not _pulled(BUILD_BASE):
        from chainbuild.distro import bootstrap

        bootstrap.bootstrap_local(BUILD_BASE, emit)
    # Always the default builder, which reads from and writes to the local store.
    environment = neutral_environment() | {"BUILDX_BUILDER": "default", "CHAINBUILD_REGISTRY_DATA": "."}
    argv = ["docker", "compose", "--file", str(compose_file), "build", "--quiet"]
    done = run_docker(argv, environment=environment, seconds=_BUILD_SECONDS)
    if done.returncode != 0:
        raise docker_error("could not build the registry's image", done)


def _pulled(name: str) -> bool:
    return run_docker(["docker", "pull", "--quiet", name], seconds=_PULL_SECONDS).returncode == 0
