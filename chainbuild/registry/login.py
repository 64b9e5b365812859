"""The login of the user's managed registries: one random password for each user, and how a registry is told of it.

The password is in `$XDG_DATA_HOME/chainbuild/registry-login.json`, which only the user can read. A registry gets a hash
of it (htpasswd with bcrypt, the only form that it takes), in the folder `chainbuild` of its data. The password has 256
random bits, so the lowest cost of bcrypt is enough: it cannot be guessed, and each request to the registry pays for one
hash.

The realm that such a registry names in its answer 401 says whose it is, so that one request tells the user's own
registry from that of another user. It contains a digest of the password, from which the password cannot be computed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from chainbuild.registry.credentials import Credentials
from chainbuild.userdirs import data_home, private_folder, read_private, write_private

USER: Final = "chainbuild"
OWN_FOLDER: Final = "chainbuild"
"""The folder in a registry's data where chainbuild keeps its own files; the registry itself never looks there."""
_FILE: Final = "registry-login.json"
_COST: Final = 4
_REALM: Final = re.compile(
    r'^\s*Basic\s+realm="chainbuild registry of ([^"\\]{1,80}), login ([0-9a-f]{16})"', re.IGNORECASE
)
_HASH: Final = re.compile(r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """The login: what a client sends, and the hash by which a registry checks it. The repr shows no secret."""

    password: str = field(repr=False)
    hashed: str = field(repr=False)

    @property
    def credentials(self) -> Credentials:
        """The credentials for a registry client."""
        return Credentials(user=USER, password=self.password)

    @property
    def id(self) -> str:
        """The public name of this login: 16 hexadecimal digits."""
        return hashlib.sha256(b"chainbuild registry login\0" + self.password.encode()).hexdigest()[:16]

    @property
    def realm(self) -> str:
        """The realm of a registry that takes this login."""
        return f"chainbuild registry of {owner()}, login {self.id}"


class Realm(Struct, frozen=True, kw_only=True):
    """What a managed registry says about itself to everybody: its owner in words, and the public name of its login."""

    owner: str
    login: str


def login_path() -> Path:
    """Return the file that holds the login."""
    return data_home() / _FILE


def ensure_login() -> Login:
    """Return the user's login; make it if there is none yet.

    Errors: `NotReadyError` if the user's data folder is not private or cannot be written to.
    """
    folder = private_folder(data_home())
    path = folder / _FILE
    login = _parsed(read_private(path))
    if login is None:
        # Late: only the first run of a user makes a hash.
        import secrets

        import bcrypt

        password = secrets.token_hex(32)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_COST)).decode()
        login = _put(path, Login(password=password, hashed=hashed))
    return login


def hand_to_registry(login: Login, data: Path) -> None:
    """Write what a registry with that data folder needs to demand the login.

    Errors: `NotReadyError` if the folder is not private or cannot be written to.
    """
    folder = private_folder(data / OWN_FOLDER)
    for name, text in (("htpasswd", f"{USER}:{login.hashed}\n"), ("realm", login.realm)):
        if read_private(folder / name) != text.encode():
            write_private(folder / name, text.encode())


def read_realm(challenge: str) -> Realm | None:
    """Read the `WWW-Authenticate` header of a registry's answer; None if no managed registry sent it."""
    match = _REALM.match(challenge)
    return Realm(owner=match[1], login=match[2]) if match else None


def owner() -> str:
    """Return the user in words that fit into a header and a label: `alice (uid 1001)`."""
    import pwd

    number = os.geteuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
    return f"{re.sub(r'[^A-Za-z0-9._@-]', '?', name)[:40]} (uid {number})"


def _put(path: Path, login: Login) -> Login:
    """Write the login file; if another first run was quicker, return that run's login."""
    document = {"user": USER, "password": login.password, "htpasswd": login.hashed}
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_private(aside, json.dumps(document).encode())
    try:
        os.link(aside, path)
    except FileExistsError:
        there = _parsed(read_private(path))
        if there is not None:
            return there
        # A damaged file.
        aside.replace(path)
    except OSError:
        # A file system without hard links.
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return login


def _parsed(raw: bytes | None) -> Login | None:
    """Return the login in the file's content; None if the content is damaged."""
    try:
        body: Any = json.loads(raw or b"")
        password, hashed = body["password"], body["htpasswd"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if isinstance(password, str) and isinstance(hashed, str) and len(password) >= 32 and _HASH.fullmatch(hashed):
        return Login(password=password, hashed=hashed)
    return None
