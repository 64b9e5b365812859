"""Runs over a graph with the real parts, but for the builder and the network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildSpec, staging_reference
from chainbuild.errors import BuildFailedError, NotProvenError, NotReadyError, WrongUseError
from chainbuild.events import Message, StepFailed, StepFinished, StepReused, StepStarted, StepWarnings, Verdict
from chainbuild.execution.outcome import DEADLINE
from chainbuild.execution.repair import DAMAGED
from chainbuild.records.record import Record
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.http.transport import HttpRequest
from chainbuild.registry.images import platforms_of, resolve
from chainbuild.step_id import StepId
from tests.support.fake_registry import Answer
from tests.support.keys import store_record
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STAGES, STEP, THREE_STEPS, World, failed

BASE, BLAS, VENV = (
    StepId.parse("amd64/stock/10-base"),
    StepId.parse("amd64/stock/20-blas"),
    StepId.parse("amd64/stock/30-venv"),
)
MINIMIZE, PRODUCTION = StepId.parse("amd64/stock/minimize"), StepId.parse("amd64/stock/production")
ALL = [BASE, BLAS, VENV, MINIMIZE, PRODUCTION]


def copies() -> ImageReference:
    """Where the chain registry has a copy of every record."""
    return ChainRegistry(CHAIN).records


def at(tag: str) -> ImageReference:
    return ImageReference(CHAIN, REPOSITORY, tag)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def on_arm(step: StepId) -> StepId:
    return StepId(ARM64.name, step.option, step.name)


def record_of(world: World, step: StepId) -> Record:
    found = world.run().results[step].record
    world.begin_again()
    # The records of an index are not read themselves.
    world.drop_indexes()
    return found


def test_chain_is_built_in_order_on_parent_digests(world: World) -> None:
    outcome = world.run()
    assert outcome.succeeded
    assert world.driver.built == ALL
    assert list(outcome.results) == ALL
    orders = {spec.step: spec for spec in world.driver.orders if spec.export is None}
    for step, parent in ((BLAS, BASE), (VENV, BLAS), (MINIMIZE, VENV)):
        digest = outcome.results[parent].record.image
        assert dict(orders[step].args)["BASE_IMAGE"] == f"{CHAIN}/{REPOSITORY}@{digest}"
    assert set(world.tags()) == {
        "v1-stock-10-base-amd64",
        "v1-stock-20-blas-amd64",
        "v1-stock-30-venv-amd64",
        "v1-stock-minimized-amd64",
        "v1-stock-amd64",
        "v1-stock",
    }
    assert dict(orders[BLAS].args)["CPU"] == "HASWELL"
    assert "CPU" not in dict(orders[BASE].args)


def test_events_report_each_step(world: World) -> None:
    world.run()
    told = [(type(event), getattr(event, "step", "")) for event in world.events]
    for step in ALL:
        assert told.index((StepStarted, step)) < told.index((StepFinished, step))
    finished = {event.step: event for event in world.events if isinstance(event, StepFinished)}
    assert finished[BASE].activity == "build"
    assert finished[PRODUCTION].activity == "produce"
    assert 0 < finished[BASE].added < finished[BASE].size


def test_second_run_builds_no_steps_and_sends_no_writes(world: World) -> None:
    first = world.run()
    before = dict(world.host.tags)
    world.begin_again()
    second = world.run()
    assert world.driver.orders == []
    assert world.reused == ALL
    assert {result.record.key for result in second.results.values()} == {
        result.record.key for result in first.results.values()
    }
    assert world.host.tags == before
    assert world.fake.counted("PUT") == 0
    assert world.fake.counted("POST") == 0


def test_images_are_reused_in_another_checkout_and_tag(world: World, tmp_path: Path) -> None:
    world.run()
    elsewhere = World(tmp_path / "elsewhere")
    elsewhere.write(THREE_STEPS)
    elsewhere.transport = world.transport
    outcome = elsewhere.run()
    assert elsewhere.driver.orders == []
    assert not any(result.built for result in outcome.results.values())


def test_reused_image_gets_its_readable_tag_again(world: World) -> None:
    world.run()
    before = world.tags()
    world.host.tags = {key: value for key, value in world.host.tags.items() if key[1].startswith("k1-")}
    world.begin_again()
    world.run()
    assert world.driver.orders == []
    assert world.tags() == before


def test_change_rebuilds_all_later_steps(world: World) -> None:
    world.run()
    world.begin_again()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    world.run()
    assert world.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]
    assert world.reused == [BASE]


def test_unchanged_content_stops_the_rebuild(world: World) -> None:
    first = world.run()
    world.begin_again()
    world.write({"stock/10-Dockerfile-base": f"# a comment\n{STEP}"})
    second = world.run()
    assert world.driver.built == [BASE]
    assert world.reused == [BLAS, VENV, MINIMIZE, PRODUCTION]
    assert second.results[PRODUCTION].record.image == first.results[PRODUCTION].record.image


def test_platforms_advance_side_by_side(world: World) -> None:
    met = threading.Barrier(2, timeout=30)

    def meet(spec: BuildSpec) -> None:
        if spec.step.name == "10-base":
            met.wait()  # only when both are being built at once

    world.driver.during = meet
    outcome = world.run(world.graph((AMD64, ARM64)), jobs=2)
    assert outcome.succeeded
    assert len(outcome.results) == 10
    assert {item.oci for item in platforms_of(world.registries, at("v1-stock"))} == {"linux/amd64", "linux/arm64"}
    arguments = {spec.step: dict(spec.args) for spec in world.driver.orders if spec.export is None}
    assert arguments[StepId.parse("aarch64/stock/20-blas")]["CPU"] == "ARMV8"


def test_steps_in_parallel_never_exceed_jobs(world: World) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def count(spec: BuildSpec) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1

    world.driver.during = count
    assert world.run(world.graph((AMD64, ARM64)), jobs=1).succeeded
    assert most == 1


def test_option_is_based_on_the_previous_option(world: World) -> None:
    world.write({"extras/10-Dockerfile-more": STEP})
    graph = world.graph(options=("stock", "extras"))
    outcome = world.run(graph)
    assert outcome.succeeded
    spec = next(spec for spec in world.driver.orders if spec.step == StepId.parse("amd64/extras/10-more"))
    assert dict(spec.args)["BASE_IMAGE"].endswith(str(outcome.results[PRODUCTION].record.image))


def test_failure_skips_all_other_steps(world: World) -> None:
    world.driver.fails[BLAS] = failed(BLAS)
    outcome = world.run()
    assert list(outcome.results) == [BASE]
    assert list(outcome.failures) == [BLAS]
    assert outcome.skipped == dict.fromkeys([VENV, MINIMIZE, PRODUCTION], f"{BLAS} failed")
    assert world.skipped == outcome.skipped
    assert not outcome.succeeded
    assert [event.step for event in world.events if isinstance(event, StepFailed)] == [BLAS]
    assert "v1-stock-20-blas-amd64" not in world.tags()


def test_run_after_a_failure_starts_at_the_failed_step(world: World) -> None:
    world.driver.fails[BLAS] = failed(BLAS)
    world.run()
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built == ALL[1:]
    assert world.reused == [BASE]


def test_keep_going_finishes_independent_steps(world: World) -> None:
    world.driver.fails[BLAS] = failed(BLAS)
    outcome = world.run(world.graph((AMD64, ARM64)), keep_going=True)
    assert set(outcome.results) == {BASE, *(on_arm(step) for step in ALL)}
    assert set(outcome.skipped) == {VENV, MINIMIZE, PRODUCTION}
    assert [item.oci for item in platforms_of(world.registries, at("v1-stock"))] == ["linux/arm64"]


def test_running_steps_finish_without_keep_going(world: World) -> None:
    met = threading.Barrier(2, timeout=30)

    def meet(spec: BuildSpec) -> None:
        if spec.step.name == "10-base":
            met.wait()

    world.driver.during = meet
    world.driver.fails[BASE] = failed(BASE)
    outcome = world.run(world.graph((AMD64, ARM64)), jobs=2)
    assert StepId.parse("aarch64/stock/10-base") in outcome.results
    assert list(outcome.failures) == [BASE]


def test_bug_ends_the_run_at_once(world: World) -> None:
    world.driver.fails[BLAS] = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert world.driver.built == [BASE, BLAS]


def test_build_failure_has_the_log_path(world: World, tmp_path: Path) -> None:
    world.driver.fails[BASE] = failed(BASE)
    error = world.run(log_path=lambda step: tmp_path / f"{str(step).replace('/', '-')}.log").failures[BASE]
    assert isinstance(error, BuildFailedError)
    assert error.log_path == tmp_path / "amd64-stock-10-base.log"


# Damage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["layer", "config", "manifest"])
def test_incomplete_result_is_rebuilt(world: World, lost: str) -> None:
    record = record_of(world, PRODUCTION)
    before = world.identities()
    image = resolve(world.registries, at("v1-stock-amd64").with_digest(record.image), AMD64)
    digest = {"layer": image.layers[-1].digest, "config": image.manifest.config.digest, "manifest": image.digest}[lost]
    world.host.forget(digest)
    outcome = world.run()
    assert outcome.succeeded
    assert PRODUCTION in world.driver.built
    assert world.identities() == before
    world.begin_again()
    world.run()
    assert world.driver.orders == []


@pytest.mark.parametrize("lost", ["layer", "config", "manifest"])
def test_damaged_parent_is_rebuilt_when_needed(world: World, lost: str) -> None:
    record = record_of(world, BLAS)
    image = resolve(world.registries, at("v1-stock-20-blas-amd64").with_digest(record.image), AMD64)
    digest = {"layer": image.layers[-1].digest, "config": image.manifest.config.digest, "manifest": image.digest}[lost]
    world.host.forget(digest)
    world.write({"src/setup.py": "setup(2)\n"})
    outcome = world.run()
    assert outcome.succeeded, outcome.failures
    assert world.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]


def test_damaged_chain_is_rebuilt_from_its_lowest_damaged_step(world: World) -> None:
    first = world.run()
    world.begin_again()
    for step in (BASE, BLAS, VENV):
        layer = resolve(world.registries, first.results[step].reference, AMD64).layers[-1]
        world.host.forget(layer.digest)
    world.write({"utilities/Dockerfile-production": THREE_STEPS["utilities/Dockerfile-production"] + "RUN more\n"})
    assert world.run().succeeded
    assert world.driver.built == [BASE, BLAS, VENV, PRODUCTION]


def test_rebuilt_parent_with_other_content_rebuilds_dependents(world: World) -> None:
    """Production depends on the last step and on minimize, which depends on the last step too."""
    record = record_of(world, VENV)
    layer = resolve(world.registries, at("v1-stock-30-venv-amd64").with_digest(record.image), AMD64).layers[-1]
    world.host.forget(layer.digest)
    world.driver.content = lambda spec: f"{spec.step} built again"
    world.write({"utilities/Dockerfile-production": THREE_STEPS["utilities/Dockerfile-production"] + "RUN more\n"})
    assert world.run().succeeded
    assert world.driver.built == [VENV, MINIMIZE, PRODUCTION]
    world.begin_again()
    world.run()
    assert world.driver.orders == []


def test_image_deleted_after_planning_is_built(world: World) -> None:
    record = record_of(world, BLAS)
    world.run(between=lambda: world.host.forget(record.image))
    assert world.driver.built == [BLAS]
    assert not [event for event in world.events if isinstance(event, StepFailed)]


GARBAGE: dict[str, bytes] = {
    "no json": b"\xff\xfe",
    "no object": b"[1, 2]",
    "nothing": b"",
    "another schema": b'{"schema": "chainbuild.record/9"}',
    "no fields": b'{"schema": "chainbuild.record/2"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_record_is_a_reason_to_build(world: World, content: bytes) -> None:
    record = record_of(world, PRODUCTION)
    for name in (at(record.key), copies().with_tag(record.key), at("k1-last-stock-production-amd64")):
        store_record(world.registries, name, content)
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "sha256:123"),
        ("image", 7),
        ("image", None),
        ("size", "many"),
        ("size", float("inf")),
        ("seconds", []),
        ("env", None),
        ("verdicts", []),
        ("components", {}),
        ("components", None),
        ("key", "k1-0"),
    ],
)
def test_record_field_of_wrong_type_is_a_reason_to_build(world: World, field: str, value: Any) -> None:
    record = record_of(world, PRODUCTION)
    content = json.dumps({**record.as_json(), field: value}).encode()
    for name in (at(record.key), copies().with_tag(record.key), at("k1-last-stock-production-amd64")):
        store_record(world.registries, name, content)
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]


def test_record_under_another_key_is_not_reused(world: World) -> None:
    first = world.run()
    world.begin_again()
    world.drop_indexes()
    there = json.dumps(first.results[BASE].record.as_json()).encode()
    for place in (at("x"), copies()):
        store_record(world.registries, place.with_tag(first.results[PRODUCTION].record.key), there)
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]


def test_image_in_place_of_a_record_is_a_reason_to_build(world: World) -> None:
    record = record_of(world, PRODUCTION)
    for place in (at("x"), copies()):
        world.fake.add_image(f"{place.name}:{record.key}", "amd64")
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]


def test_record_of_another_platform_is_a_reason_to_build(world: World) -> None:
    both = world.run(world.graph((AMD64, ARM64)))
    world.begin_again()
    world.drop_indexes()
    mine = both.results[PRODUCTION].record
    other = both.results[on_arm(PRODUCTION)].record
    content = json.dumps(mine.as_json() | {"image": str(other.image)}).encode()
    for place in (at("x"), copies()):
        store_record(world.registries, place.with_tag(mine.key), content)
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]
    assert resolve(world.registries, at("v1-stock-amd64"), AMD64).config.platform == AMD64


# Changes during a run -------------------------------------------------------------------------------------------------


def test_files_that_change_during_the_build_are_not_recorded(world: World) -> None:
    def edit(spec: BuildSpec) -> None:
        if spec.step == VENV:
            world.write({"src/setup.py": "edited meanwhile\n"})

    world.driver.during = edit
    outcome = world.run()
    assert outcome.succeeded
    assert world.records.read(at("x"), outcome.results[VENV].record.key) is None
    warnings = [event.text for event in world.events if isinstance(event, Message) and event.level == "warning"]
    assert warnings == [f"{VENV}: its inputs changed while it was built, so the result will not be reused"]
    world.begin_again()
    world.driver.during = lambda _: None
    world.run()
    assert world.driver.built[0] == VENV


def test_file_changed_before_its_step_is_built_and_recorded(world: World) -> None:
    def edit(spec: BuildSpec) -> None:
        if spec.step == BASE:
            world.write({"src/setup.py": "edited meanwhile\n"})

    world.driver.during = edit
    world.run()
    world.begin_again()
    world.driver.during = lambda _: None
    world.run()
    assert world.driver.orders == []


def test_tag_change_during_a_run_has_no_effect(world: World) -> None:
    undisturbed = world.run()
    wanted = {step: result.record.identity for step, result in undisturbed.results.items()}
    world.host.tags.clear()

    def move(spec: BuildSpec) -> None:
        world.base("moved")
        other = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:other", "amd64", layers=[b"other"])
        for tag in ("v1-stock-10-base-amd64", "v1-stock-20-blas-amd64", f"k1-staging-stock-{spec.step.name}-amd64"):
            world.host.tags[REPOSITORY, tag] = str(other.digest)

    world.begin_again()
    world.driver.during = move
    outcome = world.run()
    assert world.driver.built == ALL
    assert {step: result.record.identity for step, result in outcome.results.items()} == wanted


def test_index_keeps_platforms_that_the_run_does_not_build(world: World) -> None:
    world.run(world.graph((ARM64,)))
    world.run(world.graph((AMD64,)))
    world.run(world.graph((AMD64,)))
    assert {item.oci for item in platforms_of(world.registries, at("v1-stock"))} == {"linux/amd64", "linux/arm64"}


# Production -----------------------------------------------------------------------------------------------------------


def test_production_has_the_runtime_configuration_of_the_chain(world: World) -> None:
    world.base("first", env=[("PATH", "/opt/venv/bin:/bin")], cmd=["serve"], labels={"team": "atom"})
    outcome = world.run()
    config = resolve(world.registries, outcome.results[PRODUCTION].reference, AMD64).config
    assert dict(config.env)["PATH"] == "/opt/venv/bin:/bin"
    assert config.cmd == ("serve",)
    assert config.label("team") == "atom"
    assert outcome.results[PRODUCTION].record.verdicts == {"libraries": "3 ELF files have all that they need"}
    assert [event.passed for event in world.events if isinstance(event, Verdict)] == [True]


def test_unproven_image_gets_neither_tag_nor_record(world: World) -> None:
    missing = "/usr/bin/tool needs libz.so.1, which is not in the image"
    world.driver.proof = {**world.driver.proof, "findings": [{"severity": "error", "message": missing}]}
    outcome = world.run()
    error = outcome.failures[PRODUCTION]
    assert isinstance(error, NotProvenError)
    assert error.findings == (missing,)
    assert "v1-stock-amd64" not in world.tags()
    assert "v1-stock" not in world.tags()
    assert world.records.last(at("x"), "stock-production-amd64").record is None
    world.begin_again()
    world.driver.proof = {**world.driver.proof, "findings": [{"severity": "warning", "message": "an odd file"}]}
    assert world.run().succeeded
    assert world.driver.built == [PRODUCTION]


def test_failed_proof_keeps_the_old_tag(world: World) -> None:
    world.run()
    before = world.tags()["v1-stock-amd64"]
    world.begin_again()
    world.driver.proof = {**world.driver.proof, "findings": [{"severity": "error", "message": "no"}]}
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert PRODUCTION in world.run().failures
    assert world.tags()["v1-stock-amd64"] == before


def test_proof_checks_the_tagged_image(world: World) -> None:
    outcome = world.run()
    look = [spec for spec in world.driver.orders if spec.export is not None][-1]
    assert dict(look.args)["IMAGE"].endswith(str(outcome.results[PRODUCTION].record.image))
    named = {name: spec for name, spec in look.contexts if name != "chainbuild-minimize"}
    assert named.keys() == {"debian:bookworm-slim"}
    assert all("@sha256:" in spec for spec in named.values())


# The deadline ---------------------------------------------------------------------------------------------------------


def test_step_longer_than_the_time_left_is_not_started(world: World) -> None:
    first = world.run()
    for result in first.results.values():  # each step took an hour
        content = json.dumps(result.record.as_json() | {"seconds": 3600}).encode()
        for tag in (result.record.key, f"k1-last-{result.step.family}"):
            store_record(world.registries, at(tag), content)
    world.begin_again()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    outcome = world.run(seconds_left=lambda: 1800.0)
    assert world.driver.built == []
    assert world.reused == [BASE]
    assert outcome.left == (BLAS, VENV, MINIMIZE, PRODUCTION)
    assert set(outcome.skipped.values()) == {DEADLINE}
    assert not outcome.failures
    world.begin_again()
    assert world.run(seconds_left=lambda: 3600.0).succeeded


def test_step_without_timing_starts_while_time_is_left(world: World) -> None:
    left = iter([10.0, 5.0, -1.0])
    outcome = world.run(seconds_left=lambda: next(left))
    assert world.driver.built == [BASE, BLAS]
    assert outcome.left == (VENV, MINIMIZE, PRODUCTION)


def test_deadline_of_a_platform_lets_the_other_end(world: World) -> None:
    arm = world.run(world.graph((ARM64,)))
    assert arm.succeeded
    world.begin_again()
    document = arm.results[StepId.parse("aarch64/stock/10-base")].record.as_json()
    content = json.dumps(document | {"seconds": 9e9, "family": "stock-10-base-amd64"}).encode()
    store_record(world.registries, at("k1-last-stock-10-base-amd64"), content)
    outcome = world.run(world.graph((AMD64, ARM64)), seconds_left=lambda: 60.0)
    assert outcome.left == tuple(ALL)
    assert len(outcome.results) == 5


# --from, --refresh ----------------------------------------------------------------------------------------------------


def test_from_reuses_earlier_steps_unchanged(world: World) -> None:
    world.run()
    world.begin_again()
    world.write({"stock/10-Dockerfile-base": STEP + "RUN other\n", "src/setup.py": "setup(2)\n"})
    assert world.run(first=30).succeeded
    assert world.reused[:2] == [BASE, BLAS]
    assert world.driver.built == [VENV, MINIMIZE, PRODUCTION]


def test_damaged_pinned_step_is_rebuilt(world: World) -> None:
    record = record_of(world, BLAS)
    layer = resolve(world.registries, at("v1-stock-20-blas-amd64").with_digest(record.image), AMD64).layers[-1]
    world.host.forget(layer.digest)
    world.write({"src/setup.py": "setup(2)\n"})
    outcome = world.run(first=30)
    assert outcome.succeeded, outcome.failures
    assert world.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]


def test_refresh_builds_each_step_once(world: World) -> None:
    from chainbuild.planning.decisions import Renewal

    world.run()
    world.begin_again()
    world.now += 60
    renewal = Renewal(refresh=True, since=world.now)
    outcome = world.run(renewal=renewal)
    # The content is the same, but dependents are rebuilt anyway, each once.
    assert world.driver.built == ALL
    assert outcome.succeeded


# Interruptions at any point --------------------------------------------------------------------------------------------


class PowerCutError(BaseException):
    pass


def cut_after(world: World, writes: int) -> Callable[[], int]:
    """Make the registry fail after this many writes; return a function that counts them."""
    counted = 0
    send = type(world.fake).send

    def dying(request: HttpRequest) -> Any:
        nonlocal counted
        if request.method in {"PUT", "POST"}:
            counted += 1
            if counted > writes:
                raise PowerCutError
        return send(world.fake, request)

    world.fake.send = dying  # type: ignore[method-assign]
    return lambda: counted


def test_run_interrupted_at_any_write_is_completed_by_the_next(tmp_path: Path) -> None:
    tree = {"stock/10-Dockerfile-base": STEP, **STAGES}
    whole = World(tmp_path / "whole")
    whole.write(tree)
    count = cut_after(whole, 1_000_000)
    whole.run()
    total = count()
    wanted = whole.identities()
    assert total > 30
    for writes in range(total):
        world = World(tmp_path / f"cut-{writes}")
        world.write(tree)
        send = world.fake.send
        cut_after(world, writes)
        with pytest.raises(PowerCutError):
            world.run()
        world.fake.send = send  # type: ignore[method-assign]
        done = len(set(world.driver.built)) - 1
        world.begin_again()
        assert world.run().succeeded
        assert world.identities() == wanted
        assert len(set(world.driver.built)) <= 3 - done, "recorded steps are not rebuilt"
        assert not world.plan().builds


def test_unreachable_registry_fails_the_step_and_next_run_resumes(world: World) -> None:
    def stop(spec: BuildSpec) -> None:
        if spec.step == BLAS:
            world.fake.answers += [Answer.error(500, "UNKNOWN", "disk full")] * 60

    world.driver.during = stop
    outcome = world.run()
    assert list(outcome.failures) == [BLAS]
    world.begin_again()
    world.fake.answers.clear()
    world.driver.during = lambda _: None
    assert world.run().succeeded
    assert world.reused == [BASE]


def test_machine_failure_is_a_failure_of_the_step(world: World) -> None:
    world.driver.fails[BASE] = NotReadyError("no space left on the builder's disk")
    assert list(world.run().failures) == [BASE]


def test_staging_tags_of_long_names_are_valid(world: World) -> None:
    from chainbuild.values import replace

    step = next(iter(world.graph()))
    long = staging_reference(replace(step, name="10-" + "x" * 300))
    assert len(long.tag_or_latest) <= 128


def test_reason_for_a_rebuild_is_readable() -> None:
    assert DAMAGED == "its image is damaged in the registry"


def test_reuse_reports_the_saved_seconds(world: World) -> None:
    world.run()
    world.begin_again()
    world.run()
    event = next(event for event in world.events if isinstance(event, StepReused))
    assert event.size > event.added > 0
    assert event.digest.startswith("sha256:")


def test_reason_for_a_changed_tools_image_names_its_index(world: World) -> None:
    """A stage on the builder's platform is decided by the whole index: one digest of it twice would say nothing."""
    world.write(
        {
            "stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM --platform=$BUILDPLATFORM fat:1 AS tools\nFROM ${BASE_IMAGE}\n"
            "COPY --from=tools /tool /\n"
        }
    )
    world.run()
    # The index changes, and nothing that this platform sees of it.
    world.fake.add_index("docker.io/library/fat:1", [resolve(world.registries, ImageReference.parse("fat:1"), AMD64)])
    world.begin_again()
    reason = world.plan().decisions[0].reason
    assert reason.startswith("image fat:1 moved from ")
    before, after = reason.removeprefix("image fat:1 moved from ").split(" to ")
    assert before != after


# The empty image -------------------------------------------------------------------------------------------------------


def test_production_scratch_is_built_and_reused(world: World) -> None:
    world.production = "scratch"
    outcome = world.run()
    assert outcome.succeeded
    produced = [spec for spec in world.driver.orders if dict(spec.args).get("MINIMIZED_IMAGE")]
    assert {dict(spec.args)["PRODUCTION_IMAGE"] for spec in produced} == {"scratch"}
    record = outcome.results[StepId.parse("amd64/stock/production")].record
    assert record.components.images["PRODUCTION_IMAGE"] == "scratch"
    assert record.notes["digest of PRODUCTION_IMAGE"] == "scratch"
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built == []


def test_packages_for_production_scratch_are_a_problem_with_its_line(world: World) -> None:
    world.production = "scratch"
    production = STAGES["utilities/Dockerfile-production"] + "ARG PRODUCTION_PACKAGES=\n"
    world.write({"utilities/Dockerfile-production": production})
    world.write({"stock/production-amd64-args": "\nPRODUCTION_PACKAGES=tini\n"})
    with pytest.raises(WrongUseError) as caught:
        world.graph()
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("stock/production-amd64-args", 2)
    assert "no apt" in problem.message
    world.write({"stock/production-amd64-args": "PRODUCTION_PACKAGES=\n"})
    world.graph()


# Warnings --------------------------------------------------------------------------------------------------------------

DOUBTFUL = {"severity": "warning", "kind": "library", "path": "/x", "message": "/x finds its library only beside it"}


def warned(world: World) -> list[StepWarnings]:
    return [event for event in world.events if isinstance(event, StepWarnings)]


def test_warnings_are_reported_recorded_and_repeated_on_reuse(world: World) -> None:
    """They stood in a log file of the first run only."""
    world.driver.proof = {**world.driver.proof, "findings": [DOUBTFUL]}
    outcome = world.run()
    assert outcome.succeeded
    (event,) = warned(world)
    assert (event.step, event.total, event.reused) == (PRODUCTION, 1, False)
    assert [(one.kind, one.path, one.text) for one in event.warnings] == [("library", "/x", DOUBTFUL["message"])]
    assert outcome.results[PRODUCTION].record.warnings.total == 1
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built == []
    (again,) = warned(world)
    assert (again.step, again.warnings, again.reused) == (PRODUCTION, event.warnings, True)


def test_warnings_of_the_minimize_report_are_recorded(world: World) -> None:
    world.write(
        {
            "utilities/Dockerfile-minimize": STAGES["utilities/Dockerfile-minimize"].replace(
                "FROM ", "FROM scratch AS report\nFROM ", 1
            )
        }
    )
    world.driver.proof = {**world.driver.proof, "warnings": [{"kind": "data", "text": "t", "fix": "KEEP_DATA=x"}]}
    outcome = world.run()
    (event,) = [one for one in warned(world) if one.step == MINIMIZE]
    assert [str(one) for one in event.warnings] == ["t (KEEP_DATA=x)"]
    assert outcome.results[MINIMIZE].record.warnings.first == event.warnings


@pytest.mark.parametrize("reused", [False, True])
def test_strict_does_not_tag_an_image_with_warnings(world: World, reused: bool) -> None:
    world.driver.proof = {**world.driver.proof, "findings": [DOUBTFUL]}
    if reused:
        assert world.run().succeeded
        world.begin_again()
        for place in [place for place in world.host.tags if place[1] == "v1-stock-amd64"]:
            del world.host.tags[place]
    outcome = world.run(strict=True)
    error = outcome.failures[PRODUCTION]
    assert isinstance(error, NotProvenError)
    assert "1 warning" in error.message
    assert error.findings == (DOUBTFUL["message"],)
    assert "v1-stock-amd64" not in world.tags()
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built == []
    assert "v1-stock-amd64" in world.tags()


def test_strict_run_without_warnings_succeeds(world: World) -> None:
    assert world.run(strict=True).succeeded
    assert warned(world) == []


# The configuration -----------------------------------------------------------------------------------------------------

NO_TINI = {
    "field": "ENTRYPOINT",
    "kind": "program",
    "text": "ENTRYPOINT: tini is not in the image",
    "path": "",
    "sought": [],
}
STARTS = {"summary": "serve, as app", "faults": [], "absent": [], "apt": False}


def test_bad_configuration_is_not_tagged_and_reported_with_others(world: World) -> None:
    """The chain's configuration was carried over unchecked."""
    missing = {"severity": "error", "message": "x needs liby.so"}
    configuration = {**STARTS, "faults": [NO_TINI]}
    world.driver.proof = {**world.driver.proof, "findings": [missing], "configuration": configuration}
    error = world.run().failures[PRODUCTION]
    assert isinstance(error, NotProvenError)
    assert error.findings == ("x needs liby.so", "ENTRYPOINT: tini is not in the image")
    assert "PROVE_CONFIGURATION=0 in production-amd64-args" in error.hint
    assert "v1-stock-amd64" not in world.tags()
    verdicts = {event.proof: event.passed for event in world.events if isinstance(event, Verdict)}
    assert verdicts == {"libraries": False, "configuration": False}


def test_configuration_that_starts_is_a_verdict_of_the_record(world: World) -> None:
    world.driver.proof = {**world.driver.proof, "configuration": STARTS}
    record = world.run().results[PRODUCTION].record
    assert record.verdicts["configuration"] == "serve, as app"


def test_configuration_is_not_judged_if_turned_off(world: World) -> None:
    production = STAGES["utilities/Dockerfile-production"] + "ARG PROVE_CONFIGURATION=1\n"
    world.write({"utilities/Dockerfile-production": production})
    world.write({"stock/production-amd64-args": "PROVE_CONFIGURATION=0\n"})
    world.driver.proof = {**world.driver.proof, "configuration": {**STARTS, "faults": [NO_TINI]}}
    outcome = world.run()
    assert outcome.succeeded
    assert "configuration" not in outcome.results[PRODUCTION].record.verdicts
