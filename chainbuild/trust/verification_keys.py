"""Keys that verify the signatures of others: chainbuild's Ed25519 keys, and the ECDSA P-256 and RSA keys of cosign.

cosign makes keys for ECDSA over P-256 and SHA-256 ("Signature Schemes" of its signature specification), signs with imported
RSA keys, too (PKCS #1 v1.5 and SHA-256), and verifies with any key of a PEM file, also an Ed25519 key (`LoadVerifier` of
sigstore/sigstore). chainbuild signs with Ed25519 only.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Protocol

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.trust.keys import PUBLIC_PREFIX, SHORT, PublicKey

KEY_HINT = (
    f"Use a PEM file with an Ed25519, ECDSA P-256 or RSA key, or {PUBLIC_PREFIX}…, as chainbuild trust key prints it."
)
_LEAST_RSA_BITS: Final = 2048
"""As sigstore: shorter keys can be broken (NIST SP 800-131A)."""


class VerificationKey(Protocol):
    """A public key of any supported type."""

    @property
    def id(self) -> str:
        """The sha256 of the SubjectPublicKeyInfo, in hex."""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature over the message was made with this key's private half."""


class _DerKey(Struct, frozen=True):
    """A public key as SubjectPublicKeyInfo in DER."""

    der: bytes

    @property
    def id(self) -> str:
        """Return the sha256 of the SubjectPublicKeyInfo, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    def _accepts(self, kind: type[Any], signature: bytes, message: bytes, *scheme: object) -> bool:
        """Return whether the key is of a kind of `cryptography`, and verifies the signature by a scheme of that kind."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        key: Any = load_der_public_key(self.der)
        if not isinstance(key, kind):
            return False
        try:
            key.verify(signature, message, *scheme)
        except InvalidSignature:
            return False
        return True


class EcdsaKey(_DerKey, frozen=True):
    """An ECDSA public key on the curve P-256. Signatures are DER, over SHA-256."""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature over the message was made with this key's private half."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._accepts(EllipticCurvePublicKey, signature, message, ECDSA(SHA256()))


class RsaKey(_DerKey, frozen=True):
    """An RSA public key. Signatures are PKCS #1 v1.5, over SHA-256."""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature over the message was made with this key's private half."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._accepts(RSAPublicKey, signature, message, PKCS1v15(), SHA256())


def parse_verification_key(text: str) -> VerificationKey:
    """Read a public key: `ed25519:BASE64`, or PEM with an Ed25519, ECDSA P-256 or RSA key. Errors: `WrongUseError`."""
    text = text.strip()
    return _from_pem(text) if text.startswith("-----BEGIN ") else PublicKey.parse(text)


def short_id(key: VerificationKey) -> str:
    """Return the first hex digits of a key's id, for display."""
    return key.id[:SHORT]


def _from_pem(text: str) -> VerificationKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise WrongUseError("the PEM text is not a public key", hint=KEY_HINT) from None
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(key.public_bytes_raw())
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return EcdsaKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    if isinstance(key, RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise WrongUseError(f"the RSA key has {key.key_size} bits, fewer than {_LEAST_RSA_BITS}", hint=KEY_HINT)
        return RsaKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    raise WrongUseError("the PEM text is a public key of another type", hint=KEY_HINT)
