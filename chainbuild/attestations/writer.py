"""Sign images, and attest how they were made: signature, provenance, and bill of materials, as cosign stores them.

Everything is a function of the records and the key, so attesting an image again writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainbuild.attestations.cosign import attestation_layer, replaces, signature_layer
from chainbuild.attestations.provenance import PROVENANCE_TYPE, BuiltStep, provenance_predicate
from chainbuild.attestations.statement import SPDX_TYPE, sign_statement, statement_bytes
from chainbuild.attestations.verification import read_signers, trusted_signers
from chainbuild.images.attachments import attached_bill
from chainbuild.records.notes import BILL
from chainbuild.records.record import Record
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import read_index
from chainbuild.registry.oci import Descriptor, digest_of
from chainbuild.registry.pool import Registries
from chainbuild.registry.signed_tags import Kind, put_signed
from chainbuild.trust.keyring import KeyRing

_NO_PLATFORM: Final = Platform.from_oci("unknown", "unknown")
"""The platform of BuildKit's attestation manifests."""


def sign_image(registries: Registries, keyring: KeyRing, image: ImageReference) -> bool:
    """Sign the image or index of the reference's digest; return whether it was not signed with that key before.

    Errors: those of the registry; `NotReadyError` if the user has no key and none can be created.
    """
    if image.digest is None:
        raise ValueError("only what a digest names can be signed")
    layer = signature_layer(image.repository, image.digest, keyring.signing_key)
    return _put(registries, image, "sig", [layer])


def attest_image(registries: Registries, keyring: KeyRing, image: ImageReference, steps: Sequence[BuiltStep]) -> None:
    """Sign an image, its provenance and its attached bill of materials. `steps` is its chain (see `lineage.chain_of`).

    A bill of materials is signed only if the record of the image has its digest: anyone who can write to the registry can
    attach another one. Errors: as `sign_image`.
    """
    if image.digest is None:
        raise ValueError("only what a digest names can be attested")
    predicates = {PROVENANCE_TYPE: provenance_predicate(steps)}
    if bill := _recorded_bill(registries, image, steps[-1].record):
        predicates[SPDX_TYPE] = bill
    layers = [
        attestation_layer(
            sign_statement(keyring, statement_bytes(image.repository, image.digest, kind, predicate)), kind
        )
        for kind, predicate in predicates.items()
    ]
    _put(registries, image, "att", layers)
    # The signature is last: whoever finds it finds the attestations, too.
    sign_image(registries, keyring, image)


def _recorded_bill(registries: Registries, image: ImageReference, record: Record) -> bytes | None:
    bill = attached_bill(registries, image)
    if bill is None or str(digest_of(bill)) == record.notes.get(BILL):
        return bill
    registries.notice(f"{image}: the attached bill of materials is not signed, because its digest is not in the record")
    return None


def sign_index(registries: Registries, keyring: KeyRing, index: ImageReference) -> bool:
    """Sign the index under a name if a trusted key has signed each of its images; return whether it is signed now.

    An index keeps images that others put into it: a signature over it must not vouch for what nobody trusted has signed.
    Only BuildKit's attestation manifests need no signature, and only for a platform that no client asks for: clients differ
    on which other children are images (containerd takes one without a platform). A name of something else than an index is
    left alone. Errors: as `sign_image`.
    """
    found = read_index(registries, index)
    if found is None:
        return True
    place = ImageReference(index.registry, index.repository)
    signers = trusted_signers(keyring)
    for child in found.manifests:
        if child.is_attestation and child.platform == _NO_PLATFORM:
            continue
        by, _ = read_signers(registries, place.with_digest(child.digest), signers)
        if not by:
            return False
    sign_image(registries, keyring, place.with_digest(found.digest))
    return True


def _put(registries: Registries, image: ImageReference, kind: Kind, layers: Sequence[tuple[Descriptor, bytes]]) -> bool:
    def is_replaced(other: Descriptor) -> bool:
        return any(replaces(layer, other) for layer, _ in layers)

    return put_signed(registries, image, kind, layers, replaces=is_replaced)
