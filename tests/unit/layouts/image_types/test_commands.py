"""Output and exit codes of `chainbuild types`, without an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from chainbuild.cli import run
from chainbuild.execution.backends import use_backends
from chainbuild.layouts.image_types import roots
from tests.support.world import CHAIN

from .shelf import PRIVATE, PUBLIC, Shelf


@pytest.fixture
def lab(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setenv("HOME", str(shelf.home))
    for name in ("CASA_DEFAULT_REPOSITORY", "CHAINBUILD_PUBLIC_REGISTRY", "CHAINBUILD_PRIVATE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(shelf.home)

    shelf.type("run/x", tags=["latest", "x"])
    shelf.type("run/x", root=shelf.old)
    shelf.type("app/x", "FROM run:x", dependencies=["../../run"], visibility="private")
    shelf.type("leak/x", "FROM app:x", dependencies=["../../app"])
    with patch.object(roots, "shipped", lambda _: shelf.built_in), use_backends(shelf.backends):
        yield shelf


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert run(["types", *words]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_list_shows_images_in_build_order_and_shadowed_types(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "list", "-v")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["run:x", "app:x", "leak:x"]
    assert ".casa-distro/docker/run/x is shadowed by .config/casa-distro/docker/run/x" in out
    assert out.index("repository") < out.index("user (old)") < out.index("built-in")
    document = json.loads(said(capsys, "list", "--json", "app*,run:latest")[0])
    assert [one["image"] for one in document["images"]] == ["run:x", "app:x"]
    assert document["images"][1]["dependencies"] == ["run:x"]
    assert [one["type"] for one in document["shadowed"]] == ["run/x"]
    assert [one["what"] for one in document["roots"]] == ["repository", "user", "user (old)", "built-in"]


def test_list_reports_manifest_problems_with_lines(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.user / "app/x/casa_distro_docker.yaml").write_text("dependencies: [../../rum]\nimage_source: []\n")
    out, err = said(capsys, "list")
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["run:x", "app:x", "leak:x"]
    assert ".config/casa-distro/docker/app/x/casa_distro_docker.yaml:1: dependency '../../rum' matches nothing" in err
    assert "yaml:2: an image type has no key 'image_source'" in err
    assert "Perhaps you meant 'image_sources'." in err
    assert "Traceback" not in err


def test_plan_shows_actions_aliases_and_private_bases(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--registry", CHAIN, "--platform", "amd64"]
    out, err = said(capsys, "plan", "-v", *words)
    assert "leak:x  build   never built" in out
    assert "also latest" in out
    assert "leak:x is public, but based on a private image (leak:x of app:x)" in err
    assert "3 builds, 0 reused" in out
    said(capsys, "plan", "app", "--fail-if-build", *words, code=6)
    document = json.loads(said(capsys, "build", "--dry-run", "--json", "app", *words)[0])
    assert [step["step"] for step in document["steps"]] == ["amd64/types/run:x", "amd64/types/app:x"]
    assert {"name": f"{CHAIN}/run:latest", "what": f"same as {CHAIN}/run:x"} in document["publishes"]


def test_images_with_problems_are_skipped_and_reported(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--registry", CHAIN, "--platform", "amd64"]
    (lab.user / "app/x/Dockerfile").write_text("FROM run:x\nRAN this\n")
    out, err = said(capsys, "list")
    assert [line.split()[-2:] for line in out.splitlines()[2:4]] == [["1", "run:x"], ["leak/x", "app:x"]]
    assert "app/x/Dockerfile:2: unknown instruction 'RAN'" in err
    assert json.loads(said(capsys, "list", "--json", "app")[0])["images"][0]["problems"][0].startswith(".config/")

    out, err = said(capsys, "plan", *words, code=2)
    assert "run:x  build   never built" in out
    assert "1 build, 0 reused" in out
    assert "app/x/Dockerfile:2: unknown instruction 'RAN'" in err
    assert "2 images skipped because of problems: app:x, leak:x" in err
    document = json.loads(said(capsys, "plan", "--json", *words, code=2)[0])
    assert [step["step"] for step in document["steps"]] == ["amd64/types/run:x"]
    assert sorted(document["skipped"]) == ["app:x", "leak:x"]

    _, err = said(capsys, "create", "--plain", *words, code=2)
    assert lab.built == ["run:x"]
    assert err.rstrip().endswith("The problems are in the warnings above.")
    _, err = said(capsys, "create", "leak", *words, code=2)
    assert "app/x/Dockerfile:2: unknown instruction 'RAN'" in err
    assert "skipped" not in err
    said(capsys, "create", "run", *words)


def test_update_of_image_never_created_has_nothing_to_do(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(capsys, "update", "app", "--registry", CHAIN, "--platform", "amd64")
    assert err.splitlines() == ["app:x was never built: run chainbuild types build 'app:x'", "nothing to update"]


def test_update_dry_run_shows_images_to_pull(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    lab.create("run")
    lab.publish("run")
    host = lab.fake.host(CHAIN)
    for held in (host.tags, host.manifests, host.blobs):
        held.clear()
    words = ["--registry", CHAIN, "--platform", "amd64", "--public", PUBLIC]
    out, _ = said(capsys, "update", "run", "--dry-run", *words)
    assert f"run:x  pull    never built; published as {PUBLIC}/run" in out
    assert "0 builds, 1 pulled, 0 reused" in out


def test_publish_dry_run_shows_destination_of_each_image(
    lab: Shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--registry", CHAIN, "--platform", "amd64", "--dry-run"]
    monkeypatch.setenv("CHAINBUILD_PUBLIC_REGISTRY", PUBLIC)
    lab.create()
    _, err = said(capsys, "publish", *words, code=2)
    assert "leak:x is public, but based on a private image" in err
    assert "no private registry is set to publish app:x" in err
    words += ["--private", PRIVATE]
    out, _ = said(capsys, "publish", "run,app", *words)
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["run:latest", "public", f"{PUBLIC}/run:latest"],
        ["run:x", "public", f"{PUBLIC}/run:x"],
        ["app:x", "private", f"{PRIVATE}/app:x"],
    ]
    document = json.loads(said(capsys, "publish", "leak", "--allow-private-base", "--json", *words)[0])
    assert document["images"] == [{"image": "leak:x", "visibility": "public", "to": f"{PUBLIC}/leak:x"}]


def test_nested_or_invalid_registries_are_rejected(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(capsys, "publish", "--public", "ghcr.io/a", "--private", "ghcr.io/a/b", code=2)
    assert "the private registry ghcr.io/a/b is a part of the public registry ghcr.io/a" in err
    _, err = said(capsys, "plan", "--public", "acme", code=2)
    assert "--public: 'acme' is not a registry host" in err


def test_new_writes_type_based_on_existing_type(lab: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "new", "mine", "--from", "run/x", "--dry-run")
    assert "  - ../../run/x\n" in out
    assert "\nFROM run:x\n" in out
    assert not (lab.user / "mine").exists()
    out, err = said(capsys, "new", "mine/y", "--from", "run/x")
    assert out.split() == [str(lab.user / "mine/y" / name) for name in ("casa_distro_docker.yaml", "Dockerfile")]
    assert "chainbuild types build mine" in err
    assert "mine:y" in said(capsys, "list")[0]
