"""Inputs of a step key: chainbuild's own data in a context is excluded, the content of a layout is included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainbuild.context.dockerignore import parse_ignore
from chainbuild.errors import WrongUseError
from chainbuild.planning.inputs import without_own_data
from chainbuild.records.keys import Components
from chainbuild.step_id import StepId
from tests.support.world import STEP, THREE_STEPS, World

VENV = StepId.parse("amd64/stock/30-venv")
COPY = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
REGISTRY = "registry/docker/registry/v2/blobs/x"
LOG = ".chainbuild/logs/run.log"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def components(world: World, step: StepId = VENV) -> Components:
    graph = world.graph()
    planner = world.planned(graph).planner
    from chainbuild.planning.decisions import ImageFacts

    known = {one.id: ImageFacts(identity=f"sha256:{one.id}") for one in graph}
    return planner.components(graph.by_id[step], known)


@pytest.mark.parametrize(
    ("ignore", "own"),
    [
        ("", ("registry", ".chainbuild")),
        ("registry\n.chainbuild\n", ()),
        ("registry/\n.chainbuild/\n", ()),
        ("registry/*\n.chainbuild/**\n", ()),
        ("**/registry\n.*\n", ()),
        ("*\n!stock\n", ()),
        ("registry\n", (".chainbuild",)),
        (".chainbuild/*.json\nregistry\n", (".chainbuild",)),
        ("registry\n.chainbuild\n!.chainbuild/logs\n", (".chainbuild",)),
        ("*\n!registry\n", ("registry",)),
    ],
)
def test_data_of_chainbuild_is_always_ignored(world: World, ignore: str, own: tuple[str, ...]) -> None:
    world.write({REGISTRY: "blob", LOG: "log", ".chainbuild/last-words.json": "{}"})
    found, told = without_own_data(parse_ignore(ignore.encode()), world.root)
    assert told == own
    for path in (REGISTRY, LOG, ".chainbuild/last-words.json"):
        assert found.ignores(path)
    assert found.ignores("src/setup.py") is parse_ignore(ignore.encode()).ignores("src/setup.py")


def test_user_folder_named_registry_is_not_ignored(world: World) -> None:
    world.write({"registry/list.txt": "mine"})
    ignore = parse_ignore(b"")
    assert without_own_data(ignore, world.root) == (ignore, ())


@pytest.mark.parametrize("source", [".", "./", "/"])
def test_copy_of_whole_context_with_chainbuild_data_is_rejected(world: World, source: str) -> None:
    world.write({"stock/30-Dockerfile-venv": f"{COPY}COPY {source} /all\n", REGISTRY: "blob", LOG: "log"})
    with pytest.raises(WrongUseError) as caught:
        components(world)
    (problem,) = caught.value.problems
    assert "copies the whole context including registry/ and .chainbuild/" in problem.message
    assert problem.hint == "Add these lines to .dockerignore: registry, .chainbuild."
    world.write({".dockerignore": "registry\n.chainbuild\n"})
    assert not [name for name in components(world).files if name.startswith(("registry", ".chainbuild"))]


@pytest.mark.parametrize(
    ("source", "names"),
    [("*", "registry/ and .chainbuild/"), ("reg*", "registry/"), ("registry/docker", "registry/")],
)
def test_copy_by_pattern_with_chainbuild_data_is_rejected(world: World, source: str, names: str) -> None:
    world.write({"stock/30-Dockerfile-venv": f"{COPY}COPY {source} /all/\n", REGISTRY: "blob", LOG: "log"})
    with pytest.raises(WrongUseError) as caught:
        components(world)
    assert f"copies files from {names}" in caught.value.problems[0].message


def test_copy_of_other_files_excludes_chainbuild_data(world: World) -> None:
    world.write({REGISTRY: "blob", LOG: "log"})
    assert list(components(world).files) == ["src", "src/setup.py"]


def test_foreign_frontend_key_excludes_chainbuild_data(world: World) -> None:
    """A frontend that can read any file counts the whole context, except data that changes with every run."""
    text = f"# syntax=example.com/another/frontend:1\n{COPY}"
    world.write({"stock/30-Dockerfile-venv": text, REGISTRY: "one", LOG: "1", ".dockerignore": "src\n"})
    before = components(world)
    assert "src/setup.py" in before.files, "such a frontend can read ignored files"
    world.write({REGISTRY: "two", LOG: "2", "registry/docker/more": "3"})
    assert components(world).key == before.key


def test_change_of_chainbuild_data_changes_no_key(world: World) -> None:
    world.write({".dockerignore": "registry\n.chainbuild\n", "stock/30-Dockerfile-venv": f"{COPY}COPY . /all\n"})
    before = components(world).key
    world.write({REGISTRY: "blob", LOG: "log"})
    assert components(world).key == before


# Layouts --------------------------------------------------------------------------------------------------------------


def with_layout(world: World, place: str) -> Components:
    world.write({"stock/30-Dockerfile-venv": f"{COPY}COPY --from=tools /bin/tool /bin/\n"})
    world.build_contexts = (("tools", f"oci-layout://{place}"),)
    return components(world)


def layout(folder: Path, digest: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest}]}))
    return str(folder)


def test_layout_counts_by_content_not_by_path(world: World, tmp_path: Path) -> None:
    one, moved = layout(tmp_path / "one", "sha256:1"), layout(tmp_path / "moved", "sha256:1")
    first = with_layout(world, one)
    assert with_layout(world, moved).key == first.key
    assert str(tmp_path) not in json.dumps(first.as_json())
    layout(tmp_path / "one", "sha256:2")
    assert with_layout(world, one).key != first.key


def test_layout_tag_and_digest_count(world: World, tmp_path: Path) -> None:
    place = layout(tmp_path / "one", "sha256:1")
    keys = {with_layout(world, f"{place}{more}").key for more in ("", ":latest", ":v2", "@sha256:" + "3" * 64)}
    assert len(keys) == 3, "the default tag is latest"
    pinned = with_layout(world, f"{place}@sha256:{'3' * 64}").key
    layout(tmp_path / "one", "sha256:2")
    assert with_layout(world, f"{place}@sha256:{'3' * 64}").key == pinned


def test_unreadable_layout_counts_by_its_spec(world: World) -> None:
    assert with_layout(world, "/nowhere").contexts == {"tools": "oci-layout:///nowhere"}


def test_unused_layout_is_not_in_the_key(world: World, tmp_path: Path) -> None:
    world.build_contexts = (("tools", f"oci-layout://{layout(tmp_path / 'one', 'sha256:1')}"),)
    assert components(world, StepId.parse("amd64/stock/10-base")).contexts == {}
    assert STEP in components(world, StepId.parse("amd64/stock/10-base")).dockerfile


@pytest.mark.parametrize(
    "run",
    ["ARG BUILDARCH\nRUN wget example.org/tool-$BUILDARCH\n", "ARG BUILDARCH\nCOPY tool-$BUILDARCH /tool\n"],
)
def test_builders_machine_counts_where_it_is_used(world: World, run: str) -> None:
    world.write({"stock/30-Dockerfile-venv": COPY + run, "tool-amd64": "amd64", "tool-arm64": "arm64"})
    here = components(world)
    world.driver.own_platforms = frozenset({"linux/arm64"})
    there = components(world)
    assert [found.facts["build platform"] for found in (here, there)] == ["linux/amd64", "linux/arm64"]
    if "COPY" in run:
        assert [list(found.files) for found in (here, there)] == [["tool-amd64"], ["tool-arm64"]]


def test_builder_is_not_asked_if_its_machine_does_not_count(world: World) -> None:
    cross = "FROM --platform=$BUILDPLATFORM slim:1 AS tools\nRUN make\nFROM ${BASE_IMAGE}\nCOPY --from=tools /a /a\n"
    world.write({"stock/30-Dockerfile-venv": f"ARG BASE_IMAGE\n{cross}"})
    here = components(world)
    world.driver.own_platforms = frozenset({"linux/arm64"})
    assert components(world) == here


def test_stage_on_the_builders_machine_knows_its_image(world: World) -> None:
    """The variables of its image are those that were read for this machine, so what it copies is known."""
    cross = "FROM --platform=$BUILDPLATFORM slim:1 AS tools\nARG BUILDARCH\nCOPY tool-$BUILDARCH /a\n"
    world.write({"stock/30-Dockerfile-venv": f"ARG BASE_IMAGE\n{cross}FROM ${{BASE_IMAGE}}\nCOPY --from=tools /a /a\n"})
    world.write({"tool-amd64": "amd64", "tool-arm64": "arm64"})
    world.driver.own_platforms = frozenset({"linux/arm64"})
    assert list(components(world).files) == ["tool-arm64"]


def test_image_named_after_the_builder_is_that_of_this_machine(world: World) -> None:
    world.external("tool:amd64", "tool")
    named = "FROM tool:$BUILDARCH AS tools\nFROM ${BASE_IMAGE}\nCOPY --from=tools /a /a\n"
    world.write({"stock/30-Dockerfile-venv": f"ARG BASE_IMAGE\nARG BUILDARCH\n{named}"})
    world.driver.own_platforms = frozenset({"linux/arm64"})
    assert "tool:amd64" in components(world).images
