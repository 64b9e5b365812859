"""Reports of minimized images in the chain registry: the report itself, and which step added which bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chainbuild.errors import NotFoundInRegistryError, RegistryError
from chainbuild.images.attachments import attach_report, attached_bill, attached_report
from chainbuild.operations.minimize_reports import by_step, minimized_of
from chainbuild.records.keys import Components
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.records.record import Record
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from tests.support.keys import store_record
from tests.support.tars import tar
from tests.support.world import AMD64, CHAIN, REPOSITORY, STAGES, THREE_STEPS, World

PLACE = ImageReference(CHAIN, REPOSITORY)
CHAIN_REGISTRY = ChainRegistry(CHAIN)
REPORT: dict[str, Any] = {
    "schema": "chainbuild.minimize/1",
    "sizes": {"chain": 1650, "production": 700, "minimized": 350, "files": 3},
    "files": [
        {"path": "/usr/local/lib/liba.so", "source": "/usr/lib/liba.so", "kind": "file", "bytes": 150},
        {"path": "/opt/app", "kind": "file", "bytes": 200},
    ],
    "packages": [
        {
            "package": "deb:a",
            "version": "1",
            "files": {},
            "bytes": {},
            "largest": [],
            "paths": {"kept": ["/usr/lib/liba.so"], "left": ["/usr/bin/a", "/usr/bin/hard"]},
        },
        {
            "package": "dir:/opt",
            "version": "",
            "files": {},
            "bytes": {},
            "largest": [],
            "paths": {"kept": ["/opt/app"], "trimmed": ["/opt/app.a"], "production": ["/etc/os-release"]},
        },
    ],
    "production_packages": [],
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


FILES: list[dict[str, bytes | str]] = [
    {"etc/os-release": b"o" * 700, "usr/bin/a": b"old"},
    {"usr/lib/liba.so": b"a" * 200, "usr/bin/a": b"b" * 300, "usr/bin/hard": "usr/bin/a"},
    {"opt/app": b"c" * 200, "opt/app.a": b"d" * 250},
]
# Layers are larger than configs, as in real images.
LAYERS = [
    gzip.compress(tar({**files, f"proc/{number}": Random(number).randbytes(5000)}), mtime=0)
    for number, files in enumerate(FILES)
]


def put_record(world: World, step: StepId, image: RemoteImage, *, added: int, parents: dict[str, str]) -> Record:
    components = Components(dockerfile=str(step), platform="linux/amd64")
    record = Record(
        key=components.key,
        step=step,
        family=str(step),
        image=image.digest,
        identity="i",
        size=image.size,
        added=added,
        seconds=1,
        built_at=1,
        components=components,
        parents=parents,
    )
    content = json.dumps(record.as_json()).encode()
    store_record(world.registries, PLACE.with_tag(record.key), content)
    return record


def chain(world: World) -> RemoteImage:
    """A base of one layer, and two steps with a layer each; the second step also has an empty layer."""
    name = f"{CHAIN}/{REPOSITORY}"
    base = world.fake.add_image(f"{name}:base", "amd64", layers=LAYERS[:1])
    one = world.fake.add_image(f"{name}:one", "amd64", layers=LAYERS[:2], env=[("A", "1")])
    two = world.fake.add_image(f"{name}:two", "amd64", layers=LAYERS, env=[("A", "1"), ("B", "2")])
    small = world.fake.add_image(f"{name}:minimized", "amd64", layers=[b"small"])
    first = put_record(world, StepId.parse("amd64/stock/10-one"), one, added=one.size - base.size, parents={})
    second = put_record(
        world, StepId.parse("amd64/stock/20-two"), two, added=two.size - one.size, parents={"BASE_IMAGE": first.key}
    )
    minimize = put_record(
        world, StepId.parse("amd64/stock/minimize"), small, added=1, parents={"BASE_IMAGE": second.key}
    )
    attach_report(world.registries, small.reference, json.dumps(REPORT).encode())
    trail = [[str(one.step), one.key] for one in (first, second, minimize)] + [["amd64/stock/production", minimize.key]]
    return world.fake.add_image(f"{name}:result", "amd64", layers=[b"r"], labels=[(TRAIL_LABEL, json.dumps(trail))])


def test_own_stage_named_report_is_not_a_report(world: World) -> None:
    minimize = STAGES["utilities/Dockerfile-minimize"].replace(
        "FROM scratch AS m", "FROM scratch AS report\nFROM scratch AS m"
    )
    world.write({"utilities/Dockerfile-minimize": minimize})
    world.driver.has_report = False
    minimized = world.run().results[StepId.parse("amd64/stock/minimize")]
    assert attached_report(world.registries, minimized.reference) is None


def test_run_stores_report_and_bill(world: World) -> None:
    minimize = STAGES["utilities/Dockerfile-minimize"].replace(
        "FROM scratch AS m", "FROM scratch AS report\nFROM scratch AS m"
    )
    world.write({"utilities/Dockerfile-minimize": minimize})
    world.driver.bill = b'{"spdxVersion": "SPDX-2.3"}'
    outcome = world.run()
    minimized = outcome.results[StepId.parse("amd64/stock/minimize")]
    raw = attached_report(world.registries, minimized.reference)
    assert raw is not None
    assert json.loads(raw)["sizes"] == {"minimized": 10, "chain": 1000}
    result = outcome.results[StepId.parse("amd64/stock/production")]
    assert attached_bill(world.registries, result.reference) == world.driver.bill
    assert attached_bill(world.registries, outcome.results[StepId.parse("amd64/stock/30-venv")].reference) is None
    names = [
        dict(order.args)["IMAGE_NAME"] for order in world.driver.orders if order.dockerfile.name == "Dockerfile-verify"
    ]
    assert names == [f"{REPOSITORY}@{result.record.image}"]


def test_own_stage_without_report_has_none(world: World) -> None:
    world.run()
    with pytest.raises(NotFoundInRegistryError, match="no minimize report of"):
        minimized_of(world.records, look(world, "v1-stock-amd64"))


def look(world: World, tag: str) -> RemoteImage:
    return resolve(world.registries, PLACE.with_tag(tag), AMD64)


def test_report_is_found_from_result_and_minimized_image(world: World) -> None:
    result = chain(world)
    for image in (result, look(world, "minimized")):
        found = minimized_of(world.records, image)
        assert found.report == REPORT
        assert found.record.step == StepId.parse("amd64/stock/minimize")


def test_step_of_chain_has_no_report(world: World) -> None:
    chain(world)
    with pytest.raises(NotFoundInRegistryError, match="comes before the minimize stage"):
        minimized_of(world.records, look(world, "two"))


@pytest.mark.parametrize("content", [b"no json", b"[]", b'{"schema": "another/1"}'])
def test_damaged_report_is_an_error(world: World, content: bytes) -> None:
    result = chain(world)
    attach_report(world.registries, look(world, "minimized").reference, content)
    with pytest.raises(RegistryError, match="the minimize report is not"):
        minimized_of(world.records, result)


def test_bytes_are_assigned_to_their_step(world: World) -> None:
    rows = by_step(world.records, minimized_of(world.records, chain(world)))
    none = dict.fromkeys(("kept", "production", "trimmed", "left"), 0)
    assert rows == [
        {"step": "base image", "package": "dir:/opt", "bytes": {**none, "production": 700}},
        {"step": "stock/10-one", "package": "deb:a", "bytes": {**none, "kept": 150, "trimmed": 50, "left": 600}},
        {"step": "stock/20-two", "package": "dir:/opt", "bytes": {**none, "kept": 200, "trimmed": 250}},
    ]


def test_chain_on_other_option_ends_there(world: World) -> None:
    """The other option's result has layers of its own: the records below it belong to another image."""
    result = chain(world)
    other = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:other", "amd64", layers=[b"other"])
    below = put_record(world, StepId.parse("amd64/below/production"), other, added=5, parents={})
    found = minimized_of(world.records, result)
    one = look(world, "one")
    base = sum(layer.size for layer in one.layers[1:])
    put_record(world, StepId.parse("amd64/stock/10-one"), one, added=base, parents={"BASE_IMAGE": below.key})
    assert {row["step"] for row in by_step(world.records, found)} == {
        "base image",
        "stock/10-one",
        "stock/20-two",
    }


def test_by_step_is_empty_without_records_or_with_older_report(world: World) -> None:
    result = chain(world)
    found = minimized_of(world.records, result)
    older = {**REPORT, "packages": [{key: row[key] for key in row if key != "paths"} for row in REPORT["packages"]]}
    from chainbuild.values import replace

    assert by_step(world.records, replace(found, report=older)) == []
    assert by_step(world.records, replace(found, record=replace(found.record, parents={}))) == []
