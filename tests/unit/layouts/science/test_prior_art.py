"""The bugs of the tool that this layout replaces: each test fails if one of them comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainbuild.errors import BuildFailedError, WrongUseError
from chainbuild.host.folders import scratch_folder
from chainbuild.layouts.science.manifests import Version
from chainbuild.step_id import StepId

from .grove import Grove


def test_changed_layers_are_planned_once_in_order(grove: Grove) -> None:
    grove.science("c", "FROM sci/b:1.0", image="x")
    grove.science("b", "FROM sci/a:1.0", image="x")
    grove.science("a", image="x", compat="k")
    grove.compat("k")
    grove.git.differs = ("science/c/Dockerfile", "science/a/Dockerfile")
    assert grove.builds(ref="HEAD^") == ["science/a", "science/b", "science/c"]


@pytest.mark.timeout(60)
def test_layer_cycle_is_reported(grove: Grove) -> None:
    grove.science("a", "FROM sci/b:1.0")
    grove.science("b", "FROM sci/a:1.0")
    with pytest.raises(WrongUseError, match="in a cycle: a on b on a"):
        grove.request()


def test_versions_are_compared_as_numbers(grove: Grove) -> None:
    assert Version("2.9") < Version("2.10")
    grove.science("old", image="x", version="2.9")
    grove.science("new", "FROM sci/old:2.9", image="x", version="2.10")
    assert grove.builds() == ["science/old", "science/new"]
    grove.science("old", "FROM sci/new:2.10", image="x", version="2.9")
    grove.science("new", image="x", version="2.10")
    with pytest.raises(WrongUseError, match=r"x:2.9 is based on new:2.10, a higher version of the same image"):
        grove.request()


@pytest.mark.parametrize(
    "dockerfile",
    [
        "from sci/a:1.0",
        "FROM sci/a:1.0 AS base",
        "FROM --platform=linux/amd64 sci/a:1.0",
        "ARG BASE=sci/a:1.0\nFROM ${BASE}",
        "FROM debian:1 AS tools\nFROM sci/a:1.0",
        "FROM debian:1\nCOPY --from=sci/a:1.0 /a /a",
        "FROM containers.repo.sciserver.org/compute-images/sci/a:1.0",
    ],
)
def test_from_in_any_form_is_a_dependency(grove: Grove, dockerfile: str) -> None:
    grove.science("a")
    grove.science("b", dockerfile)
    with grove.laid() as (_, layout, _):
        assert layout.graph.by_id[StepId.parse("amd64/science/b")].needs == (StepId.parse("amd64/science/a"),)


def test_from_with_digest_is_a_dependency(grove: Grove) -> None:
    grove.science("a", image="x")
    grove.science("b", f"FROM sci/a:1.0@sha256:{'0' * 64}", image="x")
    assert grove.request().tree.layer_graph.finals == {"x:1.0": "b"}


def test_from_with_other_registry_is_external(grove: Grove) -> None:
    """Bug: an image with the same last name in another registry was taken for a layer."""
    grove.science("foreign")
    grove.fake.add_image("quay.io/other/foreign:1.0", "amd64", layers=[b"theirs"])
    grove.science("b", "FROM quay.io/other/foreign:1.0")
    with grove.laid() as (_, layout, _):
        assert layout.graph.by_id[StepId.parse("amd64/science/b")].needs == ()


def test_from_with_compat_image_is_rejected(grove: Grove) -> None:
    grove.science("a", image="a")
    grove.science("b", "FROM rel/a:1.0")
    with pytest.raises(WrongUseError, match=r"rel/a:1\.0 is a compat image"):
        grove.request()


def test_from_is_replaced_by_image_of_repo(grove: Grove) -> None:
    """Bug: images of a test repository were based on production images. That registry is never queried."""
    grove.science("a")
    grove.science("b", "FROM containers.repo.sciserver.org/compute-images/sci/a:1.0")
    text = (grove.root / "science/b/Dockerfile").read_text()
    assert grove.run(repo="me/test").succeeded
    (order,) = [order for order in grove.driver.orders if order.step == StepId.parse("amd64/science/b")]
    (pin,) = order.pins
    assert pin.word == "containers.repo.sciserver.org/compute-images/sci/a:1.0"
    assert pin.reference.startswith("localhost:5000/me/test@sha256:")
    assert order.contexts == ()
    assert "containers.repo.sciserver.org" not in grove.fake.hosts
    assert (grove.root / "science/b/Dockerfile").read_text() == text


def test_from_with_old_version_is_reported(grove: Grove) -> None:
    grove.science("a", version="2.0")
    grove.science("b", "FROM sci/a:1.0")
    with pytest.raises(WrongUseError, match=r"its base sci/a:1.0 is no longer built by any layer"):
        grove.request()


def test_nested_includes_are_built(grove: Grove) -> None:
    grove.science("a", compat="top")
    grove.compat("low", "ENV LOW=1\nCOPY low /", files={"low": "low"})
    grove.compat("mid", "ENV MID=1", includes=["low"])
    grove.compat("top", "ENV TOP=1", includes=["mid"])
    with grove.laid() as (_, layout, _):
        (merged,) = layout.merged.values()
        step = layout.graph.by_id[StepId.parse("amd64/compat/a-1.0")]
        assert (step.context / "low").read_text() == "low"
    places = [merged.text.index(f"ENV {name}=1") for name in ("LOW", "MID", "TOP")]
    assert places == sorted(places)
    grove.run()
    (grove.root / "compat/low/low").write_text("changed")
    assert grove.builds() == ["compat/a-1.0"]


def test_diamond_of_includes_is_no_cycle(grove: Grove) -> None:
    grove.science("a", compat="top")
    grove.compat("low", "ENV LOW=1")
    grove.compat("left", includes=["low"])
    grove.compat("right", includes=["low"])
    grove.compat("top", includes=["left", "right"])
    with grove.laid() as (_, layout, _):
        (merged,) = layout.merged.values()
    assert merged.text.count("ENV LOW=1") == 1


def test_later_layer_wins_for_files_of_equal_size_and_time(grove: Grove) -> None:
    grove.science("a", compat="top")
    grove.compat("low", "COPY f /", files={"f": "low"})
    grove.compat("top", files={"f": "top"}, includes=["low"])
    for name in ("low", "top"):
        os.utime(grove.root / f"compat/{name}/f", (1_000_000, 1_000_000))
    with grove.laid() as (_, layout, _):
        step = layout.graph.by_id[StepId.parse("amd64/compat/a-1.0")]
        assert (step.context / "f").read_text() == "top"


def test_include_paths_resolve_against_tree_or_current_folder(grove: Grove, monkeypatch: pytest.MonkeyPatch) -> None:
    grove.science("a")
    grove.science("b")
    monkeypatch.chdir("/")
    assert grove.builds(include=["science/a"]) == ["science/a"]
    assert grove.builds(include=[str(grove.root / "science/a")]) == ["science/a"]
    monkeypatch.chdir(grove.root / "science")
    assert grove.builds(include=["a"]) == ["science/a"]


@pytest.mark.parametrize("flag", ["include", "ignore"])
def test_misspelled_include_is_reported_with_nearest_name(grove: Grove, flag: str) -> None:
    grove.science("nist-basic")
    with pytest.raises(WrongUseError) as caught:
        grove.request(**{flag: ["science/nist-bsic"]})
    assert "Perhaps you meant 'science/nist-basic'" in caught.value.problems[0].hint


def test_dirty_tree_gets_no_tag_with_commit_hash(grove: Grove) -> None:
    grove.science("a")
    grove.git.edits = True
    grove.run()
    assert {name.rpartition(":")[2] for name in grove.tags()} == {"1.0", "1.0-amd64"}


def test_immutable_tags_are_not_overwritten(grove: Grove) -> None:
    grove.science("a")
    grove.run()
    before = grove.tags()["compute-images/sci/a:1.0-42-f90dbd6"]
    (grove.root / "science/a/Dockerfile").write_text("FROM debian:1\nRUN other\n")
    grove.run()
    assert grove.tags()["compute-images/sci/a:1.0-42-f90dbd6"] == before != grove.tags()["compute-images/sci/a:1.0"]


def test_unknown_compat_of_unselected_layer_is_reported(grove: Grove) -> None:
    grove.science("a", compat="nothing")
    grove.science("b", image="b")
    grove.git.differs = ("science/b/Dockerfile",)
    with pytest.raises(WrongUseError, match="its compat is 'nothing'"):
        grove.request(ref="HEAD^")


def test_failed_build_pushes_no_images(grove: Grove) -> None:
    grove.science("a")
    grove.science("b", "FROM sci/a:1.0")
    grove.driver.fails[StepId.parse("amd64/science/b")] = BuildFailedError("amd64/science/b: no")
    assert not grove.run(repo="quay.io/me/test", push=True).succeeded
    assert grove.tags() == {}
    assert not [name for name, _ in grove.fake.host("quay.io").tags if name.startswith("me/")]


def test_temporary_folders_are_removed(grove: Grove) -> None:
    grove.science("a", compat="c")
    grove.compat("c", "COPY f /", files={"f": "x"})
    before = sorted(grove.root.rglob("*"))
    with grove.laid() as (_, layout, _):
        made = layout.graph.by_id[StepId.parse("amd64/compat/a-1.0")].context
        assert made.is_dir()
    assert not made.parent.exists()
    assert sorted(grove.root.rglob("*")) == before
    # A killed run leaves its folder behind; the next run removes it.
    left = Path(made.parent.parent.parent) / "chainbuild-scratch-left-by-a-killed-run"
    left.mkdir(exist_ok=True)
    with scratch_folder():
        assert not left.exists()


def test_comments_in_manifest_are_parsed(grove: Grove) -> None:
    grove.science("a")
    (grove.root / "science/a/sciserver-image.json").write_text(
        '{\n  # the name\n  "image": "sciserver-essentials",\n\n  // and\n  "version": "2.4" # the version\n}\n'
    )
    assert list(grove.request().tree.layer_graph.finals) == ["sciserver-essentials:2.4"]


def test_orphaned_version_is_reported(grove: Grove) -> None:
    grove.science("a", image="x", version="1.1")
    grove.git.was = {"science/a/sciserver-image.json": '{"image": "x", "version": "1.0"}'}
    grove.git.differs = ("science/a/sciserver-image.json",)
    with pytest.raises(WrongUseError, match=r"changed in place from x:1\.0 to x:1\.1"):
        grove.request()
