"""The benchmark's own registry: a container on a free port of this machine, gone with all its data afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import run, say
from chainbuild.events import Event, Message
from chainbuild.local_registry.ports import ask
from chainbuild.local_registry.service import REGISTRY_IMAGE, ensure_image


@contextmanager
def registry(*, in_memory: bool = False) -> Iterator[str]:
    """`localhost:PORT` of a fresh registry; what the benchmark left of it in the local store is removed, too.

    `in_memory` is for many small documents, which take long to write.
    """
    ensure_image(_tell)
    port = _free_port()
    endpoint = f"localhost:{port}"
    data = ("--tmpfs" if in_memory else "--volume", "/var/lib/registry")
    container = run(
        [
            "docker",
            "run",
            "--detach",
            "--rm",
            "--label",
            "chainbuild.bench=registry",
            "--publish",
            f"127.0.0.1:{port}:5000",
            *data,
            REGISTRY_IMAGE,
        ]
    ).strip()
    try:
        limit = time.monotonic() + 60
        while ask(endpoint) != "registry":
            if time.monotonic() > limit:
                raise TimeoutError(f"the benchmark's registry does not answer at {endpoint}")
            time.sleep(0.05)
        yield endpoint
    finally:
        run(["docker", "rm", "--force", "--volumes", container])
        _forget(endpoint)


def push_local(image: str, target: str) -> None:
    """Hand a local image to the registry under a name there."""
    run(["docker", "tag", image, target])
    run(["docker", "push", "--quiet", target])


def _forget(endpoint: str) -> None:
    """Remove the names that pushing through the engine's own builder leaves in the local store."""
    listed = run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split()
    names = [name for name in listed if name.startswith(f"{endpoint}/") and not name.endswith(":<none>")]
    if names:
        run(["docker", "rmi", "--force", *names])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tell(event: Event) -> None:
    if isinstance(event, Message):
        say(event.text)
