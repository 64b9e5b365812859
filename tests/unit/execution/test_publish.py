"""Results in REPO's own registry: the same digests, and an index that loses no platform there."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import LoginNeededError, NotFoundInRegistryError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.publish import publish_indexes, push_results
from chainbuild.references import ImageReference
from chainbuild.registry.images import platforms_of, put_index, resolve
from chainbuild.registry.referrers import referrers_tag
from chainbuild.registry.signed_tags import KINDS, signed_tag
from tests.support.fake_registry import FakeHost
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

THERE = ImageReference.parse("ghcr.io/acme/atom")
HERE = ImageReference(CHAIN, REPOSITORY)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    made.fake.host("ghcr.io")
    return made


def there(world: World) -> FakeHost:
    return world.fake.host("ghcr.io")


def push(world: World, *platforms: object) -> tuple[ImageReference, ...]:
    graph = world.graph(platforms or (AMD64,))  # type: ignore[arg-type]
    outcome = world.run(graph)
    assert outcome.succeeded
    return push_results(world.registries, THERE, graph.chains, outcome)


def test_pushed_image_is_the_proven_image(world: World) -> None:
    names = push(world, AMD64, ARM64)
    assert [str(name) for name in names] == [
        "ghcr.io/acme/atom:v1-stock-amd64",
        "ghcr.io/acme/atom:v1-stock-aarch64",
        "ghcr.io/acme/atom:v1-stock",
    ]
    for tag in ("v1-stock-amd64", "v1-stock-aarch64", "v1-stock"):
        assert there(world).tags["acme/atom", tag] == world.host.tags[REPOSITORY, tag]
    digests = [resolve(world.registries, THERE.with_tag("v1-stock"), one).digest for one in (AMD64, ARM64)]
    attached = {referrers_tag(digest) for digest in digests}
    signed = {signed_tag(digest, kind) for digest in digests for kind in KINDS}
    expected = {"v1-stock-amd64", "v1-stock-aarch64", "v1-stock", *attached, *signed}
    assert {tag for _, tag in there(world).tags} == expected, "and no more"
    image = resolve(world.registries, THERE.with_tag("v1-stock"), ARM64)
    assert all(("acme/atom", str(layer.digest)) in there(world).blobs for layer in image.layers)


def test_second_push_sends_no_data(world: World) -> None:
    push(world)
    world.begin_again()
    push(world)
    assert world.fake.counted("PUT") == world.fake.counted("POST") == 0


def test_index_keeps_platforms_of_the_target(world: World) -> None:
    theirs = world.fake.add_image("ghcr.io/acme/atom:v1-stock-riscv64", "riscv64", layers=[b"theirs"])
    put_index(world.registries, THERE.with_tag("v1-stock"), {theirs.platform: theirs.descriptor})
    push(world)
    tag = THERE.with_tag("v1-stock")
    assert {platform.oci for platform in platforms_of(world.registries, tag)} == {"linux/amd64", "linux/riscv64"}
    assert resolve(world.registries, tag, theirs.platform).digest == theirs.digest
    assert {platform.oci for platform in platforms_of(world.registries, HERE.with_tag("v1-stock"))} == {"linux/amd64"}


def test_image_in_place_of_an_index_becomes_an_index(world: World) -> None:
    world.fake.add_image("ghcr.io/acme/atom:v1-stock", "riscv64", layers=[b"not an index"])
    push(world)
    tag = THERE.with_tag("v1-stock")
    assert [platform.oci for platform in platforms_of(world.registries, tag)] == ["linux/amd64"]


def test_platforms_built_earlier_are_pushed_too(world: World) -> None:
    world.run(world.graph((ARM64,)))
    push(world, AMD64)
    tag = THERE.with_tag("v1-stock")
    assert {platform.oci for platform in platforms_of(world.registries, tag)} == {"linux/amd64", "linux/arm64"}


def test_index_is_pushed_after_its_images(world: World) -> None:
    push(world, AMD64, ARM64)
    puts = [
        path.rpartition("/")[2]
        for method, path in world.fake.log
        if method == "PUT" and "/acme/atom/manifests/" in path
    ]
    assert puts[-1] == "v1-stock"
    assert puts.count("v1-stock") == 1
    assert {"v1-stock-amd64", "v1-stock-aarch64"} <= set(puts[:-1])


def test_registry_requiring_a_login_is_reported(world: World) -> None:
    graph = world.graph()
    outcome = world.run(graph)
    there(world).require("Basic x", 'Basic realm="x"')
    with pytest.raises(LoginNeededError, match=r"cannot push to ghcr\.io/acme/atom:v1-stock-amd64: "):
        push_results(world.registries, THERE, graph.chains, outcome)
    assert there(world).tags == {}


def test_push_that_cannot_work_is_reported_before_the_build(world: World) -> None:
    there(world).require("Basic x", 'Basic realm="x"')
    world.repo = str(THERE)
    with pytest.raises(LoginNeededError, match=r"cannot push to ghcr\.io/acme/atom: "):
        world.run(push=True)
    assert world.driver.built == []
    there(world).require("", "")
    assert world.run(push=True).succeeded
    assert "v1-stock-amd64" in {tag for _, tag in there(world).tags}
    assert there(world).uploads == set()


def test_push_of_reused_images_needs_no_check(world: World) -> None:
    world.repo = str(THERE)
    world.run(push=True)
    world.begin_again()
    world.run(push=True)
    assert world.fake.counted("POST", "uploads") == 0


def test_index_is_replaced_only_on_request(world: World) -> None:
    world.run(world.graph((AMD64, ARM64)))
    graph = world.graph((AMD64,))
    outcome = world.run(graph)
    publish_indexes(world.registries, graph.chains, outcome)
    assert len(platforms_of(world.registries, HERE.with_tag("v1-stock"))) == 2
    publish_indexes(world.registries, graph.chains, outcome, replace=True)
    assert len(platforms_of(world.registries, HERE.with_tag("v1-stock"))) == 1


def test_push_without_results_publishes_no_tags(world: World) -> None:
    publish_indexes(world.registries, (), RunOutcome())
    assert push_results(world.registries, THERE, (), RunOutcome()) == ()
    with pytest.raises(NotFoundInRegistryError):
        platforms_of(world.registries, THERE.with_tag("v1-stock"))
