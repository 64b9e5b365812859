"""How the managed registry calls `docker`: apart from the tree, with an end, and with messages that help."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from chainbuild.errors import NotReadyError

if TYPE_CHECKING:
    import subprocess

COMMAND_SECONDS: Final = 120


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = COMMAND_SECONDS,
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


def neutral_environment() -> dict[str, str]:
    """Return an environment in which compose reads its file and nothing else: no `.env` of the current folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    return kept | {"COMPOSE_DISABLE_ENV_FILE": "1"}


def failed(what: str, done: subprocess.CompletedProcess[str]) -> NotReadyError:
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
