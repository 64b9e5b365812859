"""`chainbuild test`: which tests run in which images, how verdicts are stored, and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainbuild.cli import run
from chainbuild.errors import BuildFailedError, ExitCode, NotFoundInRegistryError, WrongUseError
from chainbuild.events import RunFinished, RunStarted, StepFailed, StepFinished, Verdict
from chainbuild.execution.backends import use_backends
from chainbuild.images.resolver import ImageResolver
from chainbuild.model import Graph
from chainbuild.operations.retest import Failures, Retest, of_image, of_options, run_retests
from chainbuild.records.record import Record
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

BLAS, PRODUCTION = StepId.parse("amd64/stock/20-blas"), StepId.parse("amd64/stock/production")
TESTS = {"stock/blas-test": "#!/bin/sh\ntrue\n", "stock/production-test": "#!/bin/sh\nproduction\n"}
PLACE = ImageReference(CHAIN, REPOSITORY)
WORDS = ["amd64", REPOSITORY, "v1"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS | TESTS)
    return made


def built(world: World, graph: Graph | None = None) -> None:
    assert world.run(graph).succeeded
    world.begin_again()


def again(world: World, graph: Graph | None = None) -> Failures:
    session = world.opened()
    return run_retests(session, of_options(session, graph or world.graph()))


def one_image(world: World, name: str, test: Path | None = None, platform: Platform = AMD64) -> Retest:
    session = world.opened()
    finder: ImageResolver = session.finder()
    return of_image(session, finder.find_result(ImageReference.parse(name), platform), platform, test)


def newest(world: World, family: str = "stock-20-blas-amd64") -> Record:
    record = world.records.last(PLACE, family).record
    assert record is not None
    return record


# Options --------------------------------------------------------------------------------------------------------------


def test_option_tests_run_in_existing_images(world: World) -> None:
    built(world)
    assert again(world) == {}
    assert world.driver.tested == [BLAS, PRODUCTION]
    assert world.driver.built == []
    assert all(order.no_cache for order in world.driver.orders), "what passed before counts for nothing"
    images = {dict(order.args)["IMAGE"] for order in world.driver.orders}
    assert images == {
        f"{CHAIN}/{REPOSITORY}@{newest(world, name).image}"
        for name in ("stock-20-blas-amd64", "stock-production-amd64")
    }


def test_retest_emits_events_of_a_run(world: World) -> None:
    built(world)
    again(world)
    kinds = [type(event) for event in world.events]
    assert (kinds[0], kinds[-1]) == (RunStarted, RunFinished)
    assert [event.step for event in world.events if isinstance(event, StepFinished)] == [BLAS, PRODUCTION]
    assert [event.passed for event in world.events if isinstance(event, Verdict)] == [True, True]
    (started,) = [event for event in world.events if isinstance(event, RunStarted)]
    assert [(one.step, one.action) for one in started.steps] == [(BLAS, "test"), (PRODUCTION, "test")]


def test_platforms_are_tested_in_their_own_image(world: World) -> None:
    graph = world.graph((AMD64, ARM64))
    built(world, graph)
    assert again(world, graph) == {}
    assert sorted(world.driver.tested) == sorted(
        [BLAS, PRODUCTION, *(StepId("aarch64", "stock", name) for name in ("20-blas", "production"))]
    )


def test_failed_test_is_recorded_and_others_continue(world: World) -> None:
    built(world)
    before = newest(world)
    world.driver.fails_tests[BLAS] = BuildFailedError("no", log_tail=("expected 4, got 5",))
    failures = again(world)
    assert world.driver.tested == [BLAS, PRODUCTION]
    assert [type(one).__name__ for one in failures.values()] == ["NotProvenError"]
    assert failures[BLAS].exit_code is ExitCode.NOT_PROVEN
    assert [event.step for event in world.events if isinstance(event, StepFailed)] == [BLAS]
    after = newest(world)
    assert after.verdicts["test"] == before.verdicts["test"].replace("passed", "failed")
    assert replace(after, verdicts=before.verdicts) == before
    assert world.records.read(PLACE, before.key) == after


def test_next_run_repeats_only_failed_tests(world: World) -> None:
    built(world)
    world.driver.fails_tests[BLAS] = BuildFailedError("no")
    again(world)
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.tested == [BLAS]
    world.begin_again()
    world.driver.fails_tests[BLAS] = BuildFailedError("no")
    again(world)
    world.begin_again()
    again(world)
    assert newest(world).verdicts["test"].startswith("passed")
    world.begin_again()
    world.run()
    assert world.driver.orders == []


def test_unchanged_verdict_is_not_written(world: World) -> None:
    built(world)
    again(world)
    assert world.fake.counted("PUT") == 0


def test_changed_test_is_the_one_that_runs(world: World) -> None:
    built(world)
    world.write({"stock/blas-test": "#!/bin/sh\nanother\n"})
    again(world)
    world.begin_again()
    world.run()
    assert world.driver.orders == [], "the new test's verdict is in the record"


def test_record_of_older_image_gets_verdict_but_is_not_newest(world: World) -> None:
    built(world)
    old = newest(world)
    tagged = world.host.tags[REPOSITORY, "v1-stock-20-blas-amd64"]
    world.write({"stock/blas-amd64-args": "CPU=OTHER\n"})
    built(world)
    new = newest(world)
    world.host.tags[REPOSITORY, "v1-stock-20-blas-amd64"] = tagged
    world.driver.fails_tests[BLAS] = BuildFailedError("no")
    again(world)
    assert newest(world) == new
    read = world.records.read(PLACE, old.key)
    assert read is not None
    assert read.verdicts["test"].startswith("failed")


def test_missing_images_are_reported_together(world: World) -> None:
    with pytest.raises(NotFoundInRegistryError) as caught:
        again(world)
    assert "v1-stock-20-blas-amd64" in caught.value.message
    assert "v1-stock-amd64" in caught.value.message
    assert world.driver.orders == []


def test_option_without_tests_is_an_error(world: World) -> None:
    world.write(dict.fromkeys(TESTS))
    with pytest.raises(WrongUseError, match="no step of stock has a test"):
        again(world)


# One image ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "step", "test"),
    [("v1-stock-amd64", PRODUCTION, "production-test"), ("v1-stock-20-blas-amd64", BLAS, "blas-test")],
)
def test_image_test_comes_from_its_provenance(world: World, tag: str, step: StepId, test: str) -> None:
    built(world)
    for name in (f"{CHAIN}/{REPOSITORY}:{tag}", f"{REPOSITORY}:{tag}"):
        retrial = one_image(world, name)
        assert retrial.step.test is not None
        assert (retrial.step.id, retrial.step.test.name) == (step, test)
        assert retrial.record is not None
        assert retrial.record.step == step
    world.driver.fails_tests[step] = BuildFailedError("no")
    assert list(run_retests(world.opened(), [retrial])) == [step]
    family = "stock-production-amd64" if step == PRODUCTION else "stock-20-blas-amd64"
    assert newest(world, family).verdicts["test"].startswith("failed")


def test_step_without_test_in_tree_is_an_error(world: World) -> None:
    built(world)
    with pytest.raises(WrongUseError) as caught:
        one_image(world, f"{REPOSITORY}:v1-stock-10-base-amd64")
    assert "is stock/10-base" in caught.value.message
    assert "base-test" in caught.value.message
    assert "--with FILE" in caught.value.problems[0].hint


def test_image_without_provenance_needs_explicit_test(world: World, tmp_path: Path) -> None:
    world.fake.add_image(f"{CHAIN}/theirs:1", "amd64")
    with pytest.raises(NotFoundInRegistryError) as caught:
        one_image(world, "theirs:1")
    assert "--with FILE" in caught.value.hint
    test = tmp_path / "mine"
    test.write_text("#!/bin/sh\n")
    retrial = one_image(world, f"{CHAIN}/theirs:1", test)
    assert retrial.step.id == StepId.parse(f"amd64/{CHAIN}/theirs:1")
    assert run_retests(world.opened(), [retrial]) == {}
    assert world.driver.tested == [retrial.step.id]


def test_explicit_test_is_not_recorded(world: World, tmp_path: Path) -> None:
    built(world)
    test = tmp_path / "mine"
    test.write_text("#!/bin/sh\n")
    retrial = one_image(world, f"{REPOSITORY}:v1-stock-amd64", test)
    world.driver.fails_tests[retrial.step.id] = BuildFailedError("no")
    assert len(run_retests(world.opened(), [retrial])) == 1
    assert world.fake.counted("PUT") == 0


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(world.root)
    built(world)
    with use_backends(world.backends):
        yield world


def test_option_with_arguments_is_tested(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "stock", *WORDS, "--plain"]) == 0
    assert command.driver.tested == [BLAS, PRODUCTION]
    assert "test passed: blas-test passed" in capsys.readouterr().err
    assert (command.root / ".chainbuild" / "logs" / "latest").is_symlink()


def test_option_without_arguments_uses_last_run(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "stock"]) == 2
    said = capsys.readouterr().err
    assert "no earlier run found in this tree" in said
    assert "chainbuild test stock PLATFORM REPO TAG" in said
    from chainbuild.requests.last_run import save_last_run
    from chainbuild.requests.options import RunOptions

    words = RunOptions(
        platform="amd64,aarch64",
        repo=REPOSITORY,
        tag="v1",
        base="fat:1",
        option="other",
        production="slim:1",
        root=command.root,
        only=20,
    )
    save_last_run(command.root, words)
    assert run(["test", "stock", "--platform", "amd64", "--plain"]) == 0
    assert command.driver.tested == [BLAS, PRODUCTION]


def test_failed_test_has_its_exit_code(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.driver.fails_tests[BLAS] = BuildFailedError("no", log_tail=("expected 4, got 5",))
    assert run(["test", "stock", *WORDS, "--json"]) == 5 == int(ExitCode.NOT_PROVEN)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["passed"] for line in lines if line.get("event") == "verdict"] == [False, True]
    assert (lines[-1]["schema"], lines[-1]["exit_code"]) == ("chainbuild.error/1", 5)
    assert lines[-1]["findings"] == ["expected 4, got 5"]


def test_image_is_tested_by_name(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", f"{REPOSITORY}:v1-stock-amd64", "--platform", "amd64", "--plain"]) == 0
    assert command.driver.tested == [PRODUCTION]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stock", "amd64", REPOSITORY], ["none or all of PLATFORM REPO TAG"]),
        (["stock", *WORDS, "--with", "x"], ["--with needs an IMAGE"]),
        (["stock", "amd46", REPOSITORY, "no tag"], ["amd46", "'no tag' is not a tag"]),
        (["stock,extras", *WORDS], ["no such folder"]),
        (
            ["Not An Image", "more", "--platform", "amd46", "--with", "none", "--builder", "amd64="],
            [
                "Not An Image",
                "not a folder of the tree",
                "amd46",
                "none: cannot be read",
                "has no builder name",
            ],
        ),
        (["theirs:1", "--platform", "amd64,aarch64"], ["one platform at a time"]),
    ],
)
def test_wrong_arguments_are_reported_together(
    command: World, arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", *arguments]) == ExitCode.WRONG_USE
    err = capsys.readouterr().err
    assert [text for text in said if text not in err] == []
    assert command.driver.orders == []
