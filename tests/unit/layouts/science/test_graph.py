"""The Graph of a tree: names, platforms, labels and the inputs of the key."""

from __future__ import annotations

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.model import ImageInput, published
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId

from .grove import Grove


def test_science_layer_is_a_single_step_chain(grove: Grove) -> None:
    grove.science("low", image="x")
    grove.science("top", "FROM quay.io/any/repo/sci/low:1.0\nRUN x", image="x", version="1.1")
    with grove.laid(repo="quay.io/me/test") as (_, layout, _):
        low, top = layout.graph.chains
        assert layout.graph.together
    assert low.base == ImageReference.parse("debian:1")
    assert top.base == low.result.id == StepId.parse("amd64/science/low")
    assert top.last.images == (
        ImageInput(
            name="quay.io/any/repo/sci/low:1.0",
            source=StepId.parse("amd64/science/low"),
            platform=top.platform,
            as_context=True,
            origin="science/top/Dockerfile:1",
        ),
    )
    assert top.last.dockerfile == grove.root / "science/top/Dockerfile"
    assert top.last.context == grove.root / "science/top"
    assert str(top.last.repository) == "localhost:5000/quay.io/me/test"
    names = top.publication
    assert names is not None
    assert str(names.repo) == "quay.io/me/test/sci/top"
    assert str(names.index) == "localhost:5000/quay.io/me/test/sci/top:1.1"
    assert str(names.release) == "localhost:5000/quay.io/me/test/sci/top:1.1-amd64"
    assert names.aliases == ("1.1-42-f90dbd6",)
    assert names.local_tag is None, "only final images are loaded"


def test_final_layer_has_a_compat_image(grove: Grove) -> None:
    grove.science("low", image="x", compat="jupyter")
    grove.compat("common", "ENV A=1")
    grove.compat("jupyter", "CMD jupyter", includes=["common"])
    with grove.laid() as (_, layout, _):
        science, compat = layout.graph.chains
        assert compat.last.text is not None
        assert compat.last.text.startswith(b"FROM sci/low:1.0\n")
    assert compat.base == science.result.id
    assert compat.last.id == StepId.parse("amd64/compat/x-1.0")
    assert compat.publication is not None
    assert str(compat.publication.index) == "localhost:5000/compute-images/rel/x:1.0"
    assert (compat.publication.local_tag, str(compat.publication.repo)) == ("1.0", "compute-images/rel/x")
    assert compat.last.shown == "Dockerfile of x:1.0"


def test_alias_is_omitted_without_git_or_with_edits(grove: Grove) -> None:
    grove.science("a", compat="c")
    grove.compat("c")
    grove.git.edits = True
    with grove.laid() as (_, layout, _):
        assert [names.aliases for _, names in published(layout.graph.chains)] == [(), ()]
        assert "1.0-42-f90dbd6-dirty" in [stamp.value for stamp in layout.graph.chains[0].last.post_build_labels]
    grove.git.none = True
    with grove.laid() as (_, layout, _):
        assert [names.aliases for _, names in published(layout.graph.chains)] == [(), ()]
        assert "1.0" in [stamp.value for stamp in layout.graph.chains[0].last.post_build_labels]


def test_commit_does_not_change_keys(grove: Grove) -> None:
    grove.science("a", compat="c")
    grove.compat("c", "CMD x")
    grove.run()
    grove.git.count = 43
    assert grove.builds() == []


def test_repository_does_not_change_keys(grove: Grove) -> None:
    grove.science("a", "FROM debian:1")
    grove.science("b", "FROM somewhere.org/x/sci/a:1.0", compat="c")
    grove.compat("c", "CMD x")
    keys = []
    for repo in ("one", "two"):
        decisions = grove.plan(repo=repo).decisions
        keys.append([one.components.key for one in decisions if one.components])
    assert keys[0] == keys[1]
    assert len(keys[0]) == 1, "a step on an unbuilt parent has no key yet"


def test_version_change_without_file_change_is_built(grove: Grove) -> None:
    """The labels have the version, so two versions never share an image."""
    grove.science("a")
    grove.run()
    grove.science("b", image="a", version="1.1")
    assert grove.builds() == ["science/b"]


def test_platforms_are_built_side_by_side(grove: Grove) -> None:
    grove.science("low", image="x")
    grove.science("top", "FROM sci/low:1.0", image="x", compat="c")
    grove.compat("c", "CMD x")
    with grove.laid(platform="amd64,aarch64") as (_, layout, _):
        assert [str(step.id) for step in layout.graph] == [
            "amd64/science/low",
            "amd64/science/top",
            "aarch64/science/low",
            "aarch64/science/top",
            "amd64/compat/x-1.0",
            "aarch64/compat/x-1.0",
        ]
        assert [names.local_tag for _, names in published(layout.graph.chains)][-2:] == ["1.0-amd64", "1.0-aarch64"]
    assert grove.run(platform="amd64,aarch64").succeeded
    assert {name for name in grove.tags() if "/rel/" in name} == {
        f"compute-images/rel/x:{tag}" for tag in ("1.0", "1.0-amd64", "1.0-aarch64", "1.0-42-f90dbd6")
    }


def test_layer_can_use_layer_of_another_platform(grove: Grove) -> None:
    grove.science("low", image="low")
    grove.science(
        "top", "FROM --platform=linux/arm64 sci/low:1.0 AS low\nFROM debian:1\nCOPY --from=low / /", image="top"
    )
    with grove.laid() as (_, layout, _):
        assert [(str(step.id), [str(need) for need in step.needs]) for step in layout.graph] == [
            ("amd64/science/low", []),
            ("aarch64/science/low", []),
            ("amd64/science/top", ["aarch64/science/low"]),
        ]
        assert [chain.publication is not None for chain in layout.graph.chains] == [True, False, True]


def test_compat_layer_can_copy_from_science_layer(grove: Grove) -> None:
    grove.science("tools", image="tools")
    grove.science("a", image="a", compat="c")
    grove.compat("c", "COPY --from=sci/tools:1.0 /tools /tools")
    assert grove.run().succeeded
    assert grove.built == ["science/a", "science/tools", "compat/a-1.0"]
    (grove.root / "science/tools/Dockerfile").write_text("FROM debian:1\nRUN other\n")
    assert grove.builds() == ["science/tools", "compat/a-1.0"]


def test_layer_name_too_long_for_a_tag_is_reported(grove: Grove) -> None:
    grove.science("a" * 120)
    with pytest.raises(WrongUseError, match="too long for a tag"), grove.laid():
        pass
