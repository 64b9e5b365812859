"""Tests of built images: their settings, when they run, and that an image with a failed test is neither recorded nor tagged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.builder.build_spec import BuildResult, BuildSpec
from chainbuild.errors import BuildFailedError, NotProvenError, NotReadyError, WrongUseError
from chainbuild.events import Emit, StepFailed, StepFinished, StepReused, StepStarted, Verdict
from chainbuild.layouts.test_files import TIME_LIMIT, read_image_test
from chainbuild.proof.borrowed_shell import can_stand_in, was_not_started
from chainbuild.proof.image_tests import run_image_test
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId
from tests.support.world import ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

BLAS, VENV, PRODUCTION = (
    StepId.parse("amd64/stock/20-blas"),
    StepId.parse("amd64/stock/30-venv"),
    StepId.parse("amd64/stock/production"),
)
BLAS_TEST, PRODUCTION_TEST = "stock/blas-test", "stock/production-test"
PLACE = ImageReference(CHAIN, REPOSITORY)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS | {BLAS_TEST: "#!/bin/sh\ntrue\n"})
    return made


def failing(*said: str) -> BuildFailedError:
    return BuildFailedError("the test failed", log_tail=said)


def verdicts(world: World) -> list[tuple[StepId, bool]]:
    return [
        (event.step, event.passed) for event in world.events if isinstance(event, Verdict) and event.proof == "test"
    ]


# Settings of a test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "network", "seconds"),
    [
        ("#!/bin/sh\n", False, TIME_LIMIT),
        ("#!/bin/sh\n# chainbuild: network\n", True, TIME_LIMIT),
        ("#!/bin/sh\n#chainbuild:timeout 10m\n", False, 600),
        ("#!/usr/bin/env node\n// chainbuild: network\r\n// chainbuild: timeout 1h30m\r\n", True, 5400),
        ("#!/usr/bin/lua\n-- chainbuild: timeout 45s\n", False, 45),
        ("#!/bin/sh\necho chainbuild: network\n", False, TIME_LIMIT),
        ("#!/bin/sh\n" + "\n" * 18 + "# chainbuild: network\n", True, TIME_LIMIT),
        ("#!/bin/sh\n" + "\n" * 19 + "# chainbuild: network\n", False, TIME_LIMIT),
        ("\x7fELF\n", False, TIME_LIMIT),
    ],
)
def test_settings_are_read_from_first_lines(tmp_path: Path, text: str, network: bool, seconds: float) -> None:
    (tmp_path / "a-test").write_text(text, newline="")
    trial, problems = read_image_test(tmp_path / "a-test")
    assert problems == ()
    assert (trial.network, trial.seconds) == (network, seconds)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("#!/bin/sh\n# chainbuild: root\n", 2, "unknown setting of a test: 'root'"),
        ("#!/bin/sh\n\n# chainbuild:\n", 3, "unknown setting of a test: ''"),
        ("#!/bin/sh\n# chainbuild: timeout soon\n", 2, "'soon' is not a duration"),
        ("#!/bin/sh\n# chainbuild: timeout\n", 2, "unknown setting of a test: 'timeout'"),
        ("#!/bin/sh\n# chainbuild: network please\n", 2, "unknown setting of a test: 'network please'"),
        ("echo no interpreter\n", 1, "not a program and not a script with a #! line"),
        ("", 1, "not a program and not a script with a #! line"),
    ],
)
def test_invalid_test_is_reported_with_rest_of_tree(world: World, text: str, line: int, said: str) -> None:
    world.write({BLAS_TEST: text, "stock/nope-args": "A=1\n"})
    with pytest.raises(WrongUseError) as caught:
        world.graph()
    told = [(problem.path, problem.line, problem.message) for problem in caught.value.problems]
    assert any(path == BLAS_TEST and at == line and said in message for path, at, message in told)
    assert any(path == "stock/nope-args" for path, _, _ in told)


def test_unreadable_test_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a-test").mkdir()
    _, problems = read_image_test(tmp_path / "a-test", "stock/a-test")
    assert [(problem.path, problem.message) for problem in problems] == [
        ("stock/a-test", "cannot be read: Is a directory")
    ]


def test_equal_tests_in_different_places_have_same_digest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    assert read_image_test(tmp_path / "one")[0].digest == read_image_test(tmp_path / "two")[0].digest


@pytest.mark.parametrize(
    ("name", "near"), [("blass-test", "blas-test"), ("prodution-test", "production-test"), ("minimize-test", "")]
)
def test_test_without_step_is_error(world: World, name: str, near: str) -> None:
    world.write({f"stock/{name}": "#!/bin/sh\n"})
    with pytest.raises(WrongUseError) as caught:
        world.graph()
    (problem,) = caught.value.problems
    assert problem.path == f"stock/{name}"
    assert "no step uses this test" in problem.message
    assert near in problem.hint


def test_steps_have_their_own_tests(world: World) -> None:
    world.write({PRODUCTION_TEST: "#!/bin/sh\n"})
    tests = {step.id: step.test.name for step in world.graph() if step.test}
    assert tests == {BLAS: "blas-test", PRODUCTION: "production-test"}


# How a test is run ----------------------------------------------------------------------------------------------------


def test_test_runs_in_built_image_without_network(world: World) -> None:
    outcome = world.run()
    (spec,) = world.driver.tests
    assert outcome.succeeded
    assert dict(spec.args) == {"IMAGE": f"{CHAIN}/{REPOSITORY}@{outcome.results[BLAS].record.image}"}
    assert (spec.platform, spec.seconds, spec.target, spec.secrets) == (
        world.graph().by_id[BLAS].platform,
        TIME_LIMIT,
        None,
        (),
    )
    assert "RUN --network=none --mount=type=bind,target=/.chainbuild-test " in world.driver.texts[0]
    assert verdicts(world) == [(BLAS, True)]


def test_test_gets_its_settings(world: World) -> None:
    world.write({BLAS_TEST: "#!/bin/sh\n# chainbuild: network\n# chainbuild: timeout 10m\n"})
    world.run()
    assert "--network=default" in world.driver.texts[0]
    assert world.driver.tests[0].seconds == 600


def test_builder_gets_only_executable_test_file(world: World) -> None:
    seen: list[tuple[list[str], str, int]] = []

    def look(spec: BuildSpec) -> None:
        if spec in world.driver.tests:
            context: Path = spec.context
            file = context / "test"
            names = [path.name for path in context.iterdir()]
            seen.append((names, file.read_text(), file.stat().st_mode & 0o777))

    world.driver.during = look
    world.run()
    assert seen == [(["test"], "#!/bin/sh\ntrue\n", 0o755)]


def test_production_test_runs_in_proven_image_before_tagging(world: World) -> None:
    world.write({PRODUCTION_TEST: "#!/bin/sh\n"})
    outcome = world.run()
    record = outcome.results[PRODUCTION].record
    assert dict(world.driver.tests[-1].args)["IMAGE"].endswith(str(record.image))
    assert list(record.verdicts) == ["libraries", "trace", "test"]
    proofs = [event.proof for event in world.events if isinstance(event, Verdict) and event.step == PRODUCTION]
    assert proofs == ["libraries", "trace", "test"]


# Failures -------------------------------------------------------------------------------------------------------------


def test_image_failing_test_has_neither_record_nor_tag(world: World) -> None:
    world.driver.fails_tests[BLAS] = failing("expected 4", "got 5")
    outcome = world.run()
    error = outcome.failures[BLAS]
    assert isinstance(error, NotProvenError)
    assert error.findings == ("expected 4", "got 5")
    assert error.message == f"{CHAIN}/{REPOSITORY}:v1-stock-20-blas-amd64: the test blas-test failed"
    assert error.where.endswith(BLAS_TEST)
    assert error.hint == ""
    assert "v1-stock-20-blas-amd64" not in world.tags()
    assert world.records.last(PLACE, "stock-20-blas-amd64").record is None
    assert verdicts(world) == [(BLAS, False)]
    assert [event.step for event in world.events if isinstance(event, StepFailed)] == [BLAS]
    assert set(outcome.skipped) == {VENV, StepId.parse("amd64/stock/minimize"), PRODUCTION}
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.built[0] == BLAS


@pytest.mark.parametrize(
    ("message", "finding"),
    [
        ("amd64/stock/20-blas: RUN /x/test exited with code 3", "blas-test exited with code 3 and printed nothing"),
        ("amd64/stock/20-blas: RUN /x/test failed: killed", "blas-test printed nothing"),
    ],
)
def test_silent_test_is_named_with_its_exit_code(world: World, message: str, finding: str) -> None:
    world.driver.fails_tests[BLAS] = BuildFailedError(message)
    error = world.run().failures[BLAS]
    assert isinstance(error, NotProvenError)
    assert error.findings == (finding,)
    assert "set -x" in error.hint
    assert not any(spec.quoted for spec in world.driver.tests)


def test_production_image_failing_test_leaves_tags_unchanged(world: World) -> None:
    world.write({PRODUCTION_TEST: "#!/bin/sh\n"})
    world.run()
    before = {tag: world.tags()[tag] for tag in ("v1-stock-amd64", "v1-stock")}
    world.begin_again()
    world.write({"src/setup.py": "broken\n"})
    world.driver.fails_tests[PRODUCTION] = failing("no such module")
    assert list(world.run().failures) == [PRODUCTION]
    assert {tag: world.tags()[tag] for tag in before} == before


def test_test_over_time_limit_gives_hint(world: World) -> None:
    world.write({BLAS_TEST: "#!/bin/sh\n# chainbuild: timeout 0s\n"})
    world.driver.fails_tests[BLAS] = failing()
    error = world.run().failures[BLAS]
    assert "the test blas-test took longer than 0 s" in error.message
    assert "# chainbuild: timeout" in error.hint


def test_machine_unable_to_run_test_is_reported(world: World) -> None:
    world.driver.fails_tests[BLAS] = NotReadyError("this machine does not run linux/amd64 programs")
    outcome = world.run()
    assert isinstance(outcome.failures[BLAS], NotReadyError)
    assert "v1-stock-20-blas-amd64" not in world.tags()
    assert verdicts(world) == []


# When a test is run again ---------------------------------------------------------------------------------------------


def test_unchanged_image_is_not_tested_again(world: World) -> None:
    world.run()
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.orders == []


def test_changed_test_keeps_key_and_runs_without_build(world: World) -> None:
    first = world.run().results
    world.begin_again()
    world.write({BLAS_TEST: "#!/bin/sh\nanother\n"})
    reasons = {decision.step.id: (decision.action, decision.reason) for decision in world.plan().decisions}
    assert reasons[BLAS] == ("reuse", "unchanged; its test has not passed yet and runs now")
    assert reasons[PRODUCTION] == ("reuse", "unchanged; it is traced again by the current tests of its chain")
    outcome = world.run()
    assert world.driver.built == []
    assert world.driver.tested == [BLAS]
    record = outcome.results[BLAS].record
    assert (record.key, record.image) == (first[BLAS].record.key, first[BLAS].record.image)
    assert record.verdicts != first[BLAS].record.verdicts
    told = [type(event) for event in world.events if getattr(event, "step", "") == BLAS]
    assert told == [StepStarted, Verdict, StepReused]
    assert not any(isinstance(event, StepFinished) for event in world.events)
    world.begin_again()
    world.run()
    assert world.driver.orders == [], "the verdict of the new test is in the record"


def test_new_test_of_old_image_runs_and_deleted_test_does_not(world: World) -> None:
    world.write({BLAS_TEST: None})
    world.run()
    world.begin_again()
    world.write({BLAS_TEST: "#!/bin/sh\n"})
    world.run()
    assert (world.driver.built, world.driver.tested) == ([], [BLAS])
    world.begin_again()
    world.write({BLAS_TEST: None})
    assert world.run().succeeded
    assert world.driver.orders == []


def test_reused_image_failing_changed_test_keeps_record(world: World) -> None:
    world.run()
    record = world.records.last(PLACE, "stock-20-blas-amd64").record
    for _ in range(2):
        world.begin_again()
        world.write({BLAS_TEST: "#!/bin/sh\nstricter\n"})
        world.driver.fails_tests[BLAS] = failing("too loose")
        outcome = world.run()
        assert isinstance(outcome.failures[BLAS], NotProvenError)
        assert VENV in outcome.skipped
        assert world.driver.built == []
        assert world.records.last(PLACE, "stock-20-blas-amd64").record == record


def test_reused_image_failing_test_gets_no_other_tag(world: World) -> None:
    world.run()
    world.host.tags = {key: value for key, value in world.host.tags.items() if key[1].startswith("k1-")}
    world.begin_again()
    world.write({BLAS_TEST: "#!/bin/sh\nstricter\n"})
    world.driver.fails_tests[BLAS] = failing()
    world.run()
    assert set(world.tags()) == {"v1-stock-10-base-amd64"}


def test_step_used_unchanged_is_tested(world: World) -> None:
    world.run()
    world.begin_again()
    world.write({BLAS_TEST: "#!/bin/sh\nanother\n"})
    assert world.run(first=30).succeeded
    assert (world.driver.built, world.driver.tested) == ([], [BLAS])


# Images without a shell -----------------------------------------------------------------------------------------------

NOT_STARTED = "exec /.chainbuild-test/test: no such file or directory"


class Shelless:
    """A builder whose images have no interpreter: a test starts only if a shell is mounted."""

    def __init__(self, world: World, *said: str) -> None:
        self.world = world
        self.said = said or (NOT_STARTED,)
        self.orders: list[BuildSpec] = []
        self.commands: list[str] = []
        self.contexts: list[list[str]] = []

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        self.orders.append(spec)
        if spec.export is not None:
            (spec.export / "busybox").write_bytes(b"\x7fELF")
            return BuildResult(digest=None, seconds=0.1)
        command = spec.dockerfile.read_text().splitlines()[-1].partition("[")[2]
        self.commands.append(command)
        self.contexts.append(sorted(path.name for path in spec.context.iterdir()))
        if not command.startswith('"/.chainbuild-test/busybox"'):
            raise failing(*self.said)
        return BuildResult(digest=None, seconds=0.1)


def run_in_bare_image(world: World, builder: Shelless) -> str:
    step = world.graph((ARM64,)).by_id[StepId.parse("aarch64/stock/20-blas")]
    image = resolve(world.registries, ImageReference.parse("fat:1"), ARM64)
    contexts = {"debian:bookworm-slim": "docker-image://tools@sha256:0"}
    return run_image_test(builder, world.events.append, step, image, contexts=lambda *_: contexts)


def test_sh_script_gets_static_shell_in_image_without_shell(world: World) -> None:
    """A test could not run in a production image such as scratch or distroless."""
    builder = Shelless(world)
    verdict = run_in_bare_image(world, builder)
    assert verdict.startswith("passed sha256:")
    assert builder.commands == [
        '"/.chainbuild-test/test"]',
        '"/.chainbuild-test/busybox", "sh", "/.chainbuild-test/test"]',
    ]
    # It is next to the test, in the mount: nothing of it is in the image.
    assert builder.contexts == [["test"], ["busybox", "test"]]
    (brought,) = [spec for spec in builder.orders if spec.export is not None]
    assert dict(brought.args) == {"ARCHITECTURE": "arm64"}
    assert dict(brought.contexts) == {"debian:bookworm-slim": "docker-image://tools@sha256:0"}
    (summary,) = [event.summary for event in world.events if isinstance(event, Verdict)]
    assert summary.endswith("with a shell from outside the image")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("#!/bin/bash\n", "lacks the test's interpreter /bin/bash"),
        ("#!/usr/bin/env python3\n", "lacks the test's interpreter python3"),
        ("\x7fELF", "Link the test statically"),
    ],
)
def test_other_interpreters_are_not_provided(world: World, text: str, hint: str) -> None:
    world.write({BLAS_TEST: text})
    builder = Shelless(world)
    with pytest.raises(NotProvenError) as caught:
        run_in_bare_image(world, builder)
    assert hint in caught.value.hint
    assert len(builder.commands) == 1


@pytest.mark.parametrize("said", ["sh: 1: nope: not found", "/data: no such file or directory", ""])
def test_other_failures_mount_no_shell(world: World, said: str) -> None:
    builder = Shelless(world, said)
    with pytest.raises(NotProvenError) as caught:
        run_in_bare_image(world, builder)
    assert caught.value.hint == ""
    assert len(builder.commands) == 1


@given(st.lists(st.text(max_size=200), max_size=20))
def test_log_of_test_is_parsed_in_bounded_time(log: list[str]) -> None:
    assert was_not_started((*log, NOT_STARTED), "/.chainbuild-test/test")


@pytest.mark.parametrize(
    "name", ["/bin/sh", "/usr/bin/sh", "/bin/dash", "/bin/busybox", "/usr/bin/env sh", "/bin/bash"]
)
def test_busybox_replaces_only_posix_shells(name: str) -> None:
    assert can_stand_in(f"#!{name}\n".encode()) is (name not in {"/bin/bash", "/bin/busybox"})
