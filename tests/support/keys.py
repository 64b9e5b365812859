"""Signing keys for tests: the same number gives the same key."""

from __future__ import annotations

import json
from typing import Any

from chainbuild.records.record import PAYLOAD_TYPE
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, Digest, ImageReference
from chainbuild.registry.artifacts import put_artifact
from chainbuild.registry.pool import Registries
from chainbuild.trust.envelope import MEDIA_TYPE, Envelope
from chainbuild.trust.keyring import SIGNING_KEY, TRUSTED_KEYS, KeyRing
from chainbuild.trust.keys import PublicKey, SigningKey


def signing_key(number: int = 1) -> SigningKey:
    """Return a key."""
    return SigningKey(number.to_bytes(32, "big"))


def keyring(number: int = 1, *, trusts: tuple[PublicKey, ...] = ()) -> KeyRing:
    """Return the keyring of a user who signs with one key, and trusts others besides."""
    environ = {SIGNING_KEY: signing_key(number).secret_text, TRUSTED_KEYS: " ".join(map(str, trusts))}
    return KeyRing(shared=True, environ=environ)


def record_store(registries: Registries, chain: str = "localhost:5000", number: int = 1) -> RecordStore:
    """Return the records of a chain registry as that user sees them."""
    return RecordStore(registries, keyring(number), ChainRegistry.parse(chain))


def store_record(registries: Registries, reference: ImageReference, payload: bytes, number: int = 1) -> Digest:
    """Store a document as a record that the user's key has signed, whatever it says."""
    envelope = keyring(number).sign(payload, PAYLOAD_TYPE)
    return put_artifact(registries, reference, artifact_type=PAYLOAD_TYPE, media_type=MEDIA_TYPE, content=envelope.raw)


def payload_of(content: bytes) -> dict[str, Any]:
    """Return the document that a signed record holds."""
    document: dict[str, Any] = json.loads(Envelope.parse(content).payload)
    return document
