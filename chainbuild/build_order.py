"""What one build is: everything that the builder needs to know, resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.model import Place
from chainbuild.model import Secret, StepId
from chainbuild.references import Platform

STEP_COMPRESSION: Final = ("zstd", 1)
"""Steps are read back on the same network, by builders that all know zstd: compress them little."""
RESULT_COMPRESSION: Final = ("gzip", 6)
"""Results go to anybody, also to engines and converters that know gzip alone."""


class Pin(Struct, frozen=True, kw_only=True):
    """A word of a Dockerfile that names an image, and the pinned reference that the builder gets in its place."""

    place: Place
    word: str
    reference: str


class BuildOrder(Struct, frozen=True, kw_only=True):
    """Everything that one call of buildx needs, with every image pinned by digest."""

    step: StepId
    dockerfile: Path
    shown: str
    """The Dockerfile's path as people see it in messages."""
    origins: tuple[tuple[int, str], ...] = ()
    """From which line on which file stands in it, where it is a generated one."""
    source: bytes | None = None
    """The Dockerfile itself, if the builder gets a copy of it: with `pins` in it, or because it is a link."""
    ignore: bytes | None = None
    """The Dockerfile's own ignore file, which goes with the copy."""
    pins: tuple[Pin, ...] = ()
    images: tuple[tuple[str, str], ...] = ()
    """The pinned references of all images that the step's Dockerfiles name, by how they are written."""
    context: Path
    sent: str = ""
    """A digest of what the builder is sent of the contexts (see `context.link`); empty: all of it is sent afresh."""
    platform: Platform
    args: tuple[tuple[str, str], ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    image: str = ""
    """`registry/repository:tag` that is pushed to."""
    export: Path | None = None
    """A folder that gets the target's files instead. With neither, it is only run."""
    seconds: float | None = None
    """The build is stopped after that time."""
    no_cache: bool = False
    compression: tuple[str, int] = STEP_COMPRESSION

    def where(self, line: int) -> str:
        """A line of the Dockerfile (0: the whole) as people find it."""
        for first, path in reversed(self.origins):
            if 0 < first <= line:
                return f"{path}:{line - first + 1}"
        return f"{self.shown}:{line}" if line else self.shown
