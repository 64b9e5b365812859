"""When production images are traced, with which tests, and how missing paths are handled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.errors import BuildFailedError, NotProvenError
from chainbuild.events import Verdict
from chainbuild.execution.outcome import RunOutcome
from chainbuild.proof.trace.runs import TraceTarget, dockerfile_for
from chainbuild.registry.images import resolve
from chainbuild.requests.build import without_tests
from chainbuild.step_id import StepId
from tests.support.traces import missing, row
from tests.support.world import AMD64, THREE_STEPS, TRACE, World, failed

PRODUCTION = StepId.parse("amd64/stock/production")
PRODUCTION_TEST, BLAS_TEST, VENV_TEST = "stock/production-test", "stock/blas-test", "stock/venv-test"
ARGS = "stock/production-amd64-args"
STAGE = "utilities/Dockerfile-production"
DECLARING = THREE_STEPS[STAGE].replace("FROM ${MINIMIZED", "ARG PROVE_TRACE=1\nARG TRACE_IGNORE=\nFROM ${MINIMIZED", 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS | {STAGE: DECLARING, PRODUCTION_TEST: "#!/bin/sh\ntrue\n"})
    return made


def verdicts(world: World) -> list[Verdict]:
    return [event for event in world.events if isinstance(event, Verdict) and event.proof == "trace"]


def doubts(outcome: RunOutcome) -> tuple[str, ...]:
    """Return the warnings in the record of the production image."""
    return tuple(one.text for one in outcome.results[PRODUCTION].record.warnings.first)


def error_of(outcome: RunOutcome) -> NotProvenError:
    error = outcome.failures[PRODUCTION]
    assert isinstance(error, NotProvenError)
    return error


def traced_files(world: World) -> list[dict[str, str]]:
    """Return the files of each traced run with their contents, by name."""
    found: list[dict[str, str]] = []

    def look(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            files = {str(one.relative_to(spec.context)): one for one in spec.context.rglob("*") if one.is_file()}
            found.append({name: path.read_text() for name, path in files.items()})

    world.driver.during = look
    return found


def test_chain_is_traced_once_and_recorded(world: World) -> None:
    seen = traced_files(world)
    outcome = world.run()
    record = outcome.results[PRODUCTION].record
    assert record.verdicts["trace"] == "7 paths"
    assert [(event.passed, event.summary) for event in verdicts(world)] == [(True, "7 paths")]
    (files,) = seen
    assert files["0/test"] == "#!/bin/sh\ntrue\n"
    (test,) = json.loads(files["tests.json"])
    assert (test["name"], test["starts"], test["produced"]) == ("production-test", "/bin/sh", "")
    (spec,) = [spec for spec in world.driver.orders if spec.dockerfile.name == TRACE]
    args = dict(spec.args)
    assert args["PRODUCTION_IMAGE"].endswith(str(record.image))
    assert args["CHAIN_IMAGE"].endswith(str(outcome.results[StepId.parse("amd64/stock/30-venv")].record.image))
    world.begin_again()
    assert world.run().succeeded
    assert world.driver.orders == []


def test_missing_paths_prevent_tag_and_give_line_to_add(world: World) -> None:
    world.driver.trace = missing()
    outcome = world.run()
    error = error_of(outcome)
    assert error.findings == (
        "/srv/a, of no package: opened by /usr/bin/file (production-test)",
        "/usr/lib/file/magic.mgc, of the Debian package libmagic-mgc 5.44: opened by /usr/bin/file (production-test)",
    )
    assert "Add to minimize-amd64-args: ADDITIONAL_FILES=/srv/a /usr/lib/file" in error.hint
    assert "chainbuild minimize trace stock --write" in error.hint
    assert PRODUCTION not in outcome.results
    assert "v1-stock-amd64" not in world.tags()
    assert world.driver.tested == [], "what is not proven is not tested"


def test_changed_test_is_traced_again_without_build(world: World) -> None:
    world.run()
    world.begin_again()
    world.write({PRODUCTION_TEST: "#!/bin/sh\nother\n"})
    outcome = world.run()
    assert world.driver.built == []
    assert (world.driver.traced, world.driver.tested) == ([PRODUCTION], [PRODUCTION])
    assert set(outcome.results[PRODUCTION].record.verdicts) == {"libraries", "trace", "test"}
    world.begin_again()
    world.write({PRODUCTION_TEST: "#!/bin/sh\nthird\n"})
    world.driver.trace = missing()
    assert "failed its traced proof" in error_of(world.run()).message


@pytest.mark.parametrize("value", ["0", "off"])
def test_switch_turns_off_proof(world: World, value: str) -> None:
    world.write({ARGS: f"PROVE_TRACE={value}\n"})
    outcome = world.run()
    assert world.driver.traced == []
    assert list(outcome.results[PRODUCTION].record.verdicts) == ["libraries", "test"]


def test_chain_without_tests_is_not_traced(world: World) -> None:
    world.write({PRODUCTION_TEST: None})
    assert world.run().succeeded
    assert world.driver.traced == []


def test_run_without_tests_is_not_traced(world: World) -> None:
    assert world.run(without_tests(world.graph())).succeeded
    assert world.driver.traced == []


def test_step_tests_replace_missing_production_test(world: World) -> None:
    world.write({PRODUCTION_TEST: None, BLAS_TEST: "#!/bin/sh\n", VENV_TEST: "#!/bin/sh\n"})
    seen = traced_files(world)
    outcome = world.run()
    (tests,) = [json.loads(files["tests.json"]) for files in seen]
    assert [(test["name"], test["produced"]) for test in tests] == [
        ("blas-test", "/results/0-produced"),
        ("venv-test", "/results/1-produced"),
    ]
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "7 paths of 2 tests"


def test_trace_of_all_tests_is_done_on_request(world: World) -> None:
    world.write({BLAS_TEST: "#!/bin/sh\n", ARGS: "PROVE_TRACE=all\nTRACE_IGNORE=/srv/*\n"})
    seen = traced_files(world)
    world.run()
    (tests,) = [json.loads(files["tests.json"]) for files in seen]
    assert [(test["name"], bool(test["produced"])) for test in tests] == [
        ("blas-test", True),
        ("production-test", False),
    ]
    (spec,) = [spec for spec in world.driver.orders if spec.dockerfile.name == TRACE]
    assert dict(spec.args)["IGNORE"] == "/srv/*"


def test_ignored_paths_are_counted_in_verdict(world: World) -> None:
    world.driver.trace = {"ignored": ["/srv/a"]}
    world.run()
    assert verdicts(world)[0].findings == ("1 missing path left out by TRACE_IGNORE",)


def test_test_failing_in_chain_proves_nothing_and_warns(world: World) -> None:
    world.driver.trace = {"tests": [row(status="1")], **missing()}
    outcome = world.run()
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "not traced"
    (verdict,) = verdicts(world)
    assert verdict.passed
    assert verdict.findings == ()
    assert doubts(outcome) == (
        (
            "production-test fails (exit code 1) in the chain's image, so it proves nothing; before that it used"
            " /srv/a, /usr/lib/file/magic.mgc, which are missing in this one"
        ),
    )


def test_paths_used_only_by_failing_test_are_ignored(world: World) -> None:
    world.driver.trace = {"tests": [row(status="late"), row("venv-test")], **missing("production-test")}
    outcome = world.run()
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "7 paths of 1 test"
    assert "production-test times out in the chain's image" in doubts(outcome)[0]


def test_strace_failure_warns_with_its_message(world: World) -> None:
    world.driver.trace = {"tests": [row(traced=False, said="strace: ptrace: Operation not permitted\n")]}
    outcome = world.run()
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "not traced"
    assert doubts(outcome) == ("production-test was not traced: strace: ptrace: Operation not permitted",)


def test_skipped_test_is_noted_without_warning(world: World) -> None:
    world.driver.trace = {"tests": [row("blas-test", status="skipped", traced=False, produced="1"), row()]}
    world.run()
    assert verdicts(world)[0].findings == ("blas-test does not pass in this image, so it only tests the chain",)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            "x: RUN command -v strace >/dev/null || { apt-get update exited with code 100",
            "strace cannot be installed",
        ),
        ('x: RUN ["/.chainbuild-tracer/loader"] exited with code 255', "strace cannot start in containers"),
    ],
)
def test_builder_without_tracing_is_warning(world: World, message: str, why: str) -> None:
    def refuse(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            raise BuildFailedError(message, log_tail=("no such host", ""))

    world.driver.during = refuse
    outcome = world.run()
    assert outcome.succeeded
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "not traced"
    (finding,) = doubts(outcome)
    assert why in finding
    assert "(no such host)" in finding


def test_failed_strace_installation_is_retried_by_next_run(world: World) -> None:
    def refuse(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            raise BuildFailedError("x: RUN command -v strace exited with code 100", log_tail=("no such host",))

    world.driver.during = refuse
    assert doubts(world.run())
    world.begin_again()
    world.driver.during = lambda _: None
    outcome = world.run()
    assert world.driver.built == []
    assert outcome.results[PRODUCTION].record.verdicts["trace"] == "7 paths"
    assert doubts(outcome) == ()


def test_killed_test_is_failure_not_warning(world: World) -> None:
    def kill(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            raise BuildFailedError('x: RUN ["/.chainbuild-tracer/loader"] exited with code 137')

    world.driver.during = kill
    assert isinstance(world.run().failures[PRODUCTION], BuildFailedError)


def test_chain_image_with_lost_layer_is_rebuilt_before_trace(world: World) -> None:
    outcome = world.run()
    last = outcome.results[StepId.parse("amd64/stock/30-venv")]
    image = resolve(world.registries, last.step.repository.with_digest(last.record.image), AMD64)
    world.host.forget(image.layers[-1].digest)
    world.begin_again()
    world.write({PRODUCTION_TEST: "#!/bin/sh\nother\n"})
    outcome = world.run()
    assert outcome.succeeded
    assert world.driver.built == [StepId.parse("amd64/stock/30-venv")]
    assert world.driver.traced == [PRODUCTION]


def test_warnings_of_deleted_test_are_dropped(world: World) -> None:
    world.driver.trace = {"tests": [row(status="1")], **missing()}
    assert doubts(world.run())
    world.begin_again()
    (world.root / PRODUCTION_TEST).unlink()
    assert world.run(strict=True).succeeded


def test_other_build_failure_is_failure(world: World) -> None:
    def refuse(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            raise failed(spec.step)

    world.driver.during = refuse
    assert isinstance(world.run().failures[PRODUCTION], BuildFailedError)


# The Dockerfile -------------------------------------------------------------------------------------------------------


def test_trace_stage_of_each_test_has_no_network(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("#!/bin/sh\n")
    tests = (
        TraceTarget(name="t", program=tmp_path / "t", seconds=5, only_if_it_passes=True, in_production=True),
        TraceTarget(name="ls", command=("ls", 'a"b', "$x"), network=True),
    )
    text = dockerfile_for(tests)
    stages = text[text.index("FROM production AS produced-0") : text.index("FROM tools AS comparison")]
    runs = [line for line in stages.splitlines() if line.startswith("RUN")]
    assert [line.split()[1] for line in runs] == ["--network=none", "--network=none", "--network=default"]
    words = [json.loads(line[line.index("[") :]) for line in runs]
    assert [one[4:7] for one in words] == [
        ["/.chainbuild-tracer/run", "plain", "5"],
        ["/.chainbuild-tracer/run", "trace", "10"],
        ["/.chainbuild-tracer/run", "trace", "600"],
    ]
    assert words[0][-1] == "/.chainbuild-test/test"
    assert words[2][-3:] == ["ls", 'a"b', "$x"], "no shell ever reads them"
    assert "source=/.chainbuild-trace,target=/.chainbuild-produced" in runs[1], (
        "it is run if it passes in the other image"
    )
    assert [line for line in stages.splitlines() if line.startswith("COPY --from=traced")] == [
        "COPY --from=traced-0 /.chainbuild-trace/ /0/",
        "COPY --from=traced-1 /.chainbuild-trace/ /1/",
    ]


def test_trace_of_each_run_has_a_new_nonce() -> None:
    tests = (TraceTarget(name="ls", command=("ls",)),)
    assert dockerfile_for(tests) != dockerfile_for(tests)
