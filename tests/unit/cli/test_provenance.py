"""`chainbuild verify --provenance` and `--rebuild`: what they print, their exit codes, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.cli import run as run_command
from chainbuild.errors import ExitCode
from chainbuild.execution.backends import use_backends
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.requests.last_run import save_last_run
from chainbuild.requests.options import RunArguments, RunOptions
from tests.support.attestations import COMMIT, RESULT, SOURCE, attest, put_layers, result_of
from tests.support.keys import signing_key
from tests.support.world import CHAIN, REPOSITORY, World
from tests.unit.comparison.layers import layer

NAME = f"{REPOSITORY}:{RESULT}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    # The fake builder adds no real layers, which comparing images needs.
    original = made.fake.add_image

    def add_image(name: str, platform: Any = "amd64", *, layers: Any = (b"layer",), **changes: Any) -> Any:
        packed = [raw if raw[:2] == b"\x1f\x8b" else layer({"/opt/content": raw}) for raw in layers]
        return original(name, platform, layers=packed, **changes)

    monkeypatch.setattr(made.fake, "add_image", add_image)
    made.base("first")
    made.external("slim:1", "slim")
    return attest(made)


def run(world: World, *words: str) -> int:
    with use_backends(world.backends):
        return run_command(["verify", NAME, "--registry", CHAIN, "--root", str(world.root), *words])


def document(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = run(world, *words, "--json")
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, result


def test_verify_provenance_tells_who_from_what_and_how(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "--provenance") == 0
    text = capsys.readouterr().out
    for part in (
        f"signed by   your key ({signing_key(1).public.short_id})",
        f"source      git+{SOURCE}@{COMMIT}",
        "based on    fat:1 (sha256:",
        "amd64/stock/20-blas",
        "args        CPU=HASWELL",
        "files       1 file",
        "proven      libraries: ",
    ):
        assert part in text


def test_name_with_a_host_is_verified_in_its_registry(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain registry's image of that name was verified, although the published one is another."""
    name = f"ghcr.io/{REPOSITORY}:{RESULT}"
    world.fake.add_image(name, "amd64", layers=[layer({"/opt/other": b"1"})])
    with use_backends(world.backends):
        code = run_command(["verify", name, "--registry", CHAIN, "--provenance"])
    output = capsys.readouterr()
    assert code == ExitCode.NOT_PROVEN
    assert f"no accepted key has signed the provenance of ghcr.io/{REPOSITORY}" in output.out + output.err


def test_image_that_its_registry_lacks_is_verified_in_the_chain(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"ghcr.io/{REPOSITORY}:{RESULT}"
    world.fake.host("ghcr.io").down = True
    place = ChainRegistry.parse(CHAIN).place(ImageReference.parse(name))
    world.fake.add_image(f"{CHAIN}/{place.repository}:{RESULT}", "amd64", layers=[layer({"/opt/other": b"1"})])
    with use_backends(world.backends):
        run_command(["verify", name, "--registry", CHAIN, "--provenance"])
    output = capsys.readouterr()
    assert f"; using {place.repository} of {CHAIN} instead" in output.out + output.err


def test_verify_provenance_of_another_key_fails_with_hint(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "--provenance", "--key", str(signing_key(2).public)) == ExitCode.NOT_PROVEN
    output = capsys.readouterr()
    assert "no accepted key has signed the provenance" in output.err
    assert "--key" in output.err
    assert "signature 1: no accepted key made it" in output.out


def test_verify_provenance_as_json_has_every_step(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = document(world, capsys, "--provenance")
    assert (code, result["schema"], result["accepted"]) == (0, "chainbuild.provenance/1", True)
    assert [step["step"] for step in result["provenance"]["steps"]][-1] == "amd64/stock/production"
    assert result["provenance"]["sources"] == [{"uri": f"git+{SOURCE}@{COMMIT}", "commit": COMMIT, "dirty": False}]


def test_verify_policy_names_rule_and_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.root / "policy.yaml").write_text('schema: chainbuild.policy/1\nbase-from: "alpine:*"\n')
    assert run(world, "--policy", "policy.yaml") == ExitCode.NOT_PROVEN
    assert "policy.yaml:2: base-from: the base image fat:1" in capsys.readouterr().err
    code, result = document(world, capsys, "--policy", "policy.yaml")
    assert code == ExitCode.NOT_PROVEN
    assert {(error["path"], error["line"]) for error in result["errors"]} == {("policy.yaml", 2)}


def test_verify_reports_wrong_key_and_policy_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.root / "policy.yaml").write_text("schema: chainbuild.policy/1\nnot-older-than: soon\n")
    assert run(world, "--key", "missing.pub", "--policy", "policy.yaml") == ExitCode.WRONG_USE
    text = capsys.readouterr().err
    assert "--key: missing.pub: cannot read the key" in text
    assert "policy.yaml:2:" in text


def test_verify_provenance_without_attestations_fails(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    put_layers(world.registries, result_of(world), "att", [])
    code, result = document(world, capsys, "--provenance")
    assert (code, result["accepted"], result["provenance"]) == (ExitCode.NOT_PROVEN, False, None)
    # The signature alone says nothing of how the image was made.
    assert [signer["name"] for signer in result["signers"]] == ["your key"]
    assert PROVENANCE_TYPE


# Built again ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(world: World) -> World:
    arguments = RunArguments("amd64", REPOSITORY, "v1", "fat:1", "stock", "slim:1")
    save_last_run(world.root, RunOptions(root=world.root, registry=CHAIN).with_arguments(arguments))
    return world


def test_verify_rebuild_of_reproducible_steps_succeeds(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(saved.host.tags)
    saved.begin_again()
    code, result = document(saved, capsys, "--rebuild")
    assert (code, result["same"]) == (0, True)
    assert result["steps"][0]["step"] == "amd64/stock/10-base"
    assert len(saved.driver.built) == 5
    assert saved.driver_settings[-1][1] is True, "no cache"
    assert saved.host.tags == before, "nothing of it stays"


def test_verify_rebuild_takes_the_base_of_the_provenance(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.base("second")
    code, result = document(saved, capsys, "--rebuild")
    assert (code, result["same"]) == (0, True)


def test_verify_rebuild_names_the_first_different_file(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.driver.content = lambda spec: f"{spec.step} of today"
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    text = capsys.readouterr().out
    assert "amd64/stock/10-base: differs" in text
    assert "file /opt/content: " in text
    assert "was not reproduced" in text


def test_verify_rebuild_names_changed_inputs_unbuilt(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    saved.begin_again()
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    assert 'arg CPU is "ZEN", not "HASWELL"' in capsys.readouterr().out
    assert saved.driver.built == []


def test_verify_rebuild_names_a_changed_file(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write({"src/setup.py": "other()\n"})
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    assert "file src/setup.py is another one" in capsys.readouterr().out


def test_verify_rebuild_names_a_new_step(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write({"stock/15-Dockerfile-more": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN more\n"})
    saved.begin_again()
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    assert "stock/15-more: differs\n  the image was built without this step" in capsys.readouterr().out
    assert saved.driver.built == []


def test_verify_rebuild_names_a_missing_step(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    (saved.root / "stock/20-Dockerfile-blas").unlink()
    (saved.root / "stock/blas-amd64-args").unlink()
    (saved.root / "stock/blas-aarch64-args").unlink()
    saved.begin_again()
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    assert "stock/20-blas: differs\n  the tree does not have this step" in capsys.readouterr().out
    assert saved.driver.built == []


def test_verify_rebuild_names_a_new_arg(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether a Dockerfile reads an arg is known only after the build: it may be declared in a stage that is not built."""
    saved.write({"stock/base-amd64-args": "BUILDKIT_MULTI_PLATFORM=1\n"})
    saved.driver.content = lambda spec: f"{spec.step} of today"
    assert run(saved, "--rebuild") == ExitCode.NOT_PROVEN
    text = capsys.readouterr().out
    assert 'arg BUILDKIT_MULTI_PLATFORM is "1", which the provenance does not have' in text


def test_verify_rebuild_of_refused_provenance_builds_nothing(saved: World, capsys: pytest.CaptureFixture[str]) -> None:
    saved.begin_again()
    assert run(saved, "--rebuild", "--key", str(signing_key(2).public)) == ExitCode.NOT_PROVEN
    assert "its provenance is not accepted" in capsys.readouterr().err
    assert saved.driver.built == []


def test_verify_rebuild_without_the_tree_tells_where(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "--rebuild") == ExitCode.WRONG_USE
    assert capsys.readouterr().err
