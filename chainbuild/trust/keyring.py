"""Which keys this user trusts, and the key that this user signs with.

| registry | keys whose records count |
| --- | --- |
| the managed one | the user's own key, and those added with `chainbuild trust add` |
| any other one | these, those of the project file, and those of `CHAINBUILD_TRUSTED_KEYS` |

The keys of a project file do not count for the managed registry: a tree is untrusted until it is built. The own key is
`CHAINBUILD_SIGNING_KEY` (a CI secret) if that is set, and else a file that is made on first use.
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
    """A statement that no trusted key has signed. `keys` are those that it names; empty if it has no signature."""

    def __init__(self, keys: tuple[PublicKey, ...], why: str) -> None:
        super().__init__(why)
        self.keys = keys
        self.why = why


class TrustedKey(Struct, frozen=True, kw_only=True):
    """A key that counts, what people call it, and where it is named."""

    key: PublicKey
    name: str
    source: str


class Verified(Struct, frozen=True, kw_only=True):
    """A statement that a trusted key has signed."""

    payload: bytes
    signer: TrustedKey
    envelope: Envelope


class KeyRing:
    """The keys of one run. Files are read when they are first needed."""

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
        """Whether this run has made the user's key: no one else can trust it yet."""

    @property
    def trusted(self) -> Mapping[PublicKey, TrustedKey]:
        """Return the keys that count, the user's own first.

        Errors: `WrongUseError` for a key that cannot be read; `NotReadyError` for a file that others can change.
        """
        with self._lock:
            if self._trusted is None:
                self._trusted = self._read_trusted()
            return self._trusted

    def _read_trusted(self) -> Mapping[PublicKey, TrustedKey]:
        found: dict[PublicKey, TrustedKey] = {}
        own = self._read_own()
        if own:
            found[own.public] = TrustedKey(key=own.public, name=OWN, source=self._own_source)
        others = list(added_keys())
        if self._shared:
            others += [TrustedKey(key=key, name=name, source="chainbuild.yaml") for name, key in self._project.items()]
            others += _from_environment(self._environ.get(TRUSTED_KEYS, ""))
        for one in others:
            found.setdefault(one.key, one)
        return found

    @property
    def signing_key(self) -> SigningKey:
        """Return the key that this user signs with; it is made if there is none.

        Errors: `NotReadyError` if it cannot be stored; `WrongUseError` if it cannot be read.
        """
        with self._lock:
            key = self._read_own()
            if key is None:
                key = self._own = create_own_key()
                self.made_key = True
                # What was trusted so far did not hold it.
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
        named = {one.key_id for one in envelope.signatures}
        if named & {key.id for key in self.trusted}:
            raise UntrustedError((), "its signature does not fit its content")
        keys = tuple(one.key for one in envelope.signatures if one.key)
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
                Problem(message=f"{TRUSTED_KEYS}, entry {number}: {one.message}", hint=one.hint)
                for one in error.problems
            ) from None
        found.append(TrustedKey(key=key, name=key.short_id, source=TRUSTED_KEYS))
    return found


# The user's own key ---------------------------------------------------------------------------------------------------


def own_key_file() -> Path:
    """Return where the user's signing key is kept."""
    return data_home() / "keys" / _KEY_FILE


def read_own_key() -> SigningKey | None:
    """Return the user's signing key; None if there is none yet.

    Errors: `NotReadyError` if other users can change the file; `WrongUseError` if it holds no key.
    """
    path = own_key_file()
    raw = read_private(path)
    return None if raw is None else SigningKey.parse(raw.decode("utf-8", "replace"), where=str(path))


def create_own_key() -> SigningKey:
    """Make the user's signing key, or return the one that another process has just made. Errors: `NotReadyError`."""
    path = own_key_file()
    made = SigningKey.generate()
    try:
        private_folder(path.parent)
        aside = path.with_name(f".{_KEY_FILE}.{os.getpid()}")
        write_private(aside, f"{made.secret_text}\n".encode())
        try:
            # Unlike a rename, a link never takes the place of a key that is there.
            with suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except NotReadyError as error:
        hint = f"{error.hint} Or give a key in {SIGNING_KEY}."
        raise NotReadyError(f"no signing key could be made: {error.message}", where=error.where, hint=hint) from error
    except OSError as error:
        raise NotReadyError(
            f"no signing key could be made: {error.strerror}", where=str(path), hint=f"Give a key in {SIGNING_KEY}."
        ) from error
    return read_own_key() or made


# Keys that the user added ---------------------------------------------------------------------------------------------


def trust_file() -> Path:
    """Return where the keys are kept that the user added."""
    return config_home() / _TRUST_FILE


def added_keys() -> tuple[TrustedKey, ...]:
    """Return the keys that the user added, in order. Errors: `WrongUseError` with every line that is wrong."""
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
            problems += [replace(one, path=str(path), line=number) for one in error.problems]
        else:
            found.append(TrustedKey(key=key, name=name.strip() or key.short_id, source=str(path)))
    if problems:
        raise WrongUseError(problems)
    return tuple(found)


def add_key(key: PublicKey, name: str) -> bool:
    """Trust a key from now on. Return whether it was new; an added key that is there gets the new name."""
    there = added_keys()
    kept = [one for one in there if one.key != key]
    _write([*kept, TrustedKey(key=key, name=name, source="")])
    return len(kept) == len(there)


def remove_keys(text: str) -> tuple[TrustedKey, ...]:
    """Stop trusting the added keys with that name, that text, or that beginning of an id. Return what was removed."""
    there = added_keys()
    starts = text.lower()
    by_id = len(starts) >= 6 and re.fullmatch("[0-9a-f]+", starts)
    gone = tuple(one for one in there if text in {one.name, str(one.key)} or (by_id and one.key.id.startswith(starts)))
    if gone:
        _write([one for one in there if one not in gone])
    return gone


def _write(keys: list[TrustedKey]) -> None:
    private_folder(trust_file().parent)
    lines = [f"{one.key} {one.name}\n" for one in keys]
    write_private(trust_file(), (_HEADER + "".join(lines)).encode())
