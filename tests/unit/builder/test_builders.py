"""The platforms of builders and of their machines, as `docker buildx inspect` prints them."""

from __future__ import annotations

import subprocess

import pytest

from chainbuild.builder.builders import BuilderInfo, inspect_builder
from chainbuild.references import Platform

NODE = """\
Name:                  {name}
Endpoint:              ssh://{name}
Status:                running
BuildKit version:      v0.12.5
Platforms:             {platforms}
Labels:
 org.mobyproject.buildkit.worker.executor:    oci
GC Policy rule#0:
 All:        false
"""
AMD64 = "linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/386"
EMULATED = "linux/arm64, linux/riscv64, linux/ppc64le, linux/arm/v7, linux/arm/v6"
ARM64 = "linux/arm64, linux/arm/v7, linux/arm/v6"


def inspected(monkeypatch: pytest.MonkeyPatch, *machines: str) -> BuilderInfo:
    nodes = "".join(NODE.format(name=f"farm{number}", platforms=listed) for number, listed in enumerate(machines))
    text = f"Name:          farm\nDriver:        docker-container\n\nNodes:\n{nodes}"
    monkeypatch.setattr(
        subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0, stdout=text, stderr="")
    )
    return inspect_builder("farm")


@pytest.mark.parametrize(
    ("machines", "own"),
    [
        ([AMD64], {"linux/amd64"}),
        ([f"{AMD64}, {EMULATED}"], {"linux/amd64"}),
        ([f"{ARM64}, linux/amd64, linux/amd64/v2"], {"linux/arm64"}),
        ([AMD64, ARM64], {"linux/amd64", "linux/arm64"}),
        # A machine of another architecture that was set by hand.
        ([f"linux/arm64*, {AMD64}"], {"linux/amd64"}),
        ([f"linux/amd64*, linux/riscv64*, {ARM64}"], {"linux/arm64"}),
        # Its own, set by hand.
        (["linux/amd64*, linux/amd64/v2, linux/amd64/v3, linux/386"], {"linux/amd64", "linux/amd64/v2"}),
        (["linux/amd64*, linux/386"], {"linux/amd64", "linux/386"}),
        (["linux/arm64*, linux/arm/v7, linux/arm/v6"], {"linux/arm64", "linux/arm/v7"}),
        (["linux/amd64*, linux/arm64*, linux/arm/v7"], {"linux/arm64", "linux/arm/v7"}),
        ([AMD64, "linux/arm64*, linux/arm/v7"], {"linux/amd64", "linux/arm64", "linux/arm/v7"}),
        # A machine that is not running, or has no other.
        (["linux/riscv64*, linux/arm64*"], {"linux/riscv64", "linux/arm64"}),
        ([""], set()),
        ([" , ,"], set()),
        ([], set()),
    ],
)
def test_own_platforms_of_a_builder(monkeypatch: pytest.MonkeyPatch, machines: list[str], own: set[str]) -> None:
    assert inspected(monkeypatch, *machines).own_platforms == own


def test_platforms_of_a_builder_have_no_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspected(monkeypatch, "linux/arm64*, linux/amd64").platforms == ("linux/arm64", "linux/amd64")


@pytest.mark.parametrize(
    ("machines", "platform", "machine"),
    [
        ((), "arm64", "linux/amd64"),
        (("linux/arm64",), "amd64", "linux/arm64"),
        (("linux/amd64", "linux/arm64"), "arm64", "linux/arm64"),
        (("linux/amd64", "linux/arm64"), "riscv64", "linux/amd64"),
        (("linux/arm64", "linux/ppc64le"), "riscv64", "linux/arm64"),
        (("linux/never-heard-of", "linux/arm64"), "amd64", "linux/arm64"),
    ],
)
def test_machine_for_a_platform_is_the_nearest_one(machines: tuple[str, ...], platform: str, machine: str) -> None:
    builder = BuilderInfo(name="farm", driver="remote", platforms=(), status="", own_platforms=frozenset(machines))
    assert builder.machine_for(Platform.parse(platform), Platform.parse("amd64")).oci == machine
