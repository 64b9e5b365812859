"""Provide a shell for tests in images without one: a static busybox for the image's platform, mounted from outside.

It comes from Debian's package `busybox-static`, which is unpacked natively: nothing of a foreign platform is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.events import Emit
from chainbuild.minimize.scripts import interpreters_of
from chainbuild.references import Platform
from chainbuild.step_id import StepId

BUSYBOX: Final = "busybox"
# Names of POSIX shells, which busybox can replace. bash and zsh have more features.
_POSIX: Final = frozenset({"sh", "dash", "ash"})
# Messages of runc and crun about a program that exists and whose interpreter is missing.
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


def was_not_started(log: tuple[str, ...], path: str) -> bool:
    """Return whether the end of a container's log shows that the script at `path` has no interpreter there."""
    pattern = re.compile(_NOT_STARTED.format(path=re.escape(path)))
    return any(pattern.search(line) for line in log)


def interpreter(test: bytes) -> str:
    """Return the program of a test's `#!` line, or the program that its `env` runs; empty if the test is a program."""
    names = interpreters_of(test[:256])
    return names[-1] if names else ""


def can_stand_in(test: bytes) -> bool:
    """Return whether a test is a script for a POSIX shell, such as busybox."""
    return interpreter(test).rpartition("/")[2] in _POSIX


def shell_dockerfile() -> Dockerfile:
    """Return the parsed Dockerfile of the shell, which names its images."""
    return parse(_DOCKERFILE.encode(), _NAME)


def bring_shell(
    builder: BuildDriver, emit: Emit, step: StepId, platform: Platform, contexts: Mapping[str, str], folder: Path
) -> None:
    """Put a static `busybox` for the platform into `folder`.

    `contexts` replace the images that `shell_dockerfile` names, pinned. Errors: those of a build.
    """
    # Imported late: only a test without a shell needs the module that creates images from packages.
    from chainbuild.distro.architectures import debian_architecture

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
