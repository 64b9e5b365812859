"""The built images of a plan, and their target names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.execution.publish import publish_indexes
from chainbuild.layouts import layers as plain
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.release.planning import built_images, chosen, each_its_own, name_in, targets
from tests.support.world import AMD64, CHAIN, STEP, THREE_STEPS, World

NAME = ImageReference.parse("acme/tools:v1-stock")


def names(*texts: str) -> list[ImageReference]:
    return [ImageReference.parse(text) for text in texts]


def test_built_images_of_all_layouts_are_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write({**THREE_STEPS, "layer/10-Dockerfile-a": STEP})
    world.run()
    layer = LayerFolder(
        name="layer",
        folder=tmp_path / "layer",
        image=ImageReference.parse("ghcr.io/acme/layer:2"),
        base=ImageReference.parse("fat:1"),
    )
    request = LayerRequest(
        root=tmp_path, layers=(layer,), platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    graph = plain.read(request).graph
    publish_indexes(world.registries, graph.chains, world.run(graph))
    assert list(map(str, built_images(world.records))) == [
        "ghcr.io/acme/layer:2",
        "team/atom:v1-stock",
    ]


@pytest.mark.parametrize("registry", ["localhost:5000", "ghcr.io/org", "ghcr.io/org/deep"])
@pytest.mark.parametrize("name", ["acme/tools:1", "ghcr.io/org/deep/tools:1", "debian:12", "localhost:5001/x:1"])
def test_image_name_is_independent_of_the_chain_registry(registry: str, name: str) -> None:
    chain = ChainRegistry.parse(registry)
    place = chain.place(ImageReference.parse(name)).with_tag("1")
    assert chain.place(name_in(chain, place)) == ImageReference(place.registry, place.repository)


def test_target_templates_are_expanded() -> None:
    assert list(map(str, targets(["ghcr.io/{repo}:{tag}", "{repo}:1", "x/{name}:latest", "{repo}:1"], NAME))) == [
        "ghcr.io/acme/tools:v1-stock",
        "acme/tools:1",
        "x/tools:latest",
    ]


PARTS = st.sampled_from(["{", "}", "repo", "{tag}", "{name}", "{repo}", ":", "/", "a", "%", "@", "-"])


@given(st.lists(PARTS, max_size=8))
def test_arbitrary_template_gives_a_reference_or_an_error(parts: list[str]) -> None:
    try:
        (name,) = targets(["".join(parts)], NAME)
    except WrongUseError:
        return
    assert name.tag
    assert ImageReference.parse(str(name)) == name


def test_duplicate_target_of_two_images_is_rejected() -> None:
    one, two = names("acme/tools:v1-stock", "acme/tools:v1-extras")
    with pytest.raises(WrongUseError, match="--to assigns the name acme/tools:1 to both acme/tools:v1-stock and"):
        each_its_own({one: targets(["{repo}:1"], one), two: targets(["{repo}:1"], two)})
    each_its_own({one: targets(["{repo}:1-{tag}"], one), two: targets(["{repo}:1-{tag}"], two)})


def test_named_repositories_are_queried_without_the_catalog(tmp_path: Path) -> None:
    """Public registries refuse to list their repositories."""
    world = World(tmp_path)
    world.write(THREE_STEPS)
    world.run()
    world.fake.log.clear()
    for pattern in ("team/atom:v1-stock", "team/atom:v1-*", "team/atom"):
        assert list(map(str, built_images(world.records, [pattern]))) == ["team/atom:v1-stock"]
    assert not world.fake.counted("GET", "_catalog")
    assert built_images(world.records, ["nobody/has:this"]) == ()
    assert built_images(world.records, ["team/*"])
    assert world.fake.counted("GET", "_catalog") == 1


@given(st.text(st.sampled_from("*?[]!-ab:/"), max_size=6))
def test_arbitrary_pattern_matches_images_or_is_an_error(pattern: str) -> None:
    there = names("a/b:1", "a/a:2", "b/b:1")
    try:
        found = chosen(there, [pattern])
    except WrongUseError as error:
        assert repr(pattern) in str(error)  # noqa: PT017
    else:
        assert found
        assert set(found) <= set(there)
