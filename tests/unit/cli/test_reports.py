"""`--report` and `--trace` of a run, however it ends, and `chainbuild report` afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.cli import run
from chainbuild.cli.show import Show
from chainbuild.errors import ExitCode, UnreachableError, WrongUseError
from chainbuild.execution import publish
from chainbuild.execution.backends import use_backends
from chainbuild.run_report import timeline
from chainbuild.run_report.journal import read_journal
from chainbuild.run_report.timeline import Timeline, timeline_of
from chainbuild.step_id import StepId
from tests.support.world import REPOSITORY, THREE_STEPS, World, failed

BASE, BLAS = (StepId("amd64", "stock", name) for name in ("10-base", "20-blas"))
Command = Callable[..., int]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS)
    return made


@pytest.fixture
def build(world: World, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(world.root)

    def command(*flags: str) -> int:
        world.begin_again()
        with use_backends(world.backends):
            return run(
                ["build", "amd64", REPOSITORY, "v1", world.base_name, "stock", "slim:1", "--plain", "--no-load", *flags]
            )

    return command


def latest(world: World) -> Timeline:
    return timeline_of(read_journal(world.root / ".chainbuild/logs/latest/events.jsonl"))


def test_build_writes_report_and_trace(world: World, build: Command) -> None:
    assert build("--report", "run.html", "--trace", "run.json") == ExitCode.DONE
    page = (world.root / "run.html").read_text()
    assert ">succeeded<" in page
    assert 'href=".chainbuild/logs/' in page
    names = [event["name"] for event in json.loads((world.root / "run.json").read_text())["traceEvents"]]
    assert {"10-base", "build", "check"} <= set(names)


def test_journal_has_needs_phases_and_the_end(world: World, build: Command) -> None:
    assert build() == ExitCode.DONE
    last = latest(world)
    assert last.outcome == "succeeded"
    assert last.steps[BLAS].needs == (BASE,)
    assert [span.name for span in last.steps[BASE].spans] == ["build", "check"]
    assert [span.name for span in last.phases] == ["index"]


def test_failed_step_is_in_the_report(world: World, build: Command) -> None:
    def during(spec: BuildSpec) -> None:
        if spec.step == BLAS:
            raise failed(BLAS)

    world.driver.during = during
    assert build("--report", "run.html") == ExitCode.BUILD_FAILED
    page = (world.root / "run.html").read_text()
    for part in (">failed<", "<h2>Failures</h2>", "make exited with code 2", "amd64-stock-20-blas.log", "skipped"):
        assert part in page, part


def test_error_that_ends_the_run_is_in_the_report(
    world: World, build: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*args: object, **kwargs: object) -> None:
        raise UnreachableError("ghcr.io refuses connections")

    monkeypatch.setattr(publish, "push_results", refuses)
    assert build("--push", "--report", "run.html") == ExitCode.REGISTRY
    last = latest(world)
    assert (last.outcome, last.message) == ("failed", "ghcr.io refuses connections")
    assert "ghcr.io refuses connections" in (world.root / "run.html").read_text()


def test_interrupted_run_is_reported(world: World, build: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "publish_indexes", interrupted)
    assert build("--report", "run.html") == ExitCode.INTERRUPTED
    assert ">interrupted<" in (world.root / "run.html").read_text()


def test_run_that_fails_at_once_is_reported_only_on_request(world: World, build: Command) -> None:
    world.base_name = "missing:1"
    assert build() == ExitCode.REGISTRY
    assert not (world.root / ".chainbuild/logs").exists()
    assert build("--report", "run.html") == ExitCode.REGISTRY
    assert "missing:1" in (world.root / "run.html").read_text()


def test_folders_of_reports_are_created(world: World, build: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--report", "new/folder/run.html") == ExitCode.DONE
    assert (world.root / "new/folder/run.html").is_file()
    (world.root / "file").write_text("")
    assert build("--trace", "file/run.json") == ExitCode.WRONG_USE
    assert f"--trace: cannot write to {world.root / 'file'}" in capsys.readouterr().err


def test_report_that_cannot_be_written_does_not_fail_the_run(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    def during(spec: BuildSpec) -> None:
        (world.root / "run.html").mkdir(exist_ok=True)

    world.driver.during = during
    assert build("--report", "run.html") == ExitCode.DONE
    assert "warning: no report was written: cannot write run.html: " in capsys.readouterr().err


def test_report_and_dry_run_exclude_each_other() -> None:
    with pytest.raises(WrongUseError, match="--report cannot be combined with --dry-run"):
        Show(report=Path("run.html"), dry_run=True)


def test_bug_in_the_report_does_not_fail_the_run(
    world: World, build: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(timeline, "timeline_of", broken)
    assert build("--report", "run.html") == ExitCode.DONE
    assert "warning: no report was written: ZeroDivisionError: ours" in capsys.readouterr().err


def test_science_layers_of_a_project_have_a_report_of_their_own(tmp_path: Path) -> None:
    show = Show(report=tmp_path / "run.html", trace=tmp_path / "run.json").of_science()
    assert (show.reports.page, show.reports.trace) == (tmp_path / "run-science.html", tmp_path / "run-science.json")
    assert not Show().of_science().reports


# Afterwards -----------------------------------------------------------------------------------------------------------


def test_report_of_the_last_run_is_written_into_its_folder(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    build()
    capsys.readouterr()
    assert run(["report"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == (world.root / ".chainbuild/logs/latest").resolve() / "report.html"
    assert 'href="amd64-stock-10-base.log"' in path.read_text()


def test_report_of_a_named_run_goes_to_the_given_files(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    build()
    name = (world.root / ".chainbuild/logs/latest").resolve().name
    for named in (name, f".chainbuild/logs/{name}"):
        capsys.readouterr()
        assert run(["report", named, "-o", "run.html", "--trace", "run.json", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["schema"], document["page"], document["trace"]) == (
            "chainbuild.run-report/1",
            "run.html",
            "run.json",
        )
        assert Path(document["run"]).name == name


def test_link_of_a_tree_to_another_folder_is_not_followed(
    world: World, build: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build()
    logs = world.root / ".chainbuild/logs"
    other = tmp_path / "other"
    (logs / "latest").resolve().rename(other)
    (logs / "latest").unlink()
    (logs / "latest").symlink_to(other)
    assert run(["report"]) == 2
    assert "leads out of" in capsys.readouterr().err
    assert not (other / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"), [([], "no run found below"), (["nope"], "nope is no run"), (["-C", "none"], "no run found")]
)
def test_report_without_a_run_is_an_error(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["report", *arguments]) == 2
    assert says in capsys.readouterr().err
