"""DSSE envelopes: a payload, its type, and signatures over both.

The form is that of the DSSE 1.0 specification (secure-systems-lab/dsse): JSON with `payload` in base64, `payloadType`,
and `signatures` of `keyid` and `sig`. Standard base64 is written, and the URL-safe one is read, too, as the specification
requires. What is signed is the pre-authentication encoding (PAE) of type and payload, so no
signature over one type of statement can be used for another. Our signatures also carry the public key as `publicKey`, a
hint for users who want to trust that key. It decides nothing: signatures are verified with trusted keys only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, field, to_builtins

from chainbuild.errors import WrongUseError
from chainbuild.trust.keys import PublicKey, SigningKey
from chainbuild.values import decode_json

if TYPE_CHECKING:
    # A start reads records, which only Ed25519 keys sign.
    from chainbuild.trust.verification_keys import VerificationKey

Key = TypeVar("Key", bound="VerificationKey")

MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
MOST_SIGNATURES: Final = 16
"""The limit of signatures on a statement; each costs a verification."""


class EnvelopeError(ValueError):
    """The bytes are not a DSSE envelope."""


class Signature(Struct, frozen=True, kw_only=True):
    """One signature. `key_id` is the id of the key that it claims; `key` that key, if the envelope holds it."""

    key_id: str = field(name="keyid", default="")
    value: bytes = field(name="sig")
    public_key: str | UnsetType = field(name="publicKey", default=UNSET)

    def __post_init__(self) -> None:
        if self.key and self.key.id != self.key_id:
            raise ValueError("a publicKey that does not match its keyid")

    @property
    def key(self) -> PublicKey | None:
        """Return the key that the envelope holds, if any. Creating the signature has checked it."""
        if self.public_key is UNSET:
            return None
        try:
            return PublicKey.parse(self.public_key)
        except WrongUseError as error:
            raise ValueError("an invalid publicKey") from error


class Envelope(Struct, frozen=True, kw_only=True):
    """An unverified envelope."""

    payload_type: str = field(name="payloadType")
    payload: bytes
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=MOST_SIGNATURES)]

    @classmethod
    def parse(cls, raw: bytes) -> Envelope:
        """Read an envelope. Errors: `EnvelopeError`."""
        try:
            # As text: msgspec does not decode fields that it skips.
            text = raw.decode()
            try:
                return decode_json(text, cls)
            except ValidationError:
                # msgspec decodes only standard base64.
                return decode_json(text, _UrlSafeEnvelope).decoded
        except (ValueError, RecursionError) as error:
            raise EnvelopeError(f"not a DSSE envelope ({error})") from error

    @classmethod
    def sign(cls, payload: bytes, payload_type: str, key: SigningKey, *, shows_key: bool = True) -> Envelope:
        """Make an envelope with one signature. `shows_key`: the signature also carries the public key."""
        value = key.sign(pae(payload_type, payload))
        public_key = str(key.public) if shows_key else UNSET
        signature = Signature(key_id=key.public.id, value=value, public_key=public_key)
        return cls(payload_type=payload_type, payload=payload, signatures=(signature,))

    def with_signature(self, key: SigningKey) -> Envelope:
        """Return the statement with an added signature, or unchanged if that key has already signed it."""
        if key.public in self.valid_keys([key.public]):
            return self
        added = Envelope.sign(self.payload, self.payload_type, key).signatures
        others = tuple(signature for signature in self.signatures if signature.key_id != key.public.id)
        return Envelope(payload_type=self.payload_type, payload=self.payload, signatures=(*others, *added))

    def valid_keys(self, candidates: Iterable[Key], *, by_id: bool = True) -> tuple[Key, ...]:
        """Return the candidates that made a valid signature, in order.

        `by_id`: a key id is that of the key as chainbuild computes it, or missing. Other programs write ids of their own,
        which may say nothing about the key.
        """
        message = pae(self.payload_type, self.payload)
        return tuple(
            key
            for key in candidates
            if any(
                (not by_id or signature.key_id in {"", key.id}) and key.verifies(signature.value, message)
                for signature in self.signatures
            )
        )

    @property
    def raw(self) -> bytes:
        """Return the envelope's bytes; the same envelope gives the same bytes."""
        return json.dumps(to_builtins(self), sort_keys=True, separators=(",", ":")).encode()


class _UrlSafeSignature(Struct, frozen=True, kw_only=True):
    """A signature whose base64 is not decoded."""

    keyid: str = ""
    sig: str
    public_key: str | UnsetType = field(name="publicKey", default=UNSET)


class _UrlSafeEnvelope(Struct, frozen=True, kw_only=True):
    """An envelope whose base64 is not decoded."""

    payload_type: str = field(name="payloadType")
    payload: str
    signatures: Annotated[tuple[_UrlSafeSignature, ...], Meta(max_length=MOST_SIGNATURES)]

    @property
    def decoded(self) -> Envelope:
        """Return the envelope. Errors: `ValueError`."""
        signatures = tuple(
            Signature(key_id=each.keyid, value=_any_base64(each.sig), public_key=each.public_key)
            for each in self.signatures
        )
        return Envelope(payload_type=self.payload_type, payload=_any_base64(self.payload), signatures=signatures)


def _any_base64(text: str) -> bytes:
    """Decode base64 of either alphabet (RFC 4648, sections 4 and 5), with padding. Errors: `ValueError`."""
    return base64.b64decode(text.translate(_TO_STANDARD), validate=True)


_TO_STANDARD: Final = str.maketrans("-_", "+/")


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
