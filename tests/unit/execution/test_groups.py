"""Groups of steps in one solve: which steps they have, and what happens when a solve ends early."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildSpec, staging_reference
from chainbuild.errors import ChainbuildError
from chainbuild.events import LogLine, StepFailed, StepFinished, StepStarted
from chainbuild.execution.outcome import DEADLINE, RunOutcome
from chainbuild.model import Graph, Secret
from chainbuild.planning.decisions import Renewal
from chainbuild.planning.planner import until
from chainbuild.references import Platform
from chainbuild.step_id import StepId
from tests.support.world import AMD64, ARM64, STAGES, World, failed

NUMBERS = range(10, 60, 10)
STEPS = [StepId.parse(f"amd64/stock/{number}-s{number}") for number in NUMBERS]
ONE, TWO, THREE, FOUR, FIVE = STEPS
NAMES = [f"stock/{number}-Dockerfile-s{number}" for number in NUMBERS]


def text(number: int, *more: str) -> str:
    return "\n".join(("ARG BASE_IMAGE", "FROM ${BASE_IMAGE}", f"RUN make {number}", *more, ""))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write({name: text(number) for name, number in zip(NAMES, NUMBERS, strict=True)} | STAGES)
    return made


def chain(world: World, platforms: Sequence[Platform] = (AMD64,)) -> Graph:
    """Return the steps without the stages."""
    return until(world.graph(platforms), 50)


def run(world: World, **options: Any) -> RunOutcome:
    return world.run(chain(world), **options)


def alone(tmp_path: Path, world: World) -> World:
    """Return a world with the same tree and a builder that builds one step at a time."""
    other = World(tmp_path / "alone")
    other.write(
        {path.relative_to(world.root).as_posix(): path.read_text() for path in world.root.rglob("*-Dockerfile-*")}
    )
    other.write(STAGES)
    other.driver.can_link = False
    return other


# Which steps -----------------------------------------------------------------------------------------------------------


def test_cold_chain_is_one_solve_with_same_results(world: World, tmp_path: Path) -> None:
    outcome = world.run()
    other = alone(tmp_path, world)
    single = other.run()
    assert world.driver.solves == [STEPS]
    assert other.driver.solves == []
    assert world.identities() == other.identities()
    assert [result.record.key for result in outcome.results.values()] == [
        result.record.key for result in single.results.values()
    ]
    for step in STEPS:
        ours, theirs = (one.results[step].record.as_json() for one in (outcome, single))
        assert ours.keys() == theirs.keys()
        assert ours["parents"] == theirs["parents"]
        assert ours["notes"].keys() == theirs["notes"].keys()


def test_second_run_reuses_what_a_solve_built(world: World) -> None:
    world.run()
    world.begin_again()
    world.run()
    assert world.driver.orders == []
    assert world.driver.solves == []


@pytest.mark.parametrize(
    ("third", "solves"),
    [
        pytest.param(text(30, "ONBUILD RUN x"), [[ONE, TWO, THREE], [FOUR, FIVE]], id="triggers for the next step"),
        pytest.param(
            "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG BASE_IMAGE\n", [[ONE, TWO], [THREE, FOUR, FIVE]], id="arg"
        ),
        pytest.param(text(30, "LABEL base=$BASE_IMAGE"), [[ONE, TWO], [THREE, FOUR, FIVE]], id="mention"),
        pytest.param("# syntax=other/frontend\n" + text(30), [[ONE, TWO], [FOUR, FIVE]], id="frontend"),
        pytest.param(text(30, "ARG X", "ENV A=$X"), [STEPS], id="unset arg"),
        pytest.param(text(30, "ENV A=1 B=2"), [STEPS], id="environment"),
    ],
)
def test_group_ends_at_step_that_cannot_be_linked(world: World, third: str, solves: list[list[StepId]]) -> None:
    world.write({NAMES[2]: third})
    if "ONBUILD" in third:
        world.driver.changes[THREE] = {"on_build": ("RUN x",)}
    assert run(world).succeeded
    assert world.driver.built == STEPS
    assert [solve for solve in world.driver.solves if len(solve) > 1] == solves


def test_group_ends_after_step_with_a_test(world: World) -> None:
    world.write({"stock/s30-test": "#!/bin/sh\ntest -e /opt\n"})
    run(world)
    assert world.driver.solves == [[ONE, TWO, THREE], [FOUR, FIVE]]


def test_files_named_by_the_parents_environment_are_in_the_key(world: World) -> None:
    files = {NAMES[0]: text(10, "ENV PART=src"), NAMES[1]: text(20, "COPY $PART /src"), "src/a": "1"}
    world.write(files)
    world.driver.changes[ONE] = {"env": [("PATH", "/bin"), ("PART", "src")]}
    outcome = run(world)
    assert list(outcome.results[TWO].record.components.files) == ["src", "src/a"]


def test_wrong_prediction_builds_the_step_again(world: World) -> None:
    world.write({NAMES[0]: text(10, "ENV PART=src"), NAMES[1]: text(20, "COPY $PART /x"), "src/a": "1", "lib/a": "2"})
    # The builder sets another value than the Dockerfile says.
    world.driver.changes[ONE] = {"env": [("PART", "lib")]}
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.solves[0] == STEPS
    assert world.driver.solves[1] == STEPS[1:]
    assert list(outcome.results[TWO].record.components.files) == ["lib", "lib/a"]


def test_builder_that_cannot_link_gets_single_steps(world: World) -> None:
    world.driver.can_link = False
    run(world)
    assert world.driver.solves == []
    assert world.driver.built == STEPS


def test_platforms_are_solved_side_by_side(world: World) -> None:
    world.run(chain(world, (AMD64, ARM64)), jobs=2)
    assert sorted(solve[0].platform for solve in world.driver.solves) == ["aarch64", "amd64"]
    assert len(world.driver.built) == 10


def test_secrets_reach_the_steps_of_a_solve(world: World) -> None:
    world.secrets = (Secret(id="token", spec="id=token,env=TOKEN"),)
    run(world)
    assert all(spec.secrets == world.secrets for spec in world.driver.orders)


# Early cut-off ---------------------------------------------------------------------------------------------------------


def test_comment_builds_one_step_alone(world: World) -> None:
    run(world)
    world.begin_again()
    world.write({NAMES[0]: "# a comment\n" + text(10)})
    run(world)
    assert world.driver.built == [ONE]
    assert world.driver.solves == []
    assert world.reused == STEPS[1:]


def test_changed_step_in_the_middle_is_solved_with_those_after_it(world: World) -> None:
    run(world)
    world.begin_again()
    world.write({NAMES[2]: text(31)})
    run(world)
    assert world.driver.solves == [[THREE, FOUR, FIVE]]
    assert world.reused == [ONE, TWO]


def test_comment_and_change_above_it_end_a_group(world: World) -> None:
    run(world)
    world.begin_again()
    world.write({NAMES[1]: "# a comment\n" + text(20), NAMES[3]: text(41)})
    run(world)
    assert world.driver.built == [TWO, FOUR, FIVE]
    assert world.driver.solves == [[FOUR, FIVE]]
    assert world.reused == [ONE, THREE]


def test_cut_off_within_a_solve_stops_it(world: World) -> None:
    world.driver.content = lambda spec: f"content of {spec.step}"
    run(world)
    world.write({name: text(number + 1) for name, number in zip(NAMES[2:], (30, 40, 50), strict=True)})
    run(world)
    world.begin_again()
    world.write({name: text(number) for name, number in zip(NAMES[2:], (30, 40, 50), strict=True)})
    world.write({NAMES[1]: text(22)})
    run(world)
    # The second step has the content that it had before, so the first records of those after it count.
    assert world.driver.solves == [STEPS[1:]]
    assert world.driver.built == [TWO]
    assert world.reused == [ONE, THREE, FOUR, FIVE]
    # The builder had begun with the third step, which nobody is told.
    assert [event.step for event in world.emitted(StepStarted)] == [TWO]
    assert world.emitted(LogLine) == []


def test_refresh_builds_all_in_one_solve(world: World) -> None:
    run(world)
    world.begin_again()
    world.now += 60
    run(world, renewal=Renewal(refresh=True, since=world.now))
    assert world.driver.solves == [STEPS]


# Changes during a solve ------------------------------------------------------------------------------------------------


def test_file_changed_during_the_solve_is_sent_again(world: World) -> None:
    world.write({NAMES[2]: text(30, "COPY src /src"), "src/a": "before"})
    world.driver.during = lambda spec: world.write({"src/a": "after"}) if spec.step == TWO else None
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.solves == [STEPS, STEPS[2:]]
    world.begin_again()
    world.driver.during = lambda _: None
    run(world)
    assert world.driver.orders == []
    assert world.warnings == []


def test_image_that_is_not_on_its_parent_is_built_alone(world: World) -> None:
    def push_other(spec: BuildSpec) -> None:
        if spec.step == TWO:
            step = next(step for step in world.graph() if step.id == TWO)
            digest = world.fake.add_image(str(staging_reference(step)), AMD64, layers=[b"another base", b"x"]).digest
            world.driver.pushes[TWO] = digest

    world.driver.after_push = push_other
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.solves == [STEPS]
    assert [text for text in world.messages if "do not begin with those of its parent" in text]
    assert world.driver.built == [ONE, TWO, TWO, THREE, FOUR, FIVE]
    for below, above in pairwise(STEPS):
        layers = [world.resolved(f"team/atom:v1-stock-{step.name}-amd64").config.diff_ids for step in (below, above)]
        assert layers[1][: len(layers[0])] == layers[0]


# Failures --------------------------------------------------------------------------------------------------------------


def test_failed_step_keeps_those_before_it(world: World) -> None:
    world.driver.fails[THREE] = failed(THREE)
    outcome = run(world)
    assert list(outcome.results) == [ONE, TWO]
    assert list(outcome.failures) == [THREE]
    assert list(outcome.skipped) == [FOUR, FIVE]
    assert [event.step for event in world.emitted(StepFailed)] == [THREE]
    world.begin_again()
    run(world)
    assert world.reused == [ONE, TWO]
    assert world.driver.solves == [[THREE, FOUR, FIVE]]


def test_failure_keeps_the_other_platform_going(world: World) -> None:
    world.driver.fails[THREE] = failed(THREE)
    outcome = world.run(chain(world, (AMD64, ARM64)), jobs=2, keep_going=True)
    assert list(outcome.failures) == [THREE]
    assert len([step for step in outcome.results if step.platform == "aarch64"]) == 5
    assert list(outcome.skipped) == [FOUR, FIVE]


def test_failure_of_a_later_step_builds_those_before_it(world: World) -> None:
    """The builder can fail in a step before the images of the steps below it were pushed."""
    early = failed(FOUR)
    world.driver.fails[TWO] = early
    world.driver.blames = lambda step, _: 3 if step == TWO else None
    world.driver.during = lambda spec: world.driver.fails.clear() if spec.step == TWO and spec.parent == "" else None
    outcome = run(world)
    assert list(outcome.results) == [ONE, TWO, THREE]
    assert [event.step for event in world.emitted(StepStarted)] == [ONE, TWO, THREE, FOUR]
    assert outcome.failures == {FOUR: early}
    assert list(outcome.skipped) == [FIVE]


def test_failure_of_the_solve_builds_steps_alone_and_says_it_once(world: World) -> None:
    world.driver.fails[TWO] = ChainbuildError("bake: unknown flag")
    world.driver.blames = lambda _step, _place: None
    world.driver.during = lambda spec: world.driver.fails.clear() if spec.step == TWO and spec.parent == "" else None
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.solves == [STEPS]
    assert len([text for text in world.messages if "bake: unknown flag" in text]) == 1


def test_transient_failure_tries_again_and_links_the_rest(world: World) -> None:
    world.driver.fails[TWO] = failed(TWO)
    world.driver.transient = {TWO}
    world.driver.during = lambda spec: world.driver.fails.clear() if spec.step == TWO and spec.parent == "" else None
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.solves == [STEPS, STEPS[2:]]
    assert not world.warnings


def test_failure_after_the_last_image_changes_nothing(world: World) -> None:
    world.driver.ends_with = ChainbuildError("not found")
    outcome = run(world)
    assert outcome.succeeded
    assert world.driver.built == STEPS
    assert world.messages == []


# Events and deadlines --------------------------------------------------------------------------------------------------


def test_every_step_starts_and_finishes_once(world: World) -> None:
    run(world)
    assert [event.step for event in world.emitted(StepStarted)] == STEPS
    assert [event.step for event in world.emitted(StepFinished)] == STEPS
    assert [event.step for event in world.emitted(LogLine)] == STEPS[1:]
    order = [
        (type(event), event.step) for event in world.events if isinstance(event, StepStarted | StepFinished | LogLine)
    ]
    assert order.index((StepStarted, TWO)) < order.index((LogLine, TWO)) < order.index((StepFinished, TWO))


def test_steps_without_timing_are_no_group_before_a_deadline(world: World) -> None:
    run(world, seconds_left=lambda: 1000.0)
    assert world.driver.solves == []
    assert world.driver.built == STEPS


def test_group_has_only_steps_that_fit_before_the_deadline(world: World) -> None:
    run(world)
    world.begin_again()
    graph = chain(world)
    world.write({name: text(number + 1) for name, number in zip(NAMES, NUMBERS, strict=True)})
    seconds = sum(world.plan(graph).decisions[place].expected_seconds or 0 for place in range(3))
    run(world, seconds_left=lambda: seconds + 1e-6)
    assert len(world.driver.solves[0]) == 3


def test_deadline_during_a_solve_leaves_the_rest(world: World) -> None:
    run(world)
    world.begin_again()
    world.write({name: text(number + 1) for name, number in zip(NAMES, NUMBERS, strict=True)})
    left = [1000.0]
    world.driver.after_push = lambda spec: left.__setitem__(0, -1.0) if spec.step == TWO else None
    outcome = run(world, seconds_left=lambda: left[0])
    assert list(outcome.results) == [ONE, TWO]
    assert outcome.skipped == dict.fromkeys([THREE, FOUR, FIVE], DEADLINE)
