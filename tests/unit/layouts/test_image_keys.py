"""Image keys select chains of `Dockerfile.<key>` files by the rules of Isaac ROS's `build_image_layers.sh`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.layouts import layers as plain
from chainbuild.layouts.image_keys import resolve_key
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest, Layers
from chainbuild.model import BuildArg
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.values import replace
from tests.support.graphs import shown
from tests.support.world import AMD64, ARM64, CHAIN

LOWEST = (
    "ARG PLATFORM=amd64\nFROM maker/server:1 AS base-amd64\nFROM maker/devel:1 AS base-arm64\nFROM base-${PLATFORM}\n"
)
ABOVE = "ARG BASE_IMAGE=ubuntu:22.04\nFROM ${BASE_IMAGE}\n"


def write(root: Path, files: Iterable[str], text: str = ABOVE) -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LOWEST if path.name in {"Dockerfile.x86_64", "Dockerfile.aarch64"} else text)


def read(root: Path, key: str, *platforms: Platform, **changed: Any) -> Layers:
    build_args = changed.pop("build_args", ())
    layer = LayerFolder(
        name="dev", folder=root / "docker", image=ImageReference.parse("isaac/dev:1"), image_key=key, **changed
    )
    return plain.read(
        LayerRequest(
            root=root,
            layers=(layer,),
            platforms=platforms or (AMD64,),
            registry=ChainRegistry(CHAIN),
            build_platform=AMD64,
            build_args=build_args,
        )
    )


def wrong(root: Path, key: str, *platforms: Platform, **changed: Any) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        read(root, key, *platforms, **changed)
    assert all(problem.hint for problem in caught.value.problems)
    return [str(problem).replace(str(root), "ROOT") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("key", "files", "chain"),
    [
        ("aarch64.jp5.carter.nav", ["a/aarch64.jp5", "a/carter.nav"], ["a/aarch64.jp5", "a/carter.nav"]),
        ("aarch64.jp5.carter.nav", ["a/aarch64", "a/jp5.carter", "a/nav"], ["a/aarch64", "a/jp5.carter", "a/nav"]),
        # The longest end counts, also if shorter ones exist.
        ("x.y.z", ["a/x", "a/y", "a/z", "a/y.z"], ["a/x", "a/y.z"]),
        ("x.y.z", ["a/x.y.z", "a/y.z"], ["a/x.y.z"]),
        # A longer end in a later folder counts before a shorter one in an earlier folder.
        ("x.y.z", ["a/x", "a/y", "a/z", "b/y.z"], ["a/x", "b/y.z"]),
        # Of two folders, the first one counts, for each Dockerfile on its own.
        ("x.y", ["a/y", "b/x", "b/y"], ["b/x", "a/y"]),
        # There is no second try with a shorter end.
        ("x.y.z", ["a/x.y", "a/y.z", "a/z"], ["a/y.z"]),
    ],
)
def test_key_is_resolved_from_its_longest_end(tmp_path: Path, key: str, files: list[str], chain: list[str]) -> None:
    paths = [name.replace("/", "/Dockerfile.") for name in files]
    write(tmp_path, paths)
    found = resolve_key(key, [tmp_path / "a", tmp_path / "b"])
    assert [str(item.path.relative_to(tmp_path)) for item in found.dockerfiles] == [
        name.replace("/", "/Dockerfile.") for name in chain
    ]
    assert found.unresolved == ("x" if len(chain) == 1 and len(files) == 3 else "")


def test_platform_is_added_to_the_key(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64", "docker/Dockerfile.aarch64", "docker/Dockerfile.ros2_humble"])
    layers = read(tmp_path, "ros2_humble", AMD64, ARM64)
    assert (
        shown(layers.graph)
        == """\
amd64/dev/x86_64 [isaac/dev:1-dev-x86_64-amd64] maker/server:1=>maker/server:1 PLATFORM=amd64
amd64/dev/ros2_humble [isaac/dev:1-amd64] BASE_IMAGE<-amd64/dev/x86_64
aarch64/dev/aarch64 [isaac/dev:1-dev-aarch64-aarch64] maker/devel:1=>maker/devel:1 PLATFORM=arm64
aarch64/dev/ros2_humble [isaac/dev:1-aarch64] BASE_IMAGE<-aarch64/dev/aarch64"""
    )
    assert layers.graph.notes == (
        "image key ros2_humble for amd64: docker/Dockerfile.x86_64, docker/Dockerfile.ros2_humble",
        "image key ros2_humble for aarch64: docker/Dockerfile.aarch64, docker/Dockerfile.ros2_humble",
    )


def test_key_with_the_platform_is_used_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64", "docker/Dockerfile.ros2_humble", "docker/Dockerfile.realsense"])
    whole = read(tmp_path, "x86_64.ros2_humble.realsense").graph
    assert [step.name for step in whole] == ["x86_64", "ros2_humble", "realsense"]
    assert [step.name for step in read(tmp_path, "ros2_humble.realsense").graph] == [step.name for step in whole]
    (problem,) = wrong(tmp_path, "x86_64.ros2_humble", ARM64)
    assert problem.startswith("the image key 'x86_64.ros2_humble' is for x86_64, not for aarch64")
    assert "Leave out the platform: ros2_humble." in problem


def test_ignore_files_are_no_keys(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.base", "docker/Dockerfile.x86_64.dockerignore", "docker/Dockerfile.app"])
    assert [step.name for step in read(tmp_path, "base.app", base=ImageReference.parse("debian:12")).graph] == [
        "base",
        "app",
    ]


def test_key_needs_no_platform_if_no_dockerfile_has_one(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.base", "docker/Dockerfile.user"])
    assert [step.name for step in read(tmp_path, "base.user", base=ImageReference.parse("debian:12")).graph] == [
        "base",
        "user",
    ]


def test_contexts_are_the_folders_of_the_dockerfiles(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64", "docker/Dockerfile.ros2_humble", "own/Dockerfile.app", "src/main.c"])
    steps = {
        step.name: step.context.name
        for step in read(tmp_path, "ros2_humble.app", search_dirs=(tmp_path / "own",), context=tmp_path / "src").graph
    }
    # Only the last image gets the context that the user sets.
    assert steps == {"x86_64": "docker", "ros2_humble": "docker", "app": "src"}
    without = read(tmp_path, "ros2_humble.app", search_dirs=(tmp_path / "own",)).graph
    assert [step.context.name for step in without] == ["docker", "docker", "own"]


def test_context_is_searched_last(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.base", "docker/Dockerfile.app", "src/Dockerfile.app", "src/Dockerfile.top"])
    steps = list(read(tmp_path, "base.app.top", context=tmp_path / "src", base=ImageReference.parse("debian:12")).graph)
    assert [str(step.dockerfile.relative_to(tmp_path)) for step in steps] == [
        "docker/Dockerfile.base",
        "docker/Dockerfile.app",
        "src/Dockerfile.top",
    ]


def test_link_to_a_dockerfile_is_followed(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.ros2_humble"])
    (tmp_path / "docker/Dockerfile.base").write_text(LOWEST)
    (tmp_path / "docker/Dockerfile.x86_64").symlink_to("Dockerfile.base")
    assert [step.name for step in read(tmp_path, "ros2_humble").graph] == ["x86_64", "ros2_humble"]


def test_args_of_the_scripts_are_set_unless_given(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64"])
    write(tmp_path, ["docker/Dockerfile.app"], f"{ABOVE}ARG USERNAME\nARG PLATFORM\n")
    given = (BuildArg(name="USERNAME", value="me", origin="--build-arg"),)
    values = [{arg.name: arg.value for arg in step.args} for step in read(tmp_path, "app", build_args=given).graph]
    assert values == [{"PLATFORM": "amd64"}, {"PLATFORM": "amd64", "USERNAME": "me"}]
    (tmp_path / "docker/app-amd64-args").write_text("USERNAME=file\n")
    last = list(read(tmp_path, "app").graph)[-1]
    assert {arg.name: arg.value for arg in last.args} == {"PLATFORM": "amd64", "USERNAME": "file"}


def test_unresolved_part_of_a_key_is_reported(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64", "docker/Dockerfile.ros2_humble"])
    (problem,) = wrong(tmp_path, "ros2_humbel")
    assert problem == (
        "image key 'ros2_humbel': no Dockerfile.x86_64.ros2_humbel for amd64\n"
        "    Perhaps you meant ros2_humble. Searched: docker. Keys there: ros2_humble, x86_64."
    )
    assert "no Dockerfile.aarch64 for aarch64" in wrong(tmp_path, "ros2_humble", ARM64)[0]


def test_key_with_a_repeated_part_is_reported(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.a"])
    assert "a occurs twice" in wrong(tmp_path, "a.a", base=ImageReference.parse("debian:12"))[0]


def test_step_above_without_base_arg_is_reported(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64"])
    write(tmp_path, ["docker/Dockerfile.app"], "FROM debian\n")
    assert wrong(tmp_path, "app")[0].startswith("docker/Dockerfile.app:1: no FROM uses ARG BASE_IMAGE")


def test_base_arg_applies_to_the_lowest_dockerfile(tmp_path: Path) -> None:
    write(tmp_path, ["docker/Dockerfile.x86_64", "docker/Dockerfile.app"])
    (problem,) = wrong(tmp_path, "app", base_arg="BASE_IMAGE", base=ImageReference.parse("debian:12"))
    assert problem.startswith("docker/Dockerfile.x86_64:2: no FROM uses the ARG BASE_IMAGE")
    whole = read(tmp_path, "app", base=ImageReference.parse("debian:12")).graph
    assert "maker/server:1=>debian:12" in shown(whole)
    assert replace(whole, chains=()).notes == whole.notes
