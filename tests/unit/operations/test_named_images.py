"""Names of images in commands: references, steps, layers, ids, and the platform if none was chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainbuild.cli import run
from chainbuild.cli.image_arguments import Place, read_image_arguments
from chainbuild.errors import BuildFailedError, NotFoundInRegistryError, WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.images.local_store import LocalImage
from chainbuild.model import Graph
from chainbuild.operations.named_images import (
    NamedImage,
    TreeNames,
    find_both,
    find_named_image,
    read_named_image,
)
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.last_run import save_last_run
from chainbuild.requests.options import RunOptions
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

OWN = Platform.of_this_machine()
OTHER = ARM64 if OWN.same_as(AMD64) else AMD64
THIRD = Platform.parse("riscv64")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def read(world: World, text: str, platform: Platform | None = None, *, options: tuple[str, ...] = ("stock",)) -> str:
    graph = world.graph((AMD64, ARM64), options)
    named = read_named_image(text, platform, TreeNames(graph=lambda: graph, layer=lambda _: None))
    return f"{named.reference} {named.platform}"


def names_without_run() -> TreeNames:
    def graph() -> Graph:
        raise WrongUseError("no earlier run found in this tree")

    layers = {"os": ImageReference.parse("acme/os:v2")}
    return TreeNames(graph=graph, layer=layers.get)


def find(world: World, text: str, platform: Platform | None = None) -> Platform:
    named = NamedImage(reference=ImageReference.parse(text), platform=platform)
    return find_named_image(world.opened(), named).image.platform


# What is named --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["20-blas", "stock/20-blas", f"{OWN.name}/stock/20-blas"])
def test_step_is_named_by_its_name_or_id(world: World, text: str) -> None:
    expected = f"{CHAIN}/{REPOSITORY}:v1-stock-20-blas-{OWN.name} {OWN}"
    assert read(world, text) == expected
    assert read(world, text, OWN) == expected


def test_step_of_another_platform_is_chosen_by_platform_or_id(world: World) -> None:
    expected = f"{CHAIN}/{REPOSITORY}:v1-stock-20-blas-{OTHER.name} {OTHER}"
    assert read(world, "20-blas", OTHER) == expected
    assert read(world, f"{OTHER.name}/stock/20-blas") == expected


def test_stage_is_named_as_a_step(world: World) -> None:
    assert read(world, "production").startswith(f"{CHAIN}/{REPOSITORY}:v1-stock-{OWN.name} ")


def test_step_that_is_not_for_the_platform_is_an_error(world: World) -> None:
    with pytest.raises(WrongUseError, match=r"20-blas is not a step for riscv64(?s:.*)amd64/stock/20-blas"):
        read(world, "20-blas", THIRD)


def test_name_of_several_steps_is_an_error_with_their_ids(world: World) -> None:
    world.write({name.replace("stock/", "extras/"): text for name, text in THREE_STEPS.items()})
    with pytest.raises(WrongUseError, match=r"several steps(?s:.*)/stock/20-blas, .*/extras/20-blas"):
        read(world, "20-blas", options=("stock", "extras"))


def test_unknown_step_suggests_the_nearest(world: World) -> None:
    with pytest.raises(WrongUseError, match=r"no such step: '20-blsa'(?s:.*)Perhaps you meant '20-blas'"):
        read(world, "20-blsa")


@pytest.mark.parametrize(
    ("text", "reference"),
    [("debian", "debian"), ("acme/tools", "acme/tools"), ("acme/tools:20-x", "acme/tools:20-x"), ("os", "acme/os:v2")],
)
def test_image_is_named_whatever_is_wrong_with_the_tree(text: str, reference: str) -> None:
    named = read_named_image(text, None, names_without_run())
    assert (str(named), named.step) == (reference, None)


@pytest.mark.parametrize("text", ["20-blas", "amd64/stock/20-blas"])
def test_step_of_unreadable_tree_reports_why(text: str) -> None:
    with pytest.raises(WrongUseError, match="no earlier run found"):
        read_named_image(text, None, names_without_run())


# The image ------------------------------------------------------------------------------------------------------------


def test_own_platform_is_preferred(world: World) -> None:
    world.external("tools:1", "x")
    assert find(world, "tools:1").same_as(OWN)
    assert find(world, "tools:1", OTHER).same_as(OTHER)


@pytest.mark.parametrize("text", ["acme/tools:1", f"{CHAIN}/acme/tools:1"])
def test_only_platform_of_chain_image_is_found(world: World, text: str) -> None:
    image = world.fake.add_image(f"{CHAIN}/acme/tools:1", OTHER)
    assert find(world, text).same_as(OTHER)
    assert find(world, f"{CHAIN}/acme/tools@{image.digest}").same_as(OTHER)
    with pytest.raises(NotFoundInRegistryError, match="exists, but not for"):
        find(world, f"{CHAIN}/acme/tools:1", OWN)


def test_chain_image_of_another_platform_comes_before_docker_hub(world: World) -> None:
    world.fake.add_image(f"{CHAIN}/tools:1", OTHER)
    world.fake.add_image("docker.io/library/tools:1", OWN)
    named = NamedImage(reference=ImageReference.parse("tools:1"))
    assert find_named_image(world.opened(), named).image.reference.registry == CHAIN


def test_only_platform_in_own_registry_is_found(world: World) -> None:
    world.fake.add_image("ghcr.io/acme/tools:1", OTHER)
    assert find(world, "ghcr.io/acme/tools:1").same_as(OTHER)


def test_only_platform_in_local_store_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over = world.backends.hand_over

    def hand_over_what_exists(name: str, platform: Platform, destination: str) -> None:
        if not platform.same_as(OTHER):
            raise BuildFailedError(f"no match for platform in manifest of {name}")
        hand_over(name, platform, destination)

    monkeypatch.setattr(world, "_hand_over", hand_over_what_exists)
    world.store.images["mine:1"] = LocalImage(id="sha256:" + "7" * 64, platform=OTHER, size=1, repo_digests=())
    assert find(world, "mine:1").same_as(OTHER)
    assert world.handed_over == ["mine:1"]


def test_several_other_platforms_ask_for_a_choice(world: World) -> None:
    images = [world.fake.add_image(f"{CHAIN}/acme/tools:{one.name}", one) for one in (OTHER, THIRD)]
    world.fake.add_index(f"{CHAIN}/acme/tools:1", images)
    with pytest.raises(NotFoundInRegistryError, match=rf"not for {OWN}; it has: {OTHER}, {THIRD}") as caught:
        find(world, "acme/tools:1")
    assert "--platform" in caught.value.hint


def test_missing_image_suggests_the_same_name_elsewhere(world: World) -> None:
    world.fake.add_image(f"{CHAIN}/acme/tools:1", OWN)
    with pytest.raises(NotFoundInRegistryError) as caught:
        find(world, "tools:1")
    assert f"Perhaps you meant {CHAIN}/acme/tools:1. " in caught.value.hint


def test_id_names_image_of_chain_registry(world: World) -> None:
    image = world.fake.add_image(f"{CHAIN}/acme/tools:1", OTHER)
    session = world.opened()
    names = names_without_run()
    for text in (image.digest.short, f"sha256:{image.digest.short}", str(image.digest)):
        assert find_named_image(session, read_named_image(text, None, names)).image.digest == image.digest
    with pytest.raises(NotFoundInRegistryError, match=r"no image of .* has the id 0123456789ab"):
        find_named_image(session, read_named_image("0123456789ab", None, names))


def test_two_images_have_a_platform_in_common(world: World) -> None:
    world.external("tools:1", "x")
    world.fake.add_image("docker.io/library/tools:2", OTHER)
    session = world.opened()
    both, single = (NamedImage(reference=ImageReference.parse(f"tools:{tag}")) for tag in (1, 2))
    for pair in ((both, single), (single, both)):
        assert [found.image.platform.oci for found in find_both(session, *pair)] == [OTHER.oci] * 2
    world.fake.add_image("docker.io/library/tools:3", OWN)
    with pytest.raises(WrongUseError, match=r"tools:2 is for .* and tools:3 for"):
        find_both(session, single, NamedImage(reference=ImageReference.parse("tools:3")))


# The commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    world.run(world.graph((AMD64,), ("stock",)))
    options = RunOptions(platform="amd64", repo=REPOSITORY, tag="v1", base="fat:1", option="stock", production="slim:1")
    save_last_run(tmp_path, options)
    monkeypatch.chdir(tmp_path)
    with use_backends(world.backends):
        yield world


@pytest.mark.usefixtures("tree")
def test_inspect_takes_name_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("20-blas", "amd64/stock/20-blas", f"{CHAIN}/{REPOSITORY}:v1-stock-20-blas-amd64"):
        assert run(["inspect", text, "--json"]) == 0
        trail = json.loads(capsys.readouterr().out)["trail"]
        assert [entry["step"] for entry in trail] == ["amd64/stock/10-base", "amd64/stock/20-blas"]


def test_step_without_image_is_reported(tree: World, capsys: pytest.CaptureFixture[str]) -> None:
    tree.write({"stock/90-Dockerfile-new": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN new\n"})
    assert run(["inspect", "90-new"]) == 4
    said = capsys.readouterr().err
    assert "amd64/stock/90-new has no image" in said
    assert "Build it first" in said


@pytest.mark.usefixtures("world")
def test_registry_of_the_last_run_is_used(tmp_path: Path) -> None:
    options = RunOptions(platform="amd64", repo=REPOSITORY, tag="v1", base="fat:1", option="stock", production="slim:1")
    save_last_run(tmp_path, replace(options, root=tmp_path, port=5017))
    settings, (step, image) = read_image_arguments(("20-blas", "acme/tools:1"), None, Place(root=tmp_path))
    assert (settings.port, step.reference.registry, image.step) == (5017, "localhost:5017", None)
    settings, _ = read_image_arguments(("localhost:5017/acme/tools:1",), None, Place(root=tmp_path))
    assert settings.port == 5017
    settings, _ = read_image_arguments(("acme/tools:1",), None, Place(root=tmp_path))
    assert settings.port == 5000
    settings, (step,) = read_image_arguments(("20-blas",), None, Place(root=tmp_path, registry="ghcr.io/acme"))
    assert (str(settings.registry), step.reference.name) == ("ghcr.io/acme", "ghcr.io/acme/team/atom")
