"""What a machine lacks is told before anything is started."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from chainbuild.builder.builders import BuilderInfo
from chainbuild.builder.buildx import BuildxDriver
from chainbuild.builder.preflight import check_builders
from chainbuild.errors import NotReadyError
from chainbuild.references import Platform
from tests.support.world import AMD64, ARM64

# As a builder with every emulator lists them.
EVERYTHING = (
    "linux/amd64",
    "linux/amd64/v2",
    "linux/amd64/v3",
    "linux/arm64",
    "linux/riscv64",
    "linux/ppc64le",
    "linux/s390x",
    "linux/386",
    "linux/mips64le",
    "linux/mips64",
    "linux/loong64",
    "linux/arm/v7",
    "linux/arm/v6",
)


class OneBuilder(BuildxDriver):
    def __init__(self, platforms: tuple[str, ...], error: str = "") -> None:
        super().__init__()
        self.platforms, self.error = platforms, error

    def inspect(self, platform: Platform) -> BuilderInfo:
        if self.error:
            raise NotReadyError(self.error)
        return BuilderInfo(name="default", driver="docker", platforms=self.platforms, status="running")


class Machine:
    def __init__(self) -> None:
        self.buildx: tuple[int, str] = (0, "github.com/docker/buildx v0.17.1 abc")
        self.engine: tuple[int, str] = (0, "")

    def run(self, argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code, text = self.buildx if argv[1] == "buildx" else self.engine
        return subprocess.CompletedProcess(argv, code, stdout=text if code == 0 else "", stderr=text)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(subprocess, "run", made.run)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/docker")
    return made


def lacking(driver: BuildxDriver, *platforms: Platform) -> str:
    with pytest.raises(NotReadyError) as caught:
        check_builders(driver, platforms)
    return str(caught.value)


@pytest.mark.parametrize("name", ["amd64", "arm64", "armv7", "armv6", "i386", "riscv64", "mips64le", "s390x"])
def test_builder_for_all_platforms_is_ready(machine: Machine, name: str) -> None:
    check_builders(OneBuilder(EVERYTHING), [Platform.parse(name)])


def test_missing_emulation_has_its_command(machine: Machine) -> None:
    text = lacking(OneBuilder(("linux/amd64", "linux/mips64")), AMD64, ARM64)
    assert "cannot run linux/arm64 programs" in text
    assert "tonistiigi/binfmt --install arm64" in text
    assert "linux/amd64 programs" not in text


def test_missing_docker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no docker command found" in lacking(OneBuilder(EVERYTHING), AMD64)


def test_missing_buildx_is_reported(machine: Machine) -> None:
    machine.buildx = (1, "docker: 'buildx' is not a docker command.")
    assert "docker has no buildx" in lacking(OneBuilder(EVERYTHING), AMD64)


def test_old_buildx_is_reported(machine: Machine) -> None:
    machine.buildx = (0, "github.com/docker/buildx 0.10.5+dfsg")
    assert "buildx 0.10 is too old" in lacking(OneBuilder(EVERYTHING), AMD64)


def test_unreachable_engine_is_reported_once(machine: Machine) -> None:
    machine.engine = (1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
    text = lacking(OneBuilder((), "the builder in use does not answer"), AMD64, ARM64)
    assert text.count("cannot reach a Docker Engine: Cannot connect") == 1


def test_missing_builder_is_reported(machine: Machine) -> None:
    assert "no builder 'x'" in lacking(OneBuilder((), "no builder 'x'"), AMD64)


def test_everything_at_once(machine: Machine) -> None:
    machine.buildx = (1, "no")
    text = lacking(OneBuilder(("linux/amd64",)), ARM64)
    assert "docker has no buildx" in text
    assert "cannot run linux/arm64" in text
