"""Indexes that several runs fill: images that do not match the present tree are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import StaleIndexError
from chainbuild.references import Platform
from tests.support.world import AMD64, ARM64, STEP, THREE_STEPS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def run(world: World, platform: Platform, **options: Any) -> list[str]:
    """Build one platform, and return the warnings."""
    world.begin_again()
    outcome = world.run(world.graph([platform]), **{"graph_for": world.graph} | options)
    assert outcome.succeeded
    return world.warnings


def test_index_filled_platform_by_platform_is_current(world: World) -> None:
    assert run(world, ARM64) == []
    assert run(world, AMD64) == []


def test_index_that_keeps_outdated_platform_is_reported(world: World) -> None:
    """A run for one platform keeps the other platform's old image: on the commit before, without a warning."""
    run(world, ARM64)
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    (text,) = run(world, AMD64)
    assert "v1-stock keeps linux/arm64 of 1970-01-12 13:46 UTC" in text
    assert "built from other inputs (production: parent 10-base: Dockerfile changed (line 4))" in text


def test_change_for_one_platform_keeps_the_other_current(world: World) -> None:
    run(world, ARM64)
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert run(world, AMD64) == []
    world.write({"stock/blas-aarch64-args": "CPU=OTHER\n"})
    (text,) = run(world, AMD64)
    assert 'arg CPU changed from "ARMV8" to "OTHER"' in text


def test_stale_index_as_error_is_left_unchanged(world: World) -> None:
    run(world, ARM64)
    before = world.tags()["v1-stock"]
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    with pytest.raises(StaleIndexError) as caught:
        run(world, AMD64, refuse_stale_index=True)
    assert "linux/arm64" in str(caught.value)
    assert world.tags()["v1-stock"] == before
    assert run(world, AMD64, refuse_stale_index=True, replace_index=True) == []
    assert world.driver.built == [], "the images were recorded before"
    assert world.tags()["v1-stock"] != before


def test_platform_without_record_is_not_reported_as_current(world: World) -> None:
    run(world, ARM64)
    world.host.tags = {key: value for key, value in world.host.tags.items() if not key[1].startswith("k1-")}
    (text,) = run(world, AMD64)
    assert "linux/arm64" in text
    assert "never built" in text


def test_platform_missing_in_the_tree_has_unknown_state(world: World) -> None:
    run(world, ARM64)
    (text,) = run(world, AMD64, graph_for=None)
    assert "is unknown" in text
