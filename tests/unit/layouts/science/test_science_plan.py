"""The arguments of `chainbuild science` and the output of its plan."""

from __future__ import annotations

import io

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.ui.science import show_science_plan
from chainbuild.ui.terminal import Terminal

from .grove import Grove


@pytest.fixture
def tree(grove: Grove) -> Grove:
    grove.science("a", image="x", compat="top")
    grove.science("b", "FROM sci/a:1.0", image="x", version="2.0", compat="top")
    grove.compat("low", "ENV LOW=1")
    grove.compat("top", "CMD x", includes=["low"])
    return grove


def shown(grove: Grove, verbosity: int, **words: object) -> str:
    said = io.StringIO()
    out = Terminal(stream=said, fixed_width=100)
    with grove.laid(**words) as (request, layout, run):
        plan = grove.planned(run.graph, run.options).plan
        commands = {decision.step.id: ("docker", "buildx") for decision in plan.builds}
        show_science_plan(plan, layout, request.state, commands, out, verbosity=verbosity)
    return said.getvalue()


def test_plan_lists_final_images_first_and_more_if_verbose(tree: Grove) -> None:
    short = shown(tree, 0)
    assert short.splitlines()[1:4] == [
        "final images",
        "  compute-images/rel/x:1.0  build   never built",
        "  compute-images/rel/x:2.0  build   never built",
    ]
    assert "sci/" not in short
    assert short.splitlines()[-1] == "2 science builds and 2 compat builds, 0 reused"
    more = shown(tree, 1)
    assert more.index("rel/x:2.0") < more.index("sci/a:1.0") < more.index("sci/b:2.0")
    assert "and :2.0-42-f90dbd6 (never moves)" in more
    assert "ENV LOW=1" not in more
    merged = shown(tree, 2)
    assert merged.index("FROM sci/a:1.0") < merged.index("ENV LOW=1") < merged.index("CMD x")
    assert "docker buildx" not in merged
    assert "amd64/science/a command  docker buildx" in shown(tree, 3)


def test_plan_counts_unchanged_images_and_lists_them_if_verbose(tree: Grove) -> None:
    tree.run()
    assert "2 images unchanged" in shown(tree, 0)
    assert "rel/x:1.0" not in shown(tree, 0)
    assert "rel/x:1.0" in shown(tree, 1)
    assert "0 science builds and 0 compat builds, 4 reused" in shown(tree, 0)


def test_plan_explains_missing_immutable_tag(tree: Grove) -> None:
    tree.git.edits = True
    assert "uncommitted changes" in shown(tree, 0)
    tree.git.none = True
    assert "not a git tree" in shown(tree, 0)


def test_push_without_repository_is_rejected(tree: Grove) -> None:
    with pytest.raises(WrongUseError, match="--push needs --repo"):
        tree.request(push=True)


def test_invalid_arguments_are_reported_together(tree: Grove) -> None:
    with pytest.raises(WrongUseError) as caught:
        tree.request(platform="amd46", repo="a/Upper", allow_orphan=["x"], ref="no-such", deadline="soon")
    told = " ".join(one.message for one in caught.value.problems)
    for what in ("amd46", "a/Upper", "--allow-orphan 'x'", "no-such", "--deadline"):
        assert what in told


def test_repository_defaults_to_a_local_name(tree: Grove) -> None:
    assert str(tree.request().place.home) == "localhost:5000/compute-images"
