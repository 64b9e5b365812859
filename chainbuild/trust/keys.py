"""Ed25519 keys: their text forms, their ids, and the user's own signing key.

A public key is written as `ed25519:` and the base64 of its 32 bytes (RFC 8032), which fits on one line of a YAML file. A
signing key for a CI secret is written as `ed25519-private:` and the base64 of its 32-byte seed. Keys in PEM are read, too:
a public key as SubjectPublicKeyInfo (RFC 8410), a signing key as unencrypted PKCS #8.

The id of a key is the sha256 of its SubjectPublicKeyInfo in DER, in hex, as in-toto and cosign compute it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.values import Discreet

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_PREFIX: Final = "ed25519:"
PRIVATE_PREFIX: Final = "ed25519-private:"
_KEY_BYTES: Final = 32
# RFC 8410, section 4: the fixed DER header of an Ed25519 SubjectPublicKeyInfo; the 32 bytes of the key follow.
_SPKI_HEADER: Final = bytes.fromhex("302a300506032b6570032100")
_PEM: Final = "-----BEGIN "
SHORT: Final = 12
"""The number of hex digits of a key's id shown to users."""


class PublicKey(Struct, frozen=True):
    """An Ed25519 public key."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read a public key: `ed25519:BASE64` or PEM.

        Errors: `WrongUseError`.
        """
        text = text.strip()
        if text.startswith(_PEM):
            return cls(_public_from_pem(text))
        if text.startswith(PRIVATE_PREFIX):
            raise WrongUseError(
                "this is a signing key, not a public key",
                hint="Keep it secret. chainbuild trust key prints the public key.",
            )
        if not text.startswith(PUBLIC_PREFIX):
            raise WrongUseError(
                f"{_shown(text)} is not a public key",
                hint=f"A public key starts with {PUBLIC_PREFIX}; chainbuild trust key prints yours.",
            )
        return cls(_decoded(text.removeprefix(PUBLIC_PREFIX), text, "public key"))

    @property
    def id(self) -> str:
        """Return the sha256 of the SubjectPublicKeyInfo, in hex."""
        return hashlib.sha256(_SPKI_HEADER + self.raw).hexdigest()

    @property
    def short_id(self) -> str:
        """Return the first 12 hex digits of the id, for display."""
        return self.id[:SHORT]

    @property
    def pem(self) -> str:
        """Return the key as PEM (SubjectPublicKeyInfo), which other tools read."""
        body = base64.b64encode(_SPKI_HEADER + self.raw).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature over the message was made with this key's private half."""
        # Imported on demand: a run that reads no record does not need it.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return PUBLIC_PREFIX + base64.b64encode(self.raw).decode()


class SigningKey(Discreet, frozen=True, dict=True):
    """An Ed25519 signing key. Its repr does not show the seed."""

    seed: bytes

    @classmethod
    def generate(cls) -> SigningKey:
        """Create a new key from the system's random source."""
        import secrets

        return cls(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def parse(cls, text: str, *, where: str) -> SigningKey:
        """Read a signing key: `ed25519-private:BASE64` or PEM. `where` names its source; the text is never in a message.

        Errors: `WrongUseError`.
        """
        text = text.strip()
        if text.startswith(_PEM):
            return cls(_seed_from_pem(text, where))
        wrong = WrongUseError(
            f"{where} does not contain a signing key",
            hint=f"It starts with {PRIVATE_PREFIX}; chainbuild trust key --generate creates a new pair.",
        )
        if not text.startswith(PRIVATE_PREFIX):
            raise wrong
        try:
            seed = base64.b64decode(text.removeprefix(PRIVATE_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise wrong from None
        if len(seed) != _KEY_BYTES:
            raise wrong
        return cls(seed)

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public(self) -> PublicKey:
        """Return the public half."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) over the message."""
        return self._key.sign(message)

    @property
    def secret_text(self) -> str:
        """Return the key as one line of text: for a CI secret."""
        return PRIVATE_PREFIX + base64.b64encode(self.seed).decode()


def _decoded(text: str, whole: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise WrongUseError(
            f"{_shown(whole)} is not a {what}", hint=f"The base64 after {PUBLIC_PREFIX} must hold {_KEY_BYTES} bytes."
        )
    return raw


def _public_from_pem(text: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise WrongUseError("the PEM text is not a public key", hint="An Ed25519 key is required.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise WrongUseError("the PEM text is a public key of another type", hint="An Ed25519 key is required.")
    return key.public_bytes_raw()


def _seed_from_pem(text: str, where: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WrongUseError(
            f"{where} contains PEM text that is not an unencrypted signing key",
            hint="chainbuild trust key --generate creates a new pair.",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongUseError(f"{where} contains a key of another type", hint="An Ed25519 key is required.")
    return key.private_bytes_raw()


def _shown(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    return repr(line if len(line) <= 60 else f"{line[:57]}…")
