"""Differences between two images, as values, text and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chainbuild.comparison.compare import compare, step_changes, trail_or_nothing
from chainbuild.comparison.model import Comparison
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.images import RemoteImage, copy_image, resolve
from chainbuild.registry.pool import Registries
from chainbuild.ui.reports import show_comparison
from chainbuild.ui.terminal import Terminal
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import record_store
from tests.support.world import AMD64, CHAIN, REPOSITORY, THREE_STEPS, World
from tests.unit.comparison.layers import Content, add, distribution, dpkg, status_d

HERE = ChainRegistry(CHAIN)


def told(found: Comparison, *, every_file: bool = False) -> str:
    stream = io.StringIO()
    show_comparison(found, Terminal(stream=stream), every_file=every_file)
    return stream.getvalue()


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


Files = dict[str, Content]


def between(fake: FakeRegistry, before: RemoteImage, after: RemoteImage) -> Comparison:
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    return compare(record_store(registries), before, after)


def test_packages_of_chain_and_minimized_images_compare_equal(fake: FakeRegistry) -> None:
    before = add(fake, "a:1", {"/var/lib/dpkg/status": dpkg(libc6="2.36-9", perl="5.36", zlib1g="1.2")})
    after = add(
        fake, "a:2", {"/var/lib/dpkg/status": dpkg(libc6="2.36-10")}, status_d("zlib1g", "1.2"), status_d("curl", "8.0")
    )
    found = between(fake, before, after)
    assert [str(change) for change in found.packages] == [
        "curl added (8.0)",
        "libc6 2.36-9 → 2.36-10",
        "perl removed (was 5.36)",
    ]


def test_distribution_names_are_normalized(fake: FakeRegistry) -> None:
    before = add(fake, "a:1", distribution("Foo_Bar", "1.0") | distribution("gone", "3"))
    after = add(fake, "a:2", distribution("foo-bar", "1.1") | distribution("six", "1.16"))
    assert [str(change) for change in between(fake, before, after).python] == [
        "foo-bar 1.0 → 1.1",
        "gone removed (was 3)",
        "six added (1.16)",
    ]


def test_file_changes_have_a_description_and_an_owner(fake: FakeRegistry) -> None:
    old: Files = {
        "/same": b"1",
        "/longer": b"1",
        "/other": b"1",
        "/mode": (0o644, b"1"),
        "/ping": (0o644, b"1"),
        "/link": "a",
        "/gone": b"1",
        "/kind": b"1",
        "/lib/z": b"1",
    }
    new: Files = {
        "/same": b"1",
        "/longer": b"12",
        "/other": b"2",
        "/mode": (0o755, b"1"),
        "/ping": (0o644, b"1", b"\x01"),
        "/link": "b",
        "/new/one": b"1",
        "/kind": "a",
        "/lib/z": b"2",
    }
    before = add(fake, "a:1", old | status_d("zlib1g", "1.2", "/lib/z"))
    after = add(fake, "a:2", new | status_d("zlib1g", "1.3", "/lib/z"))
    found = {change.name: change for change in between(fake, before, after).files}
    assert {name: str(change).removeprefix(name).strip(": ") for name, change in found.items() if not change.owner} == {
        "/longer": "1 B → 2 B",
        "/other": "different content, 1 B",
        "/mode": "mode 0644 → 0755",
        "/ping": "attribute security.capability added",
        "/link": "link to a → link to b",
        "/gone": "removed (was 1 B)",
        "/new/one": "added (1 B)",
        "/kind": "1 B → link to a",
    }
    assert found["/lib/z"].owner == "deb:zlib1g:amd64"
    assert found["/var/lib/dpkg/status.d/zlib1g"].owner == "records"


def test_configuration_ignores_labels_of_chainbuild(fake: FakeRegistry) -> None:
    before = add(
        fake,
        "a:1",
        {"/a": b"1"},
        env=[("A", "1"), ("B", "2")],
        cmd=["sh"],
        labels={"io.github.chainbuild.trail": "[]", "team": "one"},
    )
    after = add(
        fake,
        "a:2",
        {"/a": b"1"},
        env=[("A", "2")],
        entrypoint=["run"],
        user="me",
        labels={"io.github.chainbuild.trail": "[1]", "team": "one"},
    )
    found = between(fake, before, after)
    assert [str(change) for change in found.configuration] == [
        'CMD removed (was ["sh"])',
        'ENTRYPOINT added (["run"])',
        "ENV A 1 → 2",
        "ENV B removed (was 2)",
        "USER added (me)",
    ]
    assert not found.files


def test_repacked_content_is_no_difference(fake: FakeRegistry) -> None:
    before = add(fake, "a:1", {"/a": b"1", "/b": b"2"})
    after = add(fake, "a:2", {"/a": b"1"}, {"/b": b"2"})
    found = between(fake, before, after)
    assert found.same
    assert "no difference" in told(found)
    assert found.as_json()["same"] is True


def built(world: World) -> RemoteImage:
    world.run()
    return resolve(world.registries, ImageReference(CHAIN, REPOSITORY, "v1-stock-amd64"), AMD64)


def test_step_changes_name_the_changed_inputs(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write(THREE_STEPS)
    before = built(world)
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    after = built(world)
    changes = step_changes(
        trail_or_nothing(world.records, before),
        trail_or_nothing(world.records, after),
    )
    assert str(changes[0]) == 'stock/20-blas: arg CPU changed from "HASWELL" to "ZEN"'
    assert str(changes[-1]) == "stock/production: its parent image changed"
    # An image released elsewhere leaves its records in the chain registry, where they are found.
    target = ImageReference(CHAIN, "public/atom", "latest")
    copy_image(world.registries, before.reference, target)
    moved = resolve(world.registries, target, AMD64)
    assert trail_or_nothing(world.records, moved)[0].record is not None
    elsewhere = ImageReference("ghcr.io", REPOSITORY, "latest")
    world.fake.host("ghcr.io")
    copy_image(world.registries, before.reference, elsewhere)
    assert trail_or_nothing(world.records, resolve(world.registries, elsewhere, AMD64))[0].record is not None
    again = step_changes(
        trail_or_nothing(world.records, moved),
        trail_or_nothing(world.records, after),
    )
    assert again == changes


def test_text_is_safe_for_terminals_and_json_is_complete(fake: FakeRegistry) -> None:
    many = {f"/opt/{n:03}": b"1" for n in range(50)}
    before = add(fake, "a:1", {"/evil\x1b[31m": b"1"})
    after = add(fake, "a:2", {**many})
    found = between(fake, before, after)
    text = told(found)
    assert "\x1b" not in text
    assert "files: 50 added, 1 removed" in text
    assert "31 more: list all with --files" in text
    assert "/opt/049" in told(found, every_file=True)
    document = json.loads(json.dumps(found.as_json()))
    assert document["schema"] == "chainbuild.diff/1"
    assert len(document["files"]) == 51
    assert document["files"][-1] == {"name": "/opt/049", "kind": "added", "before": None, "after": "1 B"}
