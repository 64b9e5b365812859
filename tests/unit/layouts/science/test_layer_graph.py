"""Dependencies between layers: every layer graph is built once, in the order of its dependencies."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.layouts.science.graph import ScienceLayout
from chainbuild.step_id import StepId

from .grove import Grove


def told(grove: Grove) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        grove.request()
    return [f"{one.where}: {one.message}" for one in caught.value.problems]


def finals(grove: Grove) -> dict[str, str]:
    return dict(grove.request().tree.layer_graph.finals)


def test_layers_follow_their_bases(grove: Grove) -> None:
    grove.science("a", "FROM sci/z:1.0", image="x", version="2.0")
    grove.science("m", "FROM debian:1 AS t\nFROM sci/a:2.0\nCOPY --from=t / /", image="y")
    grove.science("z", image="x")
    assert [layer.target for layer in grove.request().tree.layer_graph.layers] == ["z", "a", "m"]
    assert finals(grove) == {"x:1.0": "z", "x:2.0": "a", "y:1.0": "m"}


def test_final_layer_is_no_base_within_its_image(grove: Grove) -> None:
    grove.science("low", image="x")
    grove.science("mid", "FROM sci/low:1.0", image="x")
    grove.science("top", "FROM sci/mid:1.0", image="x")
    grove.science("other", "FROM sci/top:1.0", image="y")
    assert finals(grove) == {"x:1.0": "top", "y:1.0": "other"}


def test_final_layer_is_found_across_other_images(grove: Grove) -> None:
    grove.science("low", image="x")
    grove.science("other", "FROM sci/low:1.0", image="y")
    grove.science("top", "FROM sci/other:1.0", image="x")
    assert finals(grove) == {"x:1.0": "top", "y:1.0": "other"}


def test_several_final_layers_are_reported(grove: Grove) -> None:
    grove.science("a", image="x")
    grove.science("b", image="x")
    assert told(grove) == ["science/b/sciserver-image.json:2: x:1.0 has 2 final layers: a, b"]


def test_layer_cycle_is_reported_with_all_members(grove: Grove) -> None:
    grove.science("a", "FROM sci/c:1.0")
    grove.science("b", "FROM sci/a:1.0")
    grove.science("c", "FROM sci/b:1.0")
    grove.science("d", "FROM sci/c:1.0")
    grove.science("e", "FROM debian:1")
    assert told(grove) == ["science/a/Dockerfile: layers depend on each other in a cycle: a on c on b on a"]


def test_layer_based_on_itself_is_a_cycle(grove: Grove) -> None:
    grove.science("a", "FROM sci/a:1.0")
    assert told(grove) == ["science/a/Dockerfile: layers depend on each other in a cycle: a on a"]


def test_unknown_compat_of_any_layer_is_reported(grove: Grove) -> None:
    grove.science("a", image="x", compat="jupter")
    grove.science("b", "FROM sci/a:1.0", image="x", compat="jupyter")
    grove.compat("jupyter")
    assert told(grove) == [
        "science/a/sciserver-image.json:3: its compat is 'jupter', but compat/jupter/sciserver-image.json does not exist"
    ]


def test_final_layer_without_compat_has_no_compat_image(grove: Grove) -> None:
    grove.science("a")
    assert grove.builds() == ["science/a"]


layers = st.lists(
    st.tuples(
        st.sets(st.integers(0, 30), max_size=3),  # bases among the earlier layers
        st.integers(0, 3),  # image
        st.integers(0, 2),  # version
        st.integers(-1, 3),  # compat
    ),
    min_size=1,
    max_size=9,
)
includes = st.lists(st.lists(st.integers(0, 3), unique=True, max_size=3), min_size=4, max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(layers, includes, st.randoms(use_true_random=False))
def test_arbitrary_layers_are_built_once_in_order(
    found: list[tuple[set[int], int, int, int]], below: list[list[int]], shuffled: object
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        grove = Grove(Path(folder) / "tree")
        names = [f"l{number}" for number in range(len(found))]
        shuffled.shuffle(names)  # type: ignore[attr-defined]
        for number, (bases, image, version, compat) in enumerate(found):
            stands_on = sorted({base % number for base in bases}) if number else []
            dockerfile = "\n".join(
                [f"FROM sci/{names[one]}:{found[one][2] + 1}" for one in stands_on[:1]] or ["FROM debian:1"]
            )
            dockerfile += "".join(
                f"\nCOPY --from=sci/{names[one]}:{found[one][2] + 1} / /x{one}" for one in stands_on[1:]
            )
            more: dict[str, Any] = {"compat": f"c{compat}"} if compat >= 0 else {}
            manifest: dict[str, Any] = {"image": f"i{image}", "version": f"{version + 1}", **more}
            grove.science(names[number], dockerfile, **manifest)
        for number, ones in enumerate(below):
            grove.compat(f"c{number}", f"ENV C{number}=1", includes=[f"c{one}" for one in ones if one > number])
        refused: list[str] = []
        try:
            with grove.laid() as (_, layout, _):
                _check(layout)
        except WrongUseError as error:
            refused = [one.message for one in error.problems]
        # Random layers of an image and version may have several finals, or a base with a higher version.
        assert all("final layers" in message or "higher version" in message for message in refused)
        if refused:
            return
        outcome = grove.run()
        assert outcome.succeeded
        assert sorted(grove.built) == sorted(step.id.in_option for step in layout.graph)
        assert grove.builds() == []


def _check(layout: ScienceLayout) -> None:
    done: set[StepId] = set()
    for step in layout.graph:
        assert step.id not in done, "once"
        assert set(step.needs) <= done, "after its dependencies"
        done.add(step.id)
    assert len({chain.result.id for chain in layout.graph.chains}) == len(layout.graph.chains)
