"""Verify the signatures and attestations of an image with given keys, and tell why each other one does not count.

Everything that a registry serves is untrusted: a signature counts only if one of the keys made it over a claim about exactly
this image, an attestation only if one of them signed a statement whose subject is exactly this image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.attestations.account import Account, read_account
from chainbuild.attestations.bundles import SIGN_TYPE, bundle_layer, list_bundles, read_envelope
from chainbuild.attestations.cosign import CLAIM_MEDIA_TYPE, PREDICATE_TYPE, ClaimError, check_claim, signature_of
from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.attestations.statement import PAYLOAD_TYPE, Statement, StatementError
from chainbuild.errors import DamagedContentError, NotFoundInRegistryError, RegistryError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.oci import Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.signed_tags import Kind, layer_content, read_signed
from chainbuild.trust.envelope import MEDIA_TYPE as ENVELOPE_MEDIA_TYPE
from chainbuild.trust.envelope import Envelope, EnvelopeError
from chainbuild.trust.keyring import KeyRing
from chainbuild.trust.verification_keys import VerificationKey

_NOT_COUNTED: Final = (ClaimError, StatementError, EnvelopeError, DamagedContentError, NotFoundInRegistryError)
"""The errors of a signature or attestation that does not count; all others of a registry say nothing about it."""


class Signer(Struct, frozen=True, kw_only=True):
    """A key that may sign, and the name that the user knows it by."""

    key: VerificationKey
    name: str


class Refusal(Struct, frozen=True, kw_only=True):
    """A signature or attestation that does not count, and why."""

    what: str
    why: str


class Attested(Struct, frozen=True, kw_only=True):
    """A verified statement about the image, and who signed it. `account` is None unless it is provenance."""

    statement: Statement
    signers: tuple[Signer, ...]
    account: Account | None = None


class Evidence(Struct, frozen=True, kw_only=True):
    """What is proven about an image by signatures: who signed it, and the statements about it."""

    signers: tuple[Signer, ...] = ()
    statements: tuple[Attested, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def provenance(self) -> tuple[Attested, ...]:
        """Return the statements that are provenance."""
        return tuple(each for each in self.statements if each.account is not None)


def trusted_signers(keyring: KeyRing) -> tuple[Signer, ...]:
    """Return the keys that the user trusts."""
    return tuple(Signer(key=each.key, name=each.name) for each in keyring.trusted.values())


def read_evidence(registries: Registries, image: ImageReference, signers: Sequence[Signer]) -> Evidence:
    """Return what the signers have said about the image of the reference's digest.

    Errors: those of a registry that does not answer clearly.
    """
    if image.digest is None:
        raise ValueError("only what a digest names can be verified")
    by, refusals = _signatures(registries, image, image.digest, signers)
    refused = [*refusals]
    statements: list[Attested] = []
    budget = limits.Budget(limits.STATEMENTS, "what is attached to it", str(image))
    for what, layer in _layers(registries, image, "att", refused):
        try:
            if layer.media_type != ENVELOPE_MEDIA_TYPE:
                raise StatementError(f"it is no DSSE envelope but {layer.media_type[:60]!r}")
            budget.spend(layer.size)
            content = layer_content(registries, image, layer, limits.STATEMENT)
            statements.append(open_attestation(content, image.digest, signers, layer.annotation(PREDICATE_TYPE)))
        except _NOT_COUNTED as error:
            refused.append(Refusal(what=what, why=_why(error)))
    for attested in _bundled(registries, image, image.digest, signers, refused, budget):
        if attested.statement.predicate_type == SIGN_TYPE:
            by += attested.signers
        else:
            statements.append(attested)
    return Evidence(signers=tuple(dict.fromkeys(by)), statements=tuple(statements), refused=tuple(refused))


def read_signers(
    registries: Registries, image: ImageReference, signers: Sequence[Signer]
) -> tuple[tuple[Signer, ...], tuple[Refusal, ...]]:
    """Return which signers have signed the image of the reference's digest, and the signatures that do not count.

    Bundles are read only if there is no signature in cosign's older form. Errors: as `read_evidence`.
    """
    if image.digest is None:
        raise ValueError("only what a digest names can be verified")
    by, refusals = _signatures(registries, image, image.digest, signers)
    if by:
        return by, refusals
    refused = [*refusals]
    budget = limits.Budget(limits.STATEMENTS, "what is attached to it", str(image))
    bundled = _bundled(registries, image, image.digest, signers, refused, budget)
    by = tuple(signer for each in bundled if each.statement.predicate_type == SIGN_TYPE for signer in each.signers)
    return tuple(dict.fromkeys(by)), tuple(refused)


def _signatures(
    registries: Registries, image: ImageReference, digest: Digest, signers: Sequence[Signer]
) -> tuple[tuple[Signer, ...], tuple[Refusal, ...]]:
    by: list[Signer] = []
    refused: list[Refusal] = []
    for what, layer in _layers(registries, image, "sig", refused):
        try:
            by += _check_signature(registries, image, digest, layer, signers)
        except _NOT_COUNTED as error:
            refused.append(Refusal(what=what, why=_why(error)))
    return tuple(dict.fromkeys(by)), tuple(refused)


def _bundled(
    registries: Registries,
    image: ImageReference,
    digest: Digest,
    signers: Sequence[Signer],
    refused: list[Refusal],
    budget: limits.Budget,
) -> Iterator[Attested]:
    """Yield the verified statements of bundles. A registry that does not list them has none: they only add to the rest."""
    try:
        rows = list_bundles(registries, image)
    except RegistryError as error:
        refused.append(Refusal(what="all bundles", why=_why(error)))
        return
    number = 1
    for row in rows:
        try:
            layer = bundle_layer(registries, image, row)
            if layer is None:
                continue
            budget.spend(layer.size)
            yield open_attestation(read_envelope(registries, image, layer), digest, signers)
        except _NOT_COUNTED as error:
            refused.append(Refusal(what=f"bundle {number}", why=_why(error)))
        number += 1


def envelopes_of(registries: Registries, image: ImageReference) -> tuple[bytes, ...]:
    """Return the attestations of the image of the reference's digest, whoever signed them: to pass them on, not to believe.

    Errors: those of the registry; `LimitError` if they are too many or too large.
    """
    manifest = read_signed(registries, image, "att")
    layers = [layer for layer in manifest.layers if layer.media_type == ENVELOPE_MEDIA_TYPE] if manifest else []
    limits.ATTESTATIONS.check(len(layers), "what is attached to it", str(image))
    limits.STATEMENT.check(sum(layer.size for layer in layers), "what is attached to it", str(image))
    return tuple(layer_content(registries, image, layer, limits.STATEMENT) for layer in layers)


def open_attestation(content: bytes, image: Digest, signers: Sequence[Signer], announced: str = "") -> Attested:
    """Return the statement of an attestation if one of the signers signed it about the image of that digest.

    `announced` is the predicate type that an unsigned annotation gives; empty if there is none. Errors: `EnvelopeError`,
    `StatementError`.
    """
    if len(content) > 2 * limits.STATEMENT.value:
        raise StatementError(f"larger than {limits.STATEMENT.shown}")
    envelope = Envelope.parse(content)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise EnvelopeError(f"a statement of another type, {envelope.payload_type[:60]!r}")
    valid = set(envelope.valid_keys([signer.key for signer in signers], by_id=False))
    if not valid:
        raise EnvelopeError(_unsigned(envelope, signers))
    statement = Statement.parse(envelope.payload)
    if not statement.is_about(image):
        raise StatementError("it is about another image")
    if announced and announced != statement.predicate_type:
        raise StatementError(f"it is no {announced[:80]}, but {statement.predicate_type[:80]}")
    account = read_account(statement) if statement.predicate_type == PROVENANCE_TYPE else None
    if account and account.is_own and account.steps[-1].image != str(image):
        raise StatementError("its last step made another image")
    by = tuple(signer for signer in signers if signer.key in valid)
    return Attested(statement=statement, signers=by, account=account)


def _check_signature(
    registries: Registries, image: ImageReference, digest: Digest, layer: Descriptor, signers: Sequence[Signer]
) -> list[Signer]:
    if layer.media_type != CLAIM_MEDIA_TYPE:
        raise ClaimError(f"it is no signature but {layer.media_type[:60]!r}")
    value = signature_of(layer)
    content = layer_content(registries, image, layer, limits.SIGNED_CLAIM)
    by = [signer for signer in signers if signer.key.verifies(value, content)]
    if not by:
        raise ClaimError("no accepted key made it")
    check_claim(content, digest)
    return by


def _layers(
    registries: Registries, image: ImageReference, kind: Kind, refused: list[Refusal]
) -> list[tuple[str, Descriptor]]:
    what = "signature" if kind == "sig" else "attestation"
    manifest: Manifest | None = None
    try:
        manifest = read_signed(registries, image, kind)
        limits.ATTESTATIONS.check(len(manifest.layers) if manifest else 0, f"the {what}s", str(image))
    except DamagedContentError as error:
        refused.append(Refusal(what=f"all {what}s", why=_why(error)))
        return []
    layers = dict.fromkeys(manifest.layers if manifest else ())
    return [(f"{what} {number}", layer) for number, layer in enumerate(layers, start=1)]


def _unsigned(envelope: Envelope, signers: Sequence[Signer]) -> str:
    if not envelope.signatures:
        return "it has no signature"
    if {signature.key_id for signature in envelope.signatures} & {signer.key.id for signer in signers}:
        return "its signature does not match its content"
    return "no accepted key signed it"


def _why(error: Exception) -> str:
    if isinstance(error, NotFoundInRegistryError):
        return "the registry has lost its content"
    return error.message if isinstance(error, RegistryError) else str(error)
