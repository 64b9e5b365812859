"""A shell in an image: the command line of the container, and how the image gets into the local store.

The container works in the user's environment: the current folder mounted at its own path, the user's own ids, and a
writable home. It is removed at its end; only changes in the current folder remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from chainbuild.errors import LoginNeededError, NotFoundInRegistryError, UnreachableError
from chainbuild.execution.session import Session
from chainbuild.host.docker import mount_flag
from chainbuild.images.local_store import LocalImage, LocalStore
from chainbuild.operations.named_images import NamedImage, locate, similar_names
from chainbuild.references import ChainRegistry, Platform

HOME: Final = "/chainbuild-home"
OTHERWISE: Final = "/work"
"""Mount point of the current folder if its own path is a system folder."""

# Prefer bash, which not every image has. No user input is inserted into this text.
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
    """The user who enters the container, and from which folder."""

    folder: Path
    user: int
    group: int
    terminal: bool
    name: str = ""
    """The user's login name."""


def container_command(
    image: str, visit: Visit, command: Sequence[str] = (), *, platform: Platform | None = None
) -> tuple[str, ...]:
    """Return the docker command that starts a shell, or `command`, in an image."""
    place = mount_point(visit.folder)
    argv = ["docker", "run", "--rm", "--interactive", "--pull", "never"]
    argv += ["--tty"] if visit.terminal else []
    argv += ["--platform", platform.oci] if platform else []
    argv += [*mount_flag("type=bind", f"source={visit.folder}", f"target={place}"), "--workdir", place]
    argv += ["--user", f"{visit.user}:{visit.group}"]
    if visit.user:
        # The image has no user with this id, so docker would use / as home, which is not writable.
        argv += ["--tmpfs", f"{HOME}:exec,mode=0700,uid={visit.user},gid={visit.group}", "--env", f"HOME={HOME}"]
        argv += ["--env", f"USER={visit.name}", "--env", f"LOGNAME={visit.name}"] if visit.name else []
    program = tuple(command) or _SHELL
    # Override the image's entrypoint, which may be an application.
    return (*argv, "--entrypoint", program[0], image, *program[1:])


def mount_point(folder: Path) -> str:
    """Return where a folder is mounted: at its own path, unless that would hide system folders of the image."""
    path = PurePosixPath(folder)
    if str(path) == "/" or str(path) in _SYSTEM or any(path.is_relative_to(folder) for folder in _NEVER_BELOW):
        return OTHERWISE
    return str(path)


def local_image(store: LocalStore, named: NamedImage, chain: ChainRegistry) -> LocalImage | None:
    """Return the image of the local store that a shell can use as it is.

    None for images of steps, and for those whose name has the chain registry: the registry's may be newer.
    """
    if named.step or named.id or chain.holds(named.reference):
        return None
    local = store.find(str(named.reference))
    return local if local and (named.platform is None or local.platform.same_as(named.platform)) else None


def fetch(session: Session, named: NamedImage) -> tuple[str, Platform]:
    """Load an image of a registry into the local store, and return its name there and its platform.

    Errors: `NotFoundInRegistryError` if the image does not exist.
    """
    try:
        resolved = locate(session, named)
    except (NotFoundInRegistryError, LoginNeededError, UnreachableError) as error:
        if named.step or named.id:
            raise
        platform = f" for {named.platform.oci}" if named.platform else ""
        raise NotFoundInRegistryError(
            f"{named}{platform} is neither in the local image store nor in the chain registry",
            hint=f"{similar_names(session, named.reference)}List images with chainbuild images or docker images;"
            " build a layer with chainbuild layer.",
        ) from error
    image, name = resolved.image, resolved.named
    name = name if name.tag or name.digest else name.with_tag("latest")
    existing = None if name.digest else session.local.find(str(name))
    if name.digest or (existing and not existing.platform.same_as(image.platform)):
        # There is no tag for it, or the tag is that of an image for another platform.
        session.local.pull(image.reference.pinned, image.platform)
        return image.reference.pinned, image.platform
    session.local.load(image.reference.pinned, image.digest, image.platform, str(name))
    return str(name), image.platform
