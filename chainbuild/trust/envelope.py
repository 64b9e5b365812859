"""DSSE envelopes: a payload, its type, and signatures over both.

The form is that of the DSSE 1.0 specification (secure-systems-lab/dsse): JSON with `payload` in base64, `payloadType`,
and `signatures` of `keyid` and `sig`. What is signed is the pre-authentication encoding (PAE) of type and payload, so no
signature over one type of statement can be used for another. Our signatures also carry the public key as `publicKey`, a
hint for users who want to trust that key. It decides nothing: signatures are verified with trusted keys only.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.trust.keys import PublicKey, SigningKey

MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
MOST_SIGNATURES: Final = 16
"""The limit of signatures on a statement; each costs a verification."""


class EnvelopeError(ValueError):
    """The bytes are not a DSSE envelope."""


class Signature(Struct, frozen=True, kw_only=True):
    """One signature. `key_id` is the id of the key that it claims; `key` that key, if the envelope holds it."""

    key_id: str
    value: bytes
    key: PublicKey | None = None


class Envelope(Struct, frozen=True, kw_only=True):
    """An unverified envelope."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Envelope:
        """Read an envelope. Errors: `EnvelopeError`."""
        try:
            document: dict[str, Any] = json.loads(raw)
            signatures = document["signatures"]
            if len(signatures) > MOST_SIGNATURES:
                raise EnvelopeError(f"{len(signatures)} signatures (at most {MOST_SIGNATURES} are read)")
            return cls(
                payload_type=_text(document["payloadType"]),
                payload=_bytes(document["payload"]),
                signatures=tuple(_signature(item) for item in signatures),
            )
        except EnvelopeError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EnvelopeError(f"not a DSSE envelope ({type(error).__name__})") from error

    @classmethod
    def sign(cls, payload: bytes, payload_type: str, key: SigningKey) -> Envelope:
        """Make an envelope with one signature."""
        value = key.sign(pae(payload_type, payload))
        signature = Signature(key_id=key.public.id, value=value, key=key.public)
        return cls(payload_type=payload_type, payload=payload, signatures=(signature,))

    def with_signature(self, key: SigningKey) -> Envelope:
        """Return the statement with an added signature, or unchanged if that key has already signed it."""
        if key.public in self.valid_keys([key.public]):
            return self
        added = Envelope.sign(self.payload, self.payload_type, key).signatures
        others = tuple(signature for signature in self.signatures if signature.key_id != key.public.id)
        return Envelope(payload_type=self.payload_type, payload=self.payload, signatures=(*others, *added))

    def valid_keys(self, candidates: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
        """Return the candidates that made a valid signature, in order."""
        message = pae(self.payload_type, self.payload)
        return tuple(
            key
            for key in candidates
            if any(
                signature.key_id == key.id and key.verifies(signature.value, message) for signature in self.signatures
            )
        )

    @property
    def raw(self) -> bytes:
        """Return the envelope's bytes; the same envelope gives the same bytes."""
        document: Mapping[str, Any] = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {
                    "keyid": signature.key_id,
                    "sig": base64.b64encode(signature.value).decode(),
                    **({"publicKey": str(signature.key)} if signature.key else {}),
                }
                for signature in self.signatures
            ],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _signature(item: Mapping[str, Any]) -> Signature:
    key_id, hint = _text(item.get("keyid", "")), item.get("publicKey")
    key = None
    if hint is not None:
        try:
            key = PublicKey.parse(_text(hint))
        except WrongUseError as error:
            raise EnvelopeError("an invalid publicKey") from error
    if key and key.id != key_id:
        raise EnvelopeError("a publicKey that does not match its keyid")
    return Signature(key_id=key_id, value=_bytes(item["sig"]), key=key)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise EnvelopeError(f"a {type(value).__name__} where text is expected")
    return value


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise EnvelopeError("text that is not base64") from error
