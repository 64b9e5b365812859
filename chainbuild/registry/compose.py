"""The registry's container, by `docker compose` and `docker`: for a run that starts or stops it, and for no other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chainbuild.errors import NotReadyError
from chainbuild.events import Emit, Message

if TYPE_CHECKING:
    import subprocess

REGISTRY_IMAGE: Final = "registry:2"
BUILD_BASE: Final = "debian:bookworm-slim"
LABEL: Final = "org.chainbuild.registry"

# Pulls and builds end by themselves; this is for a network that swallows packets.
_PULL_SECONDS: Final = 120
_BUILD_SECONDS: Final = 900
_COMMAND_SECONDS: Final = 120
_WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_GOING_AWAY: Final = ("marked for removal", "removal of container", "No such container")

_FIELDS: Final = "\t".join(
    (
        "{{.Id}}",
        "{{.State.StartedAt}}",
        "{{.Name}}",
        f'{{{{index .Config.Labels "{LABEL}"}}}}',
        '{{range .Mounts}}{{if eq .Destination "/var/lib/registry"}}{{.Source}}{{end}}{{end}}',
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A running container that publishes the port. `instance` is its id and start time; `ours`: it has the label."""

    instance: str
    name: str
    ours: bool
    data: str


def container_on(port: int) -> Container | None:
    """The running container that publishes a port; None where there is none (or no engine that answers)."""
    listed = _run(["docker", "ps", "--quiet", "--no-trunc", "--filter", f"publish={port}"])
    ids = listed.stdout.split() if listed.returncode == 0 else []
    if not ids:
        return None
    told = _run(["docker", "inspect", "--format", _FIELDS, ids[0]])
    if told.returncode != 0:
        return None
    identity, started, name, label, data = (told.stdout.rstrip("\n").split("\t") + [""] * 5)[:5]
    return Container(
        instance=f"{identity} {started}",
        name=name.removeprefix("/"),
        ours=bool(label) and label != "<no value>",
        data=data,
    )


class Compose:
    """The compose project of a port."""

    def __init__(self, compose_file: Path, port: int, data: Path) -> None:
        self._file = compose_file
        self._port = port
        self._project = f"chainbuild-registry-{port}"
        self._environment = {
            **os.environ,
            "CHAINBUILD_REGISTRY_PORT": str(port),
            "CHAINBUILD_REGISTRY_DATA": str(data),
        }

    def up(self, emit: Emit) -> None:
        """Start the container, with its image seen to. Returns before the registry answers.

        Errors: `NotReadyError`: no engine, no compose, the port taken on another address, no image to be had.
        """
        if not has_image(REGISTRY_IMAGE):
            ensure_image(self._file, emit)
        for wait in (*_WAITS, None):
            done = self._call("up", "--detach", "--no-build")
            said = done.stderr
            if done.returncode == 0:
                return
            # Left over by a run that was killed: the engine still takes away what that one's compose had begun.
            if wait is None or not any(sign in said for sign in _GOING_AWAY):
                break
            time.sleep(wait)
        if "port is already allocated" in said or "address already in use" in said:
            from chainbuild.registry.managed import port_taken
            from chainbuild.registry.ports import holder_of

            # The half-made container must not be what the next run finds.
            self._call("down")
            raise port_taken(self._port, holder_of(self._port))
        raise _failed("the registry does not start", done)

    def down(self) -> None:
        """Stop and remove the container; the data stays. Errors: `NotReadyError`."""
        done = self._call("down")
        if done.returncode != 0:
            raise _failed("the registry does not stop", done)

    def logs(self) -> str:
        """The last lines that the registry printed."""
        done = self._call("logs", "--no-color", "--no-log-prefix", "--tail", "5")
        return (done.stdout + done.stderr).strip()

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["docker", "compose", "--file", str(self._file), "--project-name", self._project, *arguments]
        return _run(argv, environment=self._environment, finish=True)


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
    done = _run(["docker", "restart", "--time", "5", container])
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
    environment = {**os.environ, "BUILDX_BUILDER": "default", "CHAINBUILD_REGISTRY_DATA": "."}
    argv = ["docker", "compose", "--file", str(compose_file), "build", "--quiet"]
    done = _run(argv, environment=environment, seconds=_BUILD_SECONDS)
    if done.returncode != 0:
        raise _failed("the registry's image does not build", done)


def _pulled(name: str) -> bool:
    return _run(["docker", "pull", "--quiet", name], seconds=_PULL_SECONDS).returncode == 0


def _run(
    argv: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
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
    elif "no space left" in lowered:
        what, hint = "no space left", "docker system df; docker builder prune"
    return NotReadyError(f"{what}: {said}", hint=hint)
