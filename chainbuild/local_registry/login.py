"""The login of the user's managed registries, and how Docker gets to know it.

There is one random password for each user.

The password is in `$XDG_DATA_HOME/chainbuild/registry-login.json`, which only the user can read. A registry gets a hash
of it (htpasswd with bcrypt, the only form that it takes), in the folder `chainbuild` of its data. The password has 256
random bits, so the lowest cost of bcrypt is enough: it cannot be guessed, and each request to the registry pays for one
hash.

The realm that such a registry names in its answer 401 says whose it is, so that one request tells the user's own
registry from that of another user. It contains a digest of the password, from which the password cannot be computed.

Docker's own knowledge of the managed registry's login, so that `docker pull localhost:5000/…` and builds just work.

The login goes where the user's other logins are: `docker login` puts it into the credential store that the user chose, or
into Docker's config file. If that is impossible (a read-only config, a credential helper that is missing or locked, a
login of the user's own for the same address), chainbuild's own docker processes get a copy of Docker's config with
the login in it, in a private folder, and the user's config stays as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from chainbuild.errors import NotReadyError
from chainbuild.host.user_folders import data_home, home, private_folder, read_private, state_home, write_private
from chainbuild.patterns import regex
from chainbuild.registry.http.auth import Credentials
from chainbuild.values import Discreet

USER: Final = "chainbuild"
OWN_FOLDER: Final = "chainbuild"
"""The folder in a registry's data where chainbuild keeps its own files; the registry itself never looks there."""
_FILE: Final = "registry-login.json"
_COST: Final = 4
_REALM: Final = regex(r'^\s*Basic\s+realm="chainbuild registry of ([^"\\]{1,80}), login ([0-9a-f]{16})"', re.IGNORECASE)
_HASH: Final = regex(r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")


class Login(Discreet, frozen=True, kw_only=True):
    """The login: what a client sends, and the hash by which a registry checks it. The repr shows no secret."""

    password: str
    hashed: str

    @property
    def credentials(self) -> Credentials:
        """Return the credentials for a registry client."""
        return Credentials(user=USER, password=self.password)

    @property
    def id(self) -> str:
        """Return the public name of this login: 16 hexadecimal digits."""
        return hashlib.sha256(b"chainbuild registry login\0" + self.password.encode()).hexdigest()[:16]

    @property
    def realm(self) -> str:
        """Return the realm of a registry that takes this login."""
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


_SECONDS: Final = 30.0
_LARGEST_CONFIG: Final = 4 << 20
_RETRY_SECONDS: Final = 86_400
"""A `docker login` that failed is tried again after a day: it may take long, and seldom works the next minute."""
_VARIABLE: Final = "DOCKER_CONFIG"

Place = Literal["docker", "copy"]
RunLogin = Callable[[str, str], str]
"""Runs `docker login` for an endpoint with a password on its stdin; returns what went wrong, or nothing."""


class Stored(Struct, frozen=True, kw_only=True):
    """Where Docker has the login: in the user's own config (`docker`) or in chainbuild's copy of it (`copy`).

    `new` if this call put it there. `why` says why the user's config was not used.
    """

    place: Place
    config: Path
    new: bool = False
    why: str = ""


def config_folder() -> Path:
    """Return the folder of Docker's config: `$DOCKER_CONFIG`, else `.docker` in the home folder."""
    folder = os.environ.get(_VARIABLE)
    return Path(os.path.abspath(folder)) if folder else home() / ".docker"  # noqa: PTH100 - links stay as they are


def ensure_docker_login(endpoint: str, login: Login, run: RunLogin | None = None) -> Stored:
    """See that Docker knows the login for `localhost:PORT`. The registry must be up.

    Costs two small files to read if Docker knows it already. Errors: `NotReadyError` if not even the copy can be written.
    """
    folder = config_folder()
    known = _known(folder, endpoint, login)
    if known == "login":
        return Stored(place="docker", config=folder / "config.json")
    if known == "another login":
        return _copy(folder, endpoint, login, f"it has a login of your own for {endpoint}")
    note = _remembered().get(_key(folder, endpoint), {})
    if note.get("refused") == login.id and 0 <= time.time() - float(note.get("at", 0)) < _RETRY_SECONDS:
        return _copy(folder, endpoint, login, str(note.get("why", "")))
    why = (run or run_docker_login)(endpoint, login.password)
    if why:
        _remember(folder, endpoint, {"refused": login.id, "at": time.time(), "why": why})
        return _copy(folder, endpoint, login, why)
    _remember(folder, endpoint, {"stored": login.id})
    return Stored(place="docker", config=folder / "config.json", new=True)


@contextmanager
def docker_config(stored: Stored | None) -> Iterator[None]:
    """Let the docker processes of this process find the login while the `with` lasts."""
    if stored is None or stored.place == "docker":
        yield
        return
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(stored.config.parent)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def run_docker_login(endpoint: str, password: str) -> str:
    """Run `docker login`; the password goes through stdin. Returns why it failed, without the password; else nothing."""
    import subprocess

    argv = ["docker", "login", "--username", USER, "--password-stdin", endpoint]
    try:
        done = subprocess.run(
            argv, input=password, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        return "no docker command found"
    except subprocess.TimeoutExpired:
        return f"docker login did not finish within {_SECONDS:.0f} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"it exited with code {done.returncode}").replace(password, "***")


def find_stored(endpoint: str, login: Login) -> str:
    """Return where Docker has the login, in words for `registry status`; nothing if it has not."""
    folder = config_folder()
    if _known(folder, endpoint, login) == "login":
        return str(folder / "config.json")
    copy = _copy_folder(folder)
    auths = _read_config(copy).get("auths")
    entry = auths.get(endpoint) if isinstance(auths, dict) else None
    known = isinstance(entry, dict) and entry.get("auth") == _encoded(login)
    return f"{copy / 'config.json'} (for chainbuild's own docker processes)" if known else ""


def _known(folder: Path, endpoint: str, login: Login) -> Literal["login", "nothing", "another login"]:
    """Return what Docker's config has for the endpoint. No credential helper is asked: that can take seconds."""
    config = _read_config(folder)
    auths = config.get("auths")
    entry = auths.get(endpoint) if isinstance(auths, dict) else None
    if not isinstance(entry, dict):
        return "nothing"
    ours = _remembered().get(_key(folder, endpoint), {}).get("stored")
    if entry.get("auth", "") == _encoded(login):
        return "login"
    if not entry.get("auth") and ours == login.id:
        # A credential store has the secret; the config only names the registry.
        return "login"
    # What chainbuild stored, it may replace.
    return "nothing" if ours else "another login"


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        path = folder / "config.json"
        if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG:
            return {}
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _encoded(login: Login) -> str:
    return base64.b64encode(f"{USER}:{login.password}".encode()).decode()


# ---- what was stored -------------------------------------------------------------------------------------------------


def _notes_path() -> Path:
    return state_home() / "docker-logins.json"


def _key(folder: Path, endpoint: str) -> str:
    return f"{folder} {endpoint}"


def _remembered() -> Mapping[str, Mapping[str, Any]]:
    try:
        body: Any = json.loads(read_private(_notes_path()) or b"")
    except (NotReadyError, ValueError, RecursionError):
        return {}
    return {key: note for key, note in body.items() if isinstance(note, dict)} if isinstance(body, dict) else {}


def _remember(folder: Path, endpoint: str, note: Mapping[str, Any]) -> None:
    private_folder(state_home())
    document = {**_remembered(), _key(folder, endpoint): note}
    write_private(_notes_path(), json.dumps(document, indent=1).encode())


# ---- the copy --------------------------------------------------------------------------------------------------------


def _copy_folder(folder: Path) -> Path:
    return state_home() / "docker-config" / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _copy(folder: Path, endpoint: str, login: Login, why: str) -> Stored:
    """Write Docker's config with the login in it beside links to everything else that is in the config's folder."""
    private_folder(state_home())
    copy = private_folder(_copy_folder(folder))
    config = dict(_read_config(folder))
    auths, helpers = config.get("auths"), config.get("credHelpers")
    config["auths"] = {**(auths if isinstance(auths, dict) else {}), endpoint: {"auth": _encoded(login)}}
    # No name: Docker takes this login from the file, whatever holds the others.
    config["credHelpers"] = {**(helpers if isinstance(helpers, dict) else {}), endpoint: ""}
    text = json.dumps(config, indent=1).encode()
    new = read_private(copy / "config.json", _LARGEST_CONFIG) != text
    if new:
        write_private(copy / "config.json", text, durable=False)
    names = {path.name for path in _entries(folder)} - {"config.json"}
    for path in _entries(copy):
        if path.is_symlink() and path.name not in names:
            path.unlink()
    for name in names:
        with suppress(FileExistsError):
            (copy / name).symlink_to(folder / name)
    return Stored(place="copy", config=copy / "config.json", new=new, why=why)


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(folder.iterdir())
    except OSError:
        return ()


def explain(stored: Stored, endpoint: str) -> str:
    """Return what to tell the user about a login that was put somewhere just now; nothing if all is as before."""
    if not stored.new:
        return ""
    if stored.place == "copy":
        return (
            f"the login for {endpoint} is not in Docker's config ({stored.why}): builds work, but your own docker commands "
            f"need DOCKER_CONFIG={stored.config.parent}"
        )
    return f"stored the login for {endpoint} with docker login ({stored.config})"
