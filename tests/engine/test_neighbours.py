"""Hostile users with write access to the chain registry cannot change what is reused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from chainbuild.records import index
from chainbuild.records.record import PAYLOAD_TYPE, UNSIGNED_ARTIFACT_TYPE, Record
from chainbuild.records.store import REPOSITORY_ANNOTATION
from chainbuild.records.tags import image_record_tag, image_tag, index_tag, last_tag
from chainbuild.references import ChainRegistry, Digest, ImageReference, Platform
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.contents import layer_members
from chainbuild.registry.images import RemoteImage, put_image, put_tag, resolve
from chainbuild.registry.oci import OCI_EMPTY, OCI_LAYER_GZIP, Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.trust.envelope import MEDIA_TYPE, Envelope
from tests.support.keys import signing_key

from .conftest import OWN, Done, Lay, Place, pack_files

pytestmark = pytest.mark.timeout(900)

STRANGER, VICTIM = signing_key(66), signing_key()
STEPS = ["10-one", "20-two"]


@dataclass
class Attack:
    """An attacker with write access to the registry, and what they know of the victim's chain."""

    place: Place
    registries: Registries
    first: Envelope
    """The victim's first record of step 10, with its valid signature."""
    first_index: bytes

    @property
    def repository(self) -> ImageReference:
        name = self.place.name("any")
        return ImageReference(name.registry, name.repository)

    @property
    def copies(self) -> ImageReference:
        return ChainRegistry.parse(self.place.host).records

    @property
    def record(self) -> Record:
        found = self.place.records(self.registries).last(self.repository, f"opt-{STEPS[0]}-{OWN}").record
        assert found is not None
        return found

    def evil(self) -> RemoteImage:
        """Return the victim's image with one more layer that shows the attacker."""
        honest = resolve(self.registries, self.repository.with_digest(self.record.image), Platform.parse(OWN))
        packed, diff_id = pack_files({"made": b"attacker\n"})
        self.registries.client(self.repository).put_blob(self.repository.repository, packed)
        document = json.loads(honest.config.raw)
        document["rootfs"]["diff_ids"].append(str(diff_id))
        config = type(honest.config).parse(json.dumps(document).encode())
        return put_image(
            self.registries, self.repository, config, [*honest.layers, Descriptor.of(packed, OCI_LAYER_GZIP)]
        )

    def everywhere(self, envelope: bytes, artifact_type: str = PAYLOAD_TYPE) -> None:
        """Push a record under every name by which the victim's record is looked up."""
        record = self.record
        for name in (
            self.repository.with_tag(record.key),
            self.copies.with_tag(record.key),
            self.repository.with_tag(last_tag(record.family)),
            self.repository.with_tag(image_record_tag(record.image)),
        ):
            put_artifact(
                self.registries,
                name,
                artifact_type=artifact_type,
                media_type=MEDIA_TYPE,
                content=envelope,
                annotations={REPOSITORY_ANNOTATION: self.repository.repository},
            )

    def lie(self, **more: object) -> bytes:
        """Return the victim's record with the attacker's image, tagged as if the victim had built it."""
        evil = self.evil()
        put_tag(self.registries, self.repository.with_tag(image_tag(evil.digest)), evil.digest)
        return json.dumps(self.record.as_json() | {"image": str(evil.digest)} | more).encode()

    def index_place(self, key: object = VICTIM) -> ImageReference:
        return self.repository.with_tag(index_tag(key.public.id, "opt", OWN))  # type: ignore[attr-defined]


def signed(payload: bytes, key: object = STRANGER, kind: str = PAYLOAD_TYPE) -> Envelope:
    return Envelope.sign(payload, kind, key)  # type: ignore[arg-type]


def move_step_tag(attack: Attack) -> None:
    put_tag(attack.registries, attack.place.name(f"v1-opt-{STEPS[0]}-{OWN}"), attack.evil().digest)


def move_every_readable_tag(attack: Attack) -> None:
    digest = attack.evil().digest
    for tag in attack.place.tags():
        put_tag(attack.registries, attack.place.name(tag), digest)


def record_by_a_stranger(attack: Attack) -> None:
    attack.everywhere(signed(attack.lie()).raw)


def record_without_signature(attack: Attack) -> None:
    attack.everywhere(Envelope(payload_type=PAYLOAD_TYPE, payload=attack.lie(), signatures=()).raw)


def record_with_a_signature_of_another(attack: Attack) -> None:
    attack.everywhere(Envelope(payload_type=PAYLOAD_TYPE, payload=attack.lie(), signatures=attack.first.signatures).raw)


def record_with_the_victim_s_key_id(attack: Attack) -> None:
    document = json.loads(signed(attack.lie()).raw)
    document["signatures"][0] |= {"keyid": VICTIM.public.id, "publicKey": str(VICTIM.public)}
    attack.everywhere(json.dumps(document).encode())


def record_of_an_older_schema(attack: Attack) -> None:
    attack.everywhere(attack.lie(schema="chainbuild.record/1"), UNSIGNED_ARTIFACT_TYPE)


def older_schema_in_the_new_envelope(attack: Attack) -> None:
    attack.everywhere(signed(attack.lie(schema="chainbuild.record/1")).raw)


def record_of_another_step(attack: Attack) -> None:
    other = attack.place.records(attack.registries).last(attack.repository, f"opt-{STEPS[1]}-{OWN}")
    assert other.envelope is not None
    attack.everywhere(other.envelope.raw)


def record_of_another_repository(attack: Attack) -> None:
    """Push a valid record that the victim signed for another project with other content."""
    place = attack.repository.repository.rpartition("/")[0] + "/elsewhere"
    found = read_artifact(
        attack.registries, ImageReference(attack.repository.registry, place, last_tag(f"opt-{STEPS[0]}-{OWN}"))
    )
    assert found is not None
    attack.everywhere(found.content)


def older_record_put_back(attack: Attack) -> None:
    attack.everywhere(attack.first.raw)
    put_artifact(
        attack.registries,
        attack.index_place(),
        artifact_type=index.PAYLOAD_TYPE,
        media_type=MEDIA_TYPE,
        content=attack.first_index,
    )


def lie_in_embedded_data(attack: Attack) -> None:
    """Push a manifest that points at the victim's record and embeds another record."""
    record = attack.record
    honest = attack.place.records(attack.registries).look_up(attack.repository, record.key).envelope
    assert honest is not None
    client = attack.registries.client(attack.repository)
    blob = Descriptor.of(honest.raw, MEDIA_TYPE)
    lying = Descriptor(media_type=MEDIA_TYPE, digest=blob.digest, size=blob.size, data=signed(attack.lie()).raw)
    client.put_blob(attack.repository.repository, b"{}")
    client.put_blob(attack.repository.repository, honest.raw)
    manifest = Manifest.make(
        config=Descriptor.of(b"{}", OCI_EMPTY, embed=True), layers=(lying,), artifact_type=PAYLOAD_TYPE
    )
    client.put_manifest(attack.repository.repository, record.key, manifest.raw, manifest.media_type)


def index_by_a_stranger(attack: Attack) -> None:
    row = json.loads(attack.lie())
    del row["components"]
    payload = json.dumps({"schema": index.SCHEMA, "records": [row]}).encode()
    for key in (VICTIM, STRANGER):
        put_artifact(
            attack.registries,
            attack.index_place(key),
            artifact_type=index.PAYLOAD_TYPE,
            media_type=MEDIA_TYPE,
            content=signed(payload, kind=index.PAYLOAD_TYPE).raw,
        )


def record_signed_as_an_index(attack: Attack) -> None:
    """Push a statement of another kind, which must not count even if its key is trusted."""
    attack.everywhere(signed(attack.lie(), VICTIM, index.PAYLOAD_TYPE).raw)


def copies_lead_to_another_repository(attack: Attack) -> None:
    """Point the unsigned annotation for the location of an image at other repositories."""
    record = attack.record
    envelope = attack.place.records(attack.registries).look_up(attack.repository, record.key).envelope
    assert envelope is not None
    client = attack.registries.client(attack.repository)
    for repository in ("nothing/here", "../../etc", "a\x1b[31m", ""):
        put_artifact(
            attack.registries,
            attack.copies.with_tag(record.key),
            artifact_type=PAYLOAD_TYPE,
            media_type=MEDIA_TYPE,
            content=envelope.raw,
            annotations={REPOSITORY_ANNOTATION: repository},
        )
    there = client.head(attack.repository.repository, record.key)
    assert there is not None
    client.delete_manifest(attack.repository.repository, there.digest)


def image_where_the_record_is(attack: Attack) -> None:
    evil = attack.evil()
    for tag in (attack.record.key, last_tag(attack.record.family)):
        put_tag(attack.registries, attack.repository.with_tag(tag), evil.digest)


def image_tag_of_a_deleted_image(attack: Attack) -> None:
    """Delete the image but keep the tag by which the index finds it."""
    image = attack.record.image
    evil = attack.evil()
    client = attack.registries.client(attack.repository)
    client.delete_manifest(attack.repository.repository, image)
    put_tag(attack.registries, attack.repository.with_tag(image_tag(image)), evil.digest)


def everything_deleted(attack: Attack) -> None:
    client = attack.registries.client(attack.repository)
    for repository in (attack.repository.repository, attack.copies.repository):
        for tag in client.tags(repository):
            there = client.head(repository, tag)
            if there is not None:
                client.delete_manifest(repository, there.digest)


def garbage_everywhere(attack: Attack) -> None:
    attack.everywhere(b"\x00\xff" * 1000)
    put_artifact(
        attack.registries, attack.index_place(), artifact_type=index.PAYLOAD_TYPE, content=b'{"payload": [' * 5000
    )


def base_of_that_name(attack: Attack) -> None:
    """Replace the copy of a base that is used if its own registry is unreachable."""
    target = ChainRegistry.parse(attack.place.host).place(ImageReference.parse("debian")).with_tag("bookworm-slim")
    evil = attack.evil()
    from chainbuild.registry.images import copy_image

    copy_image(attack.registries, evil.reference, target)


def signed_record_by_a_stranger_with_the_victim_s_beside(attack: Attack) -> None:
    """Push a record with two signatures over different content: each counts only for its own content."""
    lie = signed(attack.lie())
    attack.everywhere(
        Envelope(
            payload_type=PAYLOAD_TYPE, payload=lie.payload, signatures=(*attack.first.signatures, *lie.signatures)
        ).raw
    )


ATTACKS: tuple[Callable[[Attack], None], ...] = (
    move_step_tag,
    move_every_readable_tag,
    record_by_a_stranger,
    record_without_signature,
    record_with_a_signature_of_another,
    record_with_the_victim_s_key_id,
    record_of_an_older_schema,
    older_schema_in_the_new_envelope,
    record_of_another_step,
    record_of_another_repository,
    older_record_put_back,
    lie_in_embedded_data,
    index_by_a_stranger,
    record_signed_as_an_index,
    copies_lead_to_another_repository,
    image_where_the_record_is,
    image_tag_of_a_deleted_image,
    garbage_everywhere,
    base_of_that_name,
    signed_record_by_a_stranger_with_the_victim_s_beside,
    everything_deleted,
)


@pytest.fixture(scope="module")
def attacked(lay_once: Lay, nothing_image: str) -> Iterator[Attack]:
    salt = str(time.time_ns())
    place = lay_once(
        files={
            "opt/10-Dockerfile-one": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY made /made\n",
            "opt/20-Dockerfile-two": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY --from=debian:bookworm-slim /etc/hostname /\n",
            "made": f"victim {salt}\n",
        }
    )
    other = lay_once(
        files={
            "opt/10-Dockerfile-one": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY made /made\n",
            "made": f"other {salt}\n",
        }
    )
    place.base = other.base = nothing_image
    other.registry, other.repo = place.registry, place.repo.rpartition("/")[0] + "/elsewhere"
    other.build("opt", "--until", "10")
    place.build("opt", "--until", "20")
    with Registries() as registries:
        attack = Attack(place=place, registries=registries, first=signed(b""), first_index=b"")
        first = place.records(registries).look_up(attack.repository, attack.record.key).envelope
        index_there = read_artifact(registries, attack.index_place())
        assert first is not None
        assert index_there is not None
        attack.first, attack.first_index = first, index_there.content
        # The image of the first record is replaced by a newer image with the same key.
        place.build("opt", "--until", "20", "--refresh", "--no-cache")
        yield attack


@pytest.mark.parametrize("do", ATTACKS, ids=lambda do: do.__name__)
def test_attacker_with_write_access_cannot_change_reused_content(
    attacked: Attack, do: Callable[[Attack], None]
) -> None:
    """Catch an attack that replaces content of the registry and changes what a run builds on."""
    place = attacked.place
    # Undo the attack of the test before.
    place.build("opt", "--until", "20", "--refresh")
    do(attacked)
    plan = place.run("plan", *place.words("opt", "--json", "--until", "20"))
    assert plan.code == 0, plan.told()
    done = place.build("opt", "--until", "20")
    ended = done.events("step_reused") + done.events("step_finished")
    assert len(ended) == len(STEPS)
    for event in ended:
        assert content_of(place, attacked.registries, event["digest"]) == (place.root / "made").read_text()


def content_of(place: Place, registries: Registries, digest: str) -> str:
    """Return the content of the contested file in an image, from its topmost layer that has the file."""
    name = place.name("any")
    image = resolve(
        registries, ImageReference(name.registry, name.repository).with_digest(Digest(digest)), Platform.parse(OWN)
    )
    for layer in reversed(image.layers):
        for member in layer_members(registries, image.reference, layer):
            if member.name == "made":
                return b"".join(member.chunks()).decode()
    raise AssertionError(f"{digest} has no such file")


def test_records_of_untrusted_key_are_reported_and_not_reused(lay: Lay) -> None:
    """Two users with different keys share a registry; a user who trusts the other key reuses its images."""
    place = lay(files={"opt/10-Dockerfile-one": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo mine > /made\n"})
    place.build("opt", "--until", "10")
    other = {"CHAINBUILD_SIGNING_KEY": STRANGER.secret_text}
    words = [*place.words("opt", "--json", "--until", "10")]
    plan = place.run("plan", *words, environ=other)
    (step,) = json.loads(plan.out)["steps"]
    assert step["action"] == "build"
    assert f"unknown key {VICTIM.public.short_id}" in step["reason"]
    trusting = other | {"CHAINBUILD_TRUSTED_KEYS": str(VICTIM.public)}
    (step,) = json.loads(place.run("plan", *words, environ=trusting).out)["steps"]
    assert step["action"] == "reuse"
    (place.root / "chainbuild.yaml").write_text(f'trust: {{ci: "{VICTIM.public}"}}\n', encoding="utf-8")
    (step,) = json.loads(place.run("plan", *words, environ=other).out)["steps"]
    assert step["action"] == "reuse"
    done: Done = place.run(*words, environ=other)
    assert (done.built, done.reused) == ([], ["10-one"])
