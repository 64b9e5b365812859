"""The docker command of this machine, as far as several packages use it or report on it."""

from __future__ import annotations

import csv
import io

from chainbuild.errors import NotReadyError


def no_docker_command() -> NotReadyError:
    """Return the error for a machine without the docker command."""
    return NotReadyError(
        "no docker command found on PATH",
        hint="script/setup installs it on Debian; for other systems see docs.docker.com/get-docker.",
    )


def mount_flag(*fields: str) -> tuple[str, str]:
    """Return the flag `--mount` with these fields, which docker parses as CSV: a path may contain a comma or a quote."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return "--mount", text.getvalue()
