"""Outdated packages of built chains: which step is named and renewed, on both platforms, with real plans and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainbuild.execution.backends import use_backends
from chainbuild.execution.options import ExecutionOptions
from chainbuild.operations.named_images import NamedImage
from chainbuild.operations.outdated import Outdated, outdated_images, outdated_in_project
from chainbuild.outdated.model import State
from chainbuild.planning.decisions import Plan
from chainbuild.records.record import REFRESHED
from chainbuild.references import ImageReference
from chainbuild.requests.build import BuildRequest
from tests.support.world.packages import PackageWorld
from tests.support.world.trees import AMD64, ARM64, CHAIN, REPOSITORY, STAGES

BOTH = (AMD64, ARM64)
HEAD = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
TREE = {
    "stock/10-Dockerfile-base": f"{HEAD}RUN apt-get update \\\n && apt-get install -y libssl3\n",
    "stock/20-Dockerfile-tool": f"{HEAD}RUN apt-get update && apt-get install -y tool\n",
    "stock/30-Dockerfile-venv": f"{HEAD}RUN pip install requests\n",
    **STAGES,
}
UPDATE = "libssl3 3.0.15-1 → 3.0.17-1, security"


@pytest.fixture
def world(tmp_path: Path) -> PackageWorld:
    """A chain that is built on both platforms, and as new as its sources."""
    world = PackageWorld(tmp_path)
    world.built(TREE)
    world.begin_again()
    return world


def run(world: PackageWorld, outdated: str = "") -> Any:
    world.now += 60
    return world.run(world.graph(BOTH), outdated=outdated)


def plan(world: PackageWorld, outdated: str = "all") -> Plan:
    return world.planned(world.graph(BOTH), ExecutionOptions(outdated=outdated)).plan


def reasons(plan: Plan) -> dict[str, str]:
    return {str(decision.step.id): decision.reason for decision in plan.builds}


def built(world: PackageWorld) -> list[str]:
    return [str(step) for step in world.driver.built]


def examined(world: PackageWorld, *, security: bool = False) -> Outdated:
    with world.session() as session:
        request = BuildRequest(graph=world.graph(BOTH), settings=world.settings, options=ExecutionOptions())
        return outdated_in_project(session, request, security=security)


def test_chain_that_is_as_new_as_its_sources_is_not_rebuilt(world: PackageWorld) -> None:
    assert reasons(plan(world)) == {}
    assert examined(world).updates == ()
    assert run(world, "all").succeeded
    assert built(world) == []


def test_security_update_renews_exactly_the_step_that_brought_the_package(world: PackageWorld) -> None:
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    planned = reasons(plan(world))
    for platform in ("amd64", "aarch64"):
        assert planned[f"{platform}/stock/10-base"] == UPDATE
        assert planned[f"{platform}/stock/20-tool"] == f"parent 10-base: {UPDATE}"
    result = examined(world)
    assert [(row.platform, row.brought_by, str(row.renews)) for row in result.updates] == [
        (platform, f"{platform}/stock/10-base", f"{platform}/stock/10-base") for platform in ("amd64", "aarch64")
    ]
    assert len(result.updates[0].images) == 5, "all steps and stages of the platform have it"


def test_renewed_step_is_built_without_cache_and_is_current_then(world: PackageWorld) -> None:
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    world.installs("10-base", "libssl3=3.0.17-1")
    outcome = run(world, "security")
    assert outcome.succeeded
    assert {str(spec.step): spec.no_cache for spec in world.driver.orders if not spec.step.is_stage} == {
        f"{platform}/stock/{name}": name == "10-base"
        for platform in ("amd64", "aarch64")
        for name in ("10-base", "20-tool", "30-venv")
    }
    record = next(result.record for step, result in outcome.results.items() if str(step) == "amd64/stock/10-base")
    assert record.notes[REFRESHED] == "deb:libssl3=3.0.17-1"
    assert reasons(plan(world)) == {}
    assert examined(world).updates == ()


def test_update_of_an_upper_step_leaves_the_lower_ones(world: PackageWorld) -> None:
    world.offers("tool=1.1-1")
    world.installs("20-tool", "tool=1.1-1")
    assert reasons(plan(world))["amd64/stock/20-tool"] == "tool 1.0-1 → 1.1-1"
    assert "amd64/stock/10-base" not in reasons(plan(world))
    assert reasons(plan(world, "security")) == {}
    assert run(world, "all").succeeded
    assert not any("10-base" in step for step in built(world))


def test_update_of_a_distribution_renews_its_step(world: PackageWorld) -> None:
    world.offers_python("requests", "2.32.0", "2.31.0")
    assert reasons(plan(world))["aarch64/stock/30-venv"] == "requests 2.31.0 → 2.32.0"


def test_step_that_does_not_get_the_update_is_renewed_once(world: PackageWorld) -> None:
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    assert run(world, "all").succeeded
    assert built(world) == ["amd64/stock/10-base", "aarch64/stock/10-base"], "early cut-off ends the rest"
    assert reasons(plan(world)) == {}
    assert [row.tried for row in examined(world).updates] == [True, True]
    world.offers("libssl3=3.0.18-1", suite="stable-security")
    assert reasons(plan(world))["amd64/stock/10-base"] == "libssl3 3.0.15-1 → 3.0.18-1, security"


def test_updates_that_were_tried_before_stay_noted(world: PackageWorld) -> None:
    world.installs("10-base", "libssl3=3.0.15-1", "curl=7-1")
    world.write({"stock/10-Dockerfile-base": TREE["stock/10-Dockerfile-base"] + "RUN more\n"})
    world.offers("curl=7-1")
    assert run(world).succeeded
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    assert run(world, "all").succeeded
    world.offers("curl=7-2")
    assert reasons(plan(world))["amd64/stock/10-base"] == "curl 7-1 → 7-2"
    assert run(world, "all").succeeded
    assert reasons(plan(world)) == {}


def test_package_of_the_base_renews_no_step_without_an_upgrade(world: PackageWorld) -> None:
    world.offers("libc6=2.36-2")
    assert reasons(plan(world)) == {}
    rows = examined(world).updates
    assert {row.brought_by for row in rows} == {"fat:1", "slim:1"}
    assert {row.renews for row in rows} == {None}


def test_package_of_the_base_renews_the_lowest_step_that_upgrades(world: PackageWorld) -> None:
    for name in ("10-Dockerfile-base", "20-Dockerfile-tool"):
        world.write({f"stock/{name}": f"{HEAD}RUN apt-get update && apt-get -y full-upgrade && apt-get install tool\n"})
    assert run(world).succeeded
    world.offers("libc6=2.36-2")
    assert reasons(plan(world))["amd64/stock/10-base"] == "libc6 2.36-1 → 2.36-2"


def test_step_that_uses_the_lists_of_a_lower_step_renews_that_one(world: PackageWorld) -> None:
    world.write({"stock/20-Dockerfile-tool": f"{HEAD}RUN apt-get install -y tool\n"})
    assert run(world).succeeded
    world.offers("tool=1.1-1")
    assert reasons(plan(world))["amd64/stock/10-base"] == "tool 1.0-1 → 1.1-1"


def test_version_in_the_dockerfile_is_a_pin(world: PackageWorld) -> None:
    world.write(
        {
            "stock/20-Dockerfile-tool": f"{HEAD}RUN apt-get update && apt-get install -y tool=1.0-1\n",
            "stock/30-Dockerfile-venv": f"{HEAD}RUN pip install 'requests==2.31.0'\n",
        }
    )
    assert run(world).succeeded
    world.offers("tool=1.1-1")
    world.offers_python("requests", "2.32.0", "2.31.0")
    assert reasons(plan(world)) == {}
    rows = examined(world).others
    assert {(row.finding.state, row.finding.note) for row in rows if row.platform == "amd64"} == {
        (State.PINNED, "amd64/stock/20-tool installs tool=1.0-1"),
        (State.PINNED, "amd64/stock/30-venv installs requests==2.31.0"),
    }


def test_source_with_another_key_is_a_warning_and_renews_nothing(world: PackageWorld) -> None:
    world.offers("libssl3=3.0.17-1", signed_by="thief")
    assert reasons(plan(world)) == {}
    assert next(text for text in world.warnings if "deb.test" in text).startswith(
        "updates from http://deb.test/debian stable are unknown: its signature is not valid"
    )
    assert {row.finding.state for row in examined(world).others} == {State.UNKNOWN}


def test_source_that_does_not_answer_is_a_warning(world: PackageWorld) -> None:
    world.mirror.down.add("deb.test")
    assert reasons(plan(world)) == {}
    assert any("deb.test refuses connections" in text for text in world.warnings)


def test_several_updates_are_one_reason(world: PackageWorld) -> None:
    world.installs("10-base", "libssl3=3.0.15-1", "zlib1g=1-1", "curl=7-1")
    world.offers("zlib1g=1-1", "curl=7-1")
    world.write({"stock/10-Dockerfile-base": TREE["stock/10-Dockerfile-base"] + "RUN more\n"})
    assert run(world).succeeded
    world.offers("zlib1g=1-2", "curl=7-2")
    world.offers("libssl3=3.0.17-1", "curl=7-2", suite="stable-security")
    expected = "curl 7-1 → 7-2, security; and 2 more packages (1 security)"
    assert reasons(plan(world))["amd64/stock/10-base"] == expected
    expected = "curl 7-1 → 7-2, security; and 1 more package (1 security)"
    assert reasons(plan(world, "security"))["amd64/stock/10-base"] == expected


def test_layers_are_read_once_and_nothing_is_pulled(world: PackageWorld) -> None:
    examined(world)
    world.fake.log.clear()
    world.mirror.log.clear()
    examined(world)
    layers = [path for method, path in world.fake.log if "/blobs/" in path]
    assert len(layers) == len(set(layers)), "only configurations are read"
    assert {status for _, status in world.mirror.log} == {304}


def named(tag: str) -> NamedImage:
    return NamedImage(reference=ImageReference(CHAIN, REPOSITORY, tag), platform=AMD64)


def test_result_names_the_steps_that_brought_its_packages(world: PackageWorld) -> None:
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    with world.session() as session:
        result = outdated_images(session, [named("v1-stock-amd64")], security=False)
    (row,) = result.updates
    assert (row.brought_by, str(row.renews)) == ("amd64/stock/10-base", "amd64/stock/10-base")
    assert result.rebuilt == (("amd64/stock/10-base", UPDATE),)


def test_image_without_records_names_itself(world: PackageWorld) -> None:
    world.offers("libc6=2.36-2")
    other = NamedImage(reference=ImageReference.parse("docker.io/library/fat:1"), platform=AMD64)
    with world.session() as session:
        result = outdated_images(session, [other], security=False)
    (row,) = result.updates
    assert (row.brought_by, row.renews) == ("fat:1", None)
    assert result.as_json()["packages"][0]["available"] == "2.36-2"


def test_command_shows_updates_and_fails_on_request(
    world: PackageWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainbuild.cli import run as run_command

    world.offers("libssl3=3.0.17-1", suite="stable-security")
    words = ["outdated", f"{CHAIN}/{REPOSITORY}:v1-stock-amd64", "--registry", CHAIN, "--root", str(world.root)]
    with use_backends(world.backends):
        assert run_command(words) == 0
        shown = capsys.readouterr().out
        assert run_command([*words, "--fail", "--json"]) == 10
        document = capsys.readouterr().out
    assert "libssl3  3.0.15-1   3.0.17-1   security  stable-security/main" in shown
    assert "1 update, 1 for security" in shown
    assert f"amd64/stock/10-base  {UPDATE}" in shown
    assert '"schema": "chainbuild.outdated/1"' in document or '"chainbuild.outdated/1"' in document
