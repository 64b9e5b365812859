"""Runs that rebase: what is composed in the registry, what is built, and what the records and the next plan say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.comparison.contents import read_contents
from chainbuild.events import StepFinished
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome
from chainbuild.images.attachments import attached_bill
from chainbuild.model import Graph
from chainbuild.planning.decisions import Renewal
from chainbuild.planning.planner import until
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.records.notes import REBASED
from chainbuild.records.record import Record
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from tests.support.elf_builder import library, program
from tests.support.rebases import BASE, LIBRARIES
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STAGES, World, failed
from tests.support.world.surroundings import without_platform
from tests.unit.comparison.layers import Content, dpkg, layer

SSL = f"{LIBRARIES}/libssl.so.3"
OLD = {**BASE, SSL: library("libssl.so.3", "libc.so.6", exports=("connect", "close"))}
PATCHED = {**OLD, SSL: library("libssl.so.3", "libc.so.6", exports=("connect", "close"), tail=b"fixed")}
WRITES: Mapping[str, Mapping[str, Content]] = {
    "10-base": {"/opt/base": b"settings"},
    "20-client": {"/opt/client": (0o755, program("libssl.so.3", "libc.so.6", imports=("connect",)))},
    "30-top": {"/opt/top": b"top"},
}
RUN = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN install /opt\n"


class RebaseWorld(World):
    def __init__(self, root: Path, writes: Mapping[str, Mapping[str, Content]] = WRITES) -> None:
        super().__init__(root)
        self.write({f"stock/{name.replace('-', '-Dockerfile-')}": RUN for name in writes})
        self.move(OLD)

        def content(spec: BuildSpec) -> str:
            files = writes.get(spec.step.name, {"/opt/of-a-stage": b"x"})
            return layer(files).decode("latin-1")

        self.driver.content, self.driver.encoding = content, "latin-1"

    def move(self, files: Mapping[str, Content], name: str = "fat", **config: Any) -> None:
        """Move the base to an image of these files."""
        images = [
            self.fake.add_image(f"docker.io/library/{name}:{platform.name}", platform, layers=[layer(files)], **config)
            for platform in (AMD64, ARM64)
        ]
        self.fake.add_index(f"docker.io/library/{name}:1", images)

    def production_image(self, files: Mapping[str, Content], **config: Any) -> None:
        self.move(files, "slim", **config)

    def steps(self, *platforms: Platform) -> Graph:
        return until(self.graph(platforms or (AMD64,)), 99)

    def rebase(self, *platforms: Platform) -> RunOutcome:
        """Run again after the base has moved, from an empty journal."""
        self.begin_again()
        return self.run(self.steps(*platforms), rebase=True)

    @property
    def rebased(self) -> list[str]:
        return without_platform(event.step for event in self.emitted(StepFinished) if event.activity == "rebase")

    @property
    def refusals(self) -> str:
        return "\n".join(text for text in self.messages if "cannot be rebased" in text)

    def record(self, name: str, platform: str = "amd64") -> Record:
        found = self.records.last(ImageReference.parse(f"{CHAIN}/{REPOSITORY}"), f"stock-{name}-{platform}").record
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> RebaseWorld:
    world = RebaseWorld(tmp_path)
    world.run(world.steps(AMD64, ARM64))
    return world


def test_run_with_patched_base_builds_nothing(world: RebaseWorld) -> None:
    world.move(PATCHED)
    outcome = world.rebase(AMD64, ARM64)
    assert outcome.succeeded
    assert world.driver.orders == []
    assert sorted(world.rebased) == sorted([f"stock/{name}" for name in WRITES] * 2)
    # No builder is needed.
    assert world.checked[-1] == frozenset()


def test_rebased_image_has_the_content_of_a_rebuilt_one(world: RebaseWorld) -> None:
    world.move(PATCHED)
    world.rebase()
    rebased = world.identities()
    world.begin_again()
    world.run(world.steps(), renewal=Renewal(refresh=True))
    assert len(world.driver.built) == len(WRITES)
    assert world.identities() == rebased


def test_rebased_image_is_reused_by_the_next_run(world: RebaseWorld) -> None:
    world.move(PATCHED)
    world.rebase()
    plan = world.plan(world.steps())
    assert plan.builds == ()
    assert all(decision.reason.startswith("unchanged (rebased from fat:1@") for decision in plan.decisions)
    record = world.record("20-client")
    assert record.notes[REBASED].startswith("from fat:1@")
    assert record.verdicts["rebase"] == "1 path and 1 ELF file fit the new base"
    # The age is that of the build: what a RUN has fetched does not become newer.
    assert record.built_at == world.now


def test_run_without_the_flag_builds(world: RebaseWorld) -> None:
    world.move(PATCHED)
    world.begin_again()
    world.run(world.steps())
    assert len(world.driver.built) == len(WRITES)


def test_plan_shows_rebase_for_every_step(world: RebaseWorld) -> None:
    world.move(PATCHED)
    plan = world.planned(world.steps(), ExecutionOptions(rebase=True)).plan
    assert [decision.action for decision in plan.decisions] == ["rebase"] * 3
    assert plan.expected_seconds == 0
    assert world.driver.built != []


def test_lost_symbol_rebuilds_the_lowest_step_concerned(world: RebaseWorld) -> None:
    world.move({**OLD, SSL: library("libssl.so.3", "libc.so.6", exports=("close",))})
    outcome = world.rebase()
    assert outcome.succeeded
    assert world.rebased == ["stock/10-base"]
    assert without_platform(world.driver.built) == ["stock/20-client", "stock/30-top"]
    assert "it needs the symbol connect" in world.refusals
    assert "20-client, which it is built on, was built and not rebased" in world.refusals


def test_changed_dockerfile_is_built_and_what_is_above_it(world: RebaseWorld) -> None:
    world.move(PATCHED)
    world.write({"stock/20-Dockerfile-client": f"{RUN}RUN chmod 755 /opt/client\n"})
    world.rebase()
    assert world.rebased == ["stock/10-base"]
    assert without_platform(world.driver.built) == ["stock/20-client", "stock/30-top"]


def test_failing_test_rebuilds_the_step(world: RebaseWorld) -> None:
    world.write({"stock/client-test": "#!/bin/sh\nfalse\n"})
    world.move(PATCHED)
    step = StepId("amd64", "stock", "20-client")
    world.driver.fails_tests[step] = failed(step)
    world.begin_again()
    world.driver.fails_tests[step] = failed(step)
    outcome = world.run(world.steps(), rebase=True)
    assert world.rebased == ["stock/10-base"]
    assert step in outcome.failures
    assert "20-client cannot be rebased" in world.refusals


def test_passed_test_of_a_rebased_step_is_recorded(world: RebaseWorld) -> None:
    world.write({"stock/client-test": "#!/bin/sh\ntrue\n"})
    world.move(PATCHED)
    world.rebase()
    assert without_platform(world.driver.tested) == ["stock/20-client"]
    assert world.record("20-client").verdicts["test"].startswith("passed ")
    assert world.driver.built == []


def test_deleted_image_of_the_old_base_is_built(world: RebaseWorld) -> None:
    world.move(PATCHED)
    hub = world.fake.host("docker.io")
    old = world.record("10-base").notes["digest of BASE_IMAGE"]
    del hub.manifests["library/fat", old]
    world.rebase()
    assert world.rebased == []
    assert "was deleted from the registry" in world.refusals


def test_merged_database_gets_a_layer_of_its_own(tmp_path: Path) -> None:
    status = "/var/lib/dpkg/status"
    world = RebaseWorld(tmp_path, {"10-base": {status: dpkg(libc6="2.36-9", curl="7")}, "20-top": {"/opt/x": b"x"}})
    world.run(world.steps())
    world.move({**OLD, status: dpkg(libc6="2.36-10")})
    world.rebase()
    assert world.driver.orders == []
    image = world.resolved(f"{REPOSITORY}:v1-stock-20-top-amd64")
    assert len(image.layers) == len(image.config.diff_ids) == 4
    (contents,) = read_contents(world.registries, image)
    assert [package.version for package in contents.ownership.packages.values()] == ["2.36-10", "7"]
    # The merged layer is below the next step's, and is not made twice.
    assert world.record("20-top").verdicts["rebase"] == "1 path and 0 ELF files fit the new base"


def test_rebased_step_is_rebased_again(world: RebaseWorld) -> None:
    world.move(PATCHED)
    world.rebase()
    world.move({**PATCHED, "/etc/motd": b"other"})
    world.rebase()
    assert world.driver.orders == []
    assert len(world.rebased) == len(WRITES)


def test_changed_environment_of_the_base_is_built(world: RebaseWorld) -> None:
    world.move(PATCHED, env=[("LANG", "C.UTF-8")])
    world.rebase()
    assert "Env of the configuration changed in the base (LANG)" in world.refusals
    assert len(world.driver.built) == len(WRITES)


def test_moved_production_image_rebases_the_stages(tmp_path: Path) -> None:
    world = RebaseWorld(tmp_path)
    world.production_image({**BASE, "/etc/issue": b"first"})
    world.driver.bill = b'{"spdxVersion": "SPDX-2.3"}'
    world.run()
    world.production_image({**BASE, "/etc/issue": b"patched"}, labels={"version": "2"})
    world.begin_again()
    outcome = world.run(rebase=True)
    assert outcome.succeeded, world.refusals
    assert world.rebased == ["stock/minimize", "stock/production"], world.refusals
    assert world.driver.built == []
    image = world.resolved(f"{REPOSITORY}:v1-stock-amd64")
    assert image.config.label("version") == "2"
    assert image.config.label(TRAIL_LABEL)
    bill = json.loads(attached_bill(world.registries, image.reference) or b"{}")
    assert {package["name"] for package in bill["packages"]} >= {"libc6"}
    assert {decision.action for decision in world.plan().decisions} == {"reuse"}


def test_stages_of_the_tree_itself_are_built(tmp_path: Path) -> None:
    world = RebaseWorld(tmp_path)
    world.write(STAGES)
    world.production_image(BASE)
    world.run()
    world.production_image({**BASE, "/etc/issue": b"new"})
    world.begin_again()
    assert world.run(rebase=True).succeeded
    assert without_platform(world.driver.built) == ["stock/minimize", "stock/production"]
    assert "the tree has a Dockerfile of its own for this stage" in world.refusals


def test_moved_base_builds_stages_that_keep_changed_files(world: RebaseWorld) -> None:
    world.run()
    world.move(PATCHED)
    world.begin_again()
    assert world.run(rebase=True).succeeded
    assert world.rebased == [f"stock/{name}" for name in WRITES]
    assert without_platform(world.driver.built) == ["stock/minimize", "stock/production"]
    assert f"{SSL}: minimize kept it, and it changed in the chain's image" in world.refusals
