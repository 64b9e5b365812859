"""Dependencies and FROM lines: the images that they match, their agreement, and the build order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .shelf import PUBLIC, Shelf


def wrong(shelf: Shelf) -> list[str]:
    return [str(problem).replace(f"{shelf.user}/", "") for problem in shelf.problems()]


def test_dependency_path_matches_all_images_below_it(shelf: Shelf) -> None:
    shelf.type("dev/x", sources=[{"name": "dev", "tags": ["x"]}, {"name": "dev", "tags": ["x-debug"]}])
    shelf.type("dev/y", root=shelf.repository)
    shelf.type("other/x")
    shelf.type("app/x", "FROM dev:x", dependencies=["../../dev"])
    shelf.type("app/y", "FROM dev:y", dependencies=["../../dev/y"])
    shelf.type("all/x", dependencies=["../.."])
    below = shelf.look().relations.below
    assert below["app:x"] == ("dev:x", "dev:x-debug", "dev:y"), "regardless of their root"
    assert below["app:y"] == ("dev:y",)
    assert set(below["all:x"]) == {"dev:x", "dev:x-debug", "dev:y", "other:x", "app:x", "app:y"}


def test_unmatched_dependency_path_lists_available_types(shelf: Shelf) -> None:
    shelf.type("casa-dev/x")
    shelf.type("app/x", "FROM casa-dev:x", dependencies=["../../casa-dev", "../../casa-div", "../../../etc", "."])
    found = wrong(shelf)
    assert found[0].startswith("app/x/casa_distro_docker.yaml:3: dependency '../../casa-div' matches nothing")
    assert "Perhaps you meant '../../casa-dev'. Available: app/x, casa-dev/x." in found[0]
    assert found[1].startswith("app/x/casa_distro_docker.yaml:4: dependency '../../../etc' leads out of the folders")
    assert found[2].startswith("app/x/casa_distro_docker.yaml:5: dependency '.' is this image type itself")


@pytest.mark.parametrize(
    "line",
    [
        "FROM dev:x",
        "from dev:x",
        "FROM dev:x AS base",
        "FROM cati/dev:x",
        "FROM registry.example/some/where/dev:x",
        f"FROM {PUBLIC}/dev:x",
        "FROM localhost:5000/dev:x",
        "ARG BASE=dev:x\nFROM ${BASE}",
        "FROM --platform=linux/amd64 dev:x",
        "FROM debian:1\nCOPY --from=dev:latest /a /a",
        "FROM debian:1\nRUN --mount=from=dev:x,target=/x true",
        "FROM debian:1 AS one\nFROM dev:x\nCOPY --from=one /a /a",
    ],
)
def test_image_reference_in_any_form_needs_a_dependency(shelf: Shelf, line: str) -> None:
    shelf.type("dev/x", tags=["latest", "x"])
    shelf.type("app/x", line, dependencies=["../../dev"])
    assert shelf.look().relations.read_by("app:x") == ("dev:x",)
    if "cati" in line or "some/where" in line:
        return
    shelf.type("app/x", line)
    (told,) = wrong(shelf)
    assert "app/x/casa_distro_docker.yaml has no dependency on dev/x" in told
    assert told.endswith("Add this to its dependencies: ../../dev/x")
    assert told.startswith("app/x/Dockerfile:")


def test_images_of_same_folder_need_no_dependency(shelf: Shelf) -> None:
    shelf.type(
        "dev/x",
        dockerfile=None,
        files={"Dockerfile.template": "FROM %(base)s\n"},
        sources=[
            {"name": "a-late", "tags": ["x"], "template_files_parameters": {"base": "z-early:x"}},
            {"name": "z-early", "tags": ["x"], "template_files_parameters": {"base": "debian:1"}},
        ],
    )
    assert shelf.look().relations.order == ("z-early:x", "a-late:x")


def test_unknown_tag_of_dependency_is_reported(shelf: Shelf) -> None:
    shelf.type("dev/x", tags=["latest", "ubuntu-16.04"])
    shelf.type("app/x", "FROM cati/dev:ubuntu-16.4", dependencies=["../../dev"])
    (told,) = wrong(shelf)
    assert told.startswith("app/x/Dockerfile:1: FROM cati/dev:ubuntu-16.4: dev has no tag 'ubuntu-16.4' here")
    assert "Its tags are: latest, ubuntu-16.04." in told


def test_docker_hub_image_with_same_name_needs_full_reference(shelf: Shelf) -> None:
    shelf.type("debian/x", "FROM docker.io/library/debian:1")
    assert shelf.look().relations.read_by("debian:x") == ()
    shelf.type("debian/x", "FROM debian:x")
    (told,) = wrong(shelf)
    assert "images depend on each other in a cycle: debian:x on debian:x" in told
    assert "docker.io/library/" in told


def test_unused_dependency_is_a_warning(shelf: Shelf) -> None:
    shelf.type("dev/x")
    shelf.type("app/x", "FROM debian:1", dependencies=["../../dev"])
    (loose,) = shelf.look().relations.loose
    assert loose.message == "it depends on ../../dev, but its Dockerfile uses no image of it"
    assert "dev:x" in loose.hint
    shelf.type("app/x", "FROM dev:x", dependencies=["../../dev"])
    assert shelf.look().relations.loose == ()


def test_cycle_of_dependencies_that_nobody_reads_is_a_warning(shelf: Shelf) -> None:
    shelf.type("run/x", dependencies=["../../dev"])
    shelf.type("dev/x", "FROM run:x", dependencies=["../../run"])
    shelf.type("app/x", "FROM dev:x", dependencies=["../../dev"])
    shelf.type("all/x", dependencies=["../.."])
    shelf.type("any/x", dependencies=["../.."])
    relations = shelf.look().relations
    assert shelf.problems() == ()
    assert [relations.order.index(f"{name}:x") for name in ("run", "dev", "app")] == sorted(
        relations.order.index(f"{name}:x") for name in ("run", "dev", "app")
    )
    (note,) = (note for note in relations.loose if "in a cycle: " in note.message)
    assert "the order ignores them" in note.hint
    assert shelf.actions("app") == {"run:x": "build", "dev:x": "build", "app:x": "build"}


def test_cycle_stops_only_its_images_and_those_above_them(shelf: Shelf) -> None:
    shelf.type("a/x", "FROM b:x", dependencies=["../../b"])
    shelf.type(
        "b/x", "FROM debian:1\nCOPY --from=a:x / /\nCOPY --from=run:x / /", dependencies=["../../a", "../../run"]
    )
    shelf.type("run/x")
    shelf.type("top/x", "FROM a:x", dependencies=["../../a"])
    problems = shelf.look().relations.problems
    assert [name for name in problems if problems[name]] == ["a:x", "b:x"]
    assert list(shelf.actions()) == ["run:x"]


@pytest.mark.timeout(60)
def test_dense_cycles_are_found_quickly(shelf: Shelf) -> None:
    for number in range(150):
        shelf.type(f"t{number}/x", dependencies=["../.."])
    assert len(shelf.look().relations.order) == 150
    assert shelf.problems() == ()


def test_image_read_for_two_platforms_is_two_inputs(shelf: Shelf) -> None:
    shelf.type("dev/x")
    text = "FROM --platform=linux/arm64 dev:x AS far\nFROM --platform=linux/amd64 dev:x\nCOPY --from=far /a /a"
    shelf.type("app/x", text, dependencies=["../../dev"])
    reads = [read for (image, _), found in shelf.look().relations.reads.items() if image == "app:x" for read in found]
    assert {(read.image, read.wanted.platform.oci) for read in reads} == {
        ("dev:x", "linux/arm64"),
        ("dev:x", "linux/amd64"),
    }
    assert {read.wanted.written for read in reads} == {"dev:x"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"), max_size=3), min_size=1))
def test_build_order_of_arbitrary_graph_is_topological(wanted: dict[str, set[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "home")
        for name, bases in wanted.items():
            there = sorted(bases & set(wanted))
            lines = [f"COPY --from={base}:x / /" for base in there]
            dependencies = [f"../../{base}" for base in there]
            shelf.type(f"{name}/x", "\n".join(["FROM debian:1", *lines]), dependencies=dependencies)
        graph = {name: bases & set(wanted) for name, bases in wanted.items()}
        order = shelf.look().relations.order
        assert sorted(order) == sorted(f"{name}:x" for name in wanted)
        messages = " ".join(problem.message for problem in shelf.problems())
        assert ("in a cycle: " in messages or "is this image type itself" in messages) == _has_circle(graph)
        if _has_circle(graph):
            return
        for place, name in enumerate(order):
            assert {f"{base}:x" for base in graph[name[0]]} <= set(order[:place])


def _has_circle(graph: dict[str, set[str]]) -> bool:
    left = dict(graph)
    while free := [name for name, bases in left.items() if not bases & set(left)]:
        for name in free:
            del left[name]
    return bool(left)
