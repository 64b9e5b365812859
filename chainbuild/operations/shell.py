"""A shell in an image: the container's command line, and where the image comes from.

The container is the user's own place: the current folder at its own path, the user's own ids, a home that can be written
to. It is thrown away at its end; what is in the current folder stays.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from chainbuild.errors import ChainbuildError, NotFoundInRegistryError
from chainbuild.execution.session import Session
from chainbuild.references import ImageReference, Platform

HOME: Final = "/chainbuild-home"
OTHERWISE: Final = "/work"
"""Where the current folder is mounted when its own path is a part of every system."""

# bash is nicer, and not everywhere. Nothing of anybody's goes into this text.
_SHELL: Final = ("/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi")
_SYSTEM: Final = frozenset(
    {
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",  # noqa: S108  # names in the container
        "/usr",
        "/var",
    }
)
_NEVER_BELOW: Final = ("/dev", "/proc", "/sys")


class Visit(Struct, frozen=True, kw_only=True):
    """Who goes in, from where."""

    folder: Path
    user: int
    group: int
    terminal: bool
    name: str = ""
    """What the user is called."""


def container_command(
    image: str, visit: Visit, command: Sequence[str] = (), *, platform: Platform | None = None
) -> tuple[str, ...]:
    """The docker command that starts a shell (or `command`) in an image."""
    place = mount_point(visit.folder)
    argv = ["docker", "run", "--rm", "--interactive", "--pull", "never"]
    argv += ["--tty"] if visit.terminal else []
    argv += ["--platform", platform.oci] if platform else []
    argv += ["--mount", _fields("type=bind", f"source={visit.folder}", f"target={place}"), "--workdir", place]
    argv += ["--user", f"{visit.user}:{visit.group}"]
    if visit.user:
        # Nobody in the image has these ids: the home that docker would take is /, which is not theirs.
        argv += ["--tmpfs", f"{HOME}:exec,mode=0700,uid={visit.user},gid={visit.group}", "--env", f"HOME={HOME}"]
        argv += ["--env", f"USER={visit.name}", "--env", f"LOGNAME={visit.name}"] if visit.name else []
    words = tuple(command) or _SHELL
    # The image's own entrypoint may be its program; a shell was asked for.
    return (*argv, "--entrypoint", words[0], image, *words[1:])


def mount_point(folder: Path) -> str:
    """Where a folder is in the container: at its own path, unless that would hide a part of the image's system."""
    path = PurePosixPath(folder)
    if str(path) == "/" or str(path) in _SYSTEM or any(path.is_relative_to(one) for one in _NEVER_BELOW):
        return OTHERWISE
    return str(path)


def _fields(*fields: str) -> str:
    """Fields as docker reads `--mount`: CSV, so that a path may hold a comma or a quote."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def fetch(session: Session, named: ImageReference, platform: Platform, names: Sequence[ImageReference]) -> str:
    """Have an image of the chain registry in the local store; gives its name there.

    `names` are those that are there, for the message. Errors: `NotFoundInRegistryError` where nobody has it.
    """
    try:
        found = session.finder().find_result(named, platform)
    except ChainbuildError as error:
        raise NotFoundInRegistryError(
            f"{named} for {platform.oci} is neither in the local image store nor in the chain registry",
            hint=_hint(named, names),
        ) from error
    name = str(named if named.tag or named.digest else named.with_tag("latest"))
    if named.digest is None:
        session.local.load(found.image.reference.pinned, found.image.digest, platform, name)
    return name


def _hint(named: ImageReference, names: Sequence[ImageReference]) -> str:
    known = list(dict.fromkeys(str(name) for name in names))
    last = named.repository.rpartition("/")[2]
    same = [str(name) for name in names if name.repository.rpartition("/")[2] == last]
    near = list(dict.fromkeys(same)) or difflib.get_close_matches(str(named), known, n=3)
    told = f"Perhaps you meant {' or '.join(near[:3])}. " if near else ""
    return f"{told}See what there is with: chainbuild images, docker images. A layer is built with: chainbuild layer."
