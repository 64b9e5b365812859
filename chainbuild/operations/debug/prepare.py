"""The images, the volumes and the secrets of a debug session, and the command line of its container."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.cut import cut_before
from chainbuild.errors import BuildFailedError, NotReadyError
from chainbuild.events import Emit, Event, LogLine
from chainbuild.execution.session import Session
from chainbuild.host.docker import mount_flag
from chainbuild.operations.debug import startup
from chainbuild.operations.debug.cleanup import Names
from chainbuild.operations.debug.container import (
    HOST_NAME,
    ImageState,
    image_state,
    mount_flags,
    network,
    run_variables,
)
from chainbuild.operations.debug.image import content_spec, copy_flags, is_file_line, state_spec, with_mounted_files
from chainbuild.operations.debug.mounts import RunMount, run_mounts
from chainbuild.operations.debug.secrets import Ask, mounted_file, secret_values, with_sources
from chainbuild.operations.debug.subject import Subject
from chainbuild.text import last_line
from chainbuild.values import replace

_SECRETS: Final = "/run/chainbuild-secrets"
"""Where the container finds secrets that the instruction gets as variables."""
# Sets variables from files, so that no value of a secret is in the container's configuration.
_WITH_SECRETS: Final = (
    'while [ "$1" != -- ]; do chainbuild_value=$(cat "$2"; echo x); export "$1=${chainbuild_value%?}"; shift 2; done;'
    ' shift; unset chainbuild_value; exec "$@"'
)


class Folders(Struct, frozen=True):
    """Temporary folders of a session: one for its files, and a private one for the values of secrets."""

    scratch: Path
    secrets: Path


class Preparation(Struct, frozen=True):
    """Where the prepared of a session is made. `show` gets the events of the builds."""

    subject: Subject
    session: Session
    names: Names
    folders: Folders
    show: Emit

    def load(self, spec: BuildSpec, emit: Emit = lambda _: None) -> None:
        """Build an image into the engine's store. `emit` gets its events, too. Errors: those of a build."""

        def both(event: Event) -> None:
            self.show(event)
            emit(event)

        self.session.driver.load((*self.subject.below, spec), both)


class Prepared(Struct, frozen=True, kw_only=True):
    """What a session's container is made of. `uncopied` are the numbers of the mounts whose content could not be copied."""

    image: str
    state: ImageState
    variables: Mapping[str, str]
    mounts: tuple[RunMount, ...]
    volumes: Mapping[int, str]
    uncopied: tuple[int, ...]
    secret_flags: tuple[str, ...]
    secret_variables: tuple[str, ...]
    """Names of variables, each followed by the file with its value."""

    def argv(
        self, subject: Subject, name: str, program: Sequence[str], *, terminal: bool, shell: str, mounts: Sequence[str]
    ) -> tuple[str, ...]:
        """Return the docker command that runs a program in the container; `shell` is for the start script.

        `mounts` are the user's own, as docker's `--mount` takes them.
        """
        instruction = subject.place.instruction
        argv = ["docker", "run", "--name", name, "--pull", "never", "--platform", self.state.platform.oci]
        argv += ["--hostname", HOST_NAME, "--no-healthcheck", *network(instruction)]
        argv += ["--interactive", "--tty"] if terminal else []
        env = dict(entry.partition("=")[::2] for entry in self.state.env)
        own = {key: value for key, value in self.variables.items() if env.get(key) != value}
        for key, value in (own | ({"CHAINBUILD_SHELL": shell} if shell else {})).items():
            argv += ["--env", f"{key}={value}"]
        argv += [*mount_flags(self.mounts, self.volumes), *self.secret_flags]
        for mount in mounts:
            argv += ["--mount", mount]
        if self.secret_variables:
            program = ("/bin/sh", "-c", _WITH_SECRETS, "sh", *self.secret_variables, "--", *program)
        return (*argv, "--entrypoint", program[0], self.image, *program[1:])


def prepare(preparation: Preparation, environ: Mapping[str, str], ask: Ask | None) -> Prepared:
    """Build the images, fill the volumes, and provide the secrets.

    Errors: those of a build; `WrongUseError` for a secret without a source; `NotReadyError` for those of the engine.
    """
    preparation = replace(preparation, subject=_buildable(preparation.subject, environ))
    subject = preparation.subject
    spec, instruction = subject.spec, subject.place.instruction
    files = preparation.folders.scratch / "files"
    files.mkdir()
    startup.write_files(files, startup.command_of(instruction), spec.step.short_name)
    secrets = with_sources(spec.secrets, environ)
    build = state_spec(subject, files, preparation.names.image, secrets)
    preparation.load(build)
    state = image_state(preparation.names.image)
    variables = _variables(preparation, state)
    mounts = run_mounts(
        instruction,
        variables=variables,
        folder=state.folder,
        pins=spec.pins,
        more=dict(spec.run_flags).get(instruction.line, ()),
        escape=subject.dockerfile.escape,
    )
    values = secret_values(mounts, spec.secrets, environ, ask)
    image, volumes, uncopied = _with_content(preparation, build, mounts, state)
    flags, pairs = _secret_files(preparation.folders.secrets, mounts, values)
    return Prepared(
        image=image,
        state=state,
        variables=variables,
        mounts=mounts,
        volumes=volumes,
        uncopied=uncopied,
        secret_flags=flags,
        secret_variables=pairs,
    )


def _buildable(subject: Subject, environ: Mapping[str, str]) -> Subject:
    """Return the subject with builds below it that have only secrets whose sources still exist."""
    below = tuple(replace(spec, secrets=with_sources(spec.secrets, environ)) for spec in subject.below)
    return replace(subject, below=below)


def _variables(preparation: Preparation, state: ImageState) -> Mapping[str, str]:
    spec = preparation.subject.spec
    cut, _ = cut_before(preparation.subject.raw, preparation.subject.place)
    return run_variables(
        parse(cut, spec.shown),
        state,
        args=dict(spec.args),
        target=spec.platform,
        build=preparation.session.builder_platform(spec.platform),
        contexts=[name for name, _ in spec.contexts],
    )


def _with_content(
    preparation: Preparation, build: BuildSpec, mounts: Sequence[RunMount], state: ImageState
) -> tuple[str, dict[int, str], tuple[int, ...]]:
    """Copy the content of mounts. Return the image, the volumes by the number of their mount, and the uncopied mounts.

    `build` is the build of the image, which also gets the mounts that are single files.
    """
    names, flags = preparation.names, copy_flags(mounts)
    copied = frozenset(number for number, mount in enumerate(mounts) if mount.is_copied)
    empty = {number: names.volume(number) for number in copied if mounts[number].kind == "cache"}
    if not flags:
        return names.image, empty, tuple(sorted(copied))
    content = content_spec(preparation.subject, flags, names.content, names.token, build.secrets)
    single: set[int] = set()
    lines = {is_file_line(names.token, number): number for number in flags}

    def emit(event: Event) -> None:
        if isinstance(event, LogLine) and event.text in lines:
            single.add(lines[event.text])

    try:
        preparation.load(content, emit)
    except BuildFailedError:  # the image has no cp, for example
        return names.image, empty, tuple(sorted(copied))
    volumes = {number: names.volume(number) for number in flags if number not in single}
    _fill(names, volumes, state)
    if not single:
        return names.image, empty | volumes, tuple(sorted(copied - set(flags)))
    whole = with_mounted_files(build, content, {number: mounts[number].target for number in sorted(single)})
    preparation.load(replace(whole, load=names.with_files))
    return names.with_files, empty | volumes, tuple(sorted(copied - set(flags)))


def _fill(names: Names, volumes: Mapping[int, str], state: ImageState) -> None:
    """Fill volumes with folders of an image: docker does so when a container is created. Errors: `NotReadyError`."""
    argv = ["docker", "create", "--name", names.filler, "--pull", "never", "--platform", state.platform.oci]
    for number, volume in volumes.items():
        argv += mount_flag("type=volume", f"source={volume}", f"target=/{number}")
    done = subprocess.run([*argv, names.content, "none"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(
            f"the engine could not copy the mounts: {last_line(done.stderr)}", hint="Check it with chainbuild doctor."
        )


def _secret_files(
    folder: Path, mounts: Sequence[RunMount], values: Mapping[str, bytes]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the files of secrets. Return docker's flags that mount them, and the variables with their files."""
    flags: list[str] = []
    pairs: list[str] = []
    for number, mount in enumerate(mounts):
        if mount.kind != "secret" or mount.name not in values:
            continue
        path = mounted_file(folder, number, mount, values[mount.name])
        targets = [mount.target] if mount.target else []
        if variable := mount.fields.get("env"):
            targets.append(f"{_SECRETS}/{number}")
            pairs += [variable, targets[-1]]
        for target in targets:
            flags += mount_flag("type=bind", f"source={path}", f"target={target}", "readonly")
    return tuple(flags), tuple(pairs)
