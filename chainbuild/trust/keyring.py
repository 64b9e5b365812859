"""The keys that the user trusts, and the user's signing key.

| registry | trusted keys |
| --- | --- |
| the managed one | the user's own key, and those added with `chainbuild trust add` |
| any other one | these, those of the project file, and those of `CHAINBUILD_TRUSTED_KEYS` |

Keys of a project file are not trusted for the managed registry: a tree is untrusted until it is built. The user's key is
`CHAINBUILD_SIGNING_KEY` (a CI secret) if set, else a file that is created on first use.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError, Problem, WrongUseError
from chainbuild.host.user_folders import config_home, data_home, private_folder, read_private, write_private
from chainbuild.trust.envelope import Envelope, EnvelopeError
from chainbuild.trust.keys import PublicKey, SigningKey
from chainbuild.values import replace

SIGNING_KEY: Final = "CHAINBUILD_SIGNING_KEY"
TRUSTED_KEYS: Final = "CHAINBUILD_TRUSTED_KEYS"
OWN: Final = "your key"
_KEY_FILE: Final = "signing-key"
_TRUST_FILE: Final = "trusted-keys"
_HEADER: Final = "# Keys whose records count: one a line, with a name. Managed by: chainbuild trust add | remove\n"


class UntrustedError(Exception):
    """No trusted key has signed a statement. `keys` are the keys in its signatures; empty if it is unsigned."""

    def __init__(self, keys: tuple[PublicKey, ...], why: str) -> None:
        super().__init__(why)
        self.keys = keys
        self.why = why


class TrustedKey(Struct, frozen=True, kw_only=True):
    """A trusted key, its name, and the source that lists it."""

    key: PublicKey
    name: str
    source: str


class Verified(Struct, frozen=True, kw_only=True):
    """A statement signed by a trusted key."""

    payload: bytes
    signer: TrustedKey
    envelope: Envelope


class KeyRing:
    """The keys of a run. Files are read on first use."""

    def __init__(
        self,
        *,
        shared: bool = False,
        project: Mapping[str, PublicKey] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`shared`: the registry is not the managed one. `project` are the project file's keys by name."""
        self._shared = shared
        self._project = dict(project or {})
        self._environ = os.environ if environ is None else environ
        self._own: SigningKey | None = None
        self._trusted: Mapping[PublicKey, TrustedKey] | None = None
        self._lock = threading.RLock()
        self.made_key = False
        """True if this run created the user's key, which no other machine trusts yet."""

    @property
    def trusted(self) -> Mapping[PublicKey, TrustedKey]:
        """Return the trusted keys, the user's own first.

        Errors: `WrongUseError` if a key is invalid; `NotReadyError` if other users can change a file.
        """
        with self._lock:
            if self._trusted is None:
                self._trusted = self._read_trusted()
            return self._trusted

    def _read_trusted(self) -> Mapping[PublicKey, TrustedKey]:
        keys: dict[PublicKey, TrustedKey] = {}
        own_key = self._read_own()
        if own_key:
            keys[own_key.public] = TrustedKey(key=own_key.public, name=OWN, source=self._own_source)
        others = list(added_keys())
        if self._shared:
            others += [TrustedKey(key=key, name=name, source="chainbuild.yaml") for name, key in self._project.items()]
            others += _from_environment(self._environ.get(TRUSTED_KEYS, ""))
        for other in others:
            keys.setdefault(other.key, other)
        return keys

    @property
    def has_signing_key(self) -> bool:
        """Whether the user has a signing key. Errors: as `signing_key`."""
        with self._lock:
            return self._read_own() is not None

    @property
    def signing_key(self) -> SigningKey:
        """Return the user's signing key; create it if missing.

        Errors: `NotReadyError` if it cannot be stored; `WrongUseError` if it cannot be read.
        """
        with self._lock:
            key = self._read_own()
            if key is None:
                key = self._own = create_own_key()
                self.made_key = True
                # The cached trusted keys lack the new one.
                self._trusted = None
            return key

    def sign(self, payload: bytes, payload_type: str) -> Envelope:
        """Sign a statement with the user's own key. Errors: as `signing_key`."""
        return Envelope.sign(payload, payload_type, self.signing_key)

    def open(self, raw: bytes, payload_type: str) -> Verified:
        """Return the statement of an envelope, if a trusted key has signed it as a statement of that type.

        Errors: `EnvelopeError` if it is not such an envelope; `UntrustedError`.
        """
        envelope = Envelope.parse(raw)
        if envelope.payload_type != payload_type:
            raise EnvelopeError(f"a statement of another type, {envelope.payload_type[:100]!r}")
        valid = envelope.valid_keys(self.trusted)
        if valid:
            return Verified(payload=envelope.payload, signer=self.trusted[valid[0]], envelope=envelope)
        key_ids = {signature.key_id for signature in envelope.signatures}
        if key_ids & {key.id for key in self.trusted}:
            raise UntrustedError((), "its signature does not match its content")
        keys = tuple(signature.key for signature in envelope.signatures if signature.key)
        if not envelope.signatures:
            raise UntrustedError((), "it has no signature")
        raise UntrustedError(keys, f"it is signed by the unknown key {_first_id(envelope)}")

    def _read_own(self) -> SigningKey | None:
        if self._own is None:
            text = self._environ.get(SIGNING_KEY, "").strip()
            self._own = SigningKey.parse(text, where=SIGNING_KEY) if text else read_own_key()
        return self._own

    @property
    def _own_source(self) -> str:
        return SIGNING_KEY if self._environ.get(SIGNING_KEY, "").strip() else str(own_key_file())


def _first_id(envelope: Envelope) -> str:
    shown = envelope.signatures[0].key_id[:12]
    return shown if re.fullmatch("[0-9a-f]{1,12}", shown) else "without an id"


def _from_environment(text: str) -> list[TrustedKey]:
    found: list[TrustedKey] = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip()) if text.strip() else [], start=1):
        try:
            key = PublicKey.parse(word)
        except WrongUseError as error:
            raise WrongUseError(
                Problem(message=f"{TRUSTED_KEYS}, entry {number}: {each.message}", hint=each.hint)
                for each in error.problems
            ) from None
        found.append(TrustedKey(key=key, name=key.short_id, source=TRUSTED_KEYS))
    return found


# The user's own key ---------------------------------------------------------------------------------------------------


def own_key_file() -> Path:
    """Return where the user's signing key is kept."""
    return data_home() / "keys" / _KEY_FILE


def read_own_key() -> SigningKey | None:
    """Return the user's signing key; None if missing.

    Errors: `NotReadyError` if other users can change the file; `WrongUseError` if it holds no key.
    """
    path = own_key_file()
    raw = read_private(path)
    return None if raw is None else SigningKey.parse(raw.decode("utf-8", "replace"), where=str(path))


def create_own_key() -> SigningKey:
    """Create the user's signing key, or return the one that another process has just created. Errors: `NotReadyError`."""
    path = own_key_file()
    made = SigningKey.generate()
    try:
        private_folder(path.parent)
        aside = path.with_name(f".{_KEY_FILE}.{os.getpid()}")
        write_private(aside, f"{made.secret_text}\n".encode())
        try:
            # Unlike a rename, a link never replaces an existing key.
            with suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except NotReadyError as error:
        hint = f"{error.hint} Or set a key in {SIGNING_KEY}."
        raise NotReadyError(f"could not create a signing key: {error.message}", where=error.where, hint=hint) from error
    except OSError as error:
        raise NotReadyError(
            f"could not create a signing key: {error.strerror}", where=str(path), hint=f"Set a key in {SIGNING_KEY}."
        ) from error
    return read_own_key() or made


# Keys that the user added ---------------------------------------------------------------------------------------------


def trust_file() -> Path:
    """Return the path of the file with the keys that the user added."""
    return config_home() / _TRUST_FILE


def added_keys() -> tuple[TrustedKey, ...]:
    """Return the keys that the user added, in order. Errors: `WrongUseError` with every invalid line."""
    path = trust_file()
    raw = read_private(path)
    found: list[TrustedKey] = []
    problems: list[Problem] = []
    for number, line in enumerate((raw or b"").decode("utf-8", "replace").splitlines(), start=1):
        text, _, name = line.strip().partition(" ")
        if not text or text.startswith("#"):
            continue
        try:
            key = PublicKey.parse(text)
        except WrongUseError as error:
            problems += [replace(each, path=str(path), line=number) for each in error.problems]
        else:
            found.append(TrustedKey(key=key, name=name.strip() or key.short_id, source=str(path)))
    if problems:
        raise WrongUseError(problems)
    return tuple(found)


def add_key(key: PublicKey, name: str) -> bool:
    """Trust a key. Return whether it was new; an existing key gets the new name."""
    existing = added_keys()
    kept = [key_entry for key_entry in existing if key_entry.key != key]
    _write([*kept, TrustedKey(key=key, name=name, source="")])
    return len(kept) == len(existing)


def remove_keys(text: str) -> tuple[TrustedKey, ...]:
    """Stop trusting the added keys with that name, text or id prefix. Return the removed keys."""
    existing = added_keys()
    starts = text.lower()
    by_id = len(starts) >= 6 and re.fullmatch("[0-9a-f]+", starts)
    removed = tuple(
        one for one in existing if text in {one.name, str(one.key)} or (by_id and one.key.id.startswith(starts))
    )
    if removed:
        _write([one for one in existing if one not in removed])
    return removed


def _write(keys: list[TrustedKey]) -> None:
    private_folder(trust_file().parent)
    lines = [f"{one.key} {one.name}\n" for one in keys]
    write_private(trust_file(), (_HEADER + "".join(lines)).encode())
