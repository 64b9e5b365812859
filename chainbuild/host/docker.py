"""The docker command of this machine, as far as several packages report on it."""

from __future__ import annotations

from chainbuild.errors import NotReadyError


def no_docker_command() -> NotReadyError:
    """Return the error for a machine without the docker command."""
    return NotReadyError(
        "no docker command found on PATH",
        hint="script/setup installs it on Debian; for other systems see docs.docker.com/get-docker.",
    )
