"""The container of a debug session: its image's configuration, its command line, and the files that it leaves."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, Facts, Instruction, ParentConfig, find_facts
from chainbuild.dockerfile.facts import PROXY_ARGS
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import NotReadyError
from chainbuild.host.docker import mount_flag
from chainbuild.operations.debug.mounts import RunMount
from chainbuild.operations.debug.startup import FOLDER
from chainbuild.references import Platform
from chainbuild.text import last_line

HOST_NAME: Final = "buildkitsandbox"
"""The name of the machine inside a RUN."""
_LARGEST_FILE: Final = 1 << 24


class ImageState(Struct, frozen=True, kw_only=True):
    """What a container gets from its image."""

    platform: Platform
    env: tuple[str, ...] = ()
    folder: str = "/"
    shell: tuple[str, ...] = ()
    """The SHELL that applies after it, if the engine reports it."""


def image_state(name: str) -> ImageState:
    """Return the configuration of an image of the local store. Errors: `NotReadyError`."""
    done = subprocess.run(["docker", "image", "inspect", name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(
            f"the builder's image is not in the engine's store: {last_line(done.stderr)}",
            hint="A shell needs a Docker Engine on this machine, whichever builder is used.",
        )
    document = json.loads(done.stdout)[0]
    config = document.get("Config") or {}
    return ImageState(
        platform=Platform.from_oci(
            document.get("Os") or "linux", document.get("Architecture") or "", document.get("Variant") or ""
        ),
        env=tuple(config.get("Env") or ()),
        folder=config.get("WorkingDir") or "/",
        shell=tuple(config.get("Shell") or ()),
    )


def run_variables(
    cut: Dockerfile,
    state: ImageState,
    *,
    args: Mapping[str, str],
    target: Platform,
    build: Platform,
    contexts: Sequence[str] = (),
) -> Mapping[str, str]:
    """Return the variables of a RUN at the end of a Dockerfile: those of its image, and its ARGs."""
    env = dict(entry.partition("=")[::2] for entry in state.env)

    def facts(parents: Mapping[tuple[str, str], ParentConfig]) -> Facts:
        return find_facts(
            cut, args=args, target_platform=target, build_platform=build, contexts=contexts, parents=parents
        )

    # ARGs may refer to variables of the image that the stage is based on. The image after it has them, too.
    base = ParentConfig(env=state.env)
    parents = {(use.reference, use.platform): base for use in facts({}).images}
    parents |= {(normal_context_name(name), target.oci): base for name in contexts}
    found = facts(parents)
    # An ARG below an ENV of its name wins.
    set_by_env = env if found.env is None else dict(entry.partition("=")[::2] for entry in found.env)
    set_by_arg = {
        name: value
        for name, value in found.variables.items()
        if name not in env or set_by_env.get(name, value) != value
    }
    return {name: value for name, value in args.items() if name in PROXY_ARGS} | env | set_by_arg


def network(instruction: Instruction) -> tuple[str, ...]:
    """Return the flag for the network of an instruction.

    RUN's `default` and `sandbox` are docker's default. `host` is not applied: no build of chainbuild permits it.
    """
    return ("--network", "none") if _network_of(instruction) == "none" else ()


def _network_of(instruction: Instruction) -> str:
    return (instruction.flag("network") or "").lower()


def mount_flags(mounts: Sequence[RunMount], volumes: Mapping[int, str]) -> list[str]:
    """Return the flags for mounts with an own content: `volumes` by the number of the mount, and `tmpfs`."""
    flags: list[str] = []
    for number, mount in enumerate(mounts):
        if number in volumes:
            fields = ["type=volume", f"source={volumes[number]}", f"target={mount.target}", "volume-nocopy"]
            flags += mount_flag(*fields, *(["readonly"] if mount.is_read_only else []))
        elif mount.kind == "tmpfs":
            size = mount.fields.get("size", "")
            flags += mount_flag("type=tmpfs", f"target={mount.target}", *([f"tmpfs-size={size}"] if size else []))
    return flags


def not_as_in_build(instruction: Instruction, mounts: Sequence[RunMount], uncopied: Sequence[int]) -> list[str]:
    """Return what a container cannot give as a RUN does, for people."""
    notes = []
    if any(mount.kind == "cache" for mount in mounts):
        notes.append("cache mounts are copies: what you change in them is lost")
    notes += [f"the {mounts[number].text} lacks its content, which could not be copied" for number in uncopied]
    if (instruction.flag("security") or "").lower() == "insecure":
        notes.append("the container has docker's default rights, not those of --security=insecure")
    if instruction.flag("device") is not None:
        notes.append("the container has no devices (--device)")
    if _network_of(instruction) == "host":
        notes.append("the container has docker's default network, not that of the host")
    return notes


def run_in_terminal(argv: Sequence[str]) -> int:
    """Run docker in the foreground and return its exit code. Signals of the terminal are for the container."""

    def ignored(_signum: int, _frame: object) -> None:
        return

    # A handler, unlike SIG_IGN, is not passed on to docker.
    before = signal.signal(signal.SIGINT, ignored)
    try:
        return subprocess.run(argv, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def file_of(container: str, name: str) -> bytes:
    """Return a file that a container has left in `FOLDER`; empty if there is none, or it is too large."""
    argv = ["docker", "cp", f"{container}:{FOLDER}/{name}", "-"]
    # Programs of the tree ran in the container, so the file may have any size.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as copy:
        raw = copy.stdout.read(_LARGEST_FILE) if copy.stdout else b""
    if copy.returncode or not raw:
        return b""
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isreg() else None
            return file.read() if file is not None else b""
    except tarfile.TarError:
        return b""
