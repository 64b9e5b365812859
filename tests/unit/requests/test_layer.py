"""`chainbuild layer`, and `chainbuild` in a project: arguments, runs, warnings and errors."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli import run
from chainbuild.cli.runs import science as science_running
from chainbuild.errors import WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.images.local_store import LocalImage
from chainbuild.model import published
from chainbuild.records.garbage import is_readable
from chainbuild.references import ImageReference
from chainbuild.requests import science as words
from chainbuild.requests.layer import LayerOptions, lookalikes, read_layer
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, CHAIN, World, failed

OS = "FROM fat:1\nRUN install gcc\n"
RELEASE = "ARG BASEIMAGE=atlas/slc6-atlasos:latest\nFROM ${BASEIMAGE}\nARG RELEASE=21\nRUN install $RELEASE\n"
PROJECT = """\
platforms: amd64
layers:
  - {folder: slc6-atlasos, image: "meehan/slc6-atlasos:latest"}
  - {folder: slc6-analysisbase, image: meehan/analysisbase}
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    made.write({"slc6-atlasos/Dockerfile": OS, "slc6-analysisbase/Dockerfile": RELEASE})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with use_backends(made.backends):
        yield made


def readable(world: World) -> list[str]:
    return sorted(f"{name}:{tag}" for name, tag in world.host.tags if is_readable(tag))


# Single layers --------------------------------------------------------------------------------------------------------


def test_layer_request_has_its_arguments(tmp_path: Path, world: World) -> None:
    words = LayerOptions(
        root=tmp_path,
        folder=tmp_path / "slc6-analysisbase",
        image="meehan/analysisbase",
        base="meehan/slc6-atlasos",
        platform="amd64,aarch64",
        registry="ghcr.io/org",
        build_args=("RELEASE=22",),
        jobs=2,
    )
    made = read_layer(words)
    assert [names.tag for _, names in published(made.request.graph.chains)] == ["latest-amd64", "latest-aarch64"]
    step = next(iter(made.request.graph))
    assert step.repository.name == "ghcr.io/org/meehan/analysisbase"
    assert str(step.image("BASEIMAGE").source) == "meehan/slc6-atlasos"
    assert [(arg.name, arg.value) for arg in step.args] == [("RELEASE", "22")]
    assert made.request.options.jobs == 2


def test_layer_of_an_image_key_is_requested(tmp_path: Path, world: World) -> None:
    world.write({"docker/Dockerfile.base": "FROM fat:1\n", "own/Dockerfile.app": "ARG BASE_IMAGE\nFROM $BASE_IMAGE\n"})
    options = LayerOptions(root=tmp_path, folder=tmp_path / "docker", image="me/app", platform="amd64")
    request = read_layer(replace(options, image_key="base.app", search_dirs=(str(tmp_path / "own"),))).request
    assert [step.name for step in request.graph] == ["base", "app"]


def test_layer_of_packages_is_requested(tmp_path: Path, world: World) -> None:
    text = "ARG BASE_IMAGE=fat:1\nFROM $BASE_IMAGE\n"
    world.write({"a/Dockerfile": f"#---\n# depends: [b, c]\n#---\n{text}", "b/Dockerfile": text})
    options = LayerOptions(root=tmp_path, folder=tmp_path, image="me/app", packages=("a",), skip_packages=("c",))
    assert [step.name for step in read_layer(options).request.graph] == ["b", "a"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image": "Meehan/x"}, ""),
    ({"image_key": "a b"}, "--image-key: 'a b' is not an image key"),
    ({"image_key": "a", "packages": ("b",)}, "--image-key cannot be combined with --package"),
    ({"dockerfile": "a", "image_key": "b"}, "--dockerfile cannot be combined with --image-key or --package"),
    ({"dockerfile": "a/b"}, "--dockerfile: 'a/b' is a path"),
    ({"dockerfile": "none"}, "no such Dockerfile in "),
    ({"search_dirs": ("x",)}, "--search-dir needs --image-key or --package"),
    ({"image_key": "a", "search_dirs": ("nowhere",)}, "--search-dir: no such folder: 'nowhere'"),
    ({"skip_packages": ("b",)}, "--skip-package needs --package"),
    ({"image": "a/B"}, "--image: 'a/B' is not a repository name"),
    ({"image": "a/b@sha256:" + "1" * 64}, "--image: 'a/b@sha256:"),
    ({"base": "a b"}, "--base: 'a b' is not a repository name"),
    ({"platform": "amd65"}, "PLATFORM: unknown platform 'amd65'"),
    (
        {"build_args": ("RELEAS=1",)},
        "--build-arg: no Dockerfile declares the arg RELEAS\n    Perhaps you meant RELEASE.",
    ),
    ({"base_arg": "BASE_IMAGE"}, "no FROM uses the ARG BASE_IMAGE\n    Perhaps you meant BASEIMAGE."),
    ({"context": Path("/nowhere")}, "--context: no such folder: '/nowhere'"),
    ({"folder": Path("nowhere")}, "no such folder: "),
    ({"deadline": "soon", "base": "a b"}, "--deadline: 'soon' is not a duration"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG, ids=[str(one[0])[:50] for one in WRONG])
def test_invalid_layer_argument_is_reported(
    world: World, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    words = LayerOptions(root=tmp_path, folder=tmp_path / "slc6-analysisbase", image="meehan/analysisbase")
    if not message:
        read_layer(replace(words, **changed))
        return
    with pytest.raises(WrongUseError) as caught:
        read_layer(replace(words, **changed))
    assert message in str(caught.value)


def test_layer_command_builds_a_layer_on_another(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--platform", "amd64", "--no-load", "--plain"]
    assert run(["layer", "slc6-atlasos", "--image", "meehan/slc6-atlasos:latest", *words]) == 0
    told = capsys.readouterr()
    assert "base of slc6-atlasos: fat:1, " in told.err
    assert "(FROM at slc6-atlasos/Dockerfile:1)" in told.err
    assert "localhost:5000/meehan/slc6-atlasos:latest-amd64" in told.out
    base = f"{CHAIN}/meehan/slc6-atlasos:latest"
    more = ["--base", base, "--build-arg", "RELEASE=21.2.75"]
    assert run(["layer", "slc6-analysisbase", "--image", "meehan/analysisbase:latest", *more, *words]) == 0
    assert f"base of slc6-analysisbase: {base}, " in capsys.readouterr().err
    assert readable(world) == [
        "meehan/analysisbase:latest",
        "meehan/analysisbase:latest-amd64",
        "meehan/slc6-atlasos:latest",
        "meehan/slc6-atlasos:latest-amd64",
    ]
    spec = world.driver.orders[-1]
    assert dict(spec.args)["BASEIMAGE"].startswith(f"{CHAIN}/meehan/slc6-atlasos@sha256:")
    assert dict(spec.args)["RELEASE"] == "21.2.75"
    # A second run builds nothing.
    built = len(world.driver.orders)
    assert run(["layer", "slc6-analysisbase", "--image", "meehan/analysisbase:latest", *more, *words, "--json"]) == 0
    assert len(world.driver.orders) == built
    texts = [json.loads(line).get("text", "") for line in capsys.readouterr().out.splitlines()]
    assert any(text.startswith("base of slc6-analysisbase:") for text in texts)


def test_default_base_with_local_lookalike_is_a_warning(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fake.add_image("docker.io/atlas/slc6-atlasos:latest", AMD64)
    here = LocalImage(id="x", platform=AMD64, size=1, repo_digests=())
    world.store.images |= dict.fromkeys(("meehan/slc6-atlasos:latest", "debian:12"), here)
    words = ["layer", "slc6-analysisbase", "-t", "meehan/analysisbase:1", "--platform", "amd64", "-n"]
    assert run(words) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1
    assert "the Dockerfile of slc6-analysisbase names atlas/slc6-atlasos:latest" in warned[0]
    assert "to build on it, use --base meehan/slc6-atlasos:latest" in warned[0]
    # An explicit base causes no warning.
    assert run([*words, "--build-arg", "BASEIMAGE=atlas/slc6-atlasos:latest"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_default_base_with_lookalike_in_registry_is_a_warning(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fake.add_image(f"{CHAIN}/meehan/slc6-atlasos:latest", AMD64)
    words = ["layer", "slc6-analysisbase", "-t", "meehan/analysisbase:1", "--platform", "amd64", "-n"]
    assert run(words) == 4  # atlas/slc6-atlasos does not exist, which is reported after the warning
    told = capsys.readouterr().err
    assert told.index(f"--base {CHAIN}/meehan/slc6-atlasos:latest") < told.index(
        "error: atlas/slc6-atlasos:latest is not in"
    )


def test_lookalikes_have_the_same_last_name() -> None:
    names = [
        ImageReference.parse(text)
        for text in (
            "meehan/slc6-atlasos:old",
            "meehan/slc6-atlasos:latest",
            "atlas/slc6-atlasos:other",
            "me/slc6-atlasos-x:latest",
            "localhost:5000/atlas/slc6-atlasos:latest",
            "localhost:5000/me/slc6-atlasos:latest",
            "meehan/slc6-atlasos:latest",
        )
    ]
    found = lookalikes(ImageReference.parse("atlas/slc6-atlasos"), names)
    assert [str(one) for one in found] == [
        "meehan/slc6-atlasos:latest",
        "localhost:5000/me/slc6-atlasos:latest",
        "meehan/slc6-atlasos:old",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["slc6-atlasos"], "slc6-atlasos: no image name given"),
        (["slc6-atlasos", "-t", "a/b", "--alone"], "--alone is for a layer of chainbuild.yaml"),
        (["slc6-atlaso", "-t", "a/b"], "no such folder"),
        ([], "Missing argument"),
    ],
)
def test_layer_command_misuse_is_reported(
    world: World, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["layer", *words]) == 2
    assert said in capsys.readouterr().err


# A project ------------------------------------------------------------------------------------------------------------


def test_project_is_built_by_default(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: chainbuild")
    world.write({"chainbuild.yaml": PROJECT})
    monkeypatch.chdir(tmp_path / "slc6-atlasos")
    assert run(["plan"]) == 0
    told = capsys.readouterr()
    assert re.search(r"^  slc6-analysisbase +build +never built$", told.out, re.MULTILINE)
    base = "layer slc6-atlasos, meehan/slc6-atlasos:latest (the layer before it, as ARG BASEIMAGE)"
    assert f"base of slc6-analysisbase: {base}" in told.err
    assert not world.driver.orders
    assert run(["--no-load"]) == 0
    assert "meehan/analysisbase:latest-amd64" in capsys.readouterr().out
    assert [str(spec.step) for spec in world.driver.orders] == [
        "amd64/slc6-atlasos/slc6-atlasos",
        "amd64/slc6-analysisbase/slc6-analysisbase",
    ]
    assert run(["plan", "--fail-if-build"]) == 0
    assert (tmp_path / ".chainbuild/chainbuild.schema.json").is_file()


def test_layer_of_project_is_selected_by_name_or_folder(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write({"chainbuild.yaml": PROJECT})
    assert run(["layer", "slc6-atlasos", "--no-load"]) == 0
    assert [spec.step for spec in world.driver.orders] == [StepId.parse("amd64/slc6-atlasos/slc6-atlasos")]
    assert run(["layer", "./slc6-analysisbase/", "--alone", "--no-load"]) == 0
    assert [spec.step for spec in world.driver.orders][1:] == [
        StepId.parse("amd64/slc6-analysisbase/slc6-analysisbase")
    ]
    # Alone or in the chain, the image is the same: there is nothing to build.
    assert run(["plan", "--fail-if-build"]) == 0
    capsys.readouterr()
    assert run(["layer", "slc6-atlaso"]) == 2
    assert "Perhaps you meant 'slc6-atlasos'" in capsys.readouterr().err
    assert run(["layer", "slc6-atlasos", "--base", "x:1"]) == 2
    assert "--base cannot be combined with a layer of chainbuild.yaml" in capsys.readouterr().err


def test_project_problems_are_reported_together(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write({"chainbuild.yaml": PROJECT + "refresh_after: 7d\ntag: [x]\n"})
    assert run([]) == 2
    told = capsys.readouterr().err
    assert "chainbuild.yaml:5: a project has no key 'refresh_after'" in told
    assert "Perhaps you meant 'refresh-after'" in told
    assert "chainbuild.yaml:6: tag: expected a tag" in told
    assert run(["plan", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [problem["line"] for problem in document["problems"]] == [5, 6]


def test_missing_and_duplicate_arguments_are_reported(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan"]) == 2
    assert "chainbuild init writes one" in capsys.readouterr().err
    assert run(["build", "amd64", "a/b"]) == 2
    assert "Missing arguments: TAG BASE OPTION PRODUCTION" in capsys.readouterr().err
    assert run(["amd64", "a/b", "t", "b:1", "o", "p:1", "--platform", "aarch64"]) == 2
    assert "--platform: PLATFORM is already given as an argument" in capsys.readouterr().err


def test_failed_chain_publishes_completed_layers_only(world: World) -> None:
    world.write({"chainbuild.yaml": PROJECT})
    world.driver.fails[StepId.parse("amd64/slc6-analysisbase/slc6-analysisbase")] = failed(StepId.parse("release"))
    assert run(["--no-load", "--plain"]) == 1
    # The base layer is complete and has its own image.
    assert readable(world) == ["meehan/slc6-atlasos:latest", "meehan/slc6-atlasos:latest-amd64"]


def test_science_layers_are_read_first_and_built_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    science = "science: {root: slc6-atlasos, repo: acme}\npush: true\njobs: 3\nbuilders: far\nstrict: true\n"
    world.write({"chainbuild.yaml": PROJECT + science})

    def heard(what: Any, result: Any) -> Any:
        told.append(what)
        return result

    monkeypatch.setattr(words, "read_science", lambda said: heard(said, said))
    monkeypatch.setattr(science_running, "build_science", lambda said, show: heard(show, 6 if show.dry_run else 5))
    assert run(["--no-load", "--plain", "--platform", "amd64"]) == 5
    said, show = told
    assert (said.root, said.repo, said.platform) == (world.root / "slc6-atlasos", "acme", "amd64")
    assert (said.push, said.load, said.jobs, said.builders, said.strict) == (True, False, 3, ("far",), True)
    assert show.mode == "plain"
    assert run(["plan", "--fail-if-build"]) == 6
    assert told[-1].fail_if_build
    told.clear()
    world.driver.fails[StepId.parse("amd64/slc6-atlasos/slc6-atlasos")] = failed(StepId.parse("os"))
    assert run(["--no-load", "--refresh"]) == 1
    assert len(told) == 1, "read, but not started"


def test_project_of_science_layers_is_built(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write({"chainbuild.yaml": "science: {}\n"})
    monkeypatch.setattr(words, "read_science", lambda said: said)
    monkeypatch.setattr(science_running, "build_science", lambda said, show: 0)
    assert run([]) == 0
