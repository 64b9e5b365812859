"""A step is tried once more if QEMU crashed in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.errors import BuildFailedError
from chainbuild.events import LogLine, Message
from chainbuild.step_id import StepId
from tests.support.world import AMD64, ARM64, THREE_STEPS, World, failed

CRASH = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"
BASE = StepId.parse("aarch64/stock/10-base")


def crash(step: StepId) -> BuildFailedError:
    return BuildFailedError(f"{step}: QEMU crashed while running 'RUN make'", emulator_crash=CRASH)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def crashes(step: StepId, *errors: BuildFailedError) -> Callable[[BuildSpec], None]:
    """Return a hook of the fake builder that raises these errors, one for each build of the step."""
    left = list(errors)

    def during(spec: BuildSpec) -> None:
        if spec.step == step and left:
            raise left.pop(0)

    return during


def warnings(world: World) -> list[str]:
    return [event.text for event in world.events if isinstance(event, Message) and event.level == "warning"]


def test_step_in_which_qemu_crashed_is_tried_once_more(world: World) -> None:
    world.driver.during = crashes(BASE, crash(BASE))
    results = world.run(world.graph((ARM64,))).results
    assert world.driver.built.count(BASE) == 2
    assert warnings(world) == [f"{BASE}: QEMU crashed ({CRASH}); trying once more"]
    # The log of the step has a line between both tries.
    assert [event.text for event in world.events if isinstance(event, LogLine) and event.step == BASE] == [
        f"warning: QEMU crashed ({CRASH}); trying once more"
    ]
    assert results[BASE].record.notes["qemu_crash"] == CRASH
    others = [result.record.notes for step, result in results.items() if step != BASE]
    assert not any("qemu_crash" in notes for notes in others)


def test_step_in_which_qemu_crashed_twice_fails(world: World) -> None:
    world.driver.during = crashes(BASE, crash(BASE), crash(BASE))
    error = world.run(world.graph((ARM64,))).failures[BASE]
    assert world.driver.built == [BASE, BASE]
    assert error.message == f"{BASE}: QEMU crashed twice while running 'RUN make'"


def test_other_failure_of_second_try_is_reported_as_it_is(world: World) -> None:
    world.driver.during = crashes(BASE, crash(BASE), failed(BASE))
    error = world.run(world.graph((ARM64,))).failures[BASE]
    assert world.driver.built == [BASE, BASE]
    assert error.message == failed(BASE).message


def test_crash_on_native_platform_is_not_tried_again(world: World) -> None:
    base = StepId(AMD64.name, BASE.option, BASE.name)
    world.driver.during = crashes(base, crash(base))
    error = world.run(world.graph((AMD64,))).failures[base]
    assert world.driver.built == [base]
    assert "crashed while" in error.message


def test_other_failure_on_foreign_platform_is_not_tried_again(world: World) -> None:
    world.driver.during = crashes(BASE, failed(BASE))
    assert BASE in world.run(world.graph((ARM64,))).failures
    assert world.driver.built == [BASE]
    assert warnings(world) == []
