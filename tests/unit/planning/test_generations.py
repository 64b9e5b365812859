"""Indexes that several runs fill: images that do not match the present tree are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import StaleIndexError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.publish import publish_indexes
from chainbuild.model import Graph
from chainbuild.planning.generations import Generations
from tests.support.world import AMD64, ARM64, STEP, THREE_STEPS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def generations(world: World) -> Generations:
    return Generations(world.records, world.graph, world.plan)


def publish(world: World, graph: Graph, outcome: RunOutcome, *, refuse: bool = False) -> tuple[str, ...]:
    return publish_indexes(world.registries, graph.chains, outcome, generations=generations(world), refuse_stale=refuse)


def run(world: World, platform: object) -> tuple[Graph, RunOutcome]:
    graph = world.graph([platform])  # type: ignore[list-item]
    return graph, world.execution(graph).run()


def test_index_filled_platform_by_platform_is_current(world: World) -> None:
    assert publish(world, *run(world, ARM64)) == ()
    assert publish(world, *run(world, AMD64)) == ()


def test_index_that_keeps_outdated_platform_is_reported(world: World) -> None:
    """A run for one platform keeps the other platform's old image: on the commit before, without a warning."""
    publish(world, *run(world, ARM64))
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    (text,) = publish(world, *run(world, AMD64))
    assert "v1-stock keeps linux/arm64 of 1970-01-12 13:46 UTC" in text
    assert "built from other inputs (production: parent 10-base: Dockerfile changed (line 4))" in text


def test_change_for_one_platform_keeps_the_other_current(world: World) -> None:
    publish(world, *run(world, ARM64))
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert publish(world, *run(world, AMD64)) == ()
    world.write({"stock/blas-aarch64-args": "CPU=OTHER\n"})
    (text,) = publish(world, *run(world, AMD64))
    assert 'arg CPU changed from "ARMV8" to "OTHER"' in text


def test_stale_index_as_error_is_left_unchanged(world: World) -> None:
    publish(world, *run(world, ARM64))
    before = world.tags()["v1-stock"]
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    graph, outcome = run(world, AMD64)
    with pytest.raises(StaleIndexError) as caught:
        publish(world, graph, outcome, refuse=True)
    assert "linux/arm64" in str(caught.value)
    assert world.tags()["v1-stock"] == before
    publish_indexes(
        world.registries, graph.chains, outcome, replace=True, generations=generations(world), refuse_stale=True
    )


def test_platform_without_record_is_not_reported_as_current(world: World) -> None:
    publish(world, *run(world, ARM64))
    world.host.tags = {key: value for key, value in world.host.tags.items() if not key[1].startswith("k1-")}
    (text,) = publish(world, *run(world, AMD64))
    assert "linux/arm64" in text
    assert "never built" in text


def test_platform_missing_in_the_tree_has_unknown_state(world: World) -> None:
    publish(world, *run(world, ARM64))
    graph, outcome = run(world, AMD64)
    (text,) = publish_indexes(
        world.registries, graph.chains, outcome, generations=Generations(world.records, None, world.plan)
    )
    assert "is unknown" in text
