"""Requests of options to the stages: merging, and the arguments that a stage's Dockerfile gets."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.lists import words_in
from chainbuild.model import Ask, BuildArg
from chainbuild.parsing.stage_args import LISTS, args_for, has_commas, merge, place_of

FILES, LIBRARIES, PACKAGES = "ADDITIONAL_FILES", "ADDITIONAL_LIB_LOCATIONS", "PRODUCTION_PACKAGES"


def args(values: Mapping[str, str], option: str) -> list[BuildArg]:
    return [
        BuildArg(name=name, value=value, origin=f"{option}/minimize-amd64-args:{line}")
        for line, (name, value) in enumerate(values.items(), 1)
    ]


def asks(*options: tuple[str, Mapping[str, str]]) -> tuple[Ask, ...]:
    below: tuple[Ask, ...] = ()
    for option, values in options:
        merged = merge(below, args(values, option), option)
        assert not merged.problems
        below = merged.asks
    return below


def given_to(asked: tuple[Ask, ...], option: str = "top", *, plain: bool = False) -> dict[str, str]:
    found = args_for(asked, {*LISTS, "STRIP"}, option, plain=plain)
    return {arg.name: arg.value for arg in found}


def test_lists_of_lower_options_are_joined_in_order() -> None:
    asked = asks(("stock", {FILES: "/b /a"}), ("graphics", {}), ("extras", {FILES: "/c,/a"}))
    assert given_to(asked) == {FILES: "/b /a /c"}


def test_switch_of_lower_option_applies_until_replaced() -> None:
    lower = asks(("stock", {"STRIP": "1"}))
    assert given_to(merge(lower, [], "graphics").asks) == {"STRIP": "1"}
    assert given_to(merge(lower, args({"STRIP": "0"}, "graphics"), "graphics").asks) == {"STRIP": "0"}


def test_inherited_item_is_removed() -> None:
    lower = asks(("stock", {FILES: "/a ?/b /c"}))
    assert given_to(merge(lower, args({FILES: "!/b /d"}, "top"), "top").asks) == {FILES: "/a /c /d"}
    assert given_to(merge(lower, args({FILES: "!* /d"}, "top"), "top").asks) == {FILES: "/d"}
    assert given_to(merge(lower, args({FILES: "!*"}, "top"), "top").asks) == {FILES: ""}


def test_removal_without_match_is_a_problem() -> None:
    lower = asks(("stock", {FILES: "/a"}))
    merged = merge(lower, args({"STRIP": "1", FILES: "!/z"}, "top"), "top")
    (problem,) = merged.problems
    assert problem.where == "top/minimize-amd64-args:2"
    assert problem.message == "ADDITIONAL_FILES: '!/z' removes nothing"
    assert problem.hint == "The inherited items are: /a."
    (alone,) = merge((), args({FILES: "!*"}, "top"), "top").problems
    assert alone.hint == "Remove it: no option below requests anything."


def test_removal_does_not_apply_to_own_list() -> None:
    (problem,) = merge((), args({FILES: "/a !/a"}, "top"), "top").problems
    assert "removes nothing" in problem.message


def test_optional_package_is_a_problem() -> None:
    (problem,) = merge((), args({PACKAGES: "?tini"}, "top"), "top").problems
    assert problem.where == "top/minimize-amd64-args:1"
    assert "cannot be optional" in problem.message


def test_required_item_wins_over_optional() -> None:
    assert given_to(asks(("stock", {FILES: "/a"}), ("top", {FILES: "?/a"}))) == {FILES: "/a"}
    assert given_to(asks(("stock", {FILES: "?/a"}), ("top", {FILES: "/a"}))) == {FILES: "/a"}
    assert given_to(asks(("stock", {FILES: "?/a"}), ("top", {}))) == {FILES: "?/a"}


def test_own_stage_gets_plain_items_with_separators_of_tree() -> None:
    asked = asks(("stock", {FILES: "?/a,/b", PACKAGES: "tini"}))
    assert given_to(asked, plain=True) == {FILES: "/a,/b", PACKAGES: "tini"}
    spaced = asks(("stock", {FILES: "?/a /b"}))
    assert given_to(spaced, plain=True) == {FILES: "/a /b"}
    mixed = merge(spaced, args({FILES: "/c,/d"}, "top"), "top").asks
    assert given_to(mixed, plain=True) == {FILES: "/a,/b,/c,/d"}


def test_inherited_locations_are_optional_above() -> None:
    """The files whose dependencies are followed are not kept themselves, so the result may lack them."""
    asked = asks(("stock", {LIBRARIES: "/build/lib", FILES: "/srv"}), ("top", {LIBRARIES: "/other"}))
    assert given_to(asked, "top") == {LIBRARIES: "?/build/lib /other", FILES: "/srv"}
    assert given_to(asks(("stock", {LIBRARIES: "/build/lib"})), "stock") == {LIBRARIES: "/build/lib"}
    assert given_to(asked, "top", plain=True)[LIBRARIES] == "/build/lib /other"


@pytest.mark.parametrize(
    ("lower", "upper", "value"),
    [
        ("file", "tzdata", "?file tzdata"),
        ("file", "0", "0"),
        ("file", "1", "1"),
        ("1", "file", "1"),
        ("1", "!1 file", "file"),
        ("1", "0", "0"),
        ("0", "file", "file"),
        ("0", None, "0"),
        ("1", None, "1"),
        ("file", "!file", ""),
    ],
)
def test_switch_list_is_merged(lower: str, upper: str | None, value: str) -> None:
    below = asks(("stock", {"KEEP_DATA": lower}))
    merged = merge(below, args({} if upper is None else {"KEEP_DATA": upper}, "top"), "top")
    assert merged.problems == ()
    assert given_to(merged.asks) == {"KEEP_DATA": value}


def test_undeclared_argument_does_not_reach_stage() -> None:
    assert args_for(asks(("stock", {FILES: "/a"})), {"STRIP"}, "stock") == ()


def test_has_commas_ignores_escaped_commas() -> None:
    assert has_commas("/a,/b")
    assert not has_commas(r"/a\,v /b")


@pytest.mark.parametrize(
    ("origin", "place"),
    [
        ("stock/minimize-amd64-args:12", ("stock/minimize-amd64-args", 12)),
        ("stock/minimize-amd64-args:3 (environment)", ("stock/minimize-amd64-args", 3)),
        ("--build-arg", ("--build-arg", 0)),
    ],
)
def test_place_of_reads_path_and_line(origin: str, place: tuple[str, int]) -> None:
    assert place_of(origin) == place


WORDS = st.lists(st.text(alphabet="ab/*\\,. ?", min_size=1, max_size=6), max_size=5)


@given(WORDS, WORDS, st.sampled_from([" ", ",", ", ", " \t"]))
def test_list_separators_do_not_change_result(lower: list[str], upper: list[str], separator: str) -> None:
    def escaped(words: list[str]) -> list[str]:
        return [word.replace("\\", "").replace(",", "\\,").replace(" ", "\\ ") for word in words]

    def values(between: str) -> dict[str, str]:
        below = merge((), args({FILES: between.join(escaped(lower))}, "low"), "low").asks
        return given_to(merge(below, args({FILES: between.join(escaped(upper))}, "top"), "top").asks)

    assert values(separator) == values(" ")


@given(st.text(max_size=30), st.text(max_size=30))
def test_merged_list_has_every_item_not_removed(lower: str, upper: str) -> None:
    below = merge((), args({FILES: lower}, "low"), "low").asks
    merged = merge(below, args({FILES: upper}, "top"), "top").asks
    texts = {word.text for word in words_in(given_to(merged)[FILES])}
    assert texts >= {word.text for word in words_in(upper) if not word.taken_back}
    assert not any(word.taken_back for word in words_in(given_to(merged)[FILES]))
