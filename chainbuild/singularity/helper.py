"""The helper image: Apptainer in a container, for machines without Apptainer.

It is built once from utilities/Dockerfile-singularity and stored in the chain registry and the local store under the
digest of that file. Its containers have no network, no privileges, and access to three folders of this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.images import named_images
from chainbuild.errors import ChainbuildError, NotFoundInRegistryError
from chainbuild.events import Message, StepFailed, StepFinished, StepStarted
from chainbuild.execution.session import Session
from chainbuild.host.package_data import singularity_path
from chainbuild.images.resolver import find_all
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import resolve
from chainbuild.singularity.tool import Conversion, TellLine, build_words, run_tool
from chainbuild.step_id import StepId

REPOSITORY: Final = "chainbuild/singularity-helper"
LABEL: Final = "io.github.chainbuild.singularity"
# Capabilities that unpacking an image as root needs: to set owners, modes and device files.
_CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")
_LAYOUTS, _WORK, _OUTPUT = "/layouts", "/work", "/output"


def helper_tag(own: Platform) -> str:
    """Return the tag of the helper image for a platform: machine data, a digest of what it is built from."""
    running = hashlib.sha256(singularity_path().read_bytes())
    running.update(own.oci.encode())
    return f"k1-helper-{running.hexdigest()[:32]}"


def ensure_helper(session: Session) -> str:
    """Put the helper image into the local store and return its name. Errors: those of finding its base and of a build."""
    own = Platform.of_this_machine()
    name = ImageReference.parse(REPOSITORY).with_tag(helper_tag(own))
    if session.local.find(str(name)):
        return str(name)
    place = session.chain.place(name).with_tag(name.tag_or_latest)
    try:
        image = resolve(session.registries, place, own)
    except NotFoundInRegistryError:
        session.emit(Message(text="building the helper image with Apptainer for this and later runs"))
        _build(session, place, own)
        image = resolve(session.registries, place, own)
    session.local.load(image.reference.pinned, image.digest, own, str(name))
    return str(name)


def _build(session: Session, place: ImageReference, own: Platform) -> None:
    dockerfile = singularity_path()
    inputs, _ = named_images(singularity_dockerfile(), given=(), args={}, platform=own, build_platform=own)
    bases = find_all(session.finder(), inputs)
    spec = BuildSpec(
        step=StepId(own.name, "singularity", "helper"),
        dockerfile=dockerfile,
        shown=f"utilities/{dockerfile.name}",
        context=dockerfile.parent,
        platform=own,
        contexts=tuple(
            (item.written, f"docker-image://{bases[str(item.source), item.platform.oci].pinned}") for item in inputs
        ),
        image=str(place),
    )
    session.emit(StepStarted(step=spec.step, activity="build"))
    started = time.monotonic()
    try:
        result = session.driver.build(spec, session.emit)
    except ChainbuildError as error:
        session.emit(StepFailed(step=spec.step, seconds=time.monotonic() - started, message=error.message))
        raise
    session.emit(
        StepFinished(
            step=spec.step,
            activity="build",
            image=spec.image,
            digest=str(result.digest or ""),
            seconds=result.seconds,
        )
    )


class Identity(Struct, frozen=True, kw_only=True):
    """The owner of the files that a container creates. `mapped`: the engine is rootless, its root is the user."""

    user: int
    group: int
    mapped: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """The docker flags to run a container as that user with minimal privileges."""
        least = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "label=disable")
        if self.user == 0 or self.mapped:
            return (*least, *(word for capability in _CAPABILITIES for word in ("--cap-add", capability)))
        return (*least, "--user", f"{self.user}:{self.group}")


class HelperTool:
    """Apptainer in a container of the helper image."""

    reads_zstd = True

    def __init__(self, image: str, environ: Mapping[str, str]) -> None:
        self._image = image
        self._environ = dict(environ)
        self._identity = Identity(user=os.getuid(), group=os.getgid(), mapped=_engine_is_rootless())
        self.name = f"apptainer {self._version()}".strip()

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        sweep_containers()
        container = f"chainbuild-singularity-{os.getpid()}-{conversion.temporary.name}"
        argv = self.argv(conversion, container)
        run_tool(argv, self._environ, conversion, tell, stop=lambda: _remove(container))

    def argv(self, conversion: Conversion, container: str) -> tuple[str, ...]:
        """Return the command line. Apptainer insists on a name for the container's user, so passwd and group are mounted."""
        output = f"{_OUTPUT}/{conversion.output.name}"
        return (
            "docker",
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "none",
            *self._identity.flags,
            "--name",
            container,
            "--label",
            f"{LABEL}={_machine()}:{conversion.temporary}",
            "--mount",
            bind(conversion.layouts, _LAYOUTS, readonly=True),
            "--mount",
            bind(conversion.temporary, _WORK),
            "--mount",
            bind(conversion.output.parent, _OUTPUT),
            *self._users(conversion.temporary),
            "--env",
            f"APPTAINER_TMPDIR={_WORK}",
            "--env",
            f"TMPDIR={_WORK}",
            "--env",
            f"HOME={_WORK}",
            "--workdir",
            _LAYOUTS,
            self._image,
            *build_words(conversion, output),
        )

    def _users(self, folder: Path) -> tuple[str, ...]:
        user, group = self._identity.user, self._identity.group
        if user == 0 or self._identity.mapped:
            return ()
        words: list[str] = []
        for name, line in (("passwd", f"user:x:{user}:{group}::{_WORK}:/bin/sh\n"), ("group", f"user:x:{group}:\n")):
            path = folder / name
            path.write_text(line, encoding="utf-8")
            words += ["--mount", bind(path, f"/etc/{name}", readonly=True)]
        return tuple(words)

    def _version(self) -> str:
        done = subprocess.run(
            ["docker", "run", "--rm", "--pull", "never", "--network", "none", self._image, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""


def bind(source: Path, target: str, *, readonly: bool = False) -> str:
    """Return a bind mount for `docker run --mount`, as a line of CSV."""
    fields = ("type=bind", f"source={source}", f"target={target}", *(("readonly",) if readonly else ()))
    return ",".join(
        f'"{field.replace(chr(34), chr(34) * 2)}"' if {",", '"'} & set(field) else field for field in fields
    )


def sweep_containers() -> None:
    """Remove the containers of killed processes, whose folders no longer exist (they are removed at every start)."""
    done = subprocess.run(
        ["docker", "ps", "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}}\t{{{{.Label "{LABEL}"}}}}'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        container, _, owner = line.partition("\t")
        machine, _, folder = owner.partition(":")
        if container and folder and machine == _machine() and not Path(folder).exists():
            _remove(container)


def _machine() -> str:
    """Identify the machine of the folders: several containers with the engine's socket may share one engine."""
    try:
        return str(Path("/proc/self/ns/mnt").stat().st_ino)
    except OSError:
        return platform.node()


def _remove(container: str) -> None:
    with suppress(OSError):
        subprocess.run(
            ["docker", "rm", "--force", container], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )


def _engine_is_rootless() -> bool:
    done = subprocess.run(
        ["docker", "info", "--format", "{{json .SecurityOptions}}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        options = json.loads(done.stdout or "[]")
    except ValueError:
        return False
    return isinstance(options, list) and any(str(item).startswith("name=rootless") for item in options)


def singularity_dockerfile() -> Dockerfile:
    """Return the parsed Dockerfile of the helper image."""
    return parse(singularity_path().read_bytes(), "utilities/Dockerfile-singularity")
