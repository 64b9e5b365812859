"""Manifests and folders: defaults, and errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.science.manifests import describe

from .grove import Grove


@pytest.fixture
def grove(tmp_path: Path) -> Grove:
    return Grove(tmp_path / "tree")


def problems(grove: Grove, **words: object) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        grove.request(**words)
    return [f"{one.where}: {one.message}" for one in caught.value.problems]


def wrong(text: str) -> list[tuple[int, str]]:
    told: list[Problem] = []
    assert describe(text.encode(), "science/a", told) is None
    return [(one.line, one.message) for one in told]


def test_missing_keys_have_defaults() -> None:
    said = describe(b'{"image": "nist"}', "science/nist-basic", [])
    assert said is not None
    assert (said.image, str(said.version), said.target, said.compat) == ("nist", "1.0", "nist-basic", None)
    assert (said.release, said.layer) == ("nist:1.0", "nist-basic:1.0")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{}", 1, "'image' is missing"),
        ('{"image": ""}', 1, "image is not a string"),
        ('{"image":\n ["a"]}', 1, "image is not a string"),
        ('{\n"image": "Upper"}', 2, "image 'Upper' is not a valid repository name"),
        ('{\n"image": "a/b"}', 2, "image 'a/b' is not a valid repository name"),
        ('{"image": "a",\n"version": "v1"}', 2, "version 'v1' is not a version"),
        ('{"image": "a",\n"target": "a b"}', 2, "target 'a b' is not a valid repository name"),
        ('{"image": "a",\n"compat": null}', 2, "compat is not a string"),
        ('{"image": "a",\n\n"verison": "1"}', 3, "unknown key 'verison'"),
        ('{"image": "a",\n"image": "a", "version": true}', 2, "duplicate key 'image'"),
    ],
)
def test_manifest_error_has_its_line(text: str, line: int, message: str) -> None:
    told: list[Problem] = []
    describe(text.encode(), "science/a", told)
    assert (line, message) in [(one.line, one.message) for one in told]


def test_unknown_key_error_suggests_the_nearest_key() -> None:
    told: list[Problem] = []
    describe(b'{"image": "a", "verison": "1"}', "science/a", told)
    assert "Perhaps you meant 'version'" in told[0].hint


def test_folder_name_invalid_as_target_is_reported(grove: Grove) -> None:
    grove.science("Upper", image="a")
    assert problems(grove) == [
        "science/Upper/sciserver-image.json: the target 'Upper' (the folder's name) is not a valid repository name"
    ]


def test_problems_of_a_tree_are_reported_together(grove: Grove) -> None:
    grove.science("a", image="A", compat="none")
    grove.science("b", "FROM", image="b")
    grove.science("c", image="c", compat="jupiter")
    grove.compat("jupyter", "FROM debian", includes=["base"])
    (grove.root / "science/d").mkdir()
    (grove.root / "science/d/sciserver-image.json").write_text('{"image": "d"')
    (grove.root / "science/e").mkdir()
    (grove.root / "science/e/sciserver-image.json").write_text('{"image": "e"}')
    told = problems(grove)
    places = [one.partition(": ")[0] for one in told]
    assert places == [
        "compat/jupyter/Dockerfile:1",
        "compat/jupyter/sciserver-image.json:2",
        "science/a/sciserver-image.json:2",
        "science/b/Dockerfile:1",
        "science/c/sciserver-image.json:3",
        "science/d/sciserver-image.json:1",
        "science/e/sciserver-image.json",
    ]


def test_tree_without_layers_is_reported(grove: Grove) -> None:
    assert problems(grove)[0].startswith(": no science layer in ")


def test_folder_without_manifest_is_ignored(grove: Grove) -> None:
    grove.science("a")
    (grove.root / "science/notes").mkdir()
    (grove.root / "science/README").write_text("for people")
    assert [layer.target for layer in grove.request().tree.layer_graph.layers] == ["a"]


def test_duplicate_target_is_reported(grove: Grove) -> None:
    grove.science("a", target="same")
    grove.science("b", target="same")
    assert problems(grove) == ["science/b/sciserver-image.json:3: duplicate target 'same', used by science/a"]


def test_equal_versions_with_different_spelling_are_rejected(grove: Grove) -> None:
    grove.science("a", image="x", version="2")
    grove.science("b", image="x", version="2.0")
    assert problems(grove) == ["science/b/sciserver-image.json:3: x:2.0 and x:2 (science/a) are the same number"]
