"""What the chain registry tells of its images: the list, the trail of one, and both as people read them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.images.inventory import list_images, trail_of
from chainbuild.images.provenance import ProvenanceStep, read_provenance, tree_notes, with_provenance
from chainbuild.layouts import layers as plain
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest
from chainbuild.records.labels import TRAIL_LABEL, identity_of
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from chainbuild.ui.reports import show_trail, trail_as_json
from chainbuild.ui.terminal import Terminal
from chainbuild.values import replace
from tests.support.keys import record_store, store_record
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, STEP, THREE_STEPS, World

PLACE = ImageReference(CHAIN, REPOSITORY)
STEPS = [StepId("amd64", "stock", name) for name in ("10-base", "20-blas", "30-venv", "minimize", "production")]
KEY = "k1-" + "a" * 64


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def look(world: World, tag: str) -> RemoteImage:
    return resolve(world.registries, PLACE.with_tag(tag), AMD64)


# The list -------------------------------------------------------------------------------------------------------------


def test_readable_tags_are_listed_with_record_data(world: World) -> None:
    outcome = world.run(world.graph((AMD64, ARM64)))
    rows = list_images(world.records)
    listed = [(row.reference.tag_or_latest, row.platform.oci, row.is_index) for row in rows]
    assert len(listed) == 12
    assert [one for one in listed if one[0] == "v1-stock"] == [
        ("v1-stock", "linux/amd64", True),
        ("v1-stock", "linux/arm64", True),
    ]
    assert not any(tag.startswith("k1-") for tag, _, _ in listed)
    blas = next(row for row in rows if row.reference.tag_or_latest == "v1-stock-20-blas-amd64")
    record = outcome.results[StepId.parse("amd64/stock/20-blas")].record
    assert (blas.image.digest, blas.added, blas.seconds) == (record.image, record.added, round(record.seconds, 3))
    assert blas.built_at == world.now


def test_unrecorded_image_has_no_age(world: World) -> None:
    world.fake.add_image(f"{CHAIN}/other:1", "amd64")
    (row,) = list_images(world.records, "other")
    assert (row.added, row.built_at) == (-1, 0.0)


def test_list_is_limited_to_the_path_of_the_chain_registry(world: World) -> None:
    world.fake.add_image(f"{CHAIN}/org/mine:1", "amd64")
    world.fake.add_image(f"{CHAIN}/organ/not:1", "amd64")
    rows = list_images(record_store(world.registries, f"{CHAIN}/org"))
    assert [row.reference.repository for row in rows] == ["org/mine"]


def test_incomplete_or_foreign_artifact_is_omitted(world: World) -> None:
    images = [world.fake.add_image(f"{CHAIN}/a:{one.name}", one, layers=[one.name.encode()]) for one in (AMD64, ARM64)]
    world.fake.add_index(f"{CHAIN}/a:both", images, attested=True)
    put_artifact(world.registries, ImageReference(CHAIN, "a", "sbom"), artifact_type="application/x", content=b"{}")
    world.host.forget(images[0].manifest.config.digest)
    rows = list_images(world.records, "a")
    assert [(row.reference.tag_or_latest, row.platform.name) for row in rows] == [
        ("aarch64", "aarch64"),
        ("both", "aarch64"),
    ]


def test_layer_of_several_steps_adds_their_sum(world: World) -> None:
    world.write({"tools/10-Dockerfile-a": STEP, "tools/20-Dockerfile-b": STEP})
    layer = LayerFolder(
        name="tools",
        folder=world.root / "tools",
        image=ImageReference.parse("acme/tools:1"),
        base=ImageReference.parse("fat:1"),
    )
    request = LayerRequest(
        root=world.root, layers=(layer,), platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    outcome = world.run(plain.read(request).graph)
    first, last = (outcome.results[StepId.parse(f"amd64/tools/{name}")].record for name in ("10-a", "20-b"))
    rows = {row.reference.tag_or_latest: row.added for row in list_images(world.records)}
    assert rows["1-tools-10-a-amd64"] == first.added > 0
    assert rows["1-amd64"] == first.added + last.added


# Trails ---------------------------------------------------------------------------------------------------------------


def test_result_provenance_comes_from_its_labels(world: World) -> None:
    outcome = world.run()
    crumbs = trail_of(world.records, look(world, "v1-stock-amd64"))
    assert [crumb.step for crumb in crumbs] == STEPS
    assert [crumb.key for crumb in crumbs] == [outcome.results[step].record.key for step in STEPS]
    assert [crumb.record.image if crumb.record else None for crumb in crumbs] == [
        outcome.results[step].record.image for step in STEPS
    ]


def test_records_of_a_released_image_are_in_the_parent_repository(world: World) -> None:
    outcome = world.run()
    image = look(world, "v1-stock-amd64")
    released = replace(
        image, reference=ImageReference(image.reference.registry, f"{image.reference.repository}/rel/compute")
    )
    crumbs = trail_of(world.records, released)
    assert [crumb.record.key if crumb.record else "" for crumb in crumbs] == [
        outcome.results[step].record.key for step in STEPS
    ]


def test_labels_are_enough_if_the_records_are_gone(world: World) -> None:
    world.run()
    image = look(world, "v1-stock-amd64")
    world.host.tags = {key: value for key, value in world.host.tags.items() if not key[1].startswith("k1-")}
    crumbs = trail_of(world.records, image)
    assert [(crumb.step, crumb.record) for crumb in crumbs] == [(step, None) for step in STEPS]


def test_step_provenance_comes_from_the_records(world: World) -> None:
    world.run()
    image = look(world, "v1-stock-30-venv-amd64")
    assert image.config.label(TRAIL_LABEL) == ""
    assert [crumb.step for crumb in trail_of(world.records, image)] == STEPS[:3]
    minimized = trail_of(world.records, look(world, "v1-stock-minimized-amd64"))
    assert [crumb.step for crumb in minimized] == STEPS[:4]


def test_unknown_image_is_an_error(world: World) -> None:
    image = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:theirs", "amd64")
    with pytest.raises(NotFoundInRegistryError) as caught:
        trail_of(world.records, image)
    assert "no provenance found for" in caught.value.message


def test_records_that_name_each_other_are_no_endless_trail(world: World) -> None:
    record = world.run().results[STEPS[0]].record
    content = json.dumps(record.as_json() | {"parents": {"BASE_IMAGE": record.key}}).encode()
    store_record(world.registries, PLACE.with_tag(record.key), content)
    image = look(world, "v1-stock-10-base-amd64")
    assert [crumb.step for crumb in trail_of(world.records, image)] == STEPS[:1]


def test_provenance_is_readable_by_people_and_programs(world: World) -> None:
    world.run()
    image = look(world, "v1-stock-amd64")
    crumbs = list(trail_of(world.records, image))
    document = json.loads(trail_as_json(image, crumbs))
    assert document["schema"] == "chainbuild.inspect/1"
    assert [one["step"] for one in document["trail"]] == [str(step) for step in STEPS]
    assert document["trail"][1]["record"]["components"]["args"] == {"CPU": "HASWELL"}
    stream = io.StringIO()
    show_trail(image, crumbs, Terminal(stream=stream))
    text = stream.getvalue()
    assert "args        CPU=HASWELL" in text
    assert "Dockerfile  " in text
    assert "proven      libraries: 3 ELF files have all that they need" in text
    assert text.index("10-base") < text.index("20-blas") < text.index("production")


# Labels ---------------------------------------------------------------------------------------------------------------


def config(**labels: str) -> ImageConfig:
    return ImageConfig.make(AMD64, []).with_changes(
        labels={name.replace("_", "."): value for name, value in labels.items()}
    )


def test_provenance_replaces_the_inherited_and_keeps_other_labels() -> None:
    trail = (ProvenanceStep(step=StepId.parse("amd64/stock/10-base"), key=KEY),)
    first = with_provenance(config(team="atom"), (ProvenanceStep(step=StepId.parse("old"), key=KEY), *trail))
    again = with_provenance(first, trail)
    assert read_provenance(again) == trail
    assert again.label("team") == "atom"


def test_provenance_is_not_content() -> None:
    plain = config(team="atom")
    assert identity_of(with_provenance(plain, (ProvenanceStep(step=StepId.parse("x"), key=KEY),))) == identity_of(plain)
    assert identity_of(config(team="other")) != identity_of(plain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "7",
        "null",
        '"text"',
        "{}",
        '{"ab": 1}',
        '["ab"]',
        "[[1, 2]]",
        '[["step"]]',
        '[["step", "k1-x"]]',
        f'[["step", "{KEY}", 3]]',
        '[["step", ["k"]]]',
        "[" * 100_000,
    ],
)
def test_invalid_provenance_label_is_empty(text: str) -> None:
    labelled = ImageConfig.make(AMD64, []).with_changes(labels={TRAIL_LABEL: text})
    assert read_provenance(labelled) == ()


def test_notes_of_a_tree_come_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"rev-parse": "abc123", "status": ""}
    monkeypatch.setattr("chainbuild.host.git.run_git", lambda root, words: said[words[0]])
    assert tree_notes(tmp_path) == {"commit": "abc123", "dirty": "no"}
    said["status"] = " M stock/10-Dockerfile-base"
    assert tree_notes(tmp_path) == {"commit": "abc123", "dirty": "yes"}
    said["rev-parse"] = ""
    assert tree_notes(tmp_path) == {}
