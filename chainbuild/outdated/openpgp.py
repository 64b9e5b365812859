"""Verify signatures of package repositories (OpenPGP, RFC 9580) with the keyrings of an image.

Signatures are checked by Sequoia, under its standard policy: those with MD5, SHA-1 or short keys do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from chainbuild.outdated.model import SourceError, SourceState

if TYPE_CHECKING:
    from pysequoia import Cert

_ARMOR: Final = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_ARMOR_END: Final = b"-----END PGP PUBLIC KEY BLOCK-----"


def verified(document: bytes, keyrings: Iterable[bytes], *, signature: bytes | None = None, only: str = "") -> bytes:
    """Return the signed content of a document: of a cleartext signature, or with a detached one.

    `keyrings` are keys in binary or armored form; unreadable ones are skipped. `only`: the fingerprints of the keys that may
    sign, separated by spaces or commas, if not all may. Errors: `SourceError` if no valid signature is by one of the keys.
    """
    from pysequoia import Sig, verify

    keys = _chosen([key for keyring in keyrings for key in _keys(keyring)], only)
    if not keys:
        raise SourceError(SourceState.UNVERIFIED, "the image has no key for it")
    try:
        if signature is not None:
            verify(bytes=document, store=lambda _ids: keys, signature=Sig.from_bytes(signature))
            return document
        content = verify(bytes=document, store=lambda _ids: keys).bytes
    except Exception as error:  # noqa: BLE001 - pysequoia raises no narrower class
        reason = str(error).strip().splitlines() or ["no valid signature"]
        raise SourceError(SourceState.UNVERIFIED, f"its signature is not valid: {reason[0][:200]}") from None
    if content is None:
        raise SourceError(SourceState.UNVERIFIED, "it is not signed")
    return bytes(content)


def _keys(keyring: bytes) -> Sequence[Cert]:
    from pysequoia import Cert

    try:
        if _ARMOR not in keyring:
            return Cert.split_bytes(keyring)
        blocks = keyring.split(_ARMOR)[1:]
        armored = [_ARMOR + block.partition(_ARMOR_END)[0] + _ARMOR_END + b"\n" for block in blocks]
        return [key for block in armored for key in Cert.split_bytes(block)]
    except Exception:  # noqa: BLE001 - as above; apt skips files that it cannot read, too
        return ()


def _chosen(keys: Sequence[Cert], only: str) -> list[Cert]:
    wanted = {word.rstrip("!").lower() for word in only.replace(",", " ").split()}
    return [key for key in keys if not wanted or key.fingerprint.lower() in wanted]
