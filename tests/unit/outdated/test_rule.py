"""The rule `no-outdated` of a policy: in `verify --policy` and in release plans, with signed apt suites and a Python index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainbuild.cli import run as run_command
from chainbuild.errors import ExitCode
from chainbuild.execution.backends import use_backends
from chainbuild.outdated.model import APK, Finding, Installed, State
from chainbuild.outdated.rule import violations_of
from chainbuild.outdated.survey import Row, Survey
from tests.support.world.packages import URI, PackageWorld
from tests.support.world.trees import CHAIN, REPOSITORY, STAGES

HEAD = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
TREE = {
    "stock/10-Dockerfile-base": f"{HEAD}RUN apt-get update && apt-get install -y libssl3\n",
    "stock/20-Dockerfile-tool": f"{HEAD}RUN apt-get update && apt-get install -y tool\n",
    "stock/30-Dockerfile-venv": f"{HEAD}RUN pip install requests\n",
    **STAGES,
}
NAME = f"{REPOSITORY}:v1-stock-amd64"
LIBSSL = "security updates for packages of amd64/stock/10-base: libssl3 3.0.15-1 → 3.0.17-1"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageWorld]:
    """A signed chain on both platforms that is as new as its sources."""
    monkeypatch.chdir(tmp_path)
    world = PackageWorld(tmp_path)
    world.built(TREE)
    with use_backends(world.backends):
        yield world


def write_policy(world: PackageWorld, *rules: str) -> None:
    (world.root / "policy.yaml").write_text("\n".join(("schema: chainbuild.policy/1", *rules)) + "\n")


def verified(world: PackageWorld, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = run_command(["verify", NAME, "--registry", CHAIN, "--policy", "policy.yaml"])
    output = capsys.readouterr()
    return code, output.out + output.err


def release(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    found = run_command(["release", *words])
    output = capsys.readouterr()
    assert found == code, output.out + output.err
    return output.out + output.err


@pytest.mark.parametrize("rule", ["security", "all"])
def test_image_that_is_as_new_as_its_sources_is_accepted(
    world: PackageWorld, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    write_policy(world, f"no-outdated: {rule}")
    assert verified(world, capsys)[0] == 0


def test_security_update_violates_the_rule_with_its_line_and_step(
    world: PackageWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    write_policy(world, "tests-passed: libraries", "no-outdated: security")
    code, text = verified(world, capsys)
    assert code == ExitCode.NOT_PROVEN
    assert f"policy.yaml:3: no-outdated: {LIBSSL}" in text


def test_other_updates_violate_only_the_rule_about_all(world: PackageWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.offers("tool=1.1-1")
    write_policy(world, "no-outdated: security")
    assert verified(world, capsys)[0] == 0
    write_policy(world, "no-outdated: all")
    assert "updates for packages of amd64/stock/20-tool: tool 1.0-1 → 1.1-1" in verified(world, capsys)[1]


def test_source_that_cannot_be_used_violates_the_rule(world: PackageWorld, capsys: pytest.CaptureFixture[str]) -> None:
    for address in [address for address in world.mirror.files if address.startswith(f"{URI}/dists/stable-security")]:
        del world.mirror.files[address]
    write_policy(world, "no-outdated: security")
    code, text = verified(world, capsys)
    assert code == ExitCode.NOT_PROVEN
    assert re.search(r"no-outdated: updates from \S+ stable-security \S*\s*are unknown \(missing\)", text), text


def test_wrong_value_is_told_with_its_line(world: PackageWorld, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(world, "no-outdated: yes")
    code, text = verified(world, capsys)
    assert code == ExitCode.WRONG_USE
    assert "policy.yaml:2" in text
    assert "security" in text


def test_plan_warns_of_security_updates_until_they_are_accepted(
    world: PackageWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fake.host("ghcr.io")
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    write_policy(world, "no-outdated: security")
    release(capsys, "create", "--to", "ghcr.io/acme/atom:1", "--policy", "policy.yaml")
    plan = world.root / "release_plan.yaml"
    text = plan.read_text()
    assert f"amd64: no-outdated: {LIBSSL}" in text
    assert "aarch64: no-outdated: security updates for packages of aarch64/stock/10-base: libssl3" in text
    text = text.replace("decision: open", "decision: release")
    plan.write_text(re.sub(r"accepted:  # .*", "accepted: fine", text))
    release(capsys, "apply", "--dry-run")
    # The next update is another warning, which nobody has accepted.
    world.offers("libssl3=3.0.18-1", suite="stable-security")
    told = release(capsys, "apply", "--dry-run", code=2)
    assert "libssl3 3.0.15-1 → 3.0.18-1 (new since the plan was reviewed)" in told
    release(capsys, "update")
    assert "3.0.18-1" in plan.read_text()


def test_plan_with_a_policy_of_errors_is_not_applied(world: PackageWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.fake.host("ghcr.io")
    world.offers("libssl3=3.0.17-1", suite="stable-security")
    write_policy(world, "no-outdated: security", "release: error")
    release(capsys, "create", "--to", "ghcr.io/acme/atom:1", "--policy", "policy.yaml")
    plan = world.root / "release_plan.yaml"
    plan.write_text(re.sub(r"accepted:  # .*", "accepted: fine", plan.read_text().replace("open", "release")))
    assert LIBSSL in release(capsys, "apply", code=2)


# Texts ----------------------------------------------------------------------------------------------------------------


def row(name: str, state: State, *, security: bool | None, candidate: str = "2") -> Row:
    package = Installed(kind=APK, name=name, version="1")
    finding = Finding(package=package, state=state, candidate=candidate, security=security)
    return Row(platform="amd64", finding=finding, brought_by="base image")


def test_held_and_pinned_packages_count_and_are_told_as_such() -> None:
    rows = (
        row("held", State.HELD, security=True),
        row("pinned", State.PINNED, security=True),
        row("gone", State.GONE, security=None, candidate=""),
        row("ahead", State.AHEAD, security=None, candidate=""),
    )
    assert violations_of(Survey(rows=rows), security=True) == (
        "security updates for packages of base image: held 1 → 2 (held), pinned 1 → 2 (pinned)",
    )


def test_updates_of_which_no_source_says_whether_they_are_security() -> None:
    """Else it could never fail for Alpine images, and would say that they are safe."""
    survey = Survey(rows=(row("musl", State.OUTDATED, security=None), row("zlib", State.OUTDATED, security=False)))
    assert violations_of(survey, security=True) == (
        "Alpine packages have updates, and their sources do not say which are security updates: musl 1 → 2",
    )
    assert violations_of(survey, security=False) == ("updates for packages of base image: musl 1 → 2, zlib 1 → 2",)


def test_foreign_text_is_escaped() -> None:
    rows = (row("x\x1b[2J", State.OUTDATED, security=True),)
    (text,) = violations_of(Survey(rows=rows, problems=()), security=True)
    assert "\x1b" not in text
