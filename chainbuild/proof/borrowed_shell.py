"""A shell for tests in images that have none: a static busybox for the image's platform, which stays outside the image.

It comes from Debian's package `busybox-static`, which is unpacked natively: nothing of a foreign platform runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.buildx import BuildResult
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.events import Emit
from chainbuild.minimize.scripts import interpreters_of
from chainbuild.model import StepId
from chainbuild.references import Platform

BUSYBOX: Final = "busybox"
# A name that is a POSIX shell, whatever program it is: busybox can take its place. bash and zsh have more.
_POSIX: Final = frozenset({"sh", "dash", "ash"})
# runc and crun, of a program that is there and whose interpreter is not.
_NOT_STARTED: Final = (
    r"exec:? \"?{path}\"?:?[^\n]*: no such file or directory|open executable: no such file or directory"
)
_NAME: Final = "chainbuild's Dockerfile for the shell of tests"
_DOCKERFILE: Final = """\
ARG TOOLS_IMAGE=debian:bookworm-slim
FROM --platform=$BUILDPLATFORM ${TOOLS_IMAGE} AS tools
ARG ARCHITECTURE
RUN dpkg --add-architecture "$ARCHITECTURE" \\
 && apt-get -q update \\
 && mkdir /download /unpacked \\
 && cd /download \\
 && apt-get -q -o APT::Sandbox::User=root download "busybox-static:$ARCHITECTURE" \\
 && dpkg-deb --extract ./*.deb /unpacked \\
 && rm -rf /var/lib/apt/lists/*
FROM scratch
COPY --from=tools /unpacked/bin/busybox /busybox
"""


class Builder(Protocol):
    """What unpacks the package; `buildx.BuildxDriver` is the real one."""

    def build(self, order: BuildSpec, emit: Emit) -> BuildResult:
        """Build and export."""


def was_not_started(log: tuple[str, ...], path: str) -> bool:
    """Whether the end of a container's log says that the script at `path` has no interpreter there."""
    pattern = re.compile(_NOT_STARTED.format(path=re.escape(path)))
    return any(pattern.search(line) for line in log)


def interpreter(test: bytes) -> str:
    """Return what a test needs to start: the program of its `#!` line (`env`'s where that is meant); empty for a program."""
    names = interpreters_of(test[:256])
    return names[-1] if names else ""


def can_stand_in(test: bytes) -> bool:
    """Whether a test is a script for a POSIX shell, which busybox is one of."""
    return interpreter(test).rpartition("/")[2] in _POSIX


def shell_dockerfile() -> Dockerfile:
    """Return what is built, parsed: which images it names."""
    return parse(_DOCKERFILE.encode(), _NAME)


def bring_shell(
    builder: Builder, emit: Emit, step: StepId, platform: Platform, contexts: Mapping[str, str], folder: Path
) -> None:
    """Put a static `busybox` for the platform into `folder`.

    `contexts` replace the images that `shell_dockerfile` names, pinned. Errors: those of a build.
    """
    # Late: only a test that lacks a shell needs what makes images from packages.
    from chainbuild.distro.mmdebstrap import debian_architecture

    dockerfile = folder.parent / "Dockerfile-shell"
    dockerfile.write_text(_DOCKERFILE, encoding="utf-8")
    empty = folder.parent / "empty"
    empty.mkdir(exist_ok=True)
    builder.build(
        BuildSpec(
            step=step,
            dockerfile=dockerfile,
            shown=_NAME,
            context=empty,
            platform=platform,
            args=(("ARCHITECTURE", debian_architecture(platform)),),
            contexts=tuple(contexts.items()),
            export=folder,
        ),
        emit,
    )
