"""Records decide what is reused: those of strangers never do, and the plan says whose they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.records.index import SeenRecords
from chainbuild.records.record import PAYLOAD_TYPE, UNSIGNED_ARTIFACT_TYPE, Record
from chainbuild.records.store import DELETED, UNFIT
from chainbuild.records.tags import image_record_tag, last_tag
from chainbuild.records.transfer import adopt_unsigned, copy_records
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.artifacts import put_artifact
from chainbuild.step_id import StepId
from chainbuild.trust.envelope import MEDIA_TYPE, Envelope
from chainbuild.values import replace
from tests.support.keys import keyring, record_store, signing_key, store_record
from tests.support.world import CHAIN, REPOSITORY, STEP, THREE_STEPS, World

BASE = StepId.parse("amd64/stock/10-base")
PLACE = ImageReference(CHAIN, REPOSITORY)
COPIES = ChainRegistry(CHAIN).records


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


@pytest.fixture
def built(world: World) -> World:
    world.run()
    world.begin_again()
    # Whoever signs an index has checked its records: the records themselves are read only without it.
    world.drop_indexes()
    return world


def as_user(world: World, number: int) -> World:
    world.sign_as(number)
    return world


def record_of(world: World, step: StepId = BASE) -> Record:
    (record,) = [one.cached_record for one in world.plan().decisions if one.step.id == step]
    assert record is not None
    return record


def names_of(record: Record) -> tuple[ImageReference, ...]:
    """Everything that a record is found by."""
    return (
        PLACE.with_tag(record.key),
        COPIES.with_tag(record.key),
        PLACE.with_tag(last_tag(record.family)),
        PLACE.with_tag(image_record_tag(record.image)),
    )


def reasons(world: World) -> dict[StepId, str]:
    return {one.step.id: one.reason for one in world.plan().decisions if one.cached_record is None}


def test_records_of_an_unknown_key_are_a_reason_naming_it(built: World) -> None:
    """Whoever can write to a registry must not choose what others reuse; on the commit before, everybody could."""
    first = reasons(as_user(built, 2))[BASE]
    key = signing_key(1).public
    assert f"signed by the unknown key {key.short_id}" in first
    assert f"chainbuild trust add {key}" in first
    built.sign_as(2, trusts=(key,))
    assert reasons(built) == {}


def forged(payload: bytes) -> bytes:
    return Envelope.sign(payload, PAYLOAD_TYPE, signing_key(66)).raw


def stripped(payload: bytes) -> bytes:
    return Envelope(payload_type=PAYLOAD_TYPE, payload=payload, signatures=()).raw


def stolen(payload: bytes) -> bytes:
    signatures = Envelope.sign(b"{}", PAYLOAD_TYPE, signing_key(1)).signatures
    return Envelope(payload_type=PAYLOAD_TYPE, payload=payload, signatures=signatures).raw


def other_type(payload: bytes) -> bytes:
    return Envelope.sign(payload, "application/vnd.example+json", signing_key(1)).raw


@pytest.mark.parametrize("sign", [forged, stripped, stolen, other_type])
def test_record_that_names_another_image_is_not_reused(built: World, sign: Callable[[bytes], bytes]) -> None:
    record = record_of(built)
    attack = built.fake.add_image(f"{CHAIN}/{REPOSITORY}:attack", "amd64", layers=[b"attack"])
    payload = json.dumps(record.as_json() | {"image": str(attack.digest)}).encode()
    for name in names_of(record):
        put_artifact(built.registries, name, artifact_type=PAYLOAD_TYPE, media_type=MEDIA_TYPE, content=sign(payload))
    assert BASE in reasons(built)
    outcome = built.run()
    assert outcome.results[BASE].record.image != attack.digest


def test_unsigned_record_is_not_reused_and_has_a_hint(built: World) -> None:
    record = record_of(built)
    content = json.dumps(record.as_json() | {"schema": "chainbuild.record/1"}).encode()
    for name in names_of(record):
        put_artifact(built.registries, name, artifact_type=UNSIGNED_ARTIFACT_TYPE, content=content)
    assert "is unsigned" in reasons(built)[BASE]
    assert "chainbuild records adopt" in reasons(built)[BASE]


@pytest.mark.parametrize(
    ("field", "value"),
    [("identity", "sha256:" + "1" * 64), ("env", ["LD_PRELOAD=/x"]), ("on_build", ["RUN evil"])],
)
def test_signed_record_that_does_not_fit_its_image_is_not_reused(built: World, field: str, value: object) -> None:
    record = record_of(built)
    payload = json.dumps(record.as_json() | {field: value}).encode()
    for name in names_of(record):
        store_record(built.registries, name, payload)
    assert reasons(built)[BASE] == UNFIT


def test_image_that_another_repository_lost_is_built(built: World) -> None:
    record = record_of(built)
    built.host.forget(record.image)
    assert reasons(built)[BASE] == DELETED


def test_record_of_a_run_that_ended_earlier_leaves_a_newer_one_in_place(built: World) -> None:
    """Two runs build one step at once, and the one that ends first is the last to write. On the commit before, the older
    record came in the place of the newer one, and the next run took it for one that was put back, and built."""
    newer = record_of(built)
    place = ImageReference.parse(f"{CHAIN}/{REPOSITORY}")
    built.records.write(place, replace(newer, built_at=newer.built_at - 5.0, seconds=99.0))
    assert built.records.read(place, newer.key) == newer
    assert built.records.last(place, newer.family).record == newer
    assert not built.plan().builds


def test_record_of_a_later_run_comes_in_the_place_of_an_older_one(built: World) -> None:
    older = record_of(built)
    place = ImageReference.parse(f"{CHAIN}/{REPOSITORY}")
    newer = replace(older, built_at=older.built_at + 5.0)
    built.records.write(place, newer)
    assert built.records.read(place, older.key) == newer


@pytest.mark.parametrize(("built_at", "older"), [(1000.0, False), (980.0, False), (960.0, True)])
def test_record_is_older_only_if_built_before_the_newest_build_began(
    built: World, tmp_path: Path, built_at: float, older: bool
) -> None:
    """Of two runs that build a step at the same time, either record may stay. On the commit before, the earlier one was
    taken for a replay, and the step was built again."""
    newest = replace(record_of(built), built_at=1000.0, seconds=30.0)
    SeenRecords(tmp_path / "seen.json").remember([newest])
    assert SeenRecords(tmp_path / "seen.json").is_older(replace(newest, built_at=built_at)) is older


# Other repositories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repo", ["team/other", "registry.example.com/lab/robot"])
def test_other_repo_builds_and_sends_nothing(built: World, repo: str) -> None:
    """A key has no REPO in it. On the commit before, every REPO began anew, also the one of `--push`."""
    built.repo = repo
    plan = built.plan()
    assert not plan.builds
    assert {one.reason for one in plan.decisions[:1]} == {f"unchanged (from {REPOSITORY})"}
    built.begin_again()
    outcome = built.run()
    assert built.driver.orders == []
    assert all(not result.built for result in outcome.results.values())
    uploads = [path for method, path in built.fake.log if method == "PUT" and "/blobs/" in path]
    layers = {str(layer.digest) for layer in built.found(built.graph())["fat:1", "linux/amd64"].image.layers}
    assert not any(layer in path for layer in layers for path in uploads), "layers are mounted"
    assert not built.plan().builds
    assert {one.reason for one in built.plan().decisions} == {"unchanged"}


def test_image_of_another_repository_requires_a_valid_record(built: World) -> None:
    built.repo = "team/other"
    assert BASE in reasons(as_user(built, 2))


# Other registries -----------------------------------------------------------------------------------------------------


def test_records_copied_to_another_registry_are_reused_there(built: World) -> None:
    target = record_store(built.registries, "ghcr.io/acme", 1)
    result = copy_records(built.records, target)
    assert len(result.copied) == 5
    assert (result.present, result.refused) == (0, {})
    place = ImageReference("ghcr.io", f"acme/{REPOSITORY}")
    record = record_of(built)
    assert target.read(place, record.key) == record
    assert target.misfit(place, record) == ""
    assert target.last(place, record.family).record == record
    again = copy_records(built.records, target)
    assert (again.copied, again.present) == ([], 5)


def test_records_of_strangers_are_left_behind(built: World) -> None:
    stranger = record_store(built.registries, CHAIN, 2)
    result = copy_records(stranger, record_store(built.registries, "ghcr.io/acme", 2))
    assert result.copied == []
    assert len(result.refused) == 5
    assert all("unknown key" in why for why in result.refused.values())


def test_copied_record_also_has_the_signature_of_the_copier(built: World) -> None:
    copier = record_store(built.registries, CHAIN, 2)
    copier.keyring = keyring(2, trusts=(signing_key(1).public,))
    target = record_store(built.registries, "ghcr.io/acme", 2)
    copy_records(copier, target)
    found = target.look_up(ImageReference("ghcr.io", f"acme/{REPOSITORY}"), record_of(built).key)
    assert found.envelope is not None
    assert {one.key_id for one in found.envelope.signatures} == {signing_key(n).public.id for n in (1, 2)}


def test_copy_of_named_repositories_and_dry_run_is_limited(built: World) -> None:
    target = record_store(built.registries, "ghcr.io/acme", 1)
    assert copy_records(built.records, target, only={"team/other"}).copied == []
    assert len(copy_records(built.records, target, dry_run=True).copied) == 5
    assert copy_records(built.records, target, only={REPOSITORY}, dry_run=True).present == 0


# Earlier versions -----------------------------------------------------------------------------------------------------


def as_before(world: World, **changes: object) -> Record:
    """Let the registry hold the first step's record as chainbuild 0.1 wrote it, under the key that it had then."""
    record = record_of(world)
    document = record.as_json() | {"schema": "chainbuild.record/1", "key": "k1-" + "1" * 64}
    document["components"] |= {"ignore": "*.log\n"} | changes
    del document["family"]
    del document["components"]["remotes"]
    for name in names_of(record):
        world.host.tags.pop((name.repository, name.tag_or_latest), None)
    content = json.dumps(document).encode()
    place = PLACE.with_tag("k1-" + "1" * 64)
    put_artifact(world.registries, place, artifact_type=UNSIGNED_ARTIFACT_TYPE, content=content)
    return record


def test_adopted_record_of_an_earlier_version_is_reused(built: World) -> None:
    record = as_before(built)
    assert BASE in reasons(built)
    assert dict(adopt_unsigned(built.records, PLACE, dry_run=True)) == {str(BASE): ""}
    assert BASE in reasons(built)
    assert dict(adopt_unsigned(built.records, PLACE)) == {str(BASE): ""}
    assert reasons(built) == {}
    assert record_of(built).image == record.image


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dockerfile": STEP + "ADD https://example.com/f /\n"}, "downloads content"),
        ({"dockerfile": STEP + "add --chown=1 git@github.com:o/r.git /\n"}, "downloads content"),
        ({"contexts": {"src": "https://example.com/r.git"}}, "remote context"),
        ({"dockerfile": "FROM golang AS golang\n" + STEP, "images": {"golang": "x"}}, "the name of an image"),
    ],
)
def test_record_whose_key_does_not_stand_for_its_image_is_left_behind(
    built: World, changes: dict[str, object], why: str
) -> None:
    as_before(built, **changes)
    ((_, said),) = adopt_unsigned(built.records, PLACE)
    assert why in said
