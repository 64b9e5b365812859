"""The registry of another user on the port: whether a run of theirs needs it, and how it is removed if none does.

Users cannot see each other's leases. What they can see is the container, if the Docker Engine is one for all of them. So
each run of chainbuild keeps one connection to the registry open as long as it needs the registry; the kernel closes the
connection when the process dies, however it dies. A registry that a run started (its label says so), and that has no
connection from outside, is needed by nobody.

Between looking and removing, a new run of the owner may come. Both sides therefore announce themselves before they
look (Dekker's algorithm): whoever wants to remove renames the container and then counts the connections; a run of the
owner that finds a registry without living runs connects first and then reads the container's name. At least one of them
sees the other, and that one steps back. The container is removed by its id, so it is never a later one.
"""

from __future__ import annotations

import time
from typing import Final

from chainbuild.registry import containers

YOUNG_SECONDS: Final = 15.0
"""A registry is younger than that if its owner's run has just started it and may not be connected yet."""
_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.05


def is_needed(container: str) -> bool:
    """Return whether a registry has a connection from outside; True if that cannot be seen.

    A connection that was closed just now is still there for some milliseconds.
    """
    for _ in range(_LOOKS):
        count = containers.connections(container)
        if count == 0:
            return False
        time.sleep(_BETWEEN_LOOKS)
    return True


def take_away(container: containers.Container) -> bool:
    """Remove the registry of another user if no run needs it; return whether it was removed.

    One that was started just now stays: else two users who start at once would take it from each other for ever.

    Errors: `NotReadyError` if the engine does not remove it.
    """
    if container.kept or container.being_taken or container.age < YOUNG_SECONDS or is_needed(container.id):
        return False
    announced = containers.taken_name(container)
    if not containers.rename(container.id, announced):
        return False
    try:
        # A third user may have renamed it at the same time: the last name counts.
        if containers.name_of(container.id) != announced:
            return False
        if is_needed(container.id):
            # Unless the owner has renamed it meanwhile, to keep it.
            if containers.name_of(container.id) == announced:
                containers.rename(container.id, container.name)
            return False
    except BaseException:
        containers.rename(container.id, container.name)
        raise
    containers.remove(container.id)
    return True
