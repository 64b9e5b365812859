"""Let the managed registry stay up for a while after the last run, and then stop by itself.

The clock is a shell in the registry's own container: when the time is over, it stops the container's first process. So
nothing of chainbuild stays behind: the clock ends with the container, also if the machine restarts or the container is
removed. A file in the data folder says which clock counts. The next run takes the file away while it holds the mutex,
and a clock without its file ends. A clock is never early, so a run that took the file away in good time keeps the
registry; one that comes in the last seconds starts a new one instead.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainbuild.host.user_folders import private_folder, write_private
from chainbuild.local_registry.containers import docker_error, run_docker
from chainbuild.local_registry.login import OWN_FOLDER

LAST_SECONDS: Final = 10.0
"""In seconds: a registry that stops this soon is not used any more."""
_DATA: Final = "/var/lib/registry"
"""Where the shipped compose file puts the data folder in the container."""
# Looks every few seconds whether it still counts, so that old clocks do not pile up.
_CLOCK: Final = """\
left=$1
while [ "$(cat "$2" 2>/dev/null)" = "$3" ]; do
  [ "$left" -gt 0 ] || { kill 1; exit; }
  nap=$(( left < 5 ? left : 5 ))
  sleep "$nap"
  left=$(( left - nap ))
done
"""


def start_clock(container: str, data: Path, port: int, seconds: float) -> None:
    """Stop the container after so many seconds, unless `stop_clock` is called before. Needs the mutex of the port.

    Errors: `NotReadyError`. Then there is no clock.
    """
    token = os.urandom(8).hex()
    path = _path(data, port)
    private_folder(path.parent)
    write_private(path, token.encode(), durable=False)
    inside = f"{_DATA}/{OWN_FOLDER}/{path.name}"
    command = ["/bin/sh", "-c", _CLOCK, "clock", str(math.ceil(seconds)), inside, token]
    done = run_docker(["docker", "exec", "--detach", container, *command], finish=True)
    if done.returncode != 0:
        stop_clock(data, port)
        raise docker_error("the registry cannot stay up for a while", done)


def stop_clock(data: Path, port: int) -> None:
    """Make every clock of the port end without stopping the registry. Needs the mutex of the port."""
    with suppress(OSError):
        _path(data, port).unlink()


def is_ending(until: float) -> bool:
    """Return whether a registry that stays up until then (seconds since the epoch) may stop at any moment."""
    return time.time() > until - LAST_SECONDS


def _path(data: Path, port: int) -> Path:
    return data / OWN_FOLDER / f"linger-{port}"
