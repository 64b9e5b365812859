"""`chainbuild init`: the file written for a folder reads back and builds what was built by hand before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.cli import run
from chainbuild.operations.init import _quoted, look, write
from chainbuild.project.reader import read_project
from chainbuild.project.schema import PROJECT
from chainbuild.requests.last_run import save_last_run
from chainbuild.requests.options import RunOptions
from chainbuild.requests.project_runs import read_run
from chainbuild.yamlspec.nodes import read_nodes
from tests.support.graphs import shown
from tests.support.world import THREE_STEPS, World

LAYERS = {
    "slc6-analysisbase/Dockerfile": "ARG BASEIMAGE=atlas/slc6-atlasos:latest\nFROM ${BASEIMAGE}\n",
    "slc6-atlasos/Dockerfile": "FROM cern/slc6-base:latest\n",
    "zero/Dockerfile": "FROM scratch\n",
    "open/Dockerfile": "ARG BASE\nFROM ${BASE}\n",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "My Project"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def test_init_writes_options(here: Path) -> None:
    World(here).write(THREE_STEPS | {"extras/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM $BASE_IMAGE\n"})
    text = write(look(here))
    assert text.startswith("# yaml-language-server: $schema=.chainbuild/chainbuild.schema.json\n")
    (here / "chainbuild.yaml").write_text(text)
    project = read_project(here / "chainbuild.yaml", {})
    assert project.options == ("extras", "stock")
    assert (project.repo, project.tag, str(project.base)) == ("my-project/my-project", "v1", "debian:bookworm-slim")
    assert read_run(project, RunOptions()).request.graph.chains


def test_init_sorts_layers_by_base_image(here: Path) -> None:
    World(here).write(LAYERS)
    guess = look(here)
    assert [layer.folder for layer in guess.layers] == ["open", "slc6-atlasos", "slc6-analysisbase", "zero"]
    text = write(guess)
    assert "    # builds on the layer before it instead of atlas/slc6-atlasos:latest\n" in text
    (here / "chainbuild.yaml").write_text(text)
    project = read_project(here / "chainbuild.yaml", {})
    assert (
        shown(read_run(project, RunOptions(platform="amd64")).request.graph)
        == """\
amd64/open/open [my-project/open:latest-amd64] BASE<-debian:bookworm-slim
amd64/slc6-atlasos/slc6-atlasos [my-project/slc6-atlasos:latest-amd64] cern/slc6-base:latest=>cern/slc6-base:latest
amd64/slc6-analysisbase/slc6-analysisbase [my-project/slc6-analysisbase:latest-amd64] \
BASEIMAGE<-amd64/slc6-atlasos/slc6-atlasos
amd64/zero/zero [my-project/zero:latest-amd64] """
    )


def test_init_with_cyclic_layers_terminates(here: Path) -> None:
    World(here).write({"a/Dockerfile": "FROM x/b\n", "b/Dockerfile": "FROM x/a\n", "c/Dockerfile": "FROM c\n"})
    assert sorted(layer.folder for layer in look(here).layers) == ["a", "b", "c"]


def test_init_takes_values_of_last_run(here: Path) -> None:
    World(here).write(THREE_STEPS | {"extras/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM $BASE_IMAGE\n"})
    words = RunOptions(
        platform="amd64,aarch64",
        repo="ghcr.io/acme/tools",
        tag="1e5",
        base="fat:1",
        option="stock",
        production="slim:1",
        root=here,
        registry="ghcr.io/acme",
        port=5200,
        refresh_after="7d",
        build_args=("CPU=0x10", "BARE"),
    )
    save_last_run(here, words)
    (here / "chainbuild.yaml").write_text(write(look(here)))
    project = read_project(here / "chainbuild.yaml", {"BARE": "x"})
    merged = RunOptions().merged(project)
    assert (merged.platform, merged.repo, merged.tag, merged.base, merged.production) == (
        words.platform,
        words.repo,
        words.tag,
        words.base,
        words.production,
    )
    assert (merged.option, merged.registry, merged.port, merged.refresh_after) == (
        "stock,extras",
        "ghcr.io/acme",
        5200,
        "7d",
    )
    assert [(arg.name, arg.value) for arg in project.build_args] == [("CPU", "0x10"), ("BARE", "x")]


def test_init_writes_science(here: Path) -> None:
    World(here).write(
        {"science/a/sciserver-image.json": "{}", "compat/b/sciserver-image.json": "{}", "science/a/Dockerfile": ""}
    )
    (here / "chainbuild.yaml").write_text(write(look(here)))
    project = read_project(here / "chainbuild.yaml", {})
    assert project.science is not None
    assert (project.science.repo, project.layers) == ("my-project", ())


def test_init_command_writes_or_replaces_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init"]) == 2
    assert "nothing to build in" in capsys.readouterr().err
    World(here).write(LAYERS)
    assert run(["init", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "layers:" in told.out
    assert "found layer slc6-atlasos: a plain Dockerfile, FROM cern/slc6-base:latest" in told.err
    assert not (here / "chainbuild.yaml").exists()
    assert run(["init"]) == 0
    first = (here / "chainbuild.yaml").read_text()
    assert first == told.out
    assert json.loads((here / ".chainbuild/chainbuild.schema.json").read_text())["title"] == "chainbuild.yaml"
    capsys.readouterr()
    (here / "chainbuild.yaml").write_text("mine")
    assert run(["init"]) == 2
    assert "Replace it with --force" in capsys.readouterr().err
    assert (here / "chainbuild.yaml").read_text() == "mine"
    assert run(["init", "--force"]) == 0
    assert (here / "chainbuild.yaml").read_text() == first


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"]), min_size=1))
def test_quoted_text_reads_back(text: str) -> None:
    content = read_nodes(f"options: [{_quoted(text)}]\n".encode(), "x", PROJECT)
    assert content.values["options"] == [text]
