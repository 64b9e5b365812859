"""Whose keys count where, and the files that they are kept in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.trust.envelope import Envelope, EnvelopeError
from chainbuild.trust.keyring import (
    SIGNING_KEY,
    TRUSTED_KEYS,
    KeyRing,
    UntrustedError,
    add_key,
    added_keys,
    create_own_key,
    own_key_file,
    remove_keys,
    trust_file,
)
from tests.support.keys import signing_key

TYPE = "application/x"
CI, OTHER = signing_key(7), signing_key(8)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_own_key_is_made_on_first_use_and_private() -> None:
    keyring = KeyRing(environ={})
    assert keyring.trusted == {}
    assert not own_key_file().exists(), "looking makes no key"
    key = keyring.signing_key
    assert stat.S_IMODE(own_key_file().stat().st_mode) == 0o600
    assert list(keyring.trusted) == [key.public]
    assert KeyRing(environ={}).signing_key == key


def test_existing_key_is_never_replaced() -> None:
    assert create_own_key() == create_own_key()
    assert [path.name for path in own_key_file().parent.iterdir()] == ["signing-key"]


def test_key_of_the_environment_wins_and_no_file_is_made() -> None:
    keyring = KeyRing(environ={SIGNING_KEY: f" {CI.secret_text}\n"})
    assert keyring.signing_key == CI
    assert [one.source for one in keyring.trusted.values()] == [SIGNING_KEY]
    assert not own_key_file().exists()


def test_managed_registry_ignores_keys_of_tree_and_environment() -> None:
    """A tree is untrusted until it is built, and the registry on localhost holds other trees' records, too."""
    environ = {TRUSTED_KEYS: f"{OTHER.public}, {CI.public}"}
    keys = {"ci": CI.public}
    add_key(signing_key(9).public, "a colleague")
    managed = KeyRing(environ=environ, project=keys)
    shared = KeyRing(shared=True, environ=environ, project=keys)
    assert [one.name for one in managed.trusted.values()] == ["a colleague"]
    assert {one.name: one.source for one in shared.trusted.values()} == {
        "a colleague": str(trust_file()),
        "ci": "chainbuild.yaml",
        OTHER.public.short_id: TRUSTED_KEYS,
    }


def test_unreadable_environment_is_reported_by_entry() -> None:
    with pytest.raises(WrongUseError, match=f"{TRUSTED_KEYS}, entry 2"):
        _ = KeyRing(shared=True, environ={TRUSTED_KEYS: f"{CI.public} nonsense"}).trusted
    with pytest.raises(WrongUseError, match=SIGNING_KEY):
        _ = KeyRing(environ={SIGNING_KEY: "nonsense"}).signing_key


def test_keys_are_added_renamed_and_removed() -> None:
    assert add_key(CI.public, "ci")
    assert not add_key(CI.public, "ci main")
    assert add_key(OTHER.public, "other")
    assert [(one.key, one.name) for one in added_keys()] == [(CI.public, "ci main"), (OTHER.public, "other")]
    assert stat.S_IMODE(trust_file().stat().st_mode) == 0o600
    assert remove_keys("nobody") == ()
    assert [one.name for one in remove_keys(CI.public.short_id)] == ["ci main"]
    assert [one.name for one in remove_keys(str(OTHER.public))] == ["other"]
    assert added_keys() == ()


def test_trust_file_tells_every_line_that_is_wrong() -> None:
    add_key(CI.public, "ci")
    with trust_file().open("a") as file:
        file.write("nonsense\n\n# a comment\nalso nonsense\n")
    with pytest.raises(WrongUseError) as caught:
        added_keys()
    assert [problem.line for problem in caught.value.problems] == [3, 6]


def test_files_that_others_can_change_are_refused() -> None:
    """Whoever can write the file decides what is reused."""
    add_key(CI.public, "ci")
    trust_file().chmod(0o666)
    with pytest.raises(NotReadyError, match="can be changed by other users"):
        added_keys()
    trust_file().unlink()
    os.mkfifo(trust_file())
    with pytest.raises(NotReadyError, match="regular file"):
        added_keys()


def test_statement_with_a_trusted_signature_is_valid() -> None:
    keyring = KeyRing(environ={SIGNING_KEY: CI.secret_text})
    envelope = Envelope.sign(b"x", TYPE, OTHER).with_signature(CI)
    assert keyring.open(envelope.raw, TYPE).signer.key == CI.public
    with pytest.raises(EnvelopeError, match="another type"):
        keyring.open(envelope.raw, "application/y")
    with pytest.raises(UntrustedError, match=OTHER.public.short_id) as caught:
        keyring.open(Envelope.sign(b"x", TYPE, OTHER).raw, TYPE)
    assert caught.value.keys == (OTHER.public,)
    with pytest.raises(UntrustedError, match="no signature"):
        keyring.open(Envelope(payload_type=TYPE, payload=b"x", signatures=()).raw, TYPE)
    stolen = Envelope.sign(b"y", TYPE, CI).signatures
    with pytest.raises(UntrustedError, match="does not match its content"):
        keyring.open(Envelope(payload_type=TYPE, payload=b"x", signatures=stolen).raw, TYPE)
