"""The names of results: which chains get any, and where each name is published."""

from __future__ import annotations

from pathlib import Path

from chainbuild.model import Publication, published
from chainbuild.planning.planner import until
from chainbuild.references import ImageReference
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

HOME = ImageReference(CHAIN, REPOSITORY)


def test_tag_of_result_is_that_of_index_and_platform() -> None:
    names = Publication(platform=ARM64, index_tag="v1-stock", home=HOME)
    assert names.tag == "v1-stock-aarch64"
    assert str(names.release) == f"{CHAIN}/{REPOSITORY}:v1-stock-aarch64"
    assert str(names.index) == f"{CHAIN}/{REPOSITORY}:v1-stock"


def test_option_with_stages_is_published_under_its_tag(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write(THREE_STEPS)
    graph = world.graph((AMD64, ARM64))
    assert [chain.platform for chain, _ in published(graph.chains)] == [AMD64, ARM64]
    for chain, names in published(graph.chains):
        assert names.release == chain.result.reference
        assert (names.home, names.repo) == (chain.result.repository, None)
        assert names.local_tag == names.tag


def test_chain_cut_before_its_stages_is_not_published(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write(THREE_STEPS)
    graph = until(world.graph(), 20)
    assert [step.name for step in graph] == ["10-base", "20-blas"]
    assert list(published(graph.chains)) == []
