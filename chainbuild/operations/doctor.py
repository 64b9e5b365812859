"""Whether this machine can do what the commands need; each trouble with the command that mends it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.failures import emulation_hint
from chainbuild.builder.preflight import buildx_problem, engine_problem, means
from chainbuild.errors import ChainbuildError
from chainbuild.execution.session import Session, Settings, registry_data
from chainbuild.host.folders import scratch_folder
from chainbuild.references import Platform
from chainbuild.registry.images import resolve
from chainbuild.singularity.tool import PROGRAMS

_FREE_NEEDED: Final = 5_000_000_000
"""Bytes: a small chain's images and the builder's cache of them."""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What was looked at: `state` is how it is, `mend` the command or step that helps."""

    what: str
    state: Literal["ok", "note", "wrong"]
    told: str
    mend: str = ""


def examine_machine(settings: Settings) -> Iterator[Diagnosis]:
    """Look at what needs no registry, the basic things first."""
    docker = _command("docker", "docker command", "script/setup on Debian, else docs.docker.com/get-docker")
    yield docker
    if docker.state == "ok":
        yield _from_problem("engine", engine_problem(), "a Docker Engine answers")
        yield _from_problem("buildx", buildx_problem(), "buildx is there, and new enough")
        if settings.registry is None:
            yield _compose()
    data = settings.root if settings.registry else registry_data(settings.root)
    yield _space(data, asking_docker=docker.state == "ok")
    yield _command("git", "git (commits in an image's trail)", "apt-get install git", needed=False)
    yield _command("mmdebstrap", "mmdebstrap (for bootstrap)", "apt-get install mmdebstrap arch-test", needed=False)
    yield _command("sftp", "sftp (for singularity publish to sftp://)", "apt-get install openssh-client", needed=False)
    if not any(shutil.which(name) for name in PROGRAMS):
        told = "there is no apptainer or singularity on PATH: SIF files are made in a container of a helper image"
        yield Diagnosis(what="apptainer", state="note", told=told)
    else:
        yield Diagnosis(what="apptainer", state="ok", told="apptainer or singularity (for SIF files)")


def examine_builders(session: Session, platforms: Iterable[Platform], *, base: str) -> Iterator[Diagnosis]:
    """Look at the chain registry and at each platform's builder.

    `base` is an image that the test build starts from, whose programs it then runs; or `scratch`.
    """
    yield _asked("registry", lambda: _ping(session))
    for platform in platforms:
        yield from _builder(session, platform, base)


def _ping(session: Session) -> str:
    session.registries.client(session.chain.host).ping()
    return f"the chain registry answers at {session.chain}"


def _builder(session: Session, platform: Platform, base: str) -> Iterator[Diagnosis]:
    """A platform's builder: what it is, and a tiny image built through it and pushed to the chain registry."""
    what = f"builder for {platform}"
    try:
        builder = session.driver.inspect(platform)
    except ChainbuildError as error:
        yield Diagnosis(what=what, state="wrong", told=error.message, mend=error.hint)
        return
    if not any(means(text, platform) for text in builder.platforms):
        told = f"{builder.name} ({builder.driver}) does not run {platform.oci}; it runs {', '.join(builder.platforms)}"
        yield Diagnosis(what=what, state="wrong", told=told, mend=emulation_hint(platform))
        return
    # A builder names its own platform first.
    how = "natively" if means(builder.platforms[0], platform) else "under emulation"
    yield _asked(what, lambda: _tiny_build(session, platform, base, f"{builder.name} ({builder.driver})", how))


def _tiny_build(session: Session, platform: Platform, base: str, builder: str, how: str) -> str:
    with scratch_folder() as scratch:
        dockerfile = scratch / "Dockerfile"
        run = "" if base == "scratch" else "RUN uname -m > /machine\n"
        dockerfile.write_text(f"FROM {base}\n{run}COPY Dockerfile /made-by-doctor\n", encoding="utf-8")
        place = f"{session.chain}/chainbuild-doctor:{platform.architecture}{platform.variant}"
        order = BuildSpec(
            step=f"doctor/{platform.name}",
            dockerfile=dockerfile,
            shown="doctor's Dockerfile",
            context=scratch,
            platform=platform,
            image=place,
        )
        result = session.driver.build(order, lambda _: None)
        from chainbuild.references import ImageReference

        resolve(session.registries, ImageReference.parse(place), platform)
    ran = "ran a program" if base != "scratch" else "built an image"
    return f"{builder} {ran} for {platform.oci} {how} and pushed it to the chain registry in {result.seconds:.1f} s"


def _asked(what: str, ask: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(what=what, state="ok", told=ask())
    except ChainbuildError as error:
        return Diagnosis(what=what, state="wrong", told=error.message, mend=error.hint)


def _command(name: str, told: str, mend: str, *, needed: bool = True) -> Diagnosis:
    if shutil.which(name):
        return Diagnosis(what=name, state="ok", told=told)
    return Diagnosis(what=name, state="wrong" if needed else "note", told=f"there is no {told}", mend=mend)


def _from_problem(what: str, problem: str, well: str) -> Diagnosis:
    told, _, mend = problem.partition("\n")
    return Diagnosis(what=what, state="wrong" if problem else "ok", told=told or well, mend=mend.strip())


def _compose() -> Diagnosis:
    """The plugin that brings the managed registry up."""
    # Compose reads a file .env of the current folder, which may be a foreign tree's.
    argv = ["docker", "compose", "version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode == 0:
        return Diagnosis(what="compose", state="ok", told="docker compose is there (for the registry on localhost)")
    told = "there is no docker compose, which brings the registry on localhost up"
    mend = (
        "apt-get install docker-compose-plugin, or script/setup; nothing is needed where --registry names another one"
    )
    return Diagnosis(what="compose", state="wrong", told=told, mend=mend)


def _space(data: Path, *, asking_docker: bool) -> Diagnosis:
    """Free space where the registry's data goes (the folder may be yet to be made) and where the engine keeps its own."""
    places = {next(folder for folder in (data, *data.parents) if folder.is_dir())}
    if asking_docker:
        argv = ["docker", "info", "--format", "{{.DockerRootDir}}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0 and Path(done.stdout.strip()).is_dir():
            places.add(Path(done.stdout.strip()))
    free = {place: shutil.disk_usage(place).free for place in places}
    place = min(free, key=lambda one: free[one])
    told = f"{free[place] / 1e9:.0f} GB free at {place}"
    if free[place] < _FREE_NEEDED:
        return Diagnosis(what="space", state="wrong", told=told, mend="docker buildx prune, docker image prune")
    return Diagnosis(what="space", state="ok", told=told)
