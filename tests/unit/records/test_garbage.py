"""Garbage collection: nothing that is kept ever loses a child, a record or a parent, whatever the repositories hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.images.attachments import attach_bill, attached_bill
from chainbuild.records.garbage import Garbage, collect, find_all_garbage, find_garbage
from chainbuild.records.keys import Components
from chainbuild.records.record import PAYLOAD_TYPE, Record
from chainbuild.records.tags import is_key, packages_layer, packages_tag
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.images import RemoteImage, platforms_of, read_index, resolve
from chainbuild.registry.oci import digest_of
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers_tag
from chainbuild.step_id import StepId
from tests.support.fake_registry import FakeHost, FakeRegistry
from tests.support.keys import payload_of, store_record
from tests.support.world import AMD64, ARM64, CHAIN, REPOSITORY, THREE_STEPS, World

PLACE = ImageReference(CHAIN, REPOSITORY)


def registries_of(fake: FakeRegistry) -> Registries:
    return Registries(transport=fake.transport, credentials=lambda host: None)


def record(
    image: RemoteImage, name: str, *, parents: tuple[Record, ...] = (), step: str = "", when: float = 1
) -> Record:
    components = Components(dockerfile=f"FROM {name}", platform="linux/amd64")
    step = step or f"amd64/stock/{name}"
    return Record(
        key=components.key,
        step=StepId.parse(step),
        family="-".join(step.split("/")),
        image=image.digest,
        identity="i",
        size=1,
        added=1,
        seconds=1,
        built_at=when,
        components=components,
        parents={f"P{place}": parent.key for place, parent in enumerate(parents)},
    )


def put_record(fake: FakeRegistry, repository: str, one: Record, *tags: str) -> Digest:
    place = ImageReference(CHAIN, repository)
    content = json.dumps(one.as_json()).encode()
    for tag in tags or (one.key,):
        digest = store_record(registries_of(fake), place.with_tag(tag), content)
    return digest


# Over random repositories ---------------------------------------------------------------------------------------------


@st.composite
def repositories(draw: st.DrawFn) -> tuple[FakeRegistry, dict[str, list[str]], int]:
    """Repositories that share blobs, with their readable tags, and a number that chooses."""
    fake = FakeRegistry()
    readable: dict[str, list[str]] = {}
    for repository in draw(st.sampled_from([("a",), ("a", "b"), ("a", "b", "team/c")])):
        images: list[RemoteImage] = []
        records: list[Record] = []
        tags: list[str] = []
        for number in range(draw(st.integers(1, 6))):
            layers = [
                f"layer {content}".encode() for content in draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
            ]
            name = draw(
                st.sampled_from([f"v{number}", f"k1-staging-{number}", f"k1-local-{number}", f"k1-image-{number}"])
            )
            platform = draw(st.sampled_from([AMD64, ARM64]))
            image = fake.add_image(f"{CHAIN}/{repository}:{name}", platform, layers=layers)
            images.append(image)
            tags += [name] if name.startswith("v") else []
            if draw(st.booleans()):
                shared = draw(st.integers(0, 2))
                parents = tuple(draw(st.lists(st.sampled_from(records), max_size=2)) if records else ())
                # Steps of several options may share a key: the number of names is small.
                step = f"amd64/{draw(st.sampled_from(['stock', 'extras']))}/{shared}"
                made = record(image, f"{shared}-{number // 2}", parents=parents, step=step)
                put_record(fake, repository, made, made.key, f"k1-last-{step.replace('/', '-')}")
                records.append(made)
        for number in range(draw(st.integers(0, 2))):
            children = draw(st.lists(st.sampled_from(images), min_size=1, max_size=3, unique_by=lambda one: one.digest))
            fake.add_index(f"{CHAIN}/{repository}:all{number}", children, attested=draw(st.booleans()))
            tags.append(f"all{number}")
        readable[repository] = tags
    return fake, readable, draw(st.integers(0, 2**16))


def reachable(fake: FakeRegistry, repository: str, tags: list[str]) -> set[str]:
    """The digests that these tags need, walked anew over the fake's own tables: children, records, images, parents."""
    host = fake.host()
    documents = {key[1]: json.loads(raw) for key, (_, raw) in host.manifests.items() if key[0] == repository}
    tagged = {digest for (where, _), digest in host.tags.items() if where == repository}
    stored = {
        digest: payload_of(host.blobs[repository, document["layers"][0]["digest"]])
        for digest, document in documents.items()
        if document.get("artifactType") == PAYLOAD_TYPE and digest in tagged
    }
    found: set[str] = set()
    todo = [host.tags[repository, tag] for tag in tags]
    while todo:
        digest = todo.pop()
        if digest in found:
            continue
        found.add(digest)
        todo += [child["digest"] for child in documents[digest].get("manifests", ())]
        todo += [where for where, one in stored.items() if one["image"] == digest]
        if digest in stored:
            todo.append(stored[digest]["image"])
            parents = set(stored[digest]["parents"].values())
            todo += [where for where, one in stored.items() if one["key"] in parents]
    return found


def blobs_of(manifests: dict[tuple[str, str], tuple[str, bytes]], wanted: set[tuple[str, str]]) -> set[str]:
    documents = [json.loads(manifests[key][1]) for key in wanted]
    images = [document for document in documents if "config" in document]
    return {blob["digest"] for image in images for blob in [image["config"], *image["layers"]]}


@given(repositories())
@settings(max_examples=150)
def test_kept_image_keeps_everything_it_needs(made: tuple[FakeRegistry, dict[str, list[str]], int]) -> None:
    fake, readable, choice = made
    registries, host = registries_of(fake), fake.host()
    dropped = {
        repository: {tag for place, tag in enumerate(tags) if choice >> place & 1}
        for repository, tags in readable.items()
    }
    kept = {
        repository: [
            tag
            for where, tag in host.tags
            if where == repository
            and tag not in dropped[repository]
            and not (tag.startswith("k1-") and "local" not in tag)
        ]
        for repository in readable
    }
    needed = {(where, digest) for where in readable for digest in reachable(fake, where, kept[where])}
    before, sizes = dict(host.manifests), {key[1]: len(raw) for key, raw in host.blobs.items()}
    hidden = set(before) - needed - listed(host)

    garbages = [find_garbage(registries, ImageReference(CHAIN, where), dropped=dropped[where]) for where in readable]
    assert host.manifests == before, "finding it changes nothing"
    promised = Garbage.freed_by_all(garbages)
    for garbage in garbages:
        collect(registries, garbage)

    after = set(host.manifests)
    assert needed <= after
    assert after <= needed | hidden, "what nothing needs is gone"
    assert all((where, tag) in host.tags for where, tags in kept.items() for tag in tags)
    gone = blobs_of(before, set(before) - after) - blobs_of(before, after - hidden)
    assert promised == sum(sizes[blob] for blob in gone)


def listed(host: FakeHost) -> set[tuple[str, str]]:
    """What can be found from tags: a registry lists no others."""
    found = {(where, digest) for (where, _), digest in host.tags.items()}
    todo = list(found)
    while todo:
        where, digest = todo.pop()
        document = json.loads(host.manifests[where, digest][1])
        below = [child["digest"] for child in document.get("manifests", ())]
        if document.get("artifactType") == PAYLOAD_TYPE:
            below.append(payload_of(host.blobs[where, document["layers"][0]["digest"]])["image"])
        new = {(where, child) for child in below if (where, child) in host.manifests} - found
        found |= new
        todo += new
    return found


# What is old ----------------------------------------------------------------------------------------------------------


def run_as(world: World, tag: str, *, cpu: str, platforms: Any = (AMD64,)) -> None:
    """A run under that TAG, a day after the last."""
    world.now += 86400
    world.write({"stock/blas-amd64-args": f"CPU={cpu}\n"})
    request = world.request

    def tagged(*arguments: Any) -> Any:
        from chainbuild.values import replace

        return replace(request(*arguments), tag=tag)

    world.request = tagged  # type: ignore[method-assign, assignment]
    assert world.run(world.graph(platforms)).succeeded
    world.request = request  # type: ignore[method-assign]
    world.begin_again()


def clean(world: World, keep: int, repository: str = "") -> tuple[Garbage, ...]:
    found = find_all_garbage(world.records, keep=keep, repository=repository)
    for garbage in found:
        collect(world.registries, garbage)
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


@pytest.mark.parametrize(("keep", "left"), [(3, {"v1", "v2", "v3"}), (2, {"v2", "v3"}), (1, {"v3"}), (0, set())])
def test_newest_runs_are_kept_complete(world: World, keep: int, left: set[str]) -> None:
    for number, cpu in enumerate(("ONE", "TWO", "THREE"), start=1):
        run_as(world, f"v{number}", cpu=cpu, platforms=(AMD64, ARM64))
    everything = world.tags()
    clean(world, keep)
    tags = world.tags()
    assert {tag for tag in tags if tag.endswith("-stock")} == {f"{tag}-stock" for tag in left}
    # Other tags of old runs are there as long as a run that stays has the same image.
    shared = {digest for tag, digest in everything.items() if tag.partition("-")[0] in left}
    assert tags == {tag: digest for tag, digest in everything.items() if digest in shared}
    for tag in left:
        assert len(platforms_of(world.registries, PLACE.with_tag(f"{tag}-stock"))) == 2
    before = dict(world.host.manifests)
    clean(world, keep)
    assert world.host.manifests == before, "a second time there is nothing to do"


def test_kept_images_are_reused_and_deleted_ones_rebuilt(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    run_as(world, "v2", cpu="TWO")
    clean(world, 1)
    world.run()
    assert world.driver.orders == []
    world.begin_again()
    world.write({"stock/blas-amd64-args": "CPU=ONE\n"})
    assert world.run().succeeded
    assert world.driver.built[0] == StepId.parse("amd64/stock/20-blas"), (
        "the base step belongs to the run that stayed, too"
    )


def test_result_is_usable_after_collection(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    run_as(world, "v2", cpu="TWO")
    clean(world, 1)
    image = resolve(world.registries, PLACE.with_tag("v2-stock"), AMD64)
    store = world.records
    keys = [tag for (_, tag) in world.host.tags if is_key(tag)]
    records = {one.key: one for key in keys if (one := store.read(PLACE, key))}
    own = next(one for one in records.values() if one.image == image.digest)
    todo = [own]
    while todo:
        one = todo.pop()
        assert store.misfit(PLACE, one) == ""
        todo += [records[parent] for parent in one.parents.values()]


def test_options_are_counted_each_for_itself(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    world.write({"extras/10-Dockerfile-more": THREE_STEPS["stock/10-Dockerfile-base"] + "RUN more\n"})
    world.now += 86400
    world.run(world.graph(options=("extras",)))
    clean(world, 1)
    assert {"v1-stock", "v1-extras"} <= set(world.tags())


def test_tags_of_other_people_stay(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    world.fake.add_image(f"{CHAIN}/{REPOSITORY}:latest", "amd64", layers=[b"theirs"])
    world.fake.add_image(f"{CHAIN}/else/where:1", "amd64", layers=[b"theirs"])
    garbage = clean(world, 0)
    assert set(world.tags()) == {"latest", "1"}
    assert [one.manifests for one in garbage if one.repository.repository == "else/where"] == [()]


def test_unselected_repository_keeps_everything(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    layers = resolve(world.registries, PLACE.with_tag("v1-stock-amd64"), AMD64).layers
    raw = [world.host.blobs[REPOSITORY, str(layer.digest)] for layer in layers]
    # An image that nothing needs, in a repository that this cleaning is not about.
    world.fake.add_image(f"{CHAIN}/other:k1-staging-x", "amd64", layers=raw)
    found = find_all_garbage(world.records, keep=0, repository=REPOSITORY)
    by_name = {one.repository.repository: one for one in found}
    mine, other = by_name[REPOSITORY], by_name["other"]
    assert mine.freed() - mine.freed(other.kept_blobs) == sum(map(len, raw))
    assert mine.manifests
    assert other.manifests == ()


def test_blob_lost_by_several_repositories_is_counted_once(world: World) -> None:
    for name in ("a", "b"):
        world.fake.add_image(f"{CHAIN}/{name}:k1-staging", "amd64", layers=[b"x" * 100])
    found = [find_garbage(world.registries, ImageReference(CHAIN, name), dropped=()) for name in ("a", "b")]
    assert Garbage.freed_by_all(found) == found[0].freed() == found[1].freed()


def test_options_sharing_a_key_keep_the_tagged_record(world: World) -> None:
    """The newest records of both are there; the one under the key may be the other option's."""
    parent = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:one", "amd64", layers=[b"one"])
    other = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:two", "amd64", layers=[b"two"])
    child = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:kept", "amd64", layers=[b"child"])
    stock = record(parent, "base", step="amd64/stock/10-base")
    extras = record(other, "base", step="amd64/extras/10-base")
    assert stock.key == extras.key
    put_record(world.fake, REPOSITORY, stock, stock.key)
    put_record(world.fake, REPOSITORY, extras, "k1-last-extras-10-base-amd64")
    top = record(child, "top", parents=(stock,))
    put_record(world.fake, REPOSITORY, top, top.key)
    collect(world.registries, find_garbage(world.registries, PLACE, dropped={"one", "two"}))
    assert world.records.read(PLACE, stock.key) == stock
    assert world.registries.client(PLACE).head(REPOSITORY, stock.image)


def test_record_with_an_odd_step_belongs_to_no_run(world: World) -> None:
    image = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:odd", "amd64")
    odd = record(image, "x", step="nothing of ours")
    put_record(world.fake, REPOSITORY, odd, odd.key)
    clean(world, 0)
    assert set(world.tags()) == {"odd"}


def test_indexes_are_deleted_before_their_children(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    index = world.host.tags[REPOSITORY, "v1-stock"]
    there = read_index(world.registries, PLACE.with_tag("v1-stock"))
    children = [child.digest for child in there.images] if there else []
    clean(world, 0)
    deleted = [path.rpartition("/")[2] for method, path in world.fake.log if method == "DELETE"]
    assert children
    assert all(deleted.index(index) < deleted.index(str(child)) for child in children)
    assert world.host.manifests == {}


# What is attached -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own_list", [False, True])
def test_attachment_is_kept_and_deleted_with_its_image(world: World, own_list: bool) -> None:
    world.host.lists_referrers = own_list
    results = []
    for number, cpu in enumerate(("ONE", "TWO"), start=1):
        world.driver.bill = f"bill {number}".encode()
        run_as(world, f"v{number}", cpu=cpu)
        results.append(resolve(world.registries, PLACE.with_tag(f"v{number}-stock-amd64"), AMD64).reference)
    old, new = results
    assert old.digest is not None
    lists = [tag for (_, tag) in world.host.tags if tag.startswith("sha256-")]
    assert (referrers_tag(old.digest) in lists) is not own_list
    blobs = {digest for digest, raw in world.host.blobs.items() if gzip_of(raw) == b"bill 1"}
    manifests = {
        key for key, (_, raw) in world.host.manifests.items() if any(blob in raw.decode() for _, blob in blobs)
    }
    assert len(manifests) == 1
    (garbage,) = (one for one in clean(world, 1) if one.repository == PLACE)
    assert attached_bill(world.registries, new) == b"bill 2"
    assert manifests.isdisjoint(world.host.manifests), "the old image's bill went with it"
    assert referrers_tag(old.digest) not in {tag for _, tag in world.host.tags}
    assert {Digest(blob) for _, blob in blobs} <= set(garbage.freed_blobs())
    before = dict(world.host.manifests)
    clean(world, 1)
    assert world.host.manifests == before


def test_package_list_of_a_layer_stays_as_long_as_an_image_has_the_layer(world: World) -> None:
    for number, cpu in enumerate(("ONE", "TWO"), start=1):
        run_as(world, f"v{number}", cpu=cpu)
    layers = [
        {layer.digest for layer in resolve(world.registries, PLACE.with_tag(f"{tag}-stock-amd64"), AMD64).layers}
        for tag in ("v1", "v2")
    ]
    old, new = layers[0] - layers[1], layers[1]
    assert old
    for layer in old | new:
        name = PLACE.with_tag(packages_tag(layer))
        put_artifact(world.registries, name, artifact_type="application/x", content=layer.hex.encode())
    (garbage,) = (one for one in clean(world, 1) if one.repository == PLACE)
    left = {found for _, tag in world.host.tags if (found := packages_layer(tag))}
    assert left == new
    assert not {digest_of(layer.hex.encode()) for layer in new} & set(garbage.freed_blobs())
    assert {digest_of(layer.hex.encode()) for layer in old} <= set(garbage.freed_blobs())


def gzip_of(raw: bytes) -> bytes:
    try:
        return gzip.decompress(raw)
    except OSError:
        return b""


def test_attachment_of_a_missing_image_is_deleted(world: World) -> None:
    run_as(world, "v1", cpu="ONE")
    image = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:gone", "amd64", layers=[b"gone"])
    attach_bill(world.registries, image.reference, b"bill")
    world.registries.client(CHAIN).delete_manifest(REPOSITORY, image.digest)
    clean(world, 3)
    assert (REPOSITORY, referrers_tag(image.digest)) not in world.host.tags


def test_image_known_only_by_attachments_goes_with_them(world: World) -> None:
    """As a production image that failed its test: its staging tag has moved on."""
    run_as(world, "v1", cpu="ONE")
    image = world.fake.add_image(f"{CHAIN}/{REPOSITORY}:x", "amd64", layers=[b"x"], tag=False)
    attach_bill(world.registries, image.reference, b"bill")
    clean(world, 3)
    assert (REPOSITORY, str(image.digest)) not in world.host.manifests
