"""What a call of buildx needs besides its arguments: the copy of a Dockerfile, and a way to stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainbuild.builder.build_spec import BuildSpec, copy_for_builder
from chainbuild.dockerfile.rewrite import add_run_flags, pin_images


def sent_of(spec: BuildSpec) -> str:
    """Return the spec's `sent`, with what is written into the copy of its Dockerfile."""
    added = (*(pin.reference for pin in spec.pins), *(" ".join((str(line), *flags)) for line, flags in spec.run_flags))
    return " ".join((spec.sent, *added)) if spec.sent else ""


def copy_of(spec: BuildSpec, scratch: Path) -> Path | None:
    """Return the copy of the Dockerfile that the builder gets, with its pins in it; None if it gets the file itself."""
    if spec.source is None:
        return None
    source = pin_images(spec.source or b"", {pin.place: pin.reference for pin in spec.pins})
    source = add_run_flags(source, dict(spec.run_flags)) if spec.run_flags else source
    folder = scratch / "dockerfile"
    folder.mkdir()
    return copy_for_builder(source, spec.ignore, spec.dockerfile, folder)


def stop_children(having: str = "") -> None:
    """Ask the builds that this process started to stop (buildx cancels a build on SIGINT).

    `having`: only builds with that text in their command line.
    """
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False)
    for child in children_in(done.stdout, str(os.getpid()), having):
        try:
            os.kill(child, signal.SIGINT)
        except OSError:
            continue


def children_in(table: str, parent: str, having: str) -> Iterator[int]:
    for line in table.splitlines():
        fields = line.split(None, 2)
        if len(fields) == 3 and fields[1] == parent and having in fields[2]:
            yield int(fields[0])


@contextmanager
def time_limit(seconds: float | None, having: str) -> Iterator[None]:
    """Stop the child with that text in its command line after the timeout."""
    timer = threading.Timer(seconds, stop_children, args=(having,)) if seconds is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
