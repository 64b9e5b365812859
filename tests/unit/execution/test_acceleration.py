"""Native tools in plans and runs: which steps get them, when they are made, and what is shown and recorded of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.cli import run
from chainbuild.errors import ExitCode
from chainbuild.events import RunStarted
from chainbuild.execution.backends import use_backends
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import build_run
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import Settings
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.native.roots import Root
from chainbuild.native.settings import NativeChoice, NativeSettings
from chainbuild.native.tools import REFRESH_AFTER, tools_graph
from chainbuild.references import ChainRegistry, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World, failed
from tests.support.world.builder import LOG_OF_NATIVE_TOOLS

TOOLS = StepId("aarch64", "native", "debian-trixie-on-amd64")
BASE, BLAS, VENV = (StepId("aarch64", "stock", name) for name in ("10-base", "20-blas", "30-venv"))
TRIXIE = Root(distribution="debian", suite="trixie")
NATIVE = "native: binutils 2.44-3, gcc 14.2.0-19 for aarch64"
FIRST = "native: tools of debian-trixie for aarch64, made first"
BLAS_STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make\n"
OFF, CHECK = NativeChoice.parse("off"), NativeChoice.parse("check")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS)
    made.external("debian:trixie-slim", "trixie")
    made.root_of_images = TRIXIE
    return made


@pytest.fixture
def built(world: World) -> World:
    """A world with tools, and steps that are built again because their base changed."""
    assert emulated(world).succeeded
    world.base("second")
    world.begin_again()
    return world


def emulated(world: World, default: NativeChoice | None = None, **steps: NativeChoice) -> RunOutcome:
    return world.run(world.graph((ARM64,)), native=settings(default, **steps))


def settings(default: NativeChoice | None = None, **steps: NativeChoice) -> NativeSettings:
    named: Mapping[str, NativeChoice] = {f"stock/{name}*": choice for name, choice in steps.items()}
    return NativeSettings(default=default or NativeChoice(), steps=named)


def texts(world: World, options: ExecutionOptions | None = None) -> dict[StepId, str]:
    """Return what the plan says about each emulated step."""
    options, graph = options or ExecutionOptions(), world.graph((AMD64, ARM64))
    with world.session() as session:
        return dict(plan_acceleration(plan_run(graph, session, options), session, options).texts)


def lines_of(spec: BuildSpec) -> tuple[int, ...]:
    """Return the lines of the RUN instructions that got native tools."""
    return tuple(line for line, _ in spec.run_flags)


def flags_of(world: World, step: StepId) -> tuple[str, ...]:
    """Return the flags of the only RUN of a step that got native tools; none if there is no such RUN."""
    return next((flags for _, flags in spec_of(world, step).run_flags), ())


def spec_of(world: World, step: StepId) -> BuildSpec:
    (spec,) = [spec for spec in world.driver.orders if spec.step == step and spec.image]
    return spec


# When tools are made --------------------------------------------------------------------------------------------------


def test_tools_are_made_before_the_steps(world: World) -> None:
    outcome = emulated(world)
    assert outcome.succeeded, outcome.failures
    assert world.driver.built[:4] == [TOOLS, BASE, BLAS, VENV]
    assert world.warnings == []
    started = [event for event in world.emitted(RunStarted) if event.steps]
    assert [planned.step for planned in started[0].steps][:2] == [TOOLS, BASE]
    spec = spec_of(world, TOOLS)
    assert spec.platform == ARM64
    assert dict(spec.args)["ROOT_IMAGE"].startswith("docker.io/library/debian@sha256:")
    assert world.host.tags["chainbuild/native", "debian-trixie-on-amd64-aarch64"]


def test_tools_of_steps_are_in_their_runs_only(world: World) -> None:
    world.write({"stock/20-Dockerfile-blas": f"{BLAS_STEP}RUN apt-get update\nRUN cd /x && \\\n ninja\n"})
    emulated(world)
    spec = spec_of(world, BLAS)
    assert lines_of(spec) == (4, 6)
    tools = world.resolved("chainbuild/native:debian-trixie-on-amd64-aarch64", ARM64)
    assert (
        spec.run_flags[0][1]
        == spec.run_flags[1][1]
        == (
            f"--mount=type=bind,from={tools.reference.pinned},source=/tools,target=/.chainbuild-native",
            f"--mount=type=bind,from={tools.reference.pinned},source=/specs,target=/usr/lib/gcc/aarch64-linux-gnu/specs",
        )
    )
    assert spec.source == (world.root / "stock/20-Dockerfile-blas").read_bytes()
    assert [spec.step.name for spec in world.driver.orders if spec.run_flags] == ["10-base", "20-blas", "30-venv"]


def all_steps_run(world: World, command: str) -> None:
    for name in ("10-Dockerfile-base", "20-Dockerfile-blas", "30-Dockerfile-venv"):
        world.write({f"stock/{name}": f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nARG CPU\nRUN {command}\n"})


def test_tools_are_not_made_if_nothing_compiles_or_installs(world: World) -> None:
    all_steps_run(world, "rm -rf /x")
    assert emulated(world).succeeded
    assert TOOLS not in world.driver.built
    assert texts(world) == {}


def entries_of(world: World, step: StepId) -> int:
    return sum("source=/tools/entry,target=/usr/local/sbin/" in flag for flag in flags_of(world, step))


def test_steps_that_install_get_package_tools_only(world: World) -> None:
    world.driver.tools += "native apt 3.0.4\nnative dpkg 1.22.22\n"
    all_steps_run(world, "apt-get install -y gcc")
    outcome = emulated(world)
    assert outcome.results[BASE].record.notes["native"].startswith("apt 3.0.4, dpkg 1.22.22 (")
    assert (len(flags_of(world, BASE)), entries_of(world, BASE)) == (4, 3)
    world.base("second")
    assert texts(world)[BASE] == "native: apt 3.0.4, dpkg 1.22.22 for aarch64"


def test_steps_that_do_both_get_both(world: World) -> None:
    world.driver.tools += "native apt 3.0.4\nnative dpkg 1.22.22\n"
    assert emulated(world).succeeded
    assert (len(flags_of(world, BLAS)), entries_of(world, BLAS)) == (5, 3)
    world.base("second")
    assert texts(world)[BASE] == "native: binutils 2.44-3, gcc 14.2.0-19, apt 3.0.4, dpkg 1.22.22 for aarch64"


def test_package_tools_without_native_versions_are_a_reason(world: World) -> None:
    world.driver.tools = "emulated dpkg 1.22.22 it has no room for the name riscv64\n"
    all_steps_run(world, "apt-get update")
    assert emulated(world).succeeded
    assert flags_of(world, BASE) == ()
    world.base("second")
    assert texts(world)[BASE] == "emulated: dpkg 1.22.22 (it has no room for the name riscv64)"


def test_own_package_tools_are_not_hidden(world: World) -> None:
    world.driver.tools += "native apt 3.0.4\nnative dpkg 1.22.22\n"
    copying = f"{BLAS_STEP}COPY wrapper /usr/local/sbin/apt-get\n"
    world.write({"stock/20-Dockerfile-blas": copying, "wrapper": "#!/bin/sh\n"})
    assert emulated(world).succeeded
    assert [entries_of(world, step) for step in (BASE, BLAS, VENV)] == [3, 0, 0]
    world.base("second")
    found = texts(world)
    assert found[BLAS] == found[VENV]
    assert found[VENV].endswith("; emulated: packages, because 20-blas may write /usr/local/sbin/apt-get")


def test_own_package_tools_of_the_base_are_not_hidden(world: World) -> None:
    world.root_of_images = Root(distribution="debian", suite="trixie", own_entry="/usr/local/sbin/apt")
    all_steps_run(world, "apt-get update")
    reason = "emulated: packages, because its base has a program /usr/local/sbin/apt of its own"
    assert texts(world) == dict.fromkeys((BASE, BLAS, VENV), reason)
    assert emulated(world).succeeded
    assert TOOLS not in world.driver.built


def test_packages_are_emulated_in_a_check(world: World) -> None:
    world.driver.tools += "native apt 3.0.4\nnative dpkg 1.22.22\n"
    assert emulated(world, CHECK).succeeded
    assert [entries_of(world, step) for step in (BASE, BLAS, VENV)] == [0, 0, 0]
    world.base("second")
    found = texts(world, ExecutionOptions(native=settings(CHECK)))
    assert found[BASE] == f"{NATIVE}; emulated: packages, because a check cannot compare them"


def test_tools_are_not_made_for_the_builders_own_platform(world: World) -> None:
    assert world.run(world.graph((AMD64,))).succeeded
    assert {step.platform for step in world.driver.built} == {"amd64"}
    assert [spec for spec in world.driver.orders if spec.run_flags] == []


def test_steps_of_the_own_platform_stay_as_they_are(world: World) -> None:
    world.run(world.graph((AMD64, ARM64)))
    lines = {spec.step.platform: lines_of(spec) for spec in world.driver.orders if spec.step.name == "20-blas"}
    assert lines == {"amd64": (), "aarch64": (4,)}


def test_tools_are_reused_by_later_runs(built: World) -> None:
    assert texts(built)[BASE] == NATIVE
    assert emulated(built).succeeded
    assert TOOLS not in built.driver.built
    assert lines_of(spec_of(built, BASE)) == (3,)


def test_tools_are_reused_by_other_repositories(built: World) -> None:
    built.repo = "team/other"
    assert emulated(built).succeeded
    assert BASE in built.driver.built
    assert TOOLS not in built.driver.built


def test_tools_are_kept_when_their_root_image_changes(built: World) -> None:
    built.external("debian:trixie-slim", "a point release")
    assert emulated(built).succeeded
    assert TOOLS not in built.driver.built


def test_old_tools_are_made_again(built: World) -> None:
    built.now += REFRESH_AFTER + 1
    assert texts(built)[BASE] == FIRST
    assert emulated(built).succeeded
    assert built.driver.built[:2] == [TOOLS, BASE]


def test_old_tools_are_used_if_new_ones_cannot_be_made(built: World) -> None:
    built.now += REFRESH_AFTER + 1
    built.driver.fails[TOOLS] = failed(TOOLS)
    outcome = emulated(built)
    assert outcome.succeeded
    assert lines_of(spec_of(built, BASE)) == (3,)


def test_tools_that_cannot_be_made_are_done_without(world: World) -> None:
    world.driver.fails[TOOLS] = failed(TOOLS)
    outcome = emulated(world)
    assert outcome.succeeded
    assert world.driver.built[:2] == [TOOLS, BASE]
    (warning,) = world.warnings
    assert warning.startswith("native tools of debian-trixie could not be made, so everything is emulated: ")
    assert lines_of(spec_of(world, BASE)) == ()
    assert "native" not in outcome.results[BASE].record.notes


def test_tools_without_a_list_of_versions_are_done_without(world: World) -> None:
    world.driver.tools = "nonsense\n"
    assert emulated(world).succeeded
    assert "list of versions" in world.warnings[0]
    assert lines_of(spec_of(world, BASE)) == ()


def test_tools_that_replace_nothing_are_not_mounted(world: World) -> None:
    world.driver.tools = "emulated gcc 12.2 the cross package is made from 12.1\n"
    outcome = emulated(world)
    assert lines_of(spec_of(world, BASE)) == ()
    assert "native" not in outcome.results[BASE].record.notes
    world.base("second")
    assert texts(world)[BASE] == (
        "emulated: gcc 12.2 (the cross package is made from 12.1); "
        "compile it once: chainbuild native debian:trixie-slim --platform aarch64"
    )


@pytest.mark.parametrize("choice", [NativeChoice(), CHECK])
def test_tools_that_do_not_start_are_done_without(world: World, choice: NativeChoice) -> None:
    """BuildKit's own QEMU starts every program under itself."""
    world.driver.starts_native = False
    outcome = emulated(world, choice)
    assert outcome.succeeded
    (warning,) = world.warnings
    assert warning.startswith(
        "the builder starts no native programs in builds for aarch64, so everything is emulated: "
    )
    assert "tonistiigi/binfmt --install arm64" in warning
    assert [spec for spec in world.driver.orders if spec.run_flags] == []
    assert not outcome.results[BASE].record.notes.keys() & {"native"}
    assert not outcome.results[BASE].record.verdicts.keys() & {"native"}


def test_interrupted_tools_end_the_run_without_a_defect(world: World) -> None:
    def interrupt(spec: BuildSpec) -> None:
        if spec.step == TOOLS:
            raise KeyboardInterrupt

    world.driver.during = interrupt
    with world.session() as session, pytest.raises(KeyboardInterrupt):
        build_run(world.graph((ARM64,)), session, ExecutionOptions(jobs=1))


def test_compilers_from_source_are_preferred(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.driver.tools = "native binutils 2.44-3\nemulated gcc 14.2.0-19 the cross package has no version\n"
    emulated(world)
    monkeypatch.chdir(world.root)
    with use_backends(world.backends):
        assert run(["native", "debian:trixie-slim", "--platform", "aarch64"]) == ExitCode.DONE
    world.begin_again()
    world.base("second")
    assert texts(world)[BASE] == NATIVE
    outcome = emulated(world)
    assert world.driver.built[0] == BASE
    assert "gcc 14.2.0-19" in outcome.results[BASE].record.notes["native"]
    compiled = world.resolved("chainbuild/native:debian-trixie-compiled-on-amd64-aarch64", ARM64)
    assert f"from={compiled.reference.pinned}," in flags_of(world, BASE)[0]


# The plan -------------------------------------------------------------------------------------------------------------


def test_plan_builds_no_tools(world: World) -> None:
    before = dict(world.host.tags)
    assert texts(world) == dict.fromkeys((BASE, BLAS, VENV), FIRST)
    assert world.driver.orders == []
    assert world.host.tags == before


def test_plan_says_what_stays_emulated(world: World) -> None:
    world.driver.tools = "native binutils 2.40-2\nemulated gcc 12.2.0-14 the cross package has no version\n"
    emulated(world)
    world.base("second")
    assert texts(world)[BASE] == (
        "native: binutils 2.40-2 for aarch64; emulated: gcc 12.2.0-14 (the cross package has no version); "
        "compile it once: chainbuild native debian:trixie-slim --platform aarch64"
    )


def test_plan_names_no_way_out_if_only_binutils_is_emulated(world: World) -> None:
    world.driver.tools = "emulated binutils 2.40-2 the cross package has 2.40-1\nnative gcc 12.2.0-14\n"
    emulated(world)
    world.base("second")
    assert texts(world)[BASE] == (
        "native: gcc 12.2.0-14 for aarch64; emulated: binutils 2.40-2 (the cross package has 2.40-1)"
    )


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (Root(), "emulated: not a Debian or Ubuntu root"),
        (Root(distribution="alpine", suite="v3"), "emulated: not a Debian or Ubuntu root"),
        (Root(distribution="debian"), "emulated: not a Debian or Ubuntu root"),
    ],
)
def test_root_without_tools_is_a_reason(world: World, root: Root, text: str) -> None:
    world.root_of_images = root
    assert texts(world) == dict.fromkeys((BASE, BLAS, VENV), text)


@pytest.mark.parametrize("suite", ["forky", "-x", "..", "x" * 200, "a" * 120])
def test_suite_without_an_image_is_a_reason(world: World, suite: str) -> None:
    world.root_of_images = Root(distribution="debian", suite=suite)
    assert texts(world)[BASE].startswith(f"emulated: no native tools of debian-{suite}: ")
    assert emulated(world).succeeded


def test_scratch_base_is_a_reason(world: World) -> None:
    world.base_name = "scratch"
    assert texts(world)[BASE] == "emulated: not a Debian or Ubuntu root"


def test_foreign_frontend_is_a_reason(world: World) -> None:
    world.write({"stock/20-Dockerfile-blas": f"# syntax=ghcr.io/team/frontend:1\n{BLAS_STEP}"})
    assert texts(world)[BLAS] == "emulated: the frontend ghcr.io/team/frontend:1 is not Docker's"
    assert texts(world)[VENV] == FIRST


def test_specs_file_is_a_reason_from_its_step_on(world: World) -> None:
    world.write({"stock/20-Dockerfile-blas": f"{BLAS_STEP}RUN gcc -dumpspecs > /x\n"})
    found = texts(world)
    assert found[BASE] == FIRST
    assert found[BLAS] == found[VENV] == f"{FIRST}; emulated: 20-blas writes a specs file of GCC"
    assert emulated(world).succeeded
    assert flags_of(world, VENV) == ()


def test_specs_file_of_the_base_is_a_reason(world: World) -> None:
    specs = "/usr/lib/gcc/aarch64-linux-gnu/specs"
    world.root_of_images = Root(distribution="debian", suite="trixie", own_specs=specs)
    reason = f"emulated: its base has a specs file of GCC of its own, {specs}"
    assert texts(world) == dict.fromkeys((BASE, BLAS, VENV), f"{FIRST}; {reason}")


def test_switched_off_is_a_reason(world: World) -> None:
    off = ExecutionOptions(native=settings(OFF))
    assert texts(world, off) == dict.fromkeys((BASE, BLAS, VENV), "emulated: native tools are off")
    assert emulated(world, OFF).succeeded
    assert TOOLS not in world.driver.built


def test_unreadable_root_is_a_reason(world: World) -> None:
    from chainbuild.errors import RegistryError
    from chainbuild.execution.session import open_session

    def unreadable(*_: object) -> Root:
        raise RegistryError("no such layer")

    backends = replace(world.backends, read_root=unreadable)
    with open_session(world.settings, world.events.append, backends=backends) as session:
        planned = plan_run(world.graph((ARM64,)), session, ExecutionOptions())
        found = plan_acceleration(planned, session, ExecutionOptions()).texts
    assert found[BASE] == "emulated: not a Debian or Ubuntu root"


def test_step_that_is_reused_has_no_text(built: World) -> None:
    built.base("first")
    assert not {BASE, BLAS, VENV} & texts(built).keys()


# Modes ----------------------------------------------------------------------------------------------------------------


def test_mode_of_a_step_overrides_that_of_all(world: World) -> None:
    outcome = emulated(world, None, **{"20": OFF})
    assert [lines_of(spec_of(world, step)) for step in (BASE, BLAS, VENV)] == [(3,), (), (4,)]
    assert ["native" in outcome.results[step].record.notes for step in (BASE, BLAS, VENV)] == [True, False, True]


def test_check_has_a_log_and_a_verdict(world: World) -> None:
    world.driver.native_log = "equal cc1 a.c\nequal as -\nvaries cc1 b.c\nemulated real-ld x\n"
    outcome = emulated(world, None, **{"20": CHECK})
    flags = {step: flags_of(world, step) for step in (BASE, BLAS, VENV)}
    assert [len(flags[step]) for step in (BASE, BLAS, VENV)] == [2, 3, 2]
    _, name, *rest = flags[BLAS][2].split(",")
    assert name.startswith("id=chainbuild-native-")
    folder = f"/.chainbuild-native-check/100-{name.removeprefix('id=')}"
    assert rest == [f"target={folder}"]
    record = outcome.results[BLAS].record
    assert record.verdicts["native"] == "2 outputs compared, all equal, 1 that vary, 1 emulated"
    assert "native" not in outcome.results[BASE].record.verdicts
    prepared, dockerfile = world.driver.texts
    assert "--prepare" in prepared
    assert f"--mount=type=cache,{name},target={folder} " in dockerfile
    assert sum(spec.shown == LOG_OF_NATIVE_TOOLS for spec in world.driver.orders) == 2


def test_checks_of_two_steps_have_logs_of_their_own(world: World) -> None:
    emulated(world, NativeChoice.parse("check:5%"))
    flags = [flags_of(world, step)[2] for step in (BASE, BLAS, VENV)]
    assert len(set(flags)) == 3
    assert all("target=/.chainbuild-native-check/5-" in flag for flag in flags)


def test_key_is_the_same_with_and_without_native_tools(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    other.write(THREE_STEPS)
    keys = []
    for surroundings, mode in ((world, None), (other, OFF)):
        results = emulated(surroundings, mode).results
        keys.append([results[step].record.key for step in (BASE, BLAS, VENV)])
    assert keys[0] == keys[1]
    assert world.tags().items() >= other.tags().items()


def test_steps_built_without_native_tools_are_reused_with_them(world: World) -> None:
    emulated(world, OFF)
    world.begin_again()
    assert emulated(world).succeeded
    assert world.driver.built == []


def test_record_notes_the_tools(world: World) -> None:
    outcome = emulated(world)
    note = outcome.results[BASE].record.notes["native"]
    versions, _, image = note.partition(" (")
    assert versions == "binutils 2.44-3, gcc 14.2.0-19"
    assert image.startswith(f"{CHAIN}/chainbuild/native@sha256:")


@pytest.mark.parametrize("name", ["linux/arm64", ""])
def test_builder_with_a_machine_of_the_platform_needs_no_tools(world: World, name: str) -> None:
    world.driver.own_platforms = frozenset({"linux/amd64", "linux/arm64"})
    chosen = Settings(root=world.root, registry=ChainRegistry(CHAIN), builders={name: "farm"})
    assert world.build(world.graph((ARM64,)), ExecutionOptions(jobs=1), settings=chosen).succeeded
    assert world.driver.built[0] == BASE
    assert lines_of(spec_of(world, BASE)) == ()


def test_builder_without_a_machine_of_the_platform_gets_tools(world: World) -> None:
    world.driver.own_platforms = frozenset({"linux/amd64"})
    every = Settings(root=world.root, registry=ChainRegistry(CHAIN), builders={"": "all"})
    world.build(world.graph((ARM64,)), ExecutionOptions(jobs=1), settings=every)
    assert TOOLS in world.driver.built


def test_tools_run_on_the_builders_machine(world: World) -> None:
    world.driver.own_platforms = frozenset({"linux/arm64"})
    chosen = Settings(root=world.root, registry=ChainRegistry(CHAIN), builders={"": "arm"})
    assert world.build(world.graph((AMD64, ARM64)), ExecutionOptions(jobs=1), settings=chosen).succeeded
    tools = StepId("amd64", "native", "debian-trixie-on-aarch64")
    assert world.driver.built[0] == tools
    lines = {spec.step.platform: lines_of(spec) for spec in world.driver.orders if spec.step.name == "20-blas"}
    assert lines == {"amd64": (4,), "aarch64": ()}


def test_tools_for_another_kind_of_builder_are_not_reused(world: World) -> None:
    riscv64 = Platform.parse("riscv64")
    root = Root(distribution="debian", suite="trixie")
    keys = set()
    for machine in (AMD64, ARM64):
        graph = tools_graph(ChainRegistry(CHAIN), root, riscv64, machine)
        (decision,) = world.planned(graph).plan.decisions
        assert decision.components is not None
        keys.add(decision.components.key)
    assert len(keys) == 2


# The command ----------------------------------------------------------------------------------------------------------


def command(world: World, monkeypatch: pytest.MonkeyPatch, name: str, *flags: str) -> int:
    monkeypatch.chdir(world.root)
    with use_backends(world.backends):
        return run([name, "amd64,aarch64", REPOSITORY, "v1", "fat:1", "stock", "slim:1", *flags])


def test_plan_as_json_has_the_native_tools_of_each_step(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(world, monkeypatch, "plan", "--json") == ExitCode.DONE
    steps = json.loads(capsys.readouterr().out)["steps"]
    native = {step["step"]: step["native"] for step in steps}
    assert native["aarch64/stock/10-base"] == FIRST
    assert native["amd64/stock/10-base"] is None
    assert native["aarch64/stock/minimize"] is None
    assert TOOLS not in native


def test_verbose_plan_shows_the_mounts(
    built: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(built, monkeypatch, "plan", "-vv") == ExitCode.DONE
    out = capsys.readouterr().out
    assert NATIVE in out
    assert "with line 3: RUN --mount=type=bind,from=" in out
    assert "target=/usr/lib/gcc/aarch64-linux-gnu/specs" in out
    assert command(built, monkeypatch, "plan", "-vv", "--native=off") == ExitCode.DONE
    out = capsys.readouterr().out
    assert "emulated: native tools are off" in out
    assert "chainbuild-native" not in out


def test_native_modes_come_from_the_project_file(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = f"repo: {REPOSITORY}\ntag: v1\nbase: fat:1\nproduction: slim:1\nplatforms: [aarch64]\noptions: [stock]\n"
    world.write({"chainbuild.yaml": f'{named}native: {{"stock/*": check, "*/20-*": "off"}}\n'})
    monkeypatch.chdir(world.root)
    with use_backends(world.backends):
        assert run(["build", "--plain"]) == ExitCode.DONE
    counts = [len(flags_of(world, step)) for step in (BASE, BLAS, VENV)]
    assert counts == [3, 0, 3]
    world.begin_again()
    world.base("second")
    with use_backends(world.backends):
        assert run(["build", "--plain", "--native=auto"]) == ExitCode.DONE
    assert [len(flags_of(world, step)) for step in (BASE, BLAS, VENV)] == [2, 2, 2]
    capsys.readouterr()
    assert command(world, monkeypatch, "plan", "--native=sometimes") == ExitCode.WRONG_USE
    assert "'sometimes' is not a mode of native tools" in capsys.readouterr().err
