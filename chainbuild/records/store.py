"""The records of a chain registry: read, verify, check against their images, and write.

A signed record (a DSSE envelope, see `trust.envelope`) has three tags in its image's repository: its key, the step's newest
record, and the digest of its image. A copy is tagged with the key in one repository for the whole chain registry
(`ChainRegistry.records`), annotated with the image's repository, so that a step is found whatever REPO it was built for.
The annotation is a hint: readers check the image.

A record is valid only if a trusted key has signed it. Only the response "not found" means that there is none: a registry
that is busy or responds with nonsense is an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.errors import DamagedContentError, NotFoundInRegistryError, WrongUseError
from chainbuild.records.index import SeenRecords, clear_index
from chainbuild.records.keys import Components
from chainbuild.records.labels import identity_of
from chainbuild.records.record import PAYLOAD_TYPE, UNSIGNED_ARTIFACT_TYPE, Lookup, Record
from chainbuild.records.tags import image_record_tag, last_tag
from chainbuild.references import ChainRegistry, Digest, ImageReference, check_repository
from chainbuild.registry.artifacts import copy_attached, put_artifact, read_artifact
from chainbuild.registry.images import RemoteImage, copy_image, read_config
from chainbuild.registry.oci import Manifest
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.trust.envelope import MEDIA_TYPE, Envelope, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError

REPOSITORY_ANNOTATION: Final = "io.github.chainbuild.repository"
DELETED: Final = "its image was deleted from the registry"
_DAMAGED: Final = "its record is damaged"
UNFIT: Final = "its record does not match its image"


class RecordStore:
    """The records of a chain registry that the user trusts. Thread-safe."""

    def __init__(
        self, registries: Registries, keyring: KeyRing, chain: ChainRegistry, seen: SeenRecords | None = None
    ) -> None:
        self.registries = registries
        self.chain = chain
        self.keyring = keyring
        self.seen = seen or SeenRecords(None)

    # Reading ----------------------------------------------------------------------------------------------------------

    def look_up(self, repository: ImageReference, key: str) -> Lookup:
        """Return the repository's record of a key."""
        lookup = self.at(repository.with_tag(key))
        if lookup.record and lookup.record.key != key:
            return Lookup(refusal="its record belongs to another key")
        return lookup

    def read(self, repository: ImageReference, key: str) -> Record | None:
        """Return the record of a key; None if there is no valid one."""
        return self.look_up(repository, key).record

    def last(self, repository: ImageReference, family: str) -> Lookup:
        """Return the repository's newest record of a step, whatever its key."""
        lookup = self.at(repository.with_tag(last_tag(family)))
        if lookup.record and lookup.record.family != family:
            return Lookup(refusal="its newest record belongs to another step")
        return lookup

    def of_image(self, repository: ImageReference, image: Digest) -> Lookup:
        """Return the repository's newest record of an image."""
        lookup = self.at(repository.with_tag(image_record_tag(image)))
        if lookup.record and lookup.record.image != image:
            return Lookup(refusal="its record belongs to another image")
        return lookup

    def tagged(self, reference: ImageReference) -> Digest | None:
        """Return the digest that a readable tag points at; None if there is no such tag."""
        manifest = self.registries.client(reference).head(reference.repository, reference.tag_or_latest)
        return manifest.digest if manifest else None

    def elsewhere(self, key: str) -> tuple[Record, ImageReference] | None:
        """Return the record of a key that the chain registry keeps for all repositories, and its image's repository.

        That is another repository, or the given one if its own record was lost. None if there is no valid record or no
        image that matches it.
        """
        lookup = self.look_up(self.chain.records, key)
        place = self._place(lookup.repository)
        if lookup.record is None or place is None:
            return None
        return (lookup.record, place) if self.misfit(place, lookup.record) == "" else None

    def at(self, reference: ImageReference) -> Lookup:
        """Return the record under a reference.

        Errors: `RegistryError` unless the registry responds with the content or "not found".
        """
        try:
            artifact = read_artifact(self.registries, reference, PAYLOAD_TYPE, UNSIGNED_ARTIFACT_TYPE)
        except DamagedContentError:
            return Lookup(refusal=_DAMAGED)
        if artifact is None:
            return Lookup()
        if artifact.artifact_type == UNSIGNED_ARTIFACT_TYPE:
            return Lookup(
                refusal="its record is unsigned (written before chainbuild 0.2; sign it with: chainbuild records adopt)"
            )
        try:
            opened = self.keyring.open(artifact.content, PAYLOAD_TYPE)
            record = Record.parse(opened.payload)
        except UntrustedError as error:
            trust = f"; to trust it: chainbuild trust add {error.keys[0]}" if error.keys else ""
            return Lookup(refusal=f"its record is not trusted: {error.why}{trust}")
        except (EnvelopeError, ValueError):
            return Lookup(refusal=_DAMAGED)
        if self.seen.is_older(record):
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.built_at))
            return Lookup(refusal=f"its record ({when}) is older than the one this machine used last")
        return Lookup(
            record=record,
            signer=opened.signer,
            envelope=opened.envelope,
            repository=dict(artifact.annotations).get(REPOSITORY_ANNOTATION, ""),
        )

    def bring(self, source: ImageReference, repository: ImageReference, record: Record) -> None:
        """Copy a recorded image, its attachments and its record from another repository of the chain registry.

        Blobs are mounted, not sent. Errors: those of the registry; `NotFoundInRegistryError` if it was just deleted.
        """
        image = source.with_digest(record.image)
        copy_image(self.registries, image, repository)
        copy_attached(self.registries, image, repository)
        copy = self.look_up(self.chain.records, record.key)
        if copy.record and copy.envelope and copy.record.image == record.image:
            self.keep(repository, copy.record, copy.envelope)
        else:
            self.write(repository, record)

    # Images -----------------------------------------------------------------------------------------------------------

    def misfit(self, repository: ImageReference, record: Record) -> str:
        """Return why a record does not match its image; empty if it does.

        The manifest and config are read, so their digests are checked; layers are not.
        """
        client = self.registries.client(repository)
        try:
            raw = client.manifest(repository.repository, record.image)
            manifest = Manifest.parse(raw.raw, media_type=raw.media_type, where=f"{repository}@{record.image}")
            config = read_config(client, repository, manifest)
        except NotFoundInRegistryError:
            return DELETED
        except DamagedContentError:
            return "its image is damaged in the registry"
        claims = (record.identity, record.env, record.on_build, record.components.platform)
        env = tuple(f"{name}={value}" for name, value in config.env)
        platform = config.platform.oci
        # Either of the two may omit the platform's default variant.
        if not (platform == record.components.platform or platform.startswith(f"{record.components.platform}/")):
            return UNFIT
        facts = (identity_of(config), env, config.on_build, record.components.platform)
        return "" if claims == facts else UNFIT

    # Writing ----------------------------------------------------------------------------------------------------------

    def write(self, repository: ImageReference, record: Record, *, newest: bool = True) -> None:
        """Sign and store a record. `newest`: also make it the newest record of its step.

        If a run that ended later has stored a record of the same key already, only the image's own record is stored:
        an older record in place of a newer one would count as put back, and the step would be built again.
        """
        envelope = self.keyring.sign(record.payload, PAYLOAD_TYPE)
        existing = self.look_up(repository, record.key)
        stored = existing.record
        if stored is not None and stored.built_at > record.built_at and self.misfit(repository, stored) == "":
            self._put(repository.with_tag(image_record_tag(record.image)), envelope, repository)
            return
        self._store(repository, record, envelope, newest=newest, replaces=existing != Lookup())

    def keep(self, repository: ImageReference, record: Record, envelope: Envelope, *, newest: bool = True) -> None:
        """Store a signed record, adding the user's own signature if missing."""
        envelope = envelope.with_signature(self.keyring.signing_key)
        replaces = self.registries.client(repository).head(repository.repository, record.key) is not None
        self._store(repository, record, envelope, newest=newest, replaces=replaces)

    def _store(
        self, repository: ImageReference, record: Record, envelope: Envelope, *, newest: bool, replaces: bool
    ) -> None:
        if replaces:
            self.clear_index(repository, record)
        names = [image_record_tag(record.image), *([last_tag(record.family)] if newest else [])]
        self._put(repository.with_tag(record.key), envelope, repository, also=names)
        self._put(self.chain.records.with_tag(record.key), envelope, repository)

    def vouch(self, repository: ImageReference, image: RemoteImage, origin: str) -> None:
        """Sign for an image that no step built; `origin` is such as `bootstrap debian:bookworm-slim`."""
        components = Components(dockerfile="", platform=image.config.platform.oci, facts={"image": str(image.digest)})
        step = StepId.parse(origin)
        record = Record.of_image(image, components, step=step, family=origin, built_at=time.time())
        envelope = self.keyring.sign(record.payload, PAYLOAD_TYPE)
        self._put(repository.with_tag(image_record_tag(image.digest)), envelope, repository)

    def clear_index(self, repository: ImageReference, record: Record) -> None:
        """Empty the index that may list a record which is about to change.

        A run that is killed afterwards leaves no index that is older than the records.
        """
        clear_index(self.registries, repository, record.step, self.keyring)

    def _put(
        self, name: ImageReference, envelope: Envelope, repository: ImageReference, also: Iterable[str] = ()
    ) -> None:
        put_artifact(
            self.registries,
            name,
            artifact_type=PAYLOAD_TYPE,
            media_type=MEDIA_TYPE,
            content=envelope.raw,
            annotations={REPOSITORY_ANNOTATION: repository.repository},
            also=also,
        )

    def _place(self, path: str) -> ImageReference | None:
        """Return the repository that an annotation names; None if the untrusted text is invalid."""
        try:
            check_repository(path)
        except WrongUseError:
            return None
        return ImageReference(self.chain.host, path)


class Copy(Struct, frozen=True, kw_only=True):
    """An unverified record in the repository of copies: its manifest, and its blobs with their sizes in bytes."""

    record: Record
    repository: str
    digest: Digest
    blobs: Mapping[Digest, int]


def read_copy(registries: Registries, reference: ImageReference) -> Copy | None:
    """Return an unverified copy of a record; None if it is missing or unreadable. Never use it for reuse."""
    client = registries.client(reference)
    try:
        raw = client.manifest(reference.repository, reference.tag_or_latest)
        manifest = Manifest.parse(raw.raw, media_type=raw.media_type, where=str(reference))
    except (NotFoundInRegistryError, DamagedContentError):
        return None
    record = claimed_record(registries, reference.with_digest(raw.digest), manifest.artifact_type)
    repository = dict(manifest.annotations).get(REPOSITORY_ANNOTATION, "")
    if record is None or not repository:
        return None
    blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    return Copy(record=record, repository=repository, digest=raw.digest, blobs=blobs)


def claimed_record(registries: Registries, reference: ImageReference, artifact_type: str) -> Record | None:
    """Return the unverified record under a reference, whoever signed it; None if it is no signed record.

    Use it to keep what others need, and for display. It never decides what is reused.
    """
    if artifact_type != PAYLOAD_TYPE:
        return None
    try:
        artifact = read_artifact(registries, reference, PAYLOAD_TYPE)
        return Record.parse(Envelope.parse(artifact.content).payload) if artifact else None
    except (DamagedContentError, EnvelopeError, ValueError):
        return None
