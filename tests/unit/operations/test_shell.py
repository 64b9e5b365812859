"""A shell in an image: the command line of the container, the source of the image, and the error if it is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli import run
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.execution.backends import use_backends
from chainbuild.images.local_store import LocalImage
from chainbuild.operations.named_images import NamedImage
from chainbuild.operations.shell import Visit, container_command, fetch, local_image, mount_point
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.step_id import StepId
from tests.support.world import AMD64, ARM64, CHAIN, World


def visit(folder: str = "/home/me/payload", **changed: Any) -> Visit:
    return Visit(**{"folder": Path(folder), "user": 1000, "group": 100, "terminal": False, "name": "me", **changed})


def test_shell_runs_as_user_in_current_folder() -> None:
    argv = container_command("meehan/analysisbase:latest", visit(terminal=True))
    assert argv == (
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--pull",
        "never",
        "--tty",
        "--mount",
        "type=bind,source=/home/me/payload,target=/home/me/payload",
        "--workdir",
        "/home/me/payload",
        "--user",
        "1000:100",
        "--tmpfs",
        "/chainbuild-home:exec,mode=0700,uid=1000,gid=100",
        "--env",
        "HOME=/chainbuild-home",
        "--env",
        "USER=me",
        "--env",
        "LOGNAME=me",
        "--entrypoint",
        "/bin/sh",
        "meehan/analysisbase:latest",
        "-c",
        "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi",
    )


def test_command_is_passed_as_arguments() -> None:
    argv = container_command("a:1", visit(), ["sh", "-c", "echo '$(x)'; y"], platform=ARM64)
    assert argv[argv.index("--entrypoint") :] == ("--entrypoint", "sh", "a:1", "-c", "echo '$(x)'; y")
    assert "--tty" not in argv
    assert argv[argv.index("--platform") + 1] == "linux/arm64"


def test_root_uses_home_of_image() -> None:
    argv = container_command("a:1", visit(user=0, group=0, name="root"))
    assert "--tmpfs" not in argv
    assert not any(word.startswith("HOME=") for word in argv)
    assert argv[argv.index("--user") + 1] == "0:0"
    assert "--env" not in container_command("a:1", visit(user=0))
    assert "USER=" not in " ".join(container_command("a:1", visit(name="")))


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("/home/me/x", "/home/me/x"),
        ("/work", "/work"),
        ("/opt/x", "/opt/x"),
        ("/usr/src/x", "/usr/src/x"),
        ("/", "/work"),
        ("/usr", "/work"),
        ("/tmp", "/work"),
        ("/home", "/work"),
        ("/dev/shm/x", "/work"),
        ("/proc/1/cwd", "/work"),
    ],
)
def test_mount_point_is_own_path_unless_system_folder(folder: str, place: str) -> None:
    assert mount_point(Path(folder)) == place


def test_mount_path_may_contain_comma_and_quote() -> None:
    argv = container_command("a:1", visit('/x/a,b "c":d'))
    assert argv[argv.index("--mount") + 1] == 'type=bind,"source=/x/a,b ""c"":d","target=/x/a,b ""c"":d"'


# Source of the image --------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.fake.add_image(f"{CHAIN}/meehan/analysisbase:latest", AMD64)
    return made


def named(text: str, platform: Platform | None = AMD64, **more: Any) -> NamedImage:
    return NamedImage(reference=ImageReference.parse(text), platform=platform, **more)


def local_copy(platform: Platform) -> LocalImage:
    return LocalImage(id="x", platform=platform, size=1, repo_digests=())


def test_fetch_loads_image_under_its_name(world: World) -> None:
    assert fetch(world.opened(), named("meehan/analysisbase")) == ("meehan/analysisbase:latest", AMD64)
    ((pinned, platform, name),) = world.store.loads
    assert pinned.startswith(f"{CHAIN}/meehan/analysisbase@sha256:")
    assert (platform, name) == ("linux/amd64", "meehan/analysisbase:latest")


def test_fetch_by_digest_runs_image_by_its_digest(world: World) -> None:
    image = world.fake.add_image(f"{CHAIN}/meehan/analysisbase:2", AMD64, layers=[b"2"])
    text = f"{CHAIN}/meehan/analysisbase@{image.digest}"
    assert fetch(world.opened(), named(text)) == (text, AMD64)
    assert (world.store.pulled, world.store.loads) == ([(text, "linux/amd64")], [])


def test_fetch_keeps_local_tag_of_another_platform(world: World) -> None:
    world.store.images["meehan/analysisbase:latest"] = local_copy(ARM64)
    name, platform = fetch(world.opened(), named("meehan/analysisbase"))
    assert (name.partition("@")[0], platform) == (f"{CHAIN}/meehan/analysisbase", AMD64)
    assert world.store.loads == []


def test_fetch_of_missing_image_suggests_similar_names(world: World) -> None:
    world.store.images |= {"debian:12": local_copy(AMD64), "x/analysisbase:2": local_copy(AMD64)}
    session = world.opened()
    with pytest.raises(NotFoundInRegistryError) as caught:
        fetch(session, named("analysisbase"))
    assert "analysisbase for linux/amd64 is neither in the local image store nor in the chain registry" in str(
        caught.value
    )
    near = f"Perhaps you meant x/analysisbase:2 or {CHAIN}/meehan/analysisbase:latest."
    assert near in caught.value.hint
    with pytest.raises(NotFoundInRegistryError) as caught:
        fetch(session, named(f"{CHAIN}/meehan/analysisbas:latest"))
    assert f"Perhaps you meant {CHAIN}/meehan/analysisbase:latest" in caught.value.hint
    with pytest.raises(NotFoundInRegistryError) as caught:
        fetch(session, named("meehan/analysisbase", ARM64))
    assert "for linux/arm64" in str(caught.value)


@pytest.mark.parametrize(
    ("image", "used"),
    [
        (named("mine:1", None), True),
        (named("mine:1", AMD64), True),
        (named("mine:1", ARM64), False),
        (named("other:1", None), False),
        (named(f"{CHAIN}/mine:1", None), False),
        (named("mine:1", step=StepId("amd64", "stock", "10-base")), False),
    ],
)
def test_local_image_is_used_unless_registry_decides(world: World, image: NamedImage, used: bool) -> None:
    """An image of the chain registry may be newer than what was loaded from it before."""
    world.store.images |= {"mine:1": local_copy(AMD64), f"{CHAIN}/mine:1": local_copy(AMD64)}
    assert (local_image(world.store, image, ChainRegistry(CHAIN)) is not None) is used


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gone(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[list[str]]]:
    """Provide the argument lists with which docker was started."""
    started: list[list[str]] = []

    def execvp(_program: str, argv: list[str]) -> None:
        started.append(list(argv))
        raise SystemExit(0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execvp", execvp)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/docker")
    here = LocalImage(id="x", platform=AMD64, size=1, repo_digests=())
    world.store.images |= {"mine:1": here, "acme/os:v2": here}
    with use_backends(world.backends):
        yield started


def test_local_image_is_preferred(gone: list[list[str]]) -> None:
    assert run(["shell", "mine:1", "--", "ls", "-l", "--all"]) == 0
    assert gone[0][-4:] == ["ls", "mine:1", "-l", "--all"]
    assert "--tty" not in gone[0]


def test_missing_local_image_is_fetched(gone: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert run(["shell", "meehan/analysisbase", "--platform", "amd64"]) == 0
    assert "meehan/analysisbase:latest" in gone[0]
    assert run(["shell", "nowhere/at/all", "--platform", "amd64"]) == 4


@pytest.mark.parametrize("platform", ["amd64", "aarch64"])
def test_image_of_another_platform_runs_on_it(gone: list[list[str]], world: World, platform: str) -> None:
    world.fake.add_image(f"{CHAIN}/meehan/single:1", platform)
    assert run(["shell", f"{CHAIN}/meehan/single:1"]) == 0
    expected = [] if Platform.parse(platform).same_as(Platform.of_this_machine()) else [Platform.parse(platform).oci]
    assert [gone[0][place + 1] for place, text in enumerate(gone[0]) if text == "--platform"] == expected
    assert f"{CHAIN}/meehan/single:1" in gone[0]


def test_layer_name_selects_its_image(gone: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "os").mkdir()
    (tmp_path / "chainbuild.yaml").write_text("tag: v2\nlayers: [{folder: os, image: acme/os}]\n")
    assert run(["shell", "os", "--", "true"]) == 0
    assert "acme/os:v2" in gone[0]
    (tmp_path / "chainbuild.yaml").write_text("layers: 7\n")
    assert run(["shell", "mine:1", "--", "true"]) == 0


def test_shell_without_docker_is_an_error(
    gone: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert run(["shell", "mine:1"]) == 3
    assert "no docker command found on PATH" in capsys.readouterr().err
