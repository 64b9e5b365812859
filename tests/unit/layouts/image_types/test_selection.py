"""Selection of images by globs on `name:tag`."""

from __future__ import annotations

import re
from fnmatch import translate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_types.selection import globs_in, matches, select

from .shelf import Shelf

globs = st.text("abx:*?[]-!/,", max_size=8)


@pytest.fixture
def three(shelf: Shelf) -> Shelf:
    shelf.type("dev/x", tags=["latest", "x"])
    shelf.type("dev/y", tags=["y"])
    shelf.type("run/x", root=shelf.built_in)
    return shelf


def test_selection_without_globs_excludes_built_in_types(three: Shelf) -> None:
    catalogue = three.look().catalogue
    assert select(catalogue, ()) == ("dev:x", "dev:y")
    assert select(catalogue, ["*"]) == ("dev:x", "dev:y")
    assert select(catalogue, ["*", "run"]) == ("dev:x", "dev:y", "run:x")


def test_built_in_types_count_only_if_named_or_alone(shelf: Shelf) -> None:
    shelf.type("run/x", root=shelf.built_in)
    shelf.type("dev/x", "FROM run:x", dependencies=["../../run"], root=shelf.built_in)
    assert shelf.look().chosen == ("dev:x", "run:x")
    shelf.type("mine/x", "FROM debian:1", dependencies=["../../run", "../../dev"])
    shelf.type("dev/y", name="dev", tags=["y"])
    assert shelf.look().chosen == ("dev:y", "mine:x")
    assert shelf.look("dev*", "*:x").chosen == ("dev:y", "mine:x")
    assert list(shelf.actions()) == ["dev:y", "mine:x"]
    assert list(shelf.actions("dev:x")) == ["run:x", "dev:x"]
    shelf.type("mine/x", "FROM run:x", dependencies=["../../run"])
    assert list(shelf.actions("mine")) == ["run:x", "mine:x"]


def test_built_in_type_yields_to_image_of_same_name(shelf: Shelf) -> None:
    shelf.type("run/x", root=shelf.built_in)
    shelf.type("other/x", name="run", tags=["x"])
    look = shelf.look()
    assert look.catalogue.images["run:x"].spot == "other/x"
    assert shelf.problems() == ()
    shelf.type("app/x", "FROM run:z")
    assert shelf.problems() != (), "the name is known"
    shelf.type("other/x", name="another", tags=["x"])
    assert shelf.problems() == (), "a built-in name may be that of an image elsewhere"


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["dev:*"], ("dev:x", "dev:y")),
        (["dev"], ("dev:x", "dev:y")),
        (["*:x"], ("dev:x",)),
        (["dev:latest"], ("dev:x",)),
        (["dev:y,run:*"], ("dev:y", "run:x")),
        (["dev:y", "run:x, dev:y"], ("dev:y", "run:x")),
        (["run/*"], ("run:x",)),
        (["dev:[!x]"], ("dev:y",)),
        (["d?v:x"], ("dev:x",)),
    ],
)
def test_globs_select_by_name_tag_or_folder(three: Shelf, words: list[str], chosen: tuple[str, ...]) -> None:
    assert select(three.look().catalogue, words) == chosen


def test_unmatched_glob_is_reported_with_nearest_name(three: Shelf) -> None:
    with pytest.raises(WrongUseError) as raised:
        select(three.look().catalogue, ["dev:z", "DEV:x,run:*"])
    assert [problem.message for problem in raised.value.problems] == [
        "'DEV:x' matches no image",
        "'dev:z' matches no image",
    ]
    assert "Perhaps you meant 'dev:" in raised.value.problems[1].hint
    with pytest.raises(WrongUseError, match="the globs are empty"):
        select(three.look().catalogue, [","])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(globs, max_size=3))
def test_arbitrary_globs_select_images_or_are_rejected(three: Shelf, words: list[str]) -> None:
    if not hasattr(three, "catalogue"):
        three.catalogue = three.look().catalogue  # type: ignore[attr-defined]
    catalogue = three.catalogue  # type: ignore[attr-defined]
    parts = globs_in(words)
    assert all(part and "," not in part for part in parts)
    images = catalogue.images.values()
    for part in parts:
        for image in images:
            said = (*image.ids, image.name, image.spot)
            assert matches(image, part) == any(re.match(translate(part), one) for one in said)
    try:
        chosen = select(catalogue, words)
    except WrongUseError:
        assert (words and not parts) or any(not any(matches(one, part) for one in images) for part in parts)
    else:
        assert chosen
        assert list(chosen) == [name for name in catalogue.images if name in chosen]
