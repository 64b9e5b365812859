"""The protocol of a place to publish SIF files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chainbuild.registry.http.transport import read_chunks
from chainbuild.singularity.collection import Sif

Told = Callable[[int, int], None]
"""Called with the bytes sent so far and the total."""


class Destination(Protocol):
    """A place to publish SIF files."""

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        """Return the sha256 of each published file, by file name. Errors: those of the place."""
        ...

    def files(self) -> tuple[str, ...] | None:
        """Return the names of all published SIF files; None if the place cannot list them."""
        ...

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        """Publish a file in place of the old one: only when complete, and its checksum last."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def sent_chunks(sif: Sif, path: Path, told: Told) -> Iterator[bytes]:
    """Yield the bytes of a SIF file, and report how many were taken."""
    done = 0
    for chunk in read_chunks(path):
        yield chunk
        done += len(chunk)
        told(done, sif.size)
