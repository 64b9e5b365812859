"""What a failed run keeps for `chainbuild debug`, and the command up to its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chainbuild.cli import run
from chainbuild.errors import BuildFailedError, NotReadyError, WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.execution.failed_builds import FailedRun, load_failed_run, save_failed_builds
from chainbuild.execution.outcome import FAILED_BUILDS, RunOutcome
from chainbuild.execution.session import Settings
from chainbuild.host.user_folders import tree_file
from chainbuild.operations.debug.subject import failed_subject, planned_subject
from chainbuild.project.location import FILE_NAME
from chainbuild.references import ChainRegistry
from chainbuild.requests.build import read_build_request
from chainbuild.requests.last_run import load_last_run
from chainbuild.step_id import StepId
from tests.support.world import THREE_STEPS, World

WORDS = ["amd64", "team/atom", "v1", "fat:1", "stock", "slim:1"]
BLAS = StepId.parse("amd64/stock/20-blas")


def failure(step: StepId, line: int = 4) -> BuildFailedError:
    return BuildFailedError(f"{step}: RUN make exited with code 2", where=f"stock/20-Dockerfile-blas:{line}", line=line)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    monkeypatch.chdir(tmp_path)
    with use_backends(made.backends):
        yield made


def failed_run(world: World) -> FailedRun:
    world.driver.fails[BLAS] = failure(BLAS)
    assert run(WORDS) == 1
    found = load_failed_run(world.root)
    assert found is not None
    return found


def test_failure_ends_with_command_that_debugs_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    failed_run(world)
    assert capsys.readouterr().err.splitlines()[-1] == "  debug: chainbuild debug 20-blas"


def test_failed_build_is_kept_with_its_dockerfile(world: World) -> None:
    (build,) = failed_run(world).builds
    assert build.spec.step == BLAS
    assert (build.line, build.source) == (4, THREE_STEPS["stock/20-Dockerfile-blas"].encode())
    assert dict(build.spec.args)["CPU"] == "HASWELL"
    assert build.spec.image == ""
    subject = failed_subject(build, None)
    assert subject.where == "stock/20-Dockerfile-blas:4"
    assert failed_subject(build, 3).place.instruction.keyword == "ARG"


def test_failed_build_of_solve_is_kept_with_builds_below_it(world: World) -> None:
    (build,) = failed_run(world).builds
    assert [spec.step.name for spec in build.below] == ["10-base"]
    assert build.spec.parent
    assert world.driver.solves


def test_build_is_kept_privately_and_without_values_of_secrets(world: World, tmp_path: Path) -> None:
    world.write(
        {"stock/20-Dockerfile-blas": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN --mount=type=secret,id=t make\n"}
    )
    (tmp_path / "value").write_text("hidden")
    world.driver.fails[BLAS] = failure(BLAS)
    assert run([*WORDS, "--secret", f"id=t,src={tmp_path / 'value'}"]) == 1
    path = tree_file(FAILED_BUILDS, world.root)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "hidden" not in path.read_text()
    run_before = load_failed_run(world.root)
    assert run_before is not None
    assert [secret.id for secret in run_before.builds[0].spec.secrets] == ["t"]


def test_settings_of_failed_run_are_kept(world: World, tmp_path: Path) -> None:
    (build,) = failed_run(world).builds
    step = build.spec.step
    settings = Settings(
        root=tmp_path, registry=ChainRegistry("r.example:5000", "a/b"), port=5001, builders={"linux/arm64": "far"}
    )
    outcome = RunOutcome(failures={step: failure(step)}, failed_builds={step: (*build.below, build.spec)})
    save_failed_builds(settings, outcome)
    found = load_failed_run(tmp_path)
    assert found is not None
    assert found.settings(tmp_path) == settings


def test_next_run_that_succeeds_removes_failed_build(world: World) -> None:
    failed_run(world)
    world.driver.fails.clear()
    assert run(WORDS) == 0
    assert load_failed_run(world.root) is None


@pytest.mark.parametrize("line", [0, 2])
def test_failure_that_is_at_no_instruction_is_not_kept(
    world: World, line: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world.driver.fails[BLAS] = failure(BLAS, line)
    assert run(WORDS) == 1
    assert load_failed_run(world.root) is None
    assert "chainbuild debug" not in capsys.readouterr().err


def test_names_of_step_that_failed_twice_have_platform(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    other = StepId.parse("aarch64/stock/20-blas")
    world.driver.fails |= {BLAS: failure(BLAS), other: failure(other)}
    assert run(["amd64,aarch64", *WORDS[1:], "--keep-going"]) == 1
    err = capsys.readouterr().err
    assert "chainbuild debug amd64/stock/20-blas" in err
    assert "chainbuild debug aarch64/stock/20-blas" in err
    assert run(["debug", "20-blas", "--split"]) == 2
    assert "Name one of them: aarch64/stock/20-blas, amd64/stock/20-blas" in capsys.readouterr().err


def test_command_in_other_folder_names_tree(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    world.driver.fails[BLAS] = failure(BLAS)
    run(["build", "-C", str(tmp_path), *WORDS])
    assert capsys.readouterr().err.splitlines()[-1] == f"  debug: chainbuild debug -C {tmp_path} 20-blas"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["20-blas"], "needs a terminal"),
        (["20-blas", "--split", "--", "ls"], "--split runs the instruction itself"),
        (["20-blas", "--diff", "x", "--split"], "--diff records what is typed"),
        (["--split"], "no instruction failed in the last run"),
        (["20-blas", "--split"], "20-blas did not fail in the last run"),
        (["20-blas", "--at", "0", "--split"], "--at"),
        (["20-blas", "--split", "--secret", "id=t,src=/no/such"], "no such file"),
    ],
)
def test_wrong_use_is_reported(
    world: World, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(WORDS) == 0
    assert run(["debug", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_debug_flag_of_run_needs_terminal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--debug"]) == 2
    assert "--debug needs a terminal" in capsys.readouterr().err
    assert world.driver.orders == []


def test_step_that_did_not_fail_is_debugged_on_its_parent(world: World) -> None:
    assert run(WORDS) == 0
    request = read_build_request(load_last_run(world.root))
    with world.session() as session:
        subject = planned_subject(request, session, "20-blas", 4)
        assert subject.spec.step == BLAS
        assert "@sha256:" in dict(subject.spec.args)["BASE_IMAGE"]
        with pytest.raises(WrongUseError, match="no such step"):
            planned_subject(request, session, "20-blasss", 4)
        with pytest.raises(WrongUseError, match="no instruction"):
            planned_subject(request, session, "20-blas", 40)


def test_step_on_parent_that_is_not_built_is_reported(world: World) -> None:
    run(["plan", *WORDS])
    world.driver.fails[StepId.parse("amd64/stock/10-base")] = failure(StepId.parse("amd64/stock/10-base"), 3)
    assert run(WORDS) == 1
    request = read_build_request(load_last_run(world.root))
    with world.session() as session, pytest.raises(NotReadyError, match="is not built"):
        planned_subject(request, session, "20-blas", 4)


def test_foreign_frontend_is_not_debugged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write({"stock/20-Dockerfile-blas": "# syntax=acme/frontend\n" + THREE_STEPS["stock/20-Dockerfile-blas"]})
    world.driver.fails[BLAS] = failure(BLAS, 5)
    run(WORDS)
    assert "chainbuild debug" not in capsys.readouterr().err


def test_failed_builds_of_damaged_file_are_ignored(world: World) -> None:
    failed_run(world)
    tree_file(FAILED_BUILDS, world.root).write_text("{")
    assert load_failed_run(world.root) is None
    assert not (world.root / FILE_NAME).exists()
