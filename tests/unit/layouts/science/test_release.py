"""Publication of tags: all or none, moving and immutable tags, and the labels of the images."""

from __future__ import annotations

import pytest

from chainbuild.errors import BuildFailedError
from chainbuild.records.garbage import is_readable
from chainbuild.step_id import StepId

from .grove import Grove


@pytest.fixture
def tree(grove: Grove) -> Grove:
    grove.science("a", image="x", compat="c")
    grove.science("b", "FROM sci/a:1.0", image="x", version="2.0", compat="c")
    grove.compat("c", "CMD x")
    return grove


NAMES = ["sci/a:1.0", "sci/b:2.0", "rel/x:1.0", "rel/x:2.0"]


def test_images_get_moving_and_immutable_tags(tree: Grove) -> None:
    tree.run()
    tags = tree.tags()
    for name in NAMES:
        assert tags[f"compute-images/{name}"] == tags[f"compute-images/{name}-42-f90dbd6"]
        assert f"compute-images/{name}-amd64" in tags
    assert len(tags) == 12
    assert tree.store.loaded == ["compute-images/rel/x:1.0", "compute-images/rel/x:2.0"]


def test_failed_build_publishes_no_tags(tree: Grove) -> None:
    tree.run()
    before = tree.tags()
    (tree.root / "science/a/Dockerfile").write_text("FROM debian:1\nRUN more\n")
    tree.driver.fails[StepId.parse("amd64/compat/x-2.0")] = BuildFailedError("amd64/compat/x-2.0: no")
    outcome = tree.run(keep_going=True)
    assert tree.built == ["science/a", "science/b", "compat/x-1.0", "compat/x-2.0"]
    assert not outcome.succeeded
    assert tree.tags() == before
    assert tree.messages == ["nothing was published: some images of this release are missing"]
    assert tree.results == []
    tree.driver.fails.clear()
    tree.git.count = 43
    assert tree.run().succeeded
    assert tree.built == ["compat/x-2.0"], "built images are reused"
    after = tree.tags()
    assert all(after[f"compute-images/{name}"] != before[f"compute-images/{name}"] for name in NAMES)


def test_failed_test_publishes_no_tags(tree: Grove) -> None:
    for folder in ("science/b", "compat/c"):
        (tree.root / folder / "layer-test").write_text("#!/bin/sh\ntrue\n")
    tree.driver.fails_tests[StepId.parse("amd64/compat/x-2.0")] = BuildFailedError("amd64/compat/x-2.0: exit code 1")
    outcome = tree.run(keep_going=True)
    assert not outcome.succeeded
    assert tree.driver.tested == [
        StepId.parse("amd64/science/b"),
        StepId.parse("amd64/compat/x-1.0"),
        StepId.parse("amd64/compat/x-2.0"),
    ]
    assert tree.tags() == {}
    tree.driver.fails_tests.clear()
    assert tree.run().succeeded
    assert len(tree.tags()) == 12


def test_manifests_are_pushed_before_the_first_tag(tree: Grove) -> None:
    tree.run()
    puts = [path for method, path in tree.fake.log if method == "PUT" and ("/sci/" in path or "/rel/" in path)]
    manifests = [path.rpartition("/")[2] for path in puts if "/manifests/" in path]
    first_name = next(place for place, name in enumerate(manifests) if not name.startswith("sha256:"))
    assert all(not name.startswith("sha256:") for name in manifests[first_name:])
    assert len(manifests[:first_name]) == 4


def test_immutable_tag_is_kept_after_a_rebuild(tree: Grove) -> None:
    tree.run()
    before = {name: digest for name, digest in tree.tags().items() if "f90dbd6" in name}
    (tree.root / "science/b/Dockerfile").write_text("FROM sci/a:1.0\nRUN more\n")
    tree.run()
    assert tree.built == ["science/b", "compat/x-2.0"]
    after = tree.tags()
    assert {name: after[name] for name in before} == before
    assert after["compute-images/rel/x:2.0"] != after["compute-images/rel/x:2.0-42-f90dbd6"]
    assert sum("already exists and was left unchanged" in text for text in tree.messages) == 2


def test_tree_with_edits_gets_no_immutable_tag(tree: Grove) -> None:
    tree.git.edits = True
    tree.run()
    assert {name for name in tree.tags() if "f90dbd6" in name} == set()
    assert tree.resolved("compute-images/sci/a:1.0").config.label("org.sciserver.science.a.version") == (
        "1.0-42-f90dbd6-dirty"
    )


def test_immutable_tag_is_added_after_edits_are_committed(tree: Grove) -> None:
    tree.git.edits = True
    tree.run()
    tree.git.edits, tree.git.count = False, 43
    tree.run()
    assert tree.built == []
    tags = tree.tags()
    assert tags["compute-images/rel/x:2.0-43-f90dbd6"] == tags["compute-images/rel/x:2.0"]


def test_unchanged_image_gets_no_second_immutable_tag(tree: Grove) -> None:
    tree.run()
    before = tree.tags()
    tree.git.count = 43
    tree.run()
    assert tree.tags() == before


def test_immutable_tag_after_failed_run_matches_the_image(tree: Grove) -> None:
    tree.driver.fails[StepId.parse("amd64/compat/x-2.0")] = BuildFailedError("amd64/compat/x-2.0: no")
    tree.run()
    tree.driver.fails.clear()
    tree.git.count = 43
    tree.run()
    tags = tree.tags()
    assert "compute-images/sci/a:1.0-42-f90dbd6" in tags
    assert "compute-images/rel/x:2.0-43-f90dbd6" in tags


def test_labels_and_variable_record_the_versions(tree: Grove) -> None:
    tree.run()
    config = tree.resolved("compute-images/rel/x:2.0").config
    labels = dict(config.labels)
    assert {name: value for name, value in labels.items() if name.endswith(".version")} == {
        "org.sciserver.compat.version": "x:2.0-42-f90dbd6",
        "org.sciserver.science.a.version": "1.0-42-f90dbd6",
        "org.sciserver.science.b.version": "2.0-42-f90dbd6",
    }
    times = {name for name in labels if name.endswith(".buildtime")}
    assert len(times) == 3
    assert all(float(labels[name]) == tree.now for name in times)
    assert dict(config.env)["SCISERVER_IMAGE"] == "x:2.0-42-f90dbd6"


def test_commit_and_time_labels_cause_no_rebuild(tree: Grove) -> None:
    """A layer that is rebuilt at another time has the same identity, so its dependents are reused."""
    tree.run()
    tree.git.count = 43
    tree.run(refresh=True)
    first = tree.resolved("compute-images/sci/a:1.0").config
    assert first.label("org.sciserver.science.a.version") == "1.0-43-f90dbd6"
    tree.git.count = 44
    assert tree.builds() == []


def test_push_sends_same_images_with_same_tags(tree: Grove) -> None:
    there = tree.fake.host("quay.io")
    known = set(there.tags)
    tree.run(repo="quay.io/me/test", push=True)
    here = {
        (name.removeprefix("quay.io/"), tag): digest
        for (name, tag), digest in tree.fake.host("localhost:5000").tags.items()
        if ("/sci/" in name or "/rel/" in name) and is_readable(tag)
    }
    assert {key: digest for key, digest in there.tags.items() if key not in known and is_readable(key[1])} == here
    tree.fake.log.clear()
    tree.run(repo="quay.io/me/test", push=True)
    assert tree.fake.counted("PUT") == tree.fake.counted("POST") == 0


def test_immutable_tag_in_target_registry_is_kept(tree: Grove) -> None:
    there = tree.fake.host("quay.io")
    tree.run(repo="quay.io/me/test", push=True)
    before = there.tags["me/test/rel/x", "2.0-42-f90dbd6"]
    (tree.root / "science/b/Dockerfile").write_text("FROM sci/a:1.0\nRUN more\n")
    tree.run(repo="quay.io/me/test", push=True)
    assert there.tags["me/test/rel/x", "2.0-42-f90dbd6"] == before
    assert there.tags["me/test/rel/x", "2.0"] != before


def test_failed_build_pushes_no_tags(tree: Grove) -> None:
    there = tree.fake.host("quay.io")
    known = set(there.tags)
    tree.driver.fails[StepId.parse("amd64/compat/x-2.0")] = BuildFailedError("amd64/compat/x-2.0: no")
    tree.run(repo="quay.io/me/test", push=True)
    assert set(there.tags) == known


def test_merged_dockerfile_lines_map_to_their_source(tree: Grove) -> None:
    tree.compat("c", "ENV A=1\nRUN false")
    tree.run()
    (order,) = [order for order in tree.driver.orders if order.step == StepId.parse("amd64/compat/x-1.0")]
    lines = order.dockerfile.name, order.where(1), order.where(4)
    assert lines[1:] == ("Dockerfile of x:1.0:1", "compat/c/Dockerfile:2")
