"""Check that this machine can do what the commands need; every problem comes with the command that fixes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.failures import emulation_hint
from chainbuild.builder.preflight import buildx_problem, engine_problem, is_native, means
from chainbuild.errors import ChainbuildError
from chainbuild.execution.session import Session, Settings, registry_data
from chainbuild.host.docker import GET_COMPOSE, GET_DOCKER
from chainbuild.host.folders import scratch_folder
from chainbuild.references import Platform
from chainbuild.registry.images import resolve
from chainbuild.singularity.tool import PROGRAMS
from chainbuild.step_id import StepId

_FREE_NEEDED: Final = 5_000_000_000
"""Bytes: the images of a small chain, and the builder's cache of them."""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """The result of one check: `state` is the result, `mend` the command or step that fixes a problem."""

    what: str
    state: Literal["ok", "note", "wrong"]
    told: str
    mend: str = ""


def examine_machine(settings: Settings) -> Iterator[Diagnosis]:
    """Check what needs no registry, most basic first."""
    docker = _command("docker", "docker command", GET_DOCKER)
    yield docker
    if docker.state == "ok":
        yield _from_problem("engine", engine_problem(), "a Docker Engine answers")
        yield _from_problem("buildx", buildx_problem(), "buildx is installed and new enough")
        if settings.registry is None:
            yield _compose()
    data = settings.root if settings.registry else registry_data(settings.root)
    yield _space(data, asking_docker=docker.state == "ok")
    yield _command("git", "git (for commits in an image's provenance)", "apt-get install git", needed=False)
    yield _command("mmdebstrap", "mmdebstrap (for bootstrap)", "apt-get install mmdebstrap arch-test", needed=False)
    yield _command("sftp", "sftp (for singularity publish to sftp://)", "apt-get install openssh-client", needed=False)
    if not any(shutil.which(name) for name in PROGRAMS):
        text = "no apptainer or singularity on PATH: SIF files are made in a container of a helper image"
        yield Diagnosis(what="apptainer", state="note", told=text)
    else:
        yield Diagnosis(what="apptainer", state="ok", told="apptainer or singularity (for SIF files)")


def examine_builders(session: Session, platforms: Iterable[Platform], *, base: str) -> Iterator[Diagnosis]:
    """Check the chain registry and the builder of each platform.

    `base` is an image in which the test build runs a program, or `scratch`.
    """
    yield _check("registry", lambda: _ping(session))
    for platform in platforms:
        yield from _builder(session, platform, base)


def _ping(session: Session) -> str:
    session.registries.client(session.chain.host).ping()
    return f"the chain registry answers at {session.chain}"


def _builder(session: Session, platform: Platform, base: str) -> Iterator[Diagnosis]:
    """Check a platform's builder, and build a tiny image with it and push it to the chain registry."""
    what = f"builder for {platform}"
    try:
        builder = session.driver.inspect(platform)
    except ChainbuildError as error:
        yield Diagnosis(what=what, state="wrong", told=error.message, mend=error.hint)
        return
    if not any(means(text, platform) for text in builder.platforms):
        text = f"{builder.name} ({builder.driver}) cannot run {platform.oci}; it runs {', '.join(builder.platforms)}"
        yield Diagnosis(what=what, state="wrong", told=text, mend=emulation_hint(platform))
        return
    how = "natively" if is_native(builder, platform) else "under emulation"
    yield _check(what, lambda: _tiny_build(session, platform, base, f"{builder.name} ({builder.driver})", how))


def _tiny_build(session: Session, platform: Platform, base: str, builder: str, how: str) -> str:
    with scratch_folder() as scratch:
        dockerfile = scratch / "Dockerfile"
        run = "" if base == "scratch" else "RUN uname -m > /machine\n"
        dockerfile.write_text(f"FROM {base}\n{run}COPY Dockerfile /made-by-doctor\n", encoding="utf-8")
        place = f"{session.chain}/chainbuild-doctor:{platform.architecture}{platform.variant}"
        spec = BuildSpec(
            step=StepId.parse(f"doctor/{platform.name}"),
            dockerfile=dockerfile,
            shown="doctor's Dockerfile",
            context=scratch,
            platform=platform,
            image=place,
        )
        result = session.driver.build(spec, lambda _: None)
        from chainbuild.references import ImageReference

        resolve(session.registries, ImageReference.parse(place), platform)
    ran = "ran a program" if base != "scratch" else "built an image"
    return f"{builder} {ran} for {platform.oci} {how} and pushed it to the chain registry in {result.seconds:.1f} s"


def _check(what: str, check: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(what=what, state="ok", told=check())
    except ChainbuildError as error:
        return Diagnosis(what=what, state="wrong", told=error.message, mend=error.hint)


def _command(name: str, text: str, mend: str, *, needed: bool = True) -> Diagnosis:
    if shutil.which(name):
        return Diagnosis(what=name, state="ok", told=text)
    return Diagnosis(what=name, state="wrong" if needed else "note", told=f"missing: {text}", mend=mend)


def _from_problem(what: str, problem: str, success: str) -> Diagnosis:
    text, _, mend = problem.partition("\n")
    return Diagnosis(what=what, state="wrong" if problem else "ok", told=text or success, mend=mend.strip())


def _compose() -> Diagnosis:
    """Check the plugin that starts the managed registry."""
    # Run in /: Compose reads the .env file of the current folder, which may belong to an untrusted tree.
    argv = ["docker", "compose", "version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode == 0:
        text = "docker compose is installed (for the registry on localhost)"
        return Diagnosis(what="compose", state="ok", told=text)
    text = "missing: docker compose, which starts the registry on localhost"
    return Diagnosis(what="compose", state="wrong", told=text, mend=GET_COMPOSE)


def _space(data: Path, *, asking_docker: bool) -> Diagnosis:
    """Check the free space for the registry's data (whose folder may not exist yet) and for the engine's."""
    places = {next(folder for folder in (data, *data.parents) if folder.is_dir())}
    if asking_docker:
        argv = ["docker", "info", "--format", "{{.DockerRootDir}}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0 and Path(done.stdout.strip()).is_dir():
            places.add(Path(done.stdout.strip()))
    free = {place: shutil.disk_usage(place).free for place in places}
    place = min(free, key=lambda folder: free[folder])
    text = f"{free[place] / 1e9:.0f} GB free at {place}"
    if free[place] < _FREE_NEEDED:
        return Diagnosis(what="space", state="wrong", told=text, mend="docker buildx prune, docker image prune")
    return Diagnosis(what="space", state="ok", told=text)
