"""`chainbuild build` and `chainbuild plan` from the arguments to the registries, with the backends of a world."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.cli import run
from chainbuild.errors import BuildFailedError, ExitCode, WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.images.local_store import LocalImage
from chainbuild.references import ImageReference
from chainbuild.registry.images import platforms_of, resolve
from chainbuild.requests.last_run import load_last_run
from chainbuild.step_id import StepId
from tests.support.keys import store_record
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STEP, THREE_STEPS, World, failed

BASE, BLAS, VENV, MINIMIZE, PRODUCTION = (
    StepId("amd64", "stock", name) for name in ("10-base", "20-blas", "30-venv", "minimize", "production")
)
ALL = [BASE, BLAS, VENV, MINIMIZE, PRODUCTION]
PLACE = ImageReference(CHAIN, REPOSITORY)
Command = Callable[..., int]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS)
    made.fake.host("ghcr.io")
    return made


@pytest.fixture
def build(world: World, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs `chainbuild build` or another command in the tree and returns the exit code."""
    monkeypatch.chdir(world.root)

    def command(*flags: str, platforms: str = "amd64", repo: str = REPOSITORY, name: str = "build") -> int:
        world.begin_again()
        arguments = [name, platforms, repo, "v1", world.base_name, "stock", "slim:1"]
        with use_backends(world.backends):
            return run([*arguments, "--plain", *flags] if name == "build" else [*arguments, *flags])

    return command


def platforms(world: World, tag: str = "v1-stock") -> list[str]:
    return [platform.oci for platform in platforms_of(world.registries, PLACE.with_tag(tag))]


# Building and reusing -------------------------------------------------------------------------------------------------


def test_build_command_builds_publishes_and_loads(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build() == ExitCode.DONE
    assert world.driver.built == ALL
    assert {"v1-stock-amd64", "v1-stock", "v1-stock-minimized-amd64"} <= world.tags().keys()
    assert world.store.loaded == [f"{REPOSITORY}:v1-stock-amd64"]
    assert f"{CHAIN}/{REPOSITORY}:v1-stock-amd64" in capsys.readouterr().out
    assert world.checked == [frozenset({AMD64})]


def test_build_command_without_changes_builds_and_writes_nothing(world: World, build: Command) -> None:
    build()
    before = dict(world.host.tags)
    assert build() == ExitCode.DONE
    assert world.driver.orders == []
    assert world.host.tags == before
    assert world.fake.counted("PUT") == world.fake.counted("POST") == 0
    assert len(world.checked) == 1, "a run that builds nothing needs no builder"


def test_build_command_no_load_leaves_local_store_alone(world: World, build: Command) -> None:
    assert build("--no-load") == ExitCode.DONE
    assert world.store.loaded == []


def test_build_command_refresh_rebuilds_each_step_once(world: World, build: Command) -> None:
    build()
    world.now += 100
    assert build("--refresh") == ExitCode.DONE
    assert world.driver.built[0] == BASE


def test_builder_flags_reach_the_driver(world: World, build: Command) -> None:
    assert build("--builder", "aarch64=far", "--builder", "near", "--no-cache") == ExitCode.DONE
    builders, no_cache = world.driver_settings[-1]
    assert builders == {"linux/arm64": "far", "": "near"}
    assert no_cache


def test_base_of_the_local_store_is_handed_over_and_pinned(world: World, build: Command) -> None:
    world.base_name = "mine:1"
    world.store.images["mine:1"] = LocalImage(id="x", platform=AMD64, size=1, repo_digests=())
    assert build() == ExitCode.DONE
    assert world.handed_over == ["mine:1"]
    spec = next(spec for spec in world.driver.orders if spec.step == BASE)
    assert dict(spec.args)["BASE_IMAGE"].startswith(f"{CHAIN}/")
    assert "@sha256:" in dict(spec.args)["BASE_IMAGE"]


def test_records_keep_the_notes_of_the_tree(world: World, build: Command) -> None:
    world.notes = {"commit": "abc123", "dirty": "no"}
    build()
    (record,) = [one.cached_record for one in world.plan().decisions if one.step.id == BASE]
    assert record is not None
    assert (record.notes["commit"], record.notes["dirty"]) == ("abc123", "no")


# --from, --until, --only ----------------------------------------------------------------------------------------------


def test_until_builds_lower_steps_and_publishes_no_result(world: World, build: Command) -> None:
    assert build("--until", "20") == ExitCode.DONE
    assert world.driver.built == [BASE, BLAS]
    assert set(world.tags()) == {"v1-stock-10-base-amd64", "v1-stock-20-blas-amd64"}
    assert world.store.loaded == []


def test_from_uses_lower_steps_as_last_built(world: World, build: Command) -> None:
    build()
    world.write({"stock/10-Dockerfile-base": STEP + "RUN other\n", "src/setup.py": "setup(2)\n"})
    assert build("--from", "30") == ExitCode.DONE
    assert world.driver.built == [VENV, MINIMIZE, PRODUCTION]


def test_from_without_earlier_build_is_an_error(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--from", "20") == ExitCode.WRONG_USE
    assert world.driver.orders == []
    assert f"--from 20: {BASE} is not in the chain registry" in capsys.readouterr().err


def test_only_builds_one_step_and_publishes_no_result(world: World, build: Command) -> None:
    build()
    before = world.tags()
    world.write({"stock/10-Dockerfile-base": STEP + "RUN other\n", "stock/blas-amd64-args": "CPU=ZEN\n"})
    assert build("--only", "20") == ExitCode.DONE
    assert world.driver.built == [BLAS]
    changed = {tag for tag, digest in world.tags().items() if before[tag] != digest}
    assert changed == {"v1-stock-20-blas-amd64"}


@pytest.mark.parametrize("flag", ["--from", "--until", "--only"])
def test_step_number_that_does_not_exist_starts_nothing(world: World, build: Command, flag: str) -> None:
    assert build(flag, "25") == ExitCode.WRONG_USE
    assert world.driver.orders == []
    assert world.fake.log == []


# Failures -------------------------------------------------------------------------------------------------------------


def test_failed_step_skips_the_rest_and_publishes_nothing(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    world.driver.during = lambda spec: _fail(spec, BLAS)
    assert build() == ExitCode.BUILD_FAILED
    assert world.driver.built == [BASE, BLAS]
    assert set(world.tags()) == {"v1-stock-10-base-amd64"}
    assert world.store.loaded == []
    assert "make exited with code 2" in capsys.readouterr().err
    world.driver.during = lambda _: None
    assert build() == ExitCode.DONE
    assert world.driver.built == ALL[1:]


def _fail(spec: BuildSpec, *steps: StepId) -> None:
    if spec.step in steps:
        raise failed(spec.step)


def test_keep_going_publishes_the_finished_platform(world: World, build: Command) -> None:
    world.driver.during = lambda spec: _fail(spec, BLAS)
    assert build("--keep-going", platforms="amd64,aarch64") == ExitCode.BUILD_FAILED
    assert platforms(world) == ["linux/arm64"]
    assert world.store.loaded == [f"{REPOSITORY}:v1-stock-aarch64"]
    world.driver.during = lambda _: None
    assert build(platforms="amd64,aarch64") == ExitCode.DONE
    assert set(platforms(world)) == {"linux/amd64", "linux/arm64"}
    assert all(step.platform == "amd64" for step in world.driver.built)


def test_failed_test_is_not_tagged_and_runs_again(world: World, build: Command) -> None:
    world.write({"stock/production-test": "#!/bin/sh\nfalse\n"})
    fails = BuildFailedError("no", log_tail=("expected 4, got 5",))

    def during(spec: BuildSpec) -> None:
        if spec.step == PRODUCTION and not spec.image and spec.export is None:
            raise fails

    world.driver.during = during
    assert build() == ExitCode.NOT_PROVEN
    assert "v1-stock-amd64" not in world.tags()
    assert "v1-stock" not in world.tags()
    assert world.store.loaded == []
    world.driver.during = lambda _: None
    assert build() == ExitCode.DONE
    assert "v1-stock" in world.tags()


def test_failed_test_of_a_reused_image_moves_no_tag(world: World, build: Command) -> None:
    build()
    del world.host.tags[REPOSITORY, "v1-stock-amd64"]
    world.write({"stock/production-test": "#!/bin/sh\nfalse\n"})
    fails = BuildFailedError("no", log_tail=("expected 4, got 5",))

    def during(spec: BuildSpec) -> None:
        if spec.step == PRODUCTION and not spec.image and spec.export is None:
            raise fails

    world.driver.during = during
    assert build() == ExitCode.NOT_PROVEN
    assert world.driver.built == []
    assert "v1-stock-amd64" not in world.tags()


def test_strict_command_tags_no_image_with_warnings(world: World, build: Command) -> None:
    finding = {"severity": "warning", "kind": "library", "path": "/x", "message": "odd"}
    world.driver.proof = {**world.driver.proof, "findings": [finding]}
    assert build("--strict") == ExitCode.NOT_PROVEN
    assert "v1-stock" not in world.tags()
    assert build() == ExitCode.DONE
    assert world.driver.built == []
    assert "v1-stock" in world.tags()


def test_failed_proof_leaves_the_index_as_it_was(world: World, build: Command) -> None:
    build()
    before = world.tags()["v1-stock"]
    world.driver.proof = {**world.driver.proof, "findings": [{"severity": "error", "message": "no"}]}
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert build("--push", repo="ghcr.io/acme/atom") == ExitCode.NOT_PROVEN
    assert world.tags()["v1-stock"] == before
    assert world.fake.host("ghcr.io").tags == {}


# The deadline and interrupts ------------------------------------------------------------------------------------------


def test_deadline_stops_before_a_step_that_takes_longer(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, result in world.run().results.items():
        seconds = 7200 if step == BLAS else 1
        content = json.dumps(result.record.as_json() | {"seconds": seconds}).encode()
        for tag in (result.record.key, f"k1-last-{result.step.family}"):
            store_record(world.registries, PLACE.with_tag(tag), content)
    world.drop_indexes()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert build("--deadline", "1h") == ExitCode.DEADLINE
    assert world.driver.orders == []
    err = capsys.readouterr().err
    assert f"stopped before the deadline; the next run continues with: {BLAS}, {VENV}" in err
    assert build("--deadline", "3h") == ExitCode.DONE
    assert world.driver.built == [BLAS, VENV, MINIMIZE, PRODUCTION]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell lets a program in the background ignore SIGINT; its child ignores it, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_stops_the_builder_and_next_run_resumes(world: World, build: Command) -> None:
    assert threading.current_thread() is threading.main_thread()

    def during(spec: BuildSpec) -> None:
        if spec.step == BLAS:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert world.driver.stopping.wait(30)
            raise failed(BLAS)

    world.driver.during = during
    assert build() == ExitCode.INTERRUPTED
    assert world.driver.stopped == 1
    assert world.service.leases == 0
    assert set(world.tags()) == {"v1-stock-10-base-amd64"}
    world.driver.during = lambda _: None
    assert build() == ExitCode.DONE
    assert world.driver.built == ALL[1:]
    assert "v1-stock" in world.tags()


def test_managed_registry_is_leased_during_the_run_only(world: World, build: Command) -> None:
    leases: list[int] = []
    world.driver.during = lambda _: leases.append(world.service.leases)
    assert build() == ExitCode.DONE
    assert set(leases) == {1}
    assert world.service.leases == 0
    leases.clear()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert build("--registry", CHAIN) == ExitCode.DONE
    assert set(leases) == {0}, "a registry that is named needs no lease"


# Indexes and pushes ---------------------------------------------------------------------------------------------------


def test_index_of_two_commands_has_both_platforms(world: World, build: Command) -> None:
    assert build(platforms="aarch64") == ExitCode.DONE
    assert build(platforms="amd64") == ExitCode.DONE
    assert set(platforms(world)) == {"linux/amd64", "linux/arm64"}


def test_stale_index_is_a_warning_or_an_error(world: World, build: Command, capsys: pytest.CaptureFixture[str]) -> None:
    build(platforms="aarch64")
    before = world.tags()["v1-stock"]
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    assert build("--fail-if-stale-index") == ExitCode.STALE_INDEX
    assert world.tags()["v1-stock"] == before
    assert "v1-stock keeps linux/arm64" in capsys.readouterr().err
    assert build() == ExitCode.DONE
    assert world.driver.built == []
    assert "v1-stock keeps linux/arm64" in capsys.readouterr().err
    assert set(platforms(world)) == {"linux/amd64", "linux/arm64"}
    assert build("--fail-if-stale-index", "--replace-index") == ExitCode.DONE
    assert platforms(world) == ["linux/amd64"]


def test_push_sends_results_and_index_to_repo(world: World, build: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--push", platforms="amd64,aarch64", repo="ghcr.io/acme/atom") == ExitCode.DONE
    there = {tag: digest for (_, tag), digest in world.fake.host("ghcr.io").tags.items() if tag.startswith("v1")}
    assert there.keys() == {"v1-stock-amd64", "v1-stock-aarch64", "v1-stock"}
    assert there.items() <= world.tags().items()
    assert "pushed ghcr.io/acme/atom:v1-stock" in capsys.readouterr().err
    pushed = resolve(world.registries, ImageReference.parse("ghcr.io/acme/atom:v1-stock"), ARM64)
    assert str(pushed.digest) == there["v1-stock-aarch64"]


def test_push_refused_by_repo_keeps_everything_built(world: World, build: Command) -> None:
    there = world.fake.host("ghcr.io")
    world.driver.during = lambda _: there.require("Basic x", 'Basic realm="x"')
    assert build("--push", repo="ghcr.io/acme/atom") == ExitCode.REGISTRY
    assert there.tags == {}
    there.require("", "")
    assert build("--push", repo="ghcr.io/acme/atom") == ExitCode.DONE
    assert world.driver.built == []
    assert ("acme/atom", "v1-stock") in world.fake.host("ghcr.io").tags


def test_stale_index_of_repo_is_refused_before_the_push(world: World, build: Command) -> None:
    build("--push", platforms="aarch64", repo="ghcr.io/acme/atom")
    before = dict(world.fake.host("ghcr.io").tags)
    world.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    arguments = ("--push", "--replace-index", "--fail-if-stale-index")
    assert build(*arguments, repo="ghcr.io/acme/atom") == ExitCode.STALE_INDEX
    assert world.fake.host("ghcr.io").tags == before


# Plans ----------------------------------------------------------------------------------------------------------------


def test_plan_command_shows_what_build_then_does(
    world: World, build: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    build()
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    capsys.readouterr()
    assert build("--json", "--fail-if-build", name="plan") == ExitCode.WOULD_BUILD
    assert world.driver.orders == []
    assert world.fake.counted("PUT") == world.fake.counted("POST") == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    planned = [StepId.parse(step["step"]) for step in steps if step["action"] != "reuse"]
    assert build() == ExitCode.DONE
    assert world.driver.built == planned == [BLAS, VENV, MINIMIZE, PRODUCTION]
    assert build("--fail-if-build", name="plan") == ExitCode.DONE


def test_plan_and_dry_run_save_no_arguments_of_a_run(world: World, build: Command) -> None:
    build(name="plan")
    build("--dry-run")
    with pytest.raises(WrongUseError, match="no earlier run found"):
        load_last_run(world.root)
    build()
    assert load_last_run(world.root).repo == REPOSITORY
    build(name="plan", repo="other/repo")
    assert load_last_run(world.root).repo == REPOSITORY


def test_plan_command_needs_no_signing_key_and_no_builder(world: World, build: Command) -> None:
    world.key_variables = {}
    assert build(name="plan") == ExitCode.DONE
    assert world.checked == []
