"""The checks of doctor, with fakes for the machine, the builders and the registry."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chainbuild.builder.build_spec import BuildResult, BuildSpec
from chainbuild.builder.builders import BuilderInfo
from chainbuild.errors import BuildFailedError, NotReadyError
from chainbuild.events import Emit
from chainbuild.execution.session import Settings
from chainbuild.operations import doctor
from chainbuild.operations.doctor import Diagnosis, examine_builders, examine_machine
from chainbuild.references import ChainRegistry, Platform
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, CHAIN, FakeDriver, World


class Usage(NamedTuple):
    total: int
    used: int
    free: int


BUILDER = BuilderInfo(
    name="default",
    driver="docker",
    platforms=("linux/amd64", "linux/arm64", "linux/mars"),
    status="running",
    own_platforms=frozenset({"linux/amd64"}),
)


def states(findings: list[Diagnosis]) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings}


# The machine ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Diagnosis]]:
    def examine(
        *,
        commands: tuple[str, ...] = ("docker", "git", "mmdebstrap", "sftp", "apptainer"),
        compose: bool = True,
        registry: str = "",
        engine: str = "",
        buildx: str = "",
        free: int = 10**11,
    ) -> list[Diagnosis]:
        def answer(argv: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
            if argv[0] not in commands:
                raise FileNotFoundError(argv[0])
            code = 0 if compose or argv[:2] != ["docker", "compose"] else 1
            return subprocess.CompletedProcess(argv, code, stdout=f"{tmp_path}\n", stderr="")

        def told(text: str) -> Callable[[], str]:
            def ask() -> str:
                answer(["docker"])
                return text

            return ask

        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in commands else None)
        monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 10**12 - free, free))
        monkeypatch.setattr(subprocess, "run", answer)
        monkeypatch.setattr(doctor, "engine_problem", told(engine))
        monkeypatch.setattr(doctor, "buildx_problem", told(buildx))
        chain = ChainRegistry.parse(registry) if registry else None
        return list(examine_machine(Settings(root=tmp_path, registry=chain)))

    return examine


def test_doctor_on_complete_machine_is_ok(machine: Callable[..., list[Diagnosis]]) -> None:
    findings = machine()
    names = ["docker", "engine", "buildx", "compose", "space", "git", "mmdebstrap", "sftp", "apptainer"]
    assert states(findings) == dict.fromkeys(names, "ok")
    assert not any(finding.mend for finding in findings)


def test_doctor_without_docker_checks_the_rest(machine: Callable[..., list[Diagnosis]]) -> None:
    findings = machine(commands=())
    notes = dict.fromkeys(["git", "mmdebstrap", "sftp", "apptainer"], "note")
    assert states(findings) == {"docker": "wrong", "space": "ok", **notes}
    assert "docs.docker.com" in findings[0].mend


def test_compose_is_required_only_for_managed_registry(machine: Callable[..., list[Diagnosis]]) -> None:
    finding = {one.what: one for one in machine(compose=False)}["compose"]
    assert finding.state == "wrong"
    assert "docker-compose-plugin" in finding.mend
    assert "compose" not in states(machine(compose=False, registry="ghcr.io/acme"))


def test_engine_without_answer_is_wrong(machine: Callable[..., list[Diagnosis]]) -> None:
    findings = {finding.what: finding for finding in machine(engine="no engine: refused\n    Start it.")}
    assert findings["engine"] == Diagnosis(what="engine", state="wrong", told="no engine: refused", mend="Start it.")


def test_disk_with_little_space_is_wrong(machine: Callable[..., list[Diagnosis]]) -> None:
    space = next(finding for finding in machine(free=4_000_000_000) if finding.what == "space")
    assert (space.state, space.told.split(" at ")[0]) == ("wrong", "4 GB free")
    assert "prune" in space.mend


# Builders -------------------------------------------------------------------------------------------------------------


class FakeBuilders(FakeDriver):
    """A driver with these builders, whose builds are pushed to the registry in memory."""

    def __init__(self, world: World, builder: BuilderInfo | Exception = BUILDER, *, fails: bool = False) -> None:
        super().__init__(world.registries, world.fake)
        self.builder, self.broken = builder, fails

    def inspect(self, platform: Platform) -> BuilderInfo:
        if isinstance(self.builder, Exception):
            raise self.builder
        return self.builder

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        self.texts.append(spec.dockerfile.read_text())
        if self.broken:
            raise BuildFailedError("doctor: it failed", hint="mend it")
        return BuildResult(digest=self.fake.add_image(spec.image, spec.platform).digest, seconds=2.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def examine(world: World, driver: FakeBuilders, *platforms: Platform, base: str = "debian") -> list[Diagnosis]:
    world.driver = driver
    return list(examine_builders(world.opened(), platforms, base=base))


def test_doctor_tests_every_builder(world: World) -> None:
    driver = FakeBuilders(world)
    registry, native, emulated = examine(world, driver, AMD64, ARM64)
    assert (registry.state, registry.told) == ("ok", f"the chain registry answers at {CHAIN}")
    assert native.told == (
        "default (docker) ran a program for linux/amd64 natively and pushed it to the chain registry in 2.0 s"
    )
    assert "linux/arm64 under emulation" in emulated.told
    assert all("RUN uname" in text for text in driver.texts)


def test_doctor_without_base_runs_no_program(world: World) -> None:
    driver = FakeBuilders(world)
    finding = examine(world, driver, AMD64, base="scratch")[1]
    assert "built an image" in finding.told
    assert "RUN" not in driver.texts[0]


@pytest.mark.parametrize("first", ["linux/mars", "linux/amd64/v3", "linux/arm64/v8"])
def test_builder_with_unknown_platforms_is_accepted(world: World, first: str) -> None:
    driver = FakeBuilders(world, replace(BUILDER, platforms=(first, "linux/arm64"), own_platforms=frozenset({first})))
    finding = examine(world, driver, ARM64)[1]
    assert finding.state == "ok"
    assert ("natively" in finding.told) is (first == "linux/arm64/v8")


def test_builder_without_requested_platform_is_wrong(world: World) -> None:
    driver = FakeBuilders(world, replace(BUILDER, platforms=("linux/amd64",)))
    finding = examine(world, driver, ARM64)[1]
    assert finding.state == "wrong"
    assert "cannot run linux/arm64; it runs linux/amd64" in finding.told
    assert "binfmt" in finding.mend
    assert driver.texts == []


@pytest.mark.parametrize("platforms", [(), ("linux/mars",)])
def test_builder_without_known_platform_is_wrong(world: World, platforms: tuple[str, ...]) -> None:
    driver = FakeBuilders(world, replace(BUILDER, platforms=platforms))
    assert examine(world, driver, AMD64)[1].state == "wrong"


def test_builder_that_fails_is_wrong(world: World) -> None:
    silent = examine(world, FakeBuilders(world, NotReadyError("far does not answer", hint="docker buildx ls")), AMD64)[
        1
    ]
    assert (silent.state, silent.told, silent.mend) == ("wrong", "far does not answer", "docker buildx ls")
    failing = examine(world, FakeBuilders(world, fails=True), AMD64)[1]
    assert (failing.state, failing.told, failing.mend) == ("wrong", "doctor: it failed", "mend it")


def test_registry_without_answer_is_wrong(world: World) -> None:
    world.host.down = True
    driver = FakeBuilders(world, NotReadyError("no"))
    assert [finding.state for finding in examine(world, driver, AMD64)] == ["wrong", "wrong"]
