"""Stage settings of lower options apply to higher options: in one command, and through images of earlier commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.execution.publish import push_results
from chainbuild.model import Graph
from chainbuild.parsing.stage_args import stage_arguments
from chainbuild.planning.plan_json import plan_as_json
from chainbuild.records.garbage import collect, find_garbage
from chainbuild.records.keys import changes
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId
from tests.support.keys import signing_key
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STAGES, STEP, World

FILES = "ADDITIONAL_FILES"
OPTIONS = {
    "stock/10-Dockerfile-base": STEP,
    "stock/minimize-amd64-args": f"{FILES}=/stock\n",
    "graphics/10-Dockerfile-window": STEP,
    "graphics/minimize-amd64-args": f"{FILES}=/graphics\n",
    "extras/10-Dockerfile-more": STEP,
    **STAGES,
}
# Give each option a different image.
OPTIONS = {path: text.replace("make", f"make {path}") for path, text in OPTIONS.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(OPTIONS)
    return made


def files_of(graph: Graph, stage: str) -> str:
    return {arg.name: arg.value for arg in graph.by_id[StepId.parse(stage)].args}.get(FILES, "")


def on(world: World, base: str, option: str) -> Graph:
    """Return the graph of an option on a base image, with inherited settings."""
    world.base_name = base
    return world.inherited(world.graph(options=[option]))


def named(tag: str) -> str:
    return f"{CHAIN}/{REPOSITORY}:{tag}"


def test_settings_of_lower_options_apply_to_higher_options(world: World) -> None:
    graph = world.inherited(world.graph(options=["stock", "graphics", "extras"]))
    assert files_of(graph, "amd64/stock/minimize") == "/stock"
    assert files_of(graph, "amd64/graphics/minimize") == "/stock /graphics"
    assert files_of(graph, "amd64/extras/minimize") == "/stock /graphics"


def test_settings_of_earlier_result_are_inherited(world: World) -> None:
    together = world.graph(options=["stock", "graphics", "extras"])
    world.run(world.graph(options=["stock"]))
    world.run(on(world, named("v1-stock-amd64"), "graphics"))
    split = on(world, named("v1-graphics-amd64"), "extras")
    assert files_of(split, "amd64/extras/minimize") == files_of(together, "amd64/extras/minimize") == "/stock /graphics"
    assert world.warnings == []


def test_inherited_packages_are_rejected_for_scratch(world: World) -> None:
    path = "utilities/Dockerfile-production"
    declaring = STAGES[path].replace("FROM ", "ARG PRODUCTION_PACKAGES=\nFROM ", 1)
    world.write({"stock/production-amd64-args": "PRODUCTION_PACKAGES=tini\n", path: declaring})
    world.run(world.graph(options=["stock"]))
    world.production = "scratch"
    with pytest.raises(WrongUseError) as raised:
        on(world, named("v1-stock-amd64"), "graphics")
    assert "scratch and has no apt" in str(raised.value)


@pytest.mark.parametrize("tag", ["v1-stock-amd64", "v1-stock-minimized-amd64", "v1-stock-10-base-amd64", "v1-stock"])
def test_settings_of_any_image_of_an_option_are_inherited(world: World, tag: str) -> None:
    world.write({"stock/20-Dockerfile-next": STEP.replace("make", "make next")})
    world.run(world.graph(options=["stock"]))
    assert files_of(on(world, named(tag), "extras"), "amd64/extras/minimize") == "/stock"
    digest = world.tags()[tag]
    assert files_of(on(world, f"{CHAIN}/{REPOSITORY}@{digest}", "extras"), "amd64/extras/minimize") == "/stock"


def test_foreign_base_has_no_settings_and_needs_no_request(world: World) -> None:
    graph = world.graph(options=["extras"])
    world.inherited(graph)
    assert not [path for _, path in world.fake.log if "referrers" in path or "/sha256-" in path]
    assert world.warnings == []


def test_changed_settings_of_reused_chain_apply_at_once(world: World) -> None:
    """If only a list of the stages changes, the steps are reused, and the result has the latest settings."""
    world.run(world.graph(options=["stock"]))
    world.now += 100
    world.write({"stock/minimize-amd64-args": f"{FILES}=/other\n"})
    world.run(world.graph(options=["stock"]))
    assert files_of(on(world, named("v1-stock-10-base-amd64"), "extras"), "amd64/extras/minimize") == "/other"
    world.base_name = "fat:1"
    world.now += 100
    world.write({"stock/minimize-amd64-args": None})
    world.run(world.graph(options=["stock"]))
    assert files_of(on(world, named("v1-stock-amd64"), "extras"), "amd64/extras/minimize") == ""
    assert world.warnings == []


def test_tags_of_the_same_image_keep_separate_settings(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.tag, world.now = "v2", world.now + 100
    world.write({"stock/minimize-amd64-args": f"{FILES}=/other\n"})
    world.run(world.graph(options=["stock"]))
    digest = world.tags()["v1-stock-10-base-amd64"]
    assert world.tags()["v2-stock-10-base-amd64"] == digest
    for tag, asked in (("v1", "/stock"), ("v2", "/other")):
        graph = on(world, named(f"{tag}-stock-10-base-amd64"), "extras")
        assert files_of(graph, "amd64/extras/minimize") == asked
    assert world.warnings == []
    by_digest = on(world, f"{CHAIN}/{REPOSITORY}@{digest}", "extras")
    assert files_of(by_digest, "amd64/extras/minimize") == "/other"
    (notice,) = world.warnings
    assert "v1-stock-10-base-amd64, v2-stock-10-base-amd64 are the same image" in notice


def test_statement_of_an_untrusted_key_is_ignored_and_reported(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.sign_as(2)
    assert files_of(on(world, named("v1-stock-amd64"), "extras"), "amd64/extras/minimize") == ""
    assert world.warnings
    assert all("is ignored" in notice for notice in world.warnings)
    assert all(f"chainbuild trust add {signing_key().public}" in notice for notice in world.warnings)
    world.events.clear()
    world.sign_as(2, trusts=(signing_key().public,))
    assert files_of(on(world, named("v1-stock-amd64"), "extras"), "amd64/extras/minimize") == "/stock"


def test_statement_of_other_key_next_to_trusted_key_is_no_warning(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.sign_as(2, trusts=(signing_key().public,))
    world.tag = "v2"
    world.run(world.graph(options=["stock"]))
    world.sign_as(1)
    assert files_of(on(world, named("v1-stock-amd64"), "extras"), "amd64/extras/minimize") == "/stock"
    assert world.warnings == []


def test_image_without_a_statement_is_reported(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    drop_statements(world)
    assert files_of(on(world, named("v1-stock-amd64"), "extras"), "amd64/extras/minimize") == ""
    (notice,) = world.warnings
    assert "no statement of its stage settings is attached" in notice


def test_unchanged_run_sends_no_requests_for_statements(world: World) -> None:
    world.run(world.graph(options=["stock", "graphics"]))
    world.begin_again()
    world.run(world.graph(options=["stock", "graphics"]))
    assert world.driver.built == []
    assert not [path for _, path in world.fake.log if "referrers" in path or "/sha256-" in path]


def test_unchanged_run_with_trusting_key_sends_no_requests(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.sign_as(2, trusts=(signing_key().public,))
    world.begin_again()
    world.run(world.graph(options=["stock"]))
    assert world.driver.built == []
    assert not [path for _, path in world.fake.log if "referrers" in path or "/sha256-" in path]


def test_newest_statement_about_a_tag_counts(world: World) -> None:
    """Two users who trust each other take turns with the same image and TAG."""
    for turn, asked in enumerate(("/one", "/two", "/one", "/two")):
        mine, theirs = (1, 2) if turn % 2 == 0 else (2, 1)
        world.sign_as(mine, trusts=(signing_key(theirs).public,))
        world.base_name, world.now = "fat:1", world.now + 100
        world.write({"stock/minimize-amd64-args": f"{FILES}={asked}\n"})
        world.run(world.graph(options=["stock"]))
        graph = on(world, named("v1-stock-10-base-amd64"), "extras")
        assert files_of(graph, "amd64/extras/minimize") == asked
    assert world.warnings == []


def test_removal_of_item_that_is_not_inherited_is_a_problem(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.write({"extras/minimize-amd64-args": f"{FILES}=!/stock /extras\n"})
    graph = on(world, named("v1-stock-amd64"), "extras")
    assert files_of(graph, "amd64/extras/minimize") == "/extras"
    world.write({"extras/minimize-amd64-args": f"# nothing\n{FILES}=!/nothing\n"})
    with pytest.raises(WrongUseError) as caught:
        on(world, named("v1-stock-amd64"), "extras")
    (problem,) = caught.value.problems
    assert problem.where == "extras/minimize-amd64-args:2"
    assert problem.hint == "The inherited items are: /stock."


def test_inherited_values_are_in_the_plan_and_the_key(world: World) -> None:
    world.run(world.graph(options=["stock", "graphics"]))
    graph = on(world, named("v1-graphics-amd64"), "extras")
    (argument,) = stage_arguments(graph)[StepId.parse("amd64/extras/minimize")]
    assert argument.told == f"{FILES}=/stock (from stock); {FILES}=/graphics (from graphics)"
    plan = world.plan(graph)
    assert '"from": "graphics"' in plan_as_json(plan, {}, {})
    outcome = world.run(graph)
    drop_statements(world)
    other = world.run(world.graph(options=["extras"]))
    keys = [done.results[StepId.parse("amd64/extras/minimize")].record for done in (outcome, other)]
    assert changes(keys[1].components, keys[0].components) == (f'arg {FILES} added ("/stock /graphics")',)


def test_settings_of_pushed_result_are_inherited(world: World) -> None:
    graph = world.graph(options=["stock"])
    outcome = world.run(graph)
    elsewhere = ImageReference.parse("registry.example/team/atom")
    push_results(world.registries, elsewhere, graph.chains, outcome)
    for name in ("v1-stock-amd64", "v1-stock"):
        graph = on(world, f"registry.example/team/atom:{name}", "extras")
        assert files_of(graph, "amd64/extras/minimize") == "/stock"
    assert world.warnings == []


def test_garbage_collection_keeps_statements_with_their_images(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    world.tag, world.now = "v2", world.now + 100
    world.write({"stock/10-Dockerfile-base": STEP + "RUN other\n"})
    world.run(world.graph(options=["stock"]))
    repository = ImageReference(CHAIN, REPOSITORY)
    gone = [tag for tag in world.tags() if tag.startswith("v1-")]
    statements = len(attached_lists(world))
    collect(world.registries, find_garbage(world.registries, repository, dropped=gone))
    assert len(attached_lists(world)) == statements / 2
    assert files_of(on(world, named("v2-stock-amd64"), "extras"), "amd64/extras/minimize") == "/stock"
    assert world.warnings == []


def attached_lists(world: World) -> list[str]:
    """Return the tags that list the attachments of an image."""
    return [tag for _, tag in world.host.tags if tag.startswith("sha256-")]


def drop_statements(world: World) -> None:
    for tag in attached_lists(world):
        del world.host.tags[REPOSITORY, tag]
    world.drop_indexes()


def test_settings_are_inherited_through_image_based_on_result(world: World) -> None:
    world.run(world.graph(options=["stock"]))
    result = resolve(world.registries, ImageReference.parse(named("v1-stock-amd64")), AMD64)
    layers = [world.host.blobs[REPOSITORY, str(layer.digest)] for layer in result.layers]
    labels = dict(result.config.labels)
    world.fake.add_image(f"{REPOSITORY}:mine", AMD64, layers=[*layers, b"more"], labels=labels)
    assert files_of(on(world, named("mine"), "extras"), "amd64/extras/minimize") == "/stock"


def test_platforms_inherit_separate_settings(world: World) -> None:
    world.write({"stock/minimize-aarch64-args": f"{FILES}=/arm\n"})
    graph = world.inherited(world.graph((AMD64, ARM64), ("stock", "extras")))
    assert files_of(graph, "amd64/extras/minimize") == "/stock"
    assert files_of(graph, "aarch64/extras/minimize") == "/arm"
    world.run(world.graph((AMD64, ARM64), ("stock",)))
    world.base_name = named("v1-stock")
    split = world.inherited(world.graph((AMD64, ARM64), ("extras",)))
    assert files_of(split, "amd64/extras/minimize") == "/stock"
    assert files_of(split, "aarch64/extras/minimize") == "/arm"
