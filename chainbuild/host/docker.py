"""The docker command and the engine of this machine, as far as several packages use or report on them."""

from __future__ import annotations

import csv
import io
from typing import Final

from chainbuild.errors import NotReadyError

GET_DOCKER: Final = "Install Docker: docs.docker.com/get-docker."
GET_COMPOSE: Final = (
    "Install the plugin: apt-get install docker-compose-plugin (Docker's own packages), docker-compose (Debian 13);"
    " or use another registry with --registry."
)
START_ENGINE: Final = (
    "Start it (systemctl start docker, or Docker Desktop), or check DOCKER_HOST and docker context ls."
)
_NO_ENGINE: Final = (
    "cannot connect to the docker daemon",
    "is the docker daemon running",
    "failed to connect to the docker api",
    "error during connect",
    "unable to resolve docker endpoint",
)


def no_docker_command() -> NotReadyError:
    """Return the error for a machine without the docker command."""
    return NotReadyError("no docker command found on PATH", hint=GET_DOCKER)


def engine_error(stderr: str, reason: str) -> NotReadyError | None:
    """Return the error if the docker command reports that it cannot use an engine; None if it reports anything else.

    `stderr` is what it printed, `reason` the part of it to show.
    """
    lowered = stderr.lower()
    if "permission denied" in lowered and "docker" in lowered:
        return NotReadyError(
            f"no permission to use the Docker Engine: {reason}",
            hint="Add yourself to the docker group, or use a rootless engine.",
        )
    if any(sign in lowered for sign in _NO_ENGINE):
        return no_engine(reason)
    return None


def no_engine(reason: str) -> NotReadyError:
    """Return the error for an engine that does not answer."""
    return NotReadyError(f"cannot reach a Docker Engine: {reason}", hint=START_ENGINE)


def mount_flag(*fields: str) -> tuple[str, str]:
    """Return the flag `--mount` with these fields, which docker parses as CSV: a path may contain a comma or a quote."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return "--mount", text.getvalue()
