"""`chainbuild init` on trees of several conventions: what it writes plans without an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from chainbuild.cli import run
from chainbuild.cli.commands import init as command
from chainbuild.errors import ExitCode
from chainbuild.model import Graph
from chainbuild.operations.init import look, problems_of, write
from chainbuild.operations.option_order import OptionOrder
from chainbuild.project.reader import parse_project
from chainbuild.requests.options import RunOptions
from chainbuild.requests.project_runs import read_run
from tests.support.graphs import shown
from tests.support.world import STAGES, STEP, World

STACK = "ARG REGISTRY=quay.io\nARG OWNER=jupyter\nARG BASE_IMAGE=$REGISTRY/$OWNER/{}\nFROM $BASE_IMAGE\n"
STACKS = {
    "images/foundation/Dockerfile": "ARG ROOT_IMAGE=root\nFROM ubuntu:24.04 AS root\nFROM $ROOT_IMAGE\nCOPY start.sh /\n",
    "images/foundation/start.sh": "",
    "images/base-notebook/Dockerfile": STACK.format("foundation"),
    "images/scipy-notebook/Dockerfile": STACK.format("base-notebook"),
    "images/r-notebook/Dockerfile": STACK.format("base-notebook"),
    "images/all-spark-notebook/Dockerfile": STACK.format("scipy-notebook"),
    "images/torch-notebook/Dockerfile": STACK.format("scipy-notebook"),
    "images/torch-notebook/cuda12/Dockerfile": STACK.format("scipy-notebook"),
    "images/torch-notebook/cuda13/Dockerfile": STACK.format("scipy-notebook"),
    "examples/pinned/Dockerfile": f"FROM quay.io/jupyter/base-notebook@sha256:{'1' * 64}\n",
    "examples/torch/Dockerfile": "FROM quay.io/jupyter/torch-notebook:cuda12\n",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "proj"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def proposed(root: Path, files: Mapping[str, str]) -> str:
    World(root).write(files)
    guess = look(root)
    text = write(guess)
    assert problems_of(guess, text) == ()
    return text


def graph_of(root: Path, text: str) -> Graph:
    return read_run(
        parse_project(text.encode(), root / "chainbuild.yaml", {}), RunOptions(platform="amd64")
    ).request.graph


def bases(graph: Graph) -> dict[str, str]:
    """Return the base of each layer's first step."""
    return {chain.option: str(chain.steps[0].image(chain.steps[0].parent).source) for chain in graph.chains}


# Layers ---------------------------------------------------------------------------------------------------------------


def test_layers_that_branch_off_get_the_layers_just_built(here: Path) -> None:
    text = proposed(here, STACKS)
    graph = graph_of(here, text)
    assert bases(graph) == {
        "foundation": "ubuntu:24.04",
        "base-notebook": "amd64/foundation/foundation",
        "scipy-notebook": "amd64/base-notebook/base-notebook",
        "r-notebook": "amd64/base-notebook/base-notebook",
        "all-spark-notebook": "amd64/scipy-notebook/scipy-notebook",
        "torch-notebook": "amd64/scipy-notebook/scipy-notebook",
        "torch-notebook-cuda12": "amd64/scipy-notebook/scipy-notebook",
        "torch-notebook-cuda13": "amd64/scipy-notebook/scipy-notebook",
        "pinned": f"quay.io/jupyter/base-notebook@sha256:{'1' * 64}",
        "torch": "amd64/torch-notebook-cuda12/torch-notebook-cuda12",
    }


def test_variants_in_nested_folders_are_tags_of_one_image(here: Path) -> None:
    graph = graph_of(here, proposed(here, STACKS))
    names = {chain.option: chain.result.tag for chain in graph.chains if chain.option.startswith("torch-notebook")}
    assert names == {
        "torch-notebook": "latest-amd64",
        "torch-notebook-cuda12": "cuda12-amd64",
        "torch-notebook-cuda13": "cuda13-amd64",
    }


def test_image_of_docker_hub_is_not_a_layer_with_its_name(here: Path) -> None:
    files = {
        "python/Dockerfile": "FROM debian:12\n",
        "app/Dockerfile": "FROM python:3.12\n",
        "b/Dockerfile": "FROM app\n",
    }
    assert bases(graph_of(here, proposed(here, files))) == {
        "python": "debian:12",
        "app": "python:3.12",
        "b": "amd64/app/app",
    }


def test_layer_is_the_base_whatever_version_is_written(here: Path) -> None:
    files = {
        "10-base/Dockerfile": "FROM debian:12\n",
        "20-app/Dockerfile": "FROM acme/base:1.0\n",
        "30-more/Dockerfile": "FROM app:v3\n",
        "40-other/Dockerfile": "FROM acme/tools-app:1.0\n",
    }
    assert bases(graph_of(here, proposed(here, files))) == {
        "10-base": "debian:12",
        "20-app": "amd64/10-base/10-base",
        "30-more": "amd64/20-app/20-app",
        "40-other": "acme/tools-app:1.0",
    }


def test_layers_with_one_folder_name_get_own_names(here: Path) -> None:
    files = {
        "a/web/Dockerfile": "FROM debian:12\n",
        "b/web/Dockerfile": "FROM debian:12\n",
        "c/Dockerfile": "FROM x/web\n",
    }
    graph = graph_of(here, proposed(here, files))
    assert sorted(bases(graph)) == ["a-web", "b-web", "c"]
    assert bases(graph)["c"] == "x/web", "several layers could be it"


def test_base_is_the_layer_in_the_folder_of_its_name_and_tag(here: Path) -> None:
    files = {
        "rstudio/2021.09.0_351/Dockerfile": "FROM debian:12\n",
        "rstudio/2022.07.2/Dockerfile": "FROM debian:12\n",
        "bioconductor/3.14/Dockerfile": "FROM repo.example.org/rstudio:2021.09.0_351\n",
        "bioconductor/3.15/Dockerfile": "FROM repo.example.org/rstudio:2022.07.2\n",
        "course/Dockerfile": "FROM repo.example.org/bioconductor:3.15\n",
        "jammy/server/Dockerfile": "FROM debian:12\n",
        "focal/server/Dockerfile": "FROM debian:12\n",
        "app/Dockerfile": "FROM server:jammy\n",
        "python/3.12/Dockerfile": "FROM python:3.12-slim\n",
        "tool/Dockerfile": "FROM python:3.12\n",
    }
    graph = graph_of(here, proposed(here, files))
    found = bases(graph)
    assert found["bioconductor-3.14"] == "amd64/rstudio-2021.09.0_351/rstudio-2021.09.0_351"
    assert found["bioconductor-3.15"] == "amd64/rstudio-2022.07.2/rstudio-2022.07.2"
    assert found["course"] == "amd64/bioconductor-3.15/bioconductor-3.15"
    assert found["app"] == "amd64/jammy-server/jammy-server"
    assert found["tool"] == "python:3.12", "the layer adds to that image of Docker Hub"
    images = {chain.option: chain.publication for chain in graph.chains}
    published = images["bioconductor-3.15"]
    assert published
    assert (str(published.repo), published.index_tag) == ("proj/bioconductor", "3.15")


def test_base_of_several_layers_of_a_name_is_the_nearest(here: Path) -> None:
    files = {
        "v1/base/Dockerfile": "FROM debian:12\n",
        "v2/base/Dockerfile": "FROM debian:12\n",
        "v2/app/Dockerfile": "FROM base\n",
        "other/app/Dockerfile": "FROM base\n",
    }
    found = bases(graph_of(here, proposed(here, files)))
    assert found["v2-app"] == "amd64/v2-base/v2-base"
    assert found["other-app"] == "base"


def test_base_is_the_layer_whose_path_is_the_image_name(here: Path) -> None:
    files = {
        "00-base/alpine/Dockerfile": "FROM alpine:3.20\n",
        "00-base/ubuntu/Dockerfile": "FROM ubuntu:22.04\n",
        "10-python/alpine/Dockerfile": "ARG TAG=latest\nFROM acme/grader.base-alpine:${TAG}\n",
        "10-python/ubuntu/Dockerfile": "ARG TAG=latest\nFROM acme/grader.base-ubuntu:${TAG}\n",
        "20-tools/Dockerfile": "FROM acme/tools-base-ubuntu:2.1\n",
        "30-web/Dockerfile": "FROM acme/tools\n",
    }
    found = bases(graph_of(here, proposed(here, files)))
    assert found["10-python-alpine"] == "amd64/00-base-alpine/00-base-alpine"
    assert found["10-python-ubuntu"] == "amd64/00-base-ubuntu/00-base-ubuntu"
    assert found["20-tools"] == "acme/tools-base-ubuntu:2.1", "a release"
    assert found["30-web"] == "amd64/20-tools/20-tools"


def test_dockerfiles_of_other_names_that_build_on_each_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "base.dockerfile": "from ubuntu:18.04\ncopy start.sh /\n",
        "start.sh": "",
        "rover.dockerfile": "from esa-prl/rock-base\n",
        "exoter.dockerfile": "from esa-prl/rock-rover\n",
        "web/Dockerfile.build": "FROM node:18\n",
        "web/Dockerfile": "ARG FROM=acme/web:build\nFROM $FROM\n",
        "web/Dockerfile.node": "FROM node:18\n",
        "docs/recipe.dockerfile": "FROM acme/web\n",
        "web/Dockerfile.in": "FROM @BASE@\n",
        "web/Dockerfile.node.bak": "FROM node\n",
        "api/Dockerfile.base": "FROM debian:12\n",
        "api/Dockerfile.dev": "FROM acme/api-base:1\n",
    }
    found = bases(graph_of(here, proposed(here, files)))
    assert found == {
        "base": "ubuntu:18.04",
        "rover": "amd64/base/base",
        "exoter": "amd64/rover/rover",
        "build": "node:18",
        "web": "amd64/build/build",
        "api-base": "debian:12",
        "dev": "amd64/api-base/api-base",
    }
    assert run(["init", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert (
        "found but not used: docs/recipe.dockerfile, web/Dockerfile.node: no other Dockerfile builds on them"
        in told.err
    )
    assert "found layer rover.dockerfile: a Dockerfile, FROM esa-prl/rock-base" in told.err
    assert '  - folder: "."\n    image: proj/base:latest\n    dockerfile: base.dockerfile\n' in told.out


def test_only_dockerfile_of_another_name_is_a_layer(here: Path) -> None:
    found = bases(
        graph_of(here, proposed(here, {"Dockerfile.prod": "FROM debian:12\n", "Dockerfile.ci": "FROM node\n"}))
    )
    assert found == {"prod": "debian:12", "ci": "node"}


def test_base_that_only_a_script_sets_is_guessed_by_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = 'ARG PARENT="undefined"\nFROM ${PARENT}\n'
    files = {
        "java/01-base/Dockerfile": script,
        "java/02-runtime/21/Dockerfile": script,
        "java/02-runtime/25/Dockerfile": script,
        "java/03-dev/25/Dockerfile": "ARG PARENT\nFROM ${PARENT}\n",
    }
    found = bases(graph_of(here, proposed(here, files)))
    assert found == {
        "01-base": "debian:bookworm-slim",
        "02-runtime-21": "amd64/01-base/01-base",
        "02-runtime-25": "amd64/01-base/01-base",
        "03-dev-25": "amd64/02-runtime-25/02-runtime-25",
    }
    assert run(["init", "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "guessed java/01-base: base: debian:bookworm-slim (its FROM ${PARENT} is 'undefined')" in told
    assert (
        "guessed java/03-dev/25: base: 02-runtime-25 (its FROM ${PARENT} has no default value; "
        "java/02-runtime/25 is numbered before it)"
    ) in told


def test_layer_gets_the_context_that_has_its_files(here: Path) -> None:
    files = {"deep/er/app/Dockerfile": "FROM debian:12\nCOPY src/main.c /\n", "deep/src/main.c": ""}
    text = proposed(here, files)
    assert "    context: deep  # has the files that the Dockerfile copies\n" in text
    assert [step.context for step in graph_of(here, text)] == [here / "deep"]


def test_layer_that_cannot_be_planned_is_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "bad/Dockerfile": "FROM debian:12\nCOPY nowhere /\n",
        "wrong/Dockerfile": "FROM debian:12\nRUNN make\n",
        "above/Dockerfile": "FROM x/bad\n",
        "good/Dockerfile": "FROM debian:12\n",
    }
    text = proposed(here, files)
    assert sorted(bases(graph_of(here, text))) == ["above", "good"]
    assert (
        "# left out: bad: bad/Dockerfile:2: COPY nowhere: no such file or folder in the build context (bad)\n" in text
    )
    assert "# left out: wrong: wrong/Dockerfile:2: " in text
    assert bases(graph_of(here, text))["above"] == "x/bad"


# Options --------------------------------------------------------------------------------------------------------------

ATOM = {
    "docker/atom/10-Dockerfile-atom": f"{STEP}ADD ./languages /atom/languages\n",
    "docker/graphics/10-Dockerfile-sip": STEP,
    "docker/stock/01-Dockerfile-python": f"{STEP}RUN python3 -m venv /opt/venv\n",
    "docker/utilities/01-Dockerfile-minimize": STAGES["utilities/Dockerfile-minimize"],
    "docker/utilities/02-Dockerfile-production": STAGES["utilities/Dockerfile-production"],
    "docker/README.md": "The `atom` folder, atop `stock`.\n\n| Option |\n|---|\n| `stock` |\n| `graphics` |\n| `atom` |\n",
    "languages/c": "",
}


@pytest.mark.parametrize("folder", [".", "docker"])
def test_options_are_ordered_by_the_readme_without_stages(here: Path, folder: str) -> None:
    World(here).write(ATOM)
    guess = look(here / folder)
    assert [Path(option).name for option in guess.options] == ["stock", "graphics", "atom"]
    assert guess.tree.stages == (("utilities",) if folder == "docker" else ("docker/utilities",))
    text = write(guess)
    assert problems_of(guess, text) == ()
    assert ('context: ".."' in text) == (folder == "docker")
    graph = graph_of(here / folder, text)
    first = graph.chains[0]
    assert first.production is not None
    assert first.production.dockerfile == here / "docker/utilities/02-Dockerfile-production"
    assert graph.chains[-1].steps[-1].context == here


def test_options_are_ordered_by_paths_and_from_lines(here: Path) -> None:
    files = {
        "a/10-Dockerfile-x": "ARG BASE_IMAGE=acme/tools:v1-b-amd64\nFROM $BASE_IMAGE\n",
        "b/10-Dockerfile-x": f"{STEP}RUN /opt/venv/bin/pip install x\n",
        "c/10-Dockerfile-x": f"{STEP}RUN python3 -m venv /opt/venv\n",
    }
    World(here).write(files)
    guess = look(here)
    assert guess.options == ("c", "b", "a")
    assert guess.proposal.options.reasons == ("a is FROM acme/tools:v1-b-amd64", "b uses /opt/venv, which c makes")
    assert "options" not in {item.key for item in guess.guesses}


def test_options_are_ordered_by_the_commands_of_the_readme(here: Path) -> None:
    readme = (
        "| option | |\n|---|---|\n| `stock` | |\n| `extras` | |\n| `graphics` | |\n\n"
        "`./build.sh amd64 acme/x v1 localhost:5000/acme/x:v1-stock-amd64 graphics debian:12`\n"
        "    ./build.sh amd64 acme/x v1 localhost:5000/acme/x:v1-graphics-amd64 extras debian:12\n"
        "Do not build stock on acme/x:v1-stock-graphics, a word with: a colon, or a://b:c.\n"
    )
    files = {f"docker/{name}/10-Dockerfile-x": STEP for name in ("extras", "graphics", "stock")}
    order = look_at(here, {**files, "docker/README.md": readme})
    assert order.options == ("docker/stock", "docker/graphics", "docker/extras")
    assert "docker/README.md builds docker/extras on docker/graphics" in order.reasons
    assert order.sure


def look_at(root: Path, files: Mapping[str, str]) -> OptionOrder:
    World(root).write(files)
    return look(root).proposal.options


def test_unknown_order_is_a_guess(here: Path) -> None:
    World(here).write({"a/10-Dockerfile-x": STEP, "b/10-Dockerfile-x": STEP})
    shown_guesses = [item.shown for item in look(here).guesses]
    assert "options: a,b (nothing in the tree says which one builds on which)" in shown_guesses


def test_base_of_the_first_dockerfile_is_used(here: Path) -> None:
    text = proposed(here, {"a/Dockerfile.10-x": "ARG BASE=ubuntu:22.04\nFROM $BASE\n"})
    assert "\nbase: ubuntu:22.04 " in text
    assert "\nproduction: ubuntu:22.04 " in text


def test_numbered_folders_are_one_option_or_layers(here: Path) -> None:
    files = {"x/10-a/Dockerfile": STEP, "x/20-b/Dockerfile": STEP, "y/1-c/Dockerfile": "FROM debian:12\n"}
    World(here).write(files)
    guess = look(here)
    assert guess.options == ("x",)
    assert [layer.folder for layer in guess.layers] == ["y/1-c"]


def test_files_named_by_versions_are_no_option(here: Path) -> None:
    World(here).write({"node/Dockerfile.18": "FROM node:18\n", "node/Dockerfile.20": "FROM node:20\n"})
    assert look(here).is_empty


def test_first_dockerfile_with_its_own_base_is_a_step(here: Path) -> None:
    text = proposed(
        here, {"Dockerfile.01-base": "FROM alpine:3.21\n", "Dockerfile.02-top": "ARG BASE=x:1\nFROM $BASE\n"}
    )
    assert "\nbase: alpine:3.21 " in text
    assert [step.name for step in graph_of(here, text).chains[0].steps] == ["01-base", "02-top"]


def test_base_arg_that_cannot_be_detected_is_written(here: Path) -> None:
    runtime = "ARG B=x:1\nFROM $B AS builder\nFROM alpine:3.21\nCOPY --from=builder /x /x\n"
    files = {"Dockerfile.1-a": "FROM alpine:3.21\n", "Dockerfile.2-b": "ARG B\nFROM $B\n", "Dockerfile.3-c": runtime}
    text = proposed(here, files)
    assert "\nbase-arg: B " in text
    assert [step.parent for step in graph_of(here, text).chains[0].steps] == ["alpine:3.21", "B", "B"]


def test_numbered_files_that_form_no_chain_are_named(here: Path) -> None:
    World(here).write({"node/Dockerfile.18": "FROM node:18\n", "node/Dockerfile.20": "FROM node:20\n"})
    (line,) = look(here).told
    assert line.startswith("but not used: node/Dockerfile.18, node/Dockerfile.20: ")


def test_folder_without_anything_that_plans_is_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    World(here).write({"a/Dockerfile": "FROM debian:12\nCOPY nowhere /\n"})
    assert run(["init"]) == 2
    assert "a/Dockerfile:2: COPY nowhere: no such file or folder" in capsys.readouterr().err
    assert not (here / "chainbuild.yaml").exists()


def test_repository_of_image_types_needs_no_project(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "share/docker/run/debian-12/Dockerfile": "FROM debian:12\n",
        "share/docker/run/debian-12/casa_distro_docker.yaml": "",
        "share/docker/run/mageia-5/Dockerfile": "FROM mageia:5\n",
    }
    World(here).write(files)
    assert run(["init"]) == ExitCode.WRONG_USE
    told = capsys.readouterr().err
    assert "has only image types, which need no chainbuild.yaml" in told
    assert told.endswith("Run: chainbuild types list --repository .\n")
    World(here).write({"tools/Dockerfile": "FROM debian:12\n"})
    assert run(["init"]) == 0
    told = capsys.readouterr().err
    assert "but not used: share/docker/run/mageia-5/Dockerfile: no casa_distro_docker.yaml" in told


def test_problems_of_options_are_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    World(here).write({"a/10-Dockerfile-x": f"{STEP}COPY nowhere /\n"})
    assert run(["init", "--dry-run"]) == 0
    assert "warning: a/10-Dockerfile-x:4: COPY nowhere: no such file or folder" in capsys.readouterr().err


# Image keys and packages ----------------------------------------------------------------------------------------------


def test_image_key_that_the_scripts_use_is_proposed(here: Path) -> None:
    lowest = "FROM maker/server:1\n"
    above = "ARG BASE_IMAGE=ubuntu:22.04\nFROM $BASE_IMAGE\n"
    files = {
        "docker/Dockerfile.x86_64": lowest,
        "docker/Dockerfile.aarch64": lowest,
        "docker/Dockerfile.realsense": above,
        "docker/Dockerfile.ros2_humble": above,
        "scripts/run.sh": "IMAGE_KEY=ros2_humble\nbuild --image_key x86_64.ros2_humble.realsense\n",
    }
    text = proposed(here, files)
    assert "    image-key: ros2_humble.realsense  # other keys: ros2_humble, realsense\n" in text
    assert [step.name for step in graph_of(here, text)] == ["x86_64", "ros2_humble", "realsense"]


def test_package_that_others_do_not_need_is_proposed(here: Path) -> None:
    def header(depends: str) -> str:
        return f"#---\n# depends: {depends}\n#---\n{STEP}"

    files = {
        "packages/build/python/Dockerfile": STEP,
        "packages/numpy/Dockerfile": header("python"),
        "packages/torch/Dockerfile": header("numpy"),
        "packages/broken/Dockerfile": header("nobody"),
        "deprecated/old/Dockerfile": header("numpy"),
        "deprecated/numpy/Dockerfile": header("python"),
    }
    text = proposed(here, files)
    assert "  - folder: packages\n" in text
    assert "    packages: [torch]\n" in text
    assert [step.name for step in graph_of(here, text)] == ["python", "numpy", "torch"]


# Questions ------------------------------------------------------------------------------------------------------------


def test_guesses_are_listed_without_a_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    World(here).write({"stock/10-Dockerfile-a": STEP, "open/Dockerfile": "ARG BASE\nFROM $BASE\n"})
    assert run(["init"]) == 0
    told = capsys.readouterr().err
    assert "guessed base: debian:bookworm-slim (no FROM of stock names an image)" in told
    assert "guessed open: base: debian:bookworm-slim (its FROM $BASE has no default value)" in told


def test_answers_replace_guesses_on_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    World(here).write(
        {"a/10-Dockerfile-x": STEP, "b/10-Dockerfile-x": STEP, "open/Dockerfile": "ARG BASE\nFROM $BASE\n"}
    )
    answers = {"Options in build order": "b,a", "Base image of open": "alpine:3"}
    asked: list[str] = []

    def answer(text: str, *, default: str, err: bool) -> str:
        assert err
        asked.append(text)
        return next((value for start, value in answers.items() if text.startswith(start)), default)

    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", answer)
    assert run(["init"]) == 0
    assert len(asked) == 5
    project = parse_project((here / "chainbuild.yaml").read_bytes(), here / "chainbuild.yaml", os.environ)
    assert project.options == ("b", "a")
    assert str(project.layers[0].base) == "alpine:3"


def test_project_shows_layers_as_before(here: Path) -> None:
    text = proposed(here, {"os/Dockerfile": "FROM debian:12\n", "app/Dockerfile": "ARG BASE=x/os\nFROM $BASE\n"})
    assert shown(graph_of(here, text)).splitlines()[-1].endswith("BASE<-amd64/os/os")


@pytest.mark.parametrize("name", ["a\u2028b", "a\u0085b", "a\x7fb", "a\nb", "\U0001f600\u200f"])
def test_folder_with_unprintable_name_plans_as_written(here: Path, name: str) -> None:
    text = proposed(here, {f"{name}/Dockerfile": "FROM debian\n"})
    assert [chain.all_steps[0].dockerfile.parent.name for chain in graph_of(here, text).chains] == [name]


@pytest.mark.parametrize("name", ["10-Dockerfile", "Dockerfile.18", "Dockerfile", "a/Dockerfile", "a/Dockerfile.dev"])
def test_fifo_in_place_of_dockerfile_is_not_opened(here: Path, name: str) -> None:
    (here / "a").mkdir()
    os.mkfifo(here / name)
    os.mkfifo(here / "20-Dockerfile")
    look(here)
