"""Orphaned versions: an error before a version becomes one, and the list of existing ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.operations.science import orphans
from chainbuild.requests.science import ScienceOptions, read_science
from chainbuild.step_id import StepId

from .grove import Grove


@pytest.fixture
def tree(grove: Grove) -> Grove:
    grove.science("a", image="x", compat="c")
    grove.compat("c", "CMD x")
    grove.git.was = {"science/a/sciserver-image.json": json.dumps({"image": "x", "version": "1.0", "compat": "c"})}
    return grove


def told(grove: Grove, **words: object) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        grove.request(**words)
    for one in caught.value.problems:
        assert "a new layer on the existing version, with the same image and version" in one.hint
        assert "with a new version" in one.hint
        assert "change the layer without changing its version" in one.hint
        assert "--allow-orphan" in one.hint
    return [f"{one.where}: {one.message}" for one in caught.value.problems]


def test_version_change_in_place_is_reported(tree: Grove) -> None:
    tree.science("a", image="x", version="1.1", compat="c")
    tree.git.differs = ("science/a/sciserver-image.json",)
    expected = (
        "science/a/sciserver-image.json:3: the layer was changed in place from x:1.0 to x:1.1: x:1.0 would no longer get"
        " compat updates"
    )
    assert told(tree) == [expected]
    assert told(tree, ref="HEAD~3") == [expected]
    assert tree.request(allow_orphan=["x:1.0"]).selection.releases == {"x:1.1"}


def test_image_change_in_place_is_reported(tree: Grove) -> None:
    tree.science("a", image="y", compat="c")
    tree.git.differs = ("science/a/sciserver-image.json",)
    assert told(tree)[0].startswith(
        "science/a/sciserver-image.json:2: the layer was changed in place from x:1.0 to y:1.0"
    )


def test_removal_of_last_layer_of_version_is_reported(tree: Grove) -> None:
    tree.git.was["science/gone/sciserver-image.json"] = json.dumps({"image": "x", "version": "0.9"})
    tree.git.differs = ("science/gone/sciserver-image.json", "science/gone/Dockerfile")
    (message,) = told(tree)
    assert message.startswith("science/gone/sciserver-image.json: the last layer of x:0.9 was removed: x:0.9 would")
    tree.request(allow_orphan=["x:0.9"])


def test_new_layer_on_existing_version_is_accepted(tree: Grove) -> None:
    tree.science("b", "FROM sci/a:1.0", image="x", compat="c")
    tree.git.differs = ("science/b/sciserver-image.json", "science/b/Dockerfile", "science/a/Dockerfile")
    tree.request()
    tree.science("b", "FROM sci/a:1.0", image="x", version="2.0", compat="c")
    tree.request()


def test_removal_of_one_of_several_layers_is_accepted(tree: Grove) -> None:
    tree.git.was["science/gone/sciserver-image.json"] = json.dumps({"image": "x", "version": "1.0"})
    tree.git.differs = ("science/gone/sciserver-image.json",)
    tree.request()


def test_from_with_orphaned_version_is_reported_unless_allowed(tree: Grove) -> None:
    tree.science("b", "FROM sci/a:0.9", image="y", compat="c")
    assert told(tree) == ["science/b/Dockerfile:1: its base sci/a:0.9 is no longer built by any layer"]
    for allowed in ("a:0.9", "x:0.9"):
        with tree.laid(allow_orphan=[allowed]) as (_, layout, _):
            (image,) = layout.graph.by_id[StepId.parse("amd64/science/b")].images
            assert str(image.source) == "localhost:5000/compute-images/sci/a:0.9"
    with tree.laid(allow_orphan=["a:0.9"], repo="quay.io/me/test") as (_, layout, _):
        (image,) = layout.graph.by_id[StepId.parse("amd64/science/b")].images
        assert str(image.source) == "quay.io/me/test/sci/a:0.9"


def test_missing_base_version_is_reported_without_follow_ups(tree: Grove) -> None:
    tree.science("b", "FROM sci/a:1.1", image="x", compat="c")
    assert told(tree) == ["science/b/Dockerfile:1: its base sci/a:1.1 is no longer built by any layer"]


def test_allowed_old_version_uses_its_released_image(tree: Grove) -> None:
    tree.run()
    tree.science("a", image="x", version="1.1", compat="c")
    tree.science("b", "FROM prod.org/images/sci/a:1.0", image="y")
    assert tree.run(allow_orphan=["x:1.0"]).succeeded
    assert tree.resolved("compute-images/sci/b:1.0").layers[:2] == tree.resolved("compute-images/sci/a:1.0").layers


def test_invalid_allow_orphan_value_is_reported(tree: Grove) -> None:
    with pytest.raises(WrongUseError, match="is not IMAGE:VERSION"):
        tree.request(allow_orphan=["x"])


def test_released_version_is_remembered_without_git(tree: Grove) -> None:
    """If the commit that orphans a version is never built, the diff of the next commit does not show it."""
    tree.run()
    tree.science("a", image="x", version="1.1", compat="c")
    tree.git.differs = ()
    tree.request()
    with pytest.raises(WrongUseError) as caught:
        tree.run()
    assert [one.message for one in caught.value.problems] == [
        "x:1.0 was released, but no layer has this image and version: x:1.0 would no longer get compat updates"
    ]
    with pytest.raises(WrongUseError):
        tree.plan()
    assert "compute-images/rel/x:1.1" not in tree.tags()
    assert tree.run(allow_orphan=["x:1.0"]).succeeded
    assert tree.run().succeeded, "it is reported once"


def test_orphaned_version_released_again_is_checked_again(tree: Grove) -> None:
    tree.run()
    tree.science("a", "FROM debian:1\nRUN x", image="x", version="1.1", compat="c")
    tree.run(allow_orphan=["x:1.0"])
    tree.science("b", "FROM debian:1\nRUN y", image="x", version="1.0", compat="c")
    tree.run()
    (tree.root / "science/b/sciserver-image.json").unlink()
    with pytest.raises(WrongUseError, match=r"x:1\.0 was released"):
        tree.run()


def test_failed_run_does_not_accept_orphans(tree: Grove) -> None:
    from chainbuild.errors import BuildFailedError

    tree.run()
    tree.science("a", image="x", version="1.1", compat="c")
    tree.driver.fails[StepId.parse("amd64/compat/x-1.1")] = BuildFailedError("amd64/compat/x-1.1: no")
    assert not tree.run(allow_orphan=["x:1.0"]).succeeded
    with pytest.raises(WrongUseError):
        tree.run()


def listed(grove: Grove, **words: Any) -> list[tuple[str, tuple[str, ...], bool]]:
    request = read_science(
        ScienceOptions(root=grove.root, registry="localhost:5000", **words),
        grove.git,
        orphans_are_errors=False,
    )
    with grove.session() as session:
        return [(str(one.place), one.heirs, one.given_up) for one in orphans(request, session)]


def test_orphaned_releases_are_listed(tree: Grove) -> None:
    tree.run()
    assert listed(tree) == []
    tree.fake.add_image("localhost:5000/compute-images/rel/x:0.9", "amd64", layers=[b"old"])
    tree.fake.add_image("localhost:5000/compute-images/rel/x:0.9-3-abcdef0", "amd64", layers=[b"old"])
    tree.fake.add_image("localhost:5000/compute-images/rel/gone:3.0", "amd64", layers=[b"old"])
    tree.fake.add_image("localhost:5000/other/rel/gone:3.0", "amd64", layers=[b"old"])
    assert listed(tree) == [
        ("localhost:5000/compute-images/rel/gone:3.0", (), False),
        ("localhost:5000/compute-images/rel/x:0.9", ("1.0",), False),
    ]


def test_accepted_orphans_are_marked_in_the_list(tree: Grove) -> None:
    tree.run()
    tree.science("a", image="x", version="1.1", compat="c")
    tree.git.differs = ("science/a/sciserver-image.json",)
    assert listed(tree) == [("localhost:5000/compute-images/rel/x:1.0", ("1.1",), False)]
    tree.run(allow_orphan=["x:1.0"])
    assert listed(tree) == [("localhost:5000/compute-images/rel/x:1.0", ("1.1",), True)]


def test_orphans_in_registry_of_repo_are_listed(tree: Grove) -> None:
    tree.fake.add_image("quay.io/me/test/rel/x:0.8", "amd64", layers=[b"old"])
    assert listed(tree, repo="quay.io/me/test") == [("quay.io/me/test/rel/x:0.8", ("1.0",), False)]
