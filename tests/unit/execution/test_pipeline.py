"""Runs of `open_session`, `plan_run` and `build_run`: repairs, trust, what belongs together, and events."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.errors import NotFoundInRegistryError, NotReadyError, RegistryError
from chainbuild.events import ImageResult, RunFinished, RunStarted, StepFinished
from chainbuild.execution.acceleration import Acceleration
from chainbuild.execution.commands import commands
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.pipeline import build_run
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import open_session
from chainbuild.planning.decisions import Renewal
from chainbuild.records.index import SeenRecords
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, Transport
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId
from chainbuild.trust.keyring import SIGNING_KEY
from chainbuild.values import replace
from tests.support.fake_registry import Answer
from tests.support.keys import signing_key
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STEP, THREE_STEPS, World, failed

BASE, BLAS, VENV, MINIMIZE, PRODUCTION = (
    StepId("amd64", "stock", name) for name in ("10-base", "20-blas", "30-venv", "minimize", "production")
)
ALL = [BASE, BLAS, VENV, MINIMIZE, PRODUCTION]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS)
    return made


@pytest.fixture
def built(world: World) -> World:
    assert world.run().succeeded
    world.begin_again()
    return world


def layer_of(world: World, tag: str) -> Digest:
    return resolve(world.registries, ImageReference(CHAIN, REPOSITORY, tag), AMD64).layers[-1].digest


# Plans ----------------------------------------------------------------------------------------------------------------


def test_plan_has_the_builders_command_of_each_step(world: World) -> None:
    with world.session() as session:
        planned = plan_run(world.graph(), session, ExecutionOptions())
        shown = commands(planned, session, Acceleration(session))
    assert list(shown) == ALL
    assert shown[BASE][:3] == ("docker", "buildx", "build")
    assert any("library/fat@sha256:" in word for word in shown[BASE])
    assert any(f"<digest of {BASE}>" in word for word in shown[BLAS])


def test_plan_of_missing_base_image_names_it(world: World) -> None:
    world.base_name = "nowhere:1"
    with pytest.raises(NotFoundInRegistryError, match="nowhere:1"):
        world.plan()


def test_run_starts_with_its_plan_and_ends_with_its_results(world: World) -> None:
    plan = world.plan()
    world.begin_again()
    world.run()
    (started,) = world.emitted(RunStarted)
    assert [(step.step, step.action) for step in started.steps] == [
        (decision.step.id, decision.action) for decision in plan.decisions
    ]
    (finished,) = world.emitted(RunFinished)
    assert world.events[-1] is finished
    assert finished.succeeded
    (result,) = finished.results
    assert isinstance(result, ImageResult)
    assert result.registry_name == f"{CHAIN}/{REPOSITORY}:v1-stock-amd64"
    assert result.digest == world.tags()["v1-stock-amd64"]
    assert (result.local_name, result.platform) == (f"{REPOSITORY}:v1-stock-amd64", "amd64")


def test_run_without_a_builder_builds_nothing(world: World) -> None:
    def missing(*_: object) -> None:
        raise NotReadyError("no builder")

    backends = replace(world.backends, check_builders=missing)
    with open_session(world.settings, world.events.append, backends=backends) as session, pytest.raises(NotReadyError):
        build_run(world.graph(), session, ExecutionOptions())
    assert world.driver.orders == []


def test_builders_are_checked_for_the_platforms_that_are_built(built: World) -> None:
    built.checked.clear()
    built.run(built.graph((AMD64, ARM64)))
    assert built.checked == [frozenset({ARM64})]


# Repairs --------------------------------------------------------------------------------------------------------------


def test_parent_that_vanished_after_planning_is_rebuilt(built: World) -> None:
    record = built.plan().decisions[1].cached_record
    assert record is not None
    built.write({"src/setup.py": "setup(2)\n"})
    outcome = built.run(between=lambda: built.host.forget(record.image))
    assert outcome.succeeded, outcome.failures
    assert built.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]
    built.begin_again()
    assert not built.plan().builds


def test_parent_without_a_layer_is_rebuilt_and_recorded(built: World) -> None:
    built.host.forget(layer_of(built, "v1-stock-20-blas-amd64"))
    assert not built.plan().builds, "a plan does not look at every layer"
    built.write({"src/setup.py": "setup(2)\n"})
    assert [decision.step.id for decision in built.plan().builds] == [VENV, MINIMIZE, PRODUCTION]
    assert built.run().succeeded
    assert built.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]
    built.begin_again()
    built.run()
    assert built.driver.orders == []


def test_result_without_a_layer_is_rebuilt(built: World) -> None:
    before = built.tags()["v1-stock"]
    built.host.forget(layer_of(built, "v1-stock-amd64"))
    assert built.run().succeeded
    assert built.driver.built == [PRODUCTION]
    assert built.tags()["v1-stock"] == before, "the same content as before"


def test_base_that_moved_rebuilds_and_names_its_digests(built: World) -> None:
    built.base("second")
    (first, *_) = built.plan().decisions
    assert first.reason.startswith("base image fat:1 moved from ")
    assert built.run().succeeded
    assert built.driver.built == ALL


def test_run_after_a_failed_publication_publishes_without_builds(world: World) -> None:
    def refuse(request: HttpRequest) -> bool:
        return request.method == "PUT" and request.url.endswith("/manifests/v1-stock")

    world.transport = refusing(world, refuse)
    with pytest.raises(RegistryError):
        world.run()
    assert "v1-stock" not in world.tags()
    world.begin_again()
    world.transport = world.fake.transport
    assert world.run().succeeded
    assert world.driver.orders == []
    assert "v1-stock" in world.tags()


def refusing(world: World, refuse: Callable[[HttpRequest], bool]) -> Callable[[str], Transport]:
    """Return transports that answer 403 to some requests."""

    class Refusing:
        def __init__(self, host: str) -> None:
            self.real = world.fake.transport(host)

        def send(self, request: HttpRequest) -> HttpResponse:
            if refuse(request):
                world.fake.answers.append(Answer.error(403, "DENIED"))
            return self.real.send(request)

        def close(self) -> None:
            pass

    return Refusing


# Belonging together ---------------------------------------------------------------------------------------------------


def test_graph_together_publishes_nothing_after_a_failure(world: World) -> None:
    world.driver.fails[StepId("aarch64", "stock", "20-blas")] = failed(StepId("aarch64", "stock", "20-blas"))
    graph = replace(world.graph((AMD64, ARM64)), together=True)
    outcome = world.run(graph, keep_going=True)
    assert PRODUCTION in outcome.results
    assert "v1-stock" not in world.tags()
    assert world.warnings == ["nothing was published: some images of this release are missing"]
    assert world.store.loaded == []
    assert world.emitted(RunFinished)[0].results == ()


def test_graph_together_is_pushed_before_its_first_tag(world: World) -> None:
    world.fake.host("ghcr.io")
    world.repo = "ghcr.io/acme/atom"
    graph = replace(world.graph((AMD64, ARM64)), together=True)
    assert world.run(graph, push=True).succeeded
    puts = [path for method, path in world.fake.log if method == "PUT" and path.startswith("/v2/acme/atom/manifests/")]
    tagged = [path for path in puts if "/v1-" in path]
    assert len(tagged) == 3
    *before, index = puts
    assert before[-3:] == tagged, "every image, with its signature, is there before the first tag"
    assert sum(path.endswith(".sig") for path in before) == 2
    digest = world.fake.host("ghcr.io").tags["acme/atom", "v1-stock"]
    assert index.endswith(f"/{digest.replace(':', '-')}.sig"), "the index is signed when its digest is known"


# Trust ----------------------------------------------------------------------------------------------------------------


def test_records_of_a_stranger_are_not_reused(built: World) -> None:
    built.sign_as(2)
    assert all("unknown key" in decision.reason for decision in built.plan().decisions[:1])
    assert built.run().succeeded
    assert built.driver.built == ALL


def test_records_of_a_trusted_key_are_reused(built: World) -> None:
    built.sign_as(2, trusts=(signing_key(1).public,))
    built.run()
    assert built.driver.orders == []


def test_older_record_put_back_is_noticed(world: World, tmp_path: Path) -> None:
    """A signature does not tell whether a record is the newest of its key: the user's machine remembers that."""
    world.seen = SeenRecords(tmp_path / "seen.json")
    old = world.run()
    key = old.results[BASE].record.key
    saved = {place: digest for place, digest in world.host.tags.items() if place[1] == key}
    assert len(saved) == 2, "one is the copy for all repositories"
    world.begin_again()
    world.now += 10_000
    world.driver.content = lambda spec: f"newer packages of {spec.step}"
    assert world.run(renewal=Renewal(refresh=True, since=world.now)).succeeded
    world.drop_indexes()
    world.host.tags |= saved
    world.seen = SeenRecords(tmp_path / "seen.json")
    reason = world.plan().decisions[0].reason
    assert "is older than the one this machine used last" in reason


def test_new_key_in_a_ci_job_is_a_warning(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    world.key_variables = {"CI": "true"}
    assert world.run().succeeded
    assert [text for text in world.warnings if f"set the CI secret {SIGNING_KEY}" in text]
    world.begin_again()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert world.run().succeeded
    assert world.warnings == [], "the key exists now"


# Other places ---------------------------------------------------------------------------------------------------------


def test_other_repo_and_tag_reuse_everything(built: World) -> None:
    built.repo, built.tag = "team/other", "v2"
    assert built.run().succeeded
    assert built.driver.orders == []
    assert ("team/other", "v2-stock") in built.host.tags


def test_platforms_of_a_run_share_one_index(world: World) -> None:
    assert world.run(world.graph((AMD64, ARM64)), jobs=None).succeeded
    assert {result.platform for result in world.reported} == {"amd64", "aarch64"}
    index = (f"{CHAIN}/{REPOSITORY}:v1-stock", ("amd64", "aarch64"))
    assert {(result.index_name, result.index_platforms) for result in world.reported} == {index}
    assert world.store.loaded == [f"{REPOSITORY}:v1-stock-amd64", f"{REPOSITORY}:v1-stock-aarch64"]


def test_higher_option_is_rebuilt_with_the_result_below(world: World) -> None:
    world.write({"extras/10-Dockerfile-more": STEP + "RUN more\n"})
    graph = world.graph(options=("stock", "extras"))
    assert world.run(graph).succeeded
    world.begin_again()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert world.run(world.graph(options=("stock", "extras"))).succeeded
    assert StepId("amd64", "extras", "10-more") in world.driver.built
    assert BASE not in world.driver.built


def test_record_has_the_time_of_the_clock(world: World) -> None:
    world.now = 1_234_567.0
    record = world.run().results[BASE].record
    assert record.built_at == pytest.approx(1_234_567.0)
    assert json.loads(json.dumps(record.as_json()))["built_at"] == pytest.approx(1_234_567.0)
    assert {event.step for event in world.emitted(StepFinished)} == set(ALL)
