from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import UnreachableError
from chainbuild.model import Graph
from chainbuild.planning.decisions import Plan, Renewal
from chainbuild.records.index import RecordIndex, read_index
from chainbuild.records.record import Record
from chainbuild.records.tags import image_tag, index_tag
from chainbuild.registry.http.transport import TransportError
from chainbuild.step_id import StepId
from tests.support.fake_registry import Answer
from tests.support.keys import signing_key
from tests.support.world import AMD64, ARM64, REPOSITORY, THREE_STEPS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def index_of(world: World, graph: Graph) -> RecordIndex:
    return RecordIndex(world.registries, graph.chains, world.records.keyring)


def own_index_tag(option: str, platform: str) -> str:
    return index_tag(signing_key().public.id, option, platform)


def plan(world: World) -> Plan:
    world.fake.log.clear()
    return world.plan()


def requests_to_chain(world: World) -> int:
    return sum(f"/{REPOSITORY}/" in path for _, path in world.fake.log)


def actions(made: Plan) -> list[tuple[str, str]]:
    return [(decision.step.name, decision.reason) for decision in made.decisions]


def built(world: World) -> dict[str, Record]:
    graph = world.graph()
    outcome = world.run(graph)
    return {step.name: outcome.results[step.id].record for step in graph}


def test_plan_with_an_index_equals_a_plan_without(world: World) -> None:
    built(world)
    with_index = plan(world)
    few = requests_to_chain(world)
    world.drop_indexes()
    assert plan(world).decisions == with_index.decisions
    assert requests_to_chain(world) > few


def test_number_of_requests_is_independent_of_chain_length(world: World) -> None:
    built(world)
    plan(world)
    few = requests_to_chain(world)
    world.write(
        {f"stock/{number}-Dockerfile-s{number}": THREE_STEPS["stock/10-Dockerfile-base"] for number in range(40, 60)}
    )
    built(world)
    assert not plan(world).builds
    assert requests_to_chain(world) == few == 2


def test_deleted_image_is_noticed(world: World) -> None:
    records = built(world)
    world.host.forget(records["20-blas"].image)
    told = dict(actions(plan(world)))
    assert told["10-base"] == "unchanged"
    assert told["20-blas"] == "its image was deleted from the registry"
    assert told["30-venv"].startswith("parent 20-blas")


def test_deleted_record_is_noticed(world: World) -> None:
    records = built(world)
    # Both tags of the record point at one manifest.
    world.host.forget(world.host.tags[REPOSITORY, records["20-blas"].key])
    assert dict(actions(plan(world)))["20-blas"] == "never built"


def test_rewritten_record_outdates_the_index(world: World) -> None:
    old = built(world)
    world.now += 1000
    world.driver.content = lambda order: f"other content of {order.step}"
    world.run(renewal=Renewal(refresh=True, since=world.now))
    reused = {decision.step.name: decision.cached_record for decision in plan(world).decisions}
    first = reused["10-base"]
    assert first is not None
    assert first.image != old["10-base"].image


def test_unchanged_index_is_not_sent_again(world: World) -> None:
    world.run()
    world.fake.log.clear()
    world.run()
    assert world.fake.counted("PUT") == 0
    assert world.fake.counted("POST") == 0


def test_partial_run_keeps_other_steps_in_the_index(world: World) -> None:
    graph = world.graph()
    outcome = world.run(graph)
    world.now += 1000
    record = outcome.results[StepId.parse("amd64/stock/10-base")].record
    index_of(world, graph).update(graph.chains[0], [record])
    assert not plan(world).builds
    assert requests_to_chain(world) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"schema":"chainbuild.index/1","records":[]}',
        b'{"schema":"chainbuild.index/2"}',
        b'{"schema":"chainbuild.index/2","records":[{}]}',
    ],
)
def test_invalid_index_is_ignored(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_index(content)


def test_damaged_index_costs_requests_only(world: World) -> None:
    built(world)
    world.host.damage(world.host.tags[REPOSITORY, own_index_tag("stock", "amd64")])
    assert not plan(world).builds


def test_registry_listing_some_tags_is_queried_for_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    built(world)
    world.host.page = 1
    assert not plan(world).builds
    assert world.fake.counted("GET", "tags/list") == 3


def test_read_only_registry_gets_no_index_without_error(world: World) -> None:
    graph = world.graph()
    outcome = world.run(graph)
    world.drop_indexes()
    index = index_of(world, graph)
    assert not any(index.lookup(step.repository, outcome.results[step.id].record.components) for step in graph)
    world.fake.answers = [Answer.error(403, "DENIED")] * 20
    index.update(graph.chains[0], [result.record for result in outcome.results.values()])
    world.fake.answers = []
    assert (REPOSITORY, own_index_tag("stock", "amd64")) not in world.host.tags


def test_unreachable_registry_is_reported(world: World) -> None:
    graph = world.graph()
    outcome = world.run(graph)
    world.fake.answers = [TransportError("refused", "refuses connections")] * 20
    index = index_of(world, graph)
    record = outcome.results[StepId.parse("amd64/stock/10-base")].record
    with pytest.raises(UnreachableError):
        index.lookup(graph.chains[0].steps[0].repository, record.components)


def test_platforms_have_books_of_their_own(world: World) -> None:
    world.run(world.graph((AMD64, ARM64)))
    tags = {tag for _, tag in world.host.tags if tag.startswith("k1-index-")}
    assert tags == {own_index_tag("stock", "amd64"), own_index_tag("stock", "aarch64")}


def test_tags_fit_a_registry(world: World) -> None:
    records = built(world)
    assert len(image_tag(records["10-base"].image)) <= 128
    assert len(own_index_tag("o" * 200, "aarch64")) == 128
    assert own_index_tag("o" * 200, "aarch64") != own_index_tag("o" * 200, "amd64")
