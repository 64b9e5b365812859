"""Users of the client with a busy registry or damaged content: records, indexes, images and lists."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainbuild import limits
from chainbuild.errors import (
    DamagedContentError,
    LimitError,
    NotFoundInRegistryError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.images.attachments import attach_bill, attached_bill
from chainbuild.images.inventory import list_images
from chainbuild.images.resolver import ImageResolver
from chainbuild.limits import Limit
from chainbuild.model import Graph
from chainbuild.planning.planner import make_plan
from chainbuild.records.index import RecordIndex
from chainbuild.records.record import PAYLOAD_TYPE
from chainbuild.records.tags import index_tag
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.artifacts import attached, put_artifact, read_artifact
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.http.transport import TransportError
from chainbuild.registry.images import copy_image, read_config, read_index, resolve
from chainbuild.registry.oci import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, Descriptor, Index, Manifest, canonical, digest_of
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from tests.support.fake_registry import Answer, FakeRegistry
from tests.support.keys import signing_key
from tests.support.world import AMD64, CHAIN, REPOSITORY, THREE_STEPS, FakeStore, World

PLACE = ImageReference(CHAIN, REPOSITORY)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACE", limits.Pace(waits=()))


class Watched(World):
    """Return a world whose registries report skipped content."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write(THREE_STEPS)
        self.notices: list[str] = []
        self.registries = Registries(
            transport=self.fake.transport, credentials=lambda _: None, notice=self.notices.append
        )
        self.driver.registries = self.registries


@pytest.fixture
def world(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


BUSY: dict[str, Answer | TransportError] = {
    "429": Answer.error(429, "TOOMANYREQUESTS"),
    "503": Answer.error(503, "UNAVAILABLE"),
    "a proxy's 502": Answer(502, b"<html>", {"Content-Type": "text/html"}),
    "a proxy's 404": Answer(404, b"404 page not found", {"Content-Type": "text/plain"}),
    "a login page": Answer(200, b"<html>", {"Content-Type": "text/html"}),
    "nothing": TransportError("timeout", "no answer within 60 s"),
    "garbage": TransportError("not-http", "does not speak HTTP"),
    "400": Answer.error(400, "UNSUPPORTED"),
}


# ---- records and books ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUSY)
def test_plan_with_a_registry_that_cannot_answer_raises(world: Watched, kind: str) -> None:
    """All steps are built: a registry that cannot be queried must not cause a plan with hours of builds."""
    world.run()
    assert not world.plan().builds
    graph = world.graph()
    planner = world.planned(graph).planner.with_fresh_inputs()
    for plan in (lambda: make_plan(graph, planner), world.plan):
        world.fake.answers = [BUSY[kind]] * 200
        with pytest.raises(RegistryError) as raised:
            plan()
        assert not isinstance(raised.value, NotFoundInRegistryError)


@pytest.mark.parametrize("kind", BUSY)
@pytest.mark.parametrize("question", ["read", "last", "of_image", "tagged", "misfit"])
def test_records_with_a_registry_that_cannot_answer_raise(world: Watched, question: str, kind: str) -> None:
    outcome = world.run()
    record = outcome.results[StepId.parse("amd64/stock/10-base")].record
    store = world.records
    ask: dict[str, Callable[[], object]] = {
        "read": lambda: store.read(PLACE, record.key),
        "last": lambda: store.last(PLACE, record.family),
        "of_image": lambda: store.of_image(PLACE, record.image),
        "tagged": lambda: store.tagged(PLACE.with_tag("v1-stock-10-base-amd64")),
        "misfit": lambda: store.misfit(PLACE, record),
    }
    world.fake.answers = [BUSY[kind]] * 200
    with pytest.raises(RegistryError):
        ask[question]()


@pytest.mark.parametrize("kind", ["429", "503", "nothing", "garbage", "a proxy's 502"])
def test_index_with_a_registry_that_cannot_answer_raise(world: Watched, kind: str) -> None:
    world.run()
    graph = world.graph()
    components = world.plan().decisions[0].components
    assert components is not None
    world.fake.answers = [BUSY[kind]] * 200
    with pytest.raises(RegistryError):
        index_of(world, graph).lookup(PLACE, components)


def index_of(world: Watched, graph: Graph) -> RecordIndex:
    return RecordIndex(world.registries, graph.chains, world.records.keyring)


def test_damaged_index_costs_requests_only(world: Watched) -> None:
    graph = world.graph()
    outcome = world.run(graph)
    index = index_of(world, graph)
    for chain in graph.chains:
        index.update(chain, [outcome.results[step.id].record for step in chain.all_steps])
    components = world.plan().decisions[0].components
    assert components is not None
    assert index_of(world, graph).lookup(PLACE, components) is not None
    tag = index_tag(signing_key().public.id, "stock", "amd64")
    world.host.damage(world.host.tags[REPOSITORY, tag])
    assert index_of(world, graph).lookup(PLACE, components) is None
    assert not world.plan().builds


def test_damaged_record_is_reported_and_counts_as_missing(world: Watched) -> None:
    """It is a reason to build, but never a silent one."""
    outcome = world.run()
    record = outcome.results[StepId.parse("amd64/stock/10-base")].record
    world.host.damage(world.host.tags[REPOSITORY, record.key])
    found = world.records.at(PLACE.with_tag(record.key))
    assert found.record is None
    assert "damaged" in found.refusal


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff", b'{"schema": "chainbuild.record/1"}'])
def test_record_of_other_content_is_reported_and_counts_as_missing(world: Watched, content: bytes) -> None:
    name = PLACE.with_tag("k1-" + "0" * 64)
    put_artifact(world.registries, name, artifact_type=PAYLOAD_TYPE, content=content)
    found = world.records.at(name)
    assert found.record is None
    assert found.refusal


# ---- embedded content -------------------------------------------------------------------------------------------------


def embedded(content: bytes, data: object, size: int | None = None, algorithm: str = "sha256") -> dict[str, Any]:
    return {
        "mediaType": "application/json",
        "digest": str(digest_of(content, algorithm)),
        "size": len(content) if size is None else size,
        "data": data,
    }


def artifact(config: dict[str, Any], layer: dict[str, Any]) -> bytes:
    return canonical({"schemaVersion": 2, "artifactType": PAYLOAD_TYPE, "config": config, "layers": [layer]})


LIES = {
    "another content": base64.b64encode(b"evil").decode(),
    "not base64": "*",
    "not a string": 3,
    "a longer content": base64.b64encode(b"good" + bytes(10_000)).decode(),
    "an empty content": "",
}


@pytest.mark.parametrize("lie", LIES)
def test_embedded_data_that_is_not_of_the_digest_is_ignored(
    fake: FakeRegistry, registries: Registries, lie: str
) -> None:
    """The digest of the manifest covers `data`, but not whether `data` matches its own descriptor."""
    fake.add_blob("a", b"good")
    empty = embedded(b"{}", base64.b64encode(b"{}").decode())
    raw = artifact(empty, embedded(b"good", LIES[lie]))
    reference = ImageReference(CHAIN, "a", "1")
    fake._put(reference, reference, digest_of(raw), "application/vnd.oci.image.manifest.v1+json", raw)
    found = read_artifact(registries, reference)
    assert found is not None
    assert found.content == b"good"
    assert fake.counted("GET", "blobs") == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_embedded_data_of_the_digest_needs_no_request(algorithm: str) -> None:
    data = base64.b64encode(b"good").decode()
    manifest = Manifest.parse(artifact(embedded(b"{}", None), embedded(b"good", data, algorithm=algorithm)))
    assert manifest.layers[0].data == b"good"


def test_embedded_config_is_verified_by_its_digest(fake: FakeRegistry, registries: Registries) -> None:
    """Whoever writes a manifest could give an image another config than the one that is signed by its digest."""
    real = ImageConfig.make(AMD64, []).raw
    fake.add_blob("a", real)
    other = ImageConfig.make(AMD64, []).with_changes(entrypoint=["evil"]).raw
    raw = canonical(
        {
            "schemaVersion": 2,
            "config": embedded(real, base64.b64encode(other).decode()) | {"mediaType": OCI_CONFIG},
            "layers": [],
        }
    )
    manifest = Manifest.parse(raw)
    reference = ImageReference(CHAIN, "a", "1")
    assert read_config(registries.client(CHAIN), reference, manifest).entrypoint is None


@pytest.mark.parametrize("size", [-1, 1.5, True, "3", None, 1 << 63, int("9" * 31)])
def test_descriptor_with_a_size_that_is_none_is_damaged(size: object) -> None:
    raw = json.dumps({"config": embedded(b"{}", None) | {"size": size}, "layers": []}).encode()
    with pytest.raises(DamagedContentError):
        Manifest.parse(raw)


def test_artifact_of_another_size_than_its_descriptor_is_damaged(fake: FakeRegistry, registries: Registries) -> None:
    fake.add_blob("a", b"x" * 50_000)
    layer = embedded(b"x" * 50_000, None, size=49_999)
    raw = artifact({"mediaType": OCI_EMPTY, "digest": str(digest_of(b"{}")), "size": 2}, layer)
    reference = ImageReference(CHAIN, "a", "1")
    fake._put(reference, reference, digest_of(raw), "application/vnd.oci.image.manifest.v1+json", raw)
    with pytest.raises(DamagedContentError, match="bytes, not"):
        read_artifact(registries, reference)


# ---- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"config":' * 50_000,
        b'{"os":"\\ud800","architecture":"amd64"}',
        b'{"os":NaN}',
        b"\xff\xfe",
        b'{"config":{"Labels":{"a":' + b"[" * 200 + b"]" * 200 + b"}}}",
        b'{"config":{"Env":[1]}}',
        b'{"rootfs":{"diff_ids":["x"]}}',
        b'{"architecture":[]}',
        b'{"history":1e999}',
    ],
)
def test_config_that_cannot_be_used_is_damaged(raw: bytes) -> None:
    """Deep nesting, unpaired surrogates and infinite numbers pass json.loads and raise later."""
    with pytest.raises(DamagedContentError):
        ImageConfig.parse(raw, where="team/app:1")


@pytest.mark.parametrize("parse", [Manifest.parse, Index.parse])
@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"layers":' * 100_000, b"\xff", b"null", b"3", b'"x"', b"{}"])
def test_manifest_that_cannot_be_parsed_is_damaged(parse: Callable[..., object], raw: bytes) -> None:
    if parse == Index.parse and raw == b"{}":
        return  # an index of nothing
    with pytest.raises(DamagedContentError):
        parse(raw, where="team/app:1")


def test_manifest_with_thousands_of_layers_names_the_limit() -> None:
    layer = embedded(b"x", None)
    with pytest.raises(LimitError, match="the layers of an image, 1,000 layers"):
        Manifest.parse(canonical({"config": layer, "layers": [layer] * 1001}))
    with pytest.raises(LimitError, match="the entries of an index, 10,000 entries"):
        Index.parse(canonical({"manifests": [layer] * 10_001}))


def test_copy_of_indexes_in_indexes_names_the_limit(fake: FakeRegistry, registries: Registries) -> None:
    """A few kilobytes of indexes that hold each other would be walked for ever."""
    image = fake.add_image("a:1")
    below = image.descriptor
    name = ImageReference(CHAIN, "a", "nested")
    for _ in range(10):
        index = Index.make([below])
        fake._put(name, name, index.digest, OCI_INDEX, index.raw)
        below = index.descriptor
    with pytest.raises(LimitError, match="the depth of indexes in indexes, 4 levels"):
        copy_image(registries, name, ImageReference(CHAIN, "b", "1"))


def test_config_larger_than_the_limit_is_not_asked_for(fake: FakeRegistry, registries: Registries) -> None:
    config = {"mediaType": OCI_CONFIG, "digest": str(digest_of(b"x")), "size": 1 << 40}
    raw = canonical({"schemaVersion": 2, "config": config, "layers": []})
    name = ImageReference(CHAIN, "a", "1")
    fake._put(name, name, digest_of(raw), "application/vnd.oci.image.manifest.v1+json", raw)
    with pytest.raises(LimitError, match="the size of an image's config, 8 MiB"):
        resolve(registries, name, AMD64)
    assert fake.counted("GET", "blobs") == 0


@pytest.mark.parametrize("kind", ["429", "503", "a proxy's 404", "nothing"])
def test_read_index_with_a_registry_that_cannot_answer_raises(
    fake: FakeRegistry, registries: Registries, kind: str
) -> None:
    fake.answers = [BUSY[kind]] * 20
    with pytest.raises(RegistryError) as raised:
        read_index(registries, ImageReference(CHAIN, "a", "1"))
    assert not isinstance(raised.value, NotFoundInRegistryError)


# ---- attached documents -----------------------------------------------------------------------------------------------


def test_attached_document_that_inflates_without_end_names_the_limit(
    fake: FakeRegistry, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = fake.add_image("a:1")
    attach_bill(registries, image.reference, bytes(100_000))
    monkeypatch.setattr(limits, "ATTACHED_UNPACKED", Limit("the unpacked size of an attached document", 1000))
    with pytest.raises(LimitError, match="the unpacked size of an attached document, 1,000 bytes") as raised:
        attached_bill(registries, image.reference)
    assert str(image.reference) in str(raised.value)


def test_attached_document_that_is_too_large_as_stored_is_not_read(
    fake: FakeRegistry, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = fake.add_image("a:1")
    attach_bill(registries, image.reference, b"x" * 50)
    monkeypatch.setattr(limits, "ATTACHED", Limit("the stored size of an attached document", 10))
    before = fake.counted("GET", "blobs")
    with pytest.raises(LimitError, match="the stored size"):
        attached_bill(registries, image.reference)
    assert fake.counted("GET", "blobs") == before


def test_attached_bill_that_is_no_text_is_damaged(fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("a:1")
    attach_bill(registries, image.reference, b"\xff\xfe binary")
    with pytest.raises(DamagedContentError, match="not UTF-8"):
        attached_bill(registries, image.reference)


@pytest.mark.parametrize("content", [gzip.compress(b"x", mtime=0)[:-3], b"not gzip"])
def test_attached_document_that_is_no_gzip_is_damaged(
    fake: FakeRegistry, registries: Registries, content: bytes
) -> None:
    image = fake.add_image("a:1")
    attach_bill(registries, image.reference, b"{}")
    tag = ImageReference(CHAIN, "a", f"sha256-{image.digest.hex}")
    index = read_index(registries, tag)
    assert index is not None
    blob = Manifest.parse(registries.client(CHAIN).manifest("a", index.manifests[0].digest).raw).layers[0]
    raw = artifact(
        {"mediaType": OCI_EMPTY, "digest": str(digest_of(b"{}")), "size": 2},
        embedded(content, None) | {"mediaType": blob.media_type},
    )
    fake.add_blob("a", content)
    reference = ImageReference(CHAIN, "a", "x")
    fake._put(reference, reference, digest_of(raw), "application/vnd.oci.image.manifest.v1+json", raw)
    row = Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=digest_of(raw),
        size=len(raw),
        artifact_type="application/spdx+json",
    )
    made = Index.make([row])
    fake._put(tag, tag, made.digest, OCI_INDEX, made.raw)
    with pytest.raises(DamagedContentError, match="what is attached"):
        attached(registries, image.reference, "application/spdx+json")


# ---- images that are looked for ---------------------------------------------------------------------------------------


class Finding:
    def __init__(self, world: Watched) -> None:
        self.world = world
        self.store = FakeStore()
        self.finder = ImageResolver(world.records, self.store, lambda _: None, hand_over=self._hand_over)
        self.handed = 0

    def _hand_over(self, name: str, platform: Platform, destination: str) -> None:
        self.handed += 1


@pytest.mark.parametrize("kind", ["429", "503", "a proxy's 502", "400", "a proxy's 404", "a login page"])
def test_finder_with_a_base_registry_that_is_busy_raises(world: Watched, kind: str) -> None:
    """Another image of that name, here or in the local store, would change every key above it for one bad minute."""
    finding = Finding(world)
    world.fake.add_image(f"{CHAIN}/fat:1", "amd64", layers=[b"copy"])
    world.fake.answers = [BUSY[kind]] * 20
    with pytest.raises(RegistryError) as raised:
        finding.finder.find(ImageReference.parse("fat:1"), AMD64, "stock/10-Dockerfile-base:2")
    assert not isinstance(raised.value, NotFoundInRegistryError)
    assert raised.value.where == "stock/10-Dockerfile-base:2"
    assert finding.handed == 0


@pytest.mark.parametrize("kind", ["429", "503", "nothing", "a proxy's 404"])
@pytest.mark.parametrize("how", ["find_result", "find_at_hand"])
def test_finder_with_a_chain_registry_that_cannot_answer_raises(world: Watched, how: str, kind: str) -> None:
    """An image of this name in the chain registry has priority, so no other image may be used instead."""
    finding = Finding(world)
    world.fake.answers = [BUSY[kind]] * 20
    with pytest.raises(RegistryError):
        getattr(finding.finder, how)(ImageReference.parse("fat:1"), AMD64)


def test_finder_with_damaged_copy_reports_it_and_continues(world: Watched) -> None:
    copy = world.fake.add_image(f"{CHAIN}/fat:1", "amd64", layers=[b"copy"])
    world.host.damage(copy.digest)
    found = Finding(world).finder.find_result(ImageReference.parse("fat:1"), AMD64)
    assert found.image.reference.registry == "docker.io"
    (notice,) = world.notices
    assert "skipped localhost:5000/fat:1" in notice


# ---- lists ------------------------------------------------------------------------------------------------------------


def test_list_images_with_a_hostile_tag_lists_all_others(world: Watched) -> None:
    """One name that no tool accepts ended the list of a whole registry."""
    world.fake.add_image(f"{CHAIN}/a:1", "amd64")
    manifest = world.host.tags["a", "1"]
    world.host.tags["a", "\x1b[31mevil"] = manifest
    world.host.tags["a", "x" * 200] = manifest
    world.host.manifests["../x y", manifest] = world.host.manifests["a", manifest]
    rows = list_images(world.records)
    assert [str(row.reference) for row in rows] == [f"{CHAIN}/a:1"]
    assert len(world.notices) == 2
    assert not any("\x1b" in notice for notice in world.notices)


def test_list_images_with_a_damaged_image_leaves_it_out_with_a_notice(world: Watched) -> None:
    image = world.fake.add_image(f"{CHAIN}/a:1", "amd64")
    world.fake.add_image(f"{CHAIN}/a:2", "amd64", layers=[b"other"])
    world.host.damage(image.manifest.config.digest)
    rows = list_images(world.records, "a")
    assert [row.reference.tag for row in rows] == ["2"]
    assert len(world.notices) == 1
    assert f"skipped {CHAIN}/a:1" in world.notices[0]


@pytest.mark.parametrize("kind", BUSY)
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_list_images_with_a_registry_that_cannot_answer_raises(world: Watched, kind: str, after: int) -> None:
    """A list without the images that could not be queried would look complete."""
    world.fake.add_image(f"{CHAIN}/a:1", "amd64")
    world.fake.answers = [None] * after + [BUSY[kind]] * 50
    with pytest.raises(RegistryError):
        list_images(world.records)


def test_registries_notice_comes_once_for_a_text() -> None:
    told: list[str] = []
    registries = Registries(notice=told.append)
    for text in ("a", "b", "a"):
        registries.notice(text)
    assert told == ["a", "b"]


@pytest.mark.parametrize("error", [RegistryBusyError, UnreachableError])
def test_busy_and_unreachable_are_never_not_found(error: type[RegistryError]) -> None:
    assert not issubclass(error, NotFoundInRegistryError | DamagedContentError)
    assert error("x").exit_code == 4


def test_digest_algorithm_is_its_first_part() -> None:
    assert Digest("sha512:" + "0" * 128).algorithm == "sha512"
