"""The login of the user's registries: made once, private, and in nothing that others see."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import bcrypt
import pytest

from chainbuild.errors import NotReadyError
from chainbuild.local_registry import login as module
from chainbuild.local_registry.login import Login, ensure_login, hand_to_registry, login_path, owner, read_realm


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_login_is_made_once_with_256_random_bits(home: Path) -> None:
    login = ensure_login()
    assert len(bytes.fromhex(login.password)) == 32
    assert ensure_login() == login
    assert bcrypt.checkpw(login.password.encode(), login.hashed.encode())
    # Each request to the registry computes one hash.
    assert login.hashed.startswith("$2b$04$")
    login_path().unlink()
    assert ensure_login().password != login.password


def test_login_file_is_closed_to_other_users(home: Path) -> None:
    ensure_login()
    assert login_path() == home / "chainbuild" / "registry-login.json"
    assert stat.S_IMODE(login_path().stat().st_mode) == 0o600
    assert [path.name for path in login_path().parent.iterdir()] == ["registry-login.json"]
    login_path().chmod(0o666)
    with pytest.raises(NotReadyError, match="can be changed by other users"):
        ensure_login()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"password": "short", "htpasswd": "x"}', "[" * 100_000])
def test_login_file_damaged_is_made_anew(text: str) -> None:
    ensure_login()
    login_path().write_text(text, encoding="utf-8")
    login = ensure_login()
    assert ensure_login() == login


def test_login_made_by_two_first_runs_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    quicker: list[Login] = []
    original = module._put

    def put(path: Path, login: Login) -> Login:
        if not quicker:
            quicker.append(login)
            quicker[0] = original(path, Login(password="q" * 64, hashed=login.hashed))
        return original(path, login)

    monkeypatch.setattr(module, "_put", put)
    assert ensure_login() == quicker[0] == ensure_login()


def test_login_in_registry_folder_is_a_hash_and_a_public_name(home: Path) -> None:
    login = ensure_login()
    hand_to_registry(login, home / "data")
    own = home / "data" / "chainbuild"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    texts = {path.name: path.read_text(encoding="utf-8") for path in own.iterdir()}
    assert texts == {"htpasswd": f"chainbuild:{login.hashed}\n", "realm": login.realm}
    assert login.password not in str(texts)


def test_login_files_of_prepared_folder_are_replaced(home: Path) -> None:
    """A tree may bring a data folder with links, FIFOs or a password hash that somebody else knows."""
    own = home / "data" / "chainbuild"
    own.mkdir(parents=True, mode=0o700)
    (home / "data").chmod(0o700)
    (own / "htpasswd").write_text("chainbuild:attacker", encoding="utf-8")
    login = ensure_login()
    hand_to_registry(login, home / "data")
    assert (own / "htpasswd").read_text(encoding="utf-8") == f"chainbuild:{login.hashed}\n"
    (own / "realm").unlink()
    os.mkfifo(own / "realm")
    with pytest.raises(NotReadyError, match="regular file"):
        hand_to_registry(login, home / "data")


def test_realm_names_owner_and_login(monkeypatch: pytest.MonkeyPatch) -> None:
    login = ensure_login()
    realm = read_realm(f'Basic realm="{login.realm}"')
    assert realm is not None
    assert (realm.owner, realm.login) == (owner(), login.id)
    assert owner().endswith(f"(uid {os.geteuid()})")


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        'Basic realm="Registry Realm"',
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"',
        'Basic realm="chainbuild registry of , login 0123456789abcdef"',
        'Basic realm="chainbuild registry of x, login 0123"',
        'Basic realm="chainbuild registry of ' + "x" * 10_000 + ', login 0123456789abcdef"',
    ],
)
def test_realm_of_other_registry_is_none(challenge: str) -> None:
    assert read_realm(challenge) is None


def test_realm_has_no_password_and_repr_no_secret() -> None:
    login = ensure_login()
    for text in (login.realm, repr(login), repr(login.credentials), login.id):
        assert login.password not in text
        assert login.hashed not in text


def test_owner_with_odd_name_fits_into_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    entry = pwd.struct_passwd(('a"\\\r\nb\x1b', "x", 5, 5, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    assert owner() == f"a????b? (uid {os.geteuid()})"


def test_bcrypt_is_imported_only_to_make_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a login must not pay for the import."""
    login = ensure_login()
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    assert ensure_login() == login
