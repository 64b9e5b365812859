"""`chainbuild registry ls` and `registry gc`: their lines, and their JSON documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli import run
from chainbuild.execution.backends import use_backends
from tests.support.world import CHAIN, REPOSITORY, THREE_STEPS, World

PLACE = f"{CHAIN}/{REPOSITORY}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world with the images of two TAGs."""
    made = World(tmp_path)
    made.write(THREE_STEPS)
    made.run()
    made.tag = "v2"
    made.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make more\n"})
    made.run()
    monkeypatch.chdir(tmp_path)
    with use_backends(made.backends):
        yield made


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    printed: dict[str, Any] = json.loads(streams.out)
    return printed


def test_ls_json_has_the_lines_that_ls_prints(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    printed = document(capsys, "registry", "ls")
    assert printed["schema"] == "chainbuild.registry-ls/1"
    assert [entry["repository"] for entry in printed["repositories"]] == [PLACE]
    tags = printed["repositories"][0]["tags"]
    assert "v1-stock-amd64" in tags
    assert not [tag for tag in tags if tag.startswith("k1-")]
    assert run(["registry", "ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{PLACE}:{tag}" for tag in tags]


def test_ls_of_repository_with_all_lists_machine_tags(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    tags = document(capsys, "registry", "ls", REPOSITORY, "--all")["repositories"][0]["tags"]
    assert [tag for tag in tags if tag.startswith("k1-")]


def test_gc_prints_what_would_be_freed_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["registry", "gc", "--keep", "1"]) == 0
    out = capsys.readouterr().out
    assert "v1-stock-amd64" in out
    assert "v2-stock-amd64" not in out
    assert out.count("would be freed") == 1


def test_gc_json_lists_manifests_and_deletes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["registry", "gc", REPOSITORY, "--keep", "1", "--registry", CHAIN]
    listed = document(capsys, *arguments)
    assert (listed["schema"], listed["deleted"]) == ("chainbuild.registry-gc/1", False)
    assert listed["freed"] > 0
    tags = [tag for held in listed["repositories"][0]["manifests"] for tag in held["tags"]]
    assert "v1-stock-amd64" in tags
    assert document(capsys, *arguments, "--delete") == {**listed, "deleted": True}
    assert "v1-stock-amd64" not in world.tags()
    assert document(capsys, *arguments) == {
        "schema": "chainbuild.registry-gc/1",
        "deleted": False,
        "freed": 0,
        "repositories": [],
    }
