"""Docker's own knowledge of the managed registry's login, so that `docker pull localhost:5000/…` and builds just work.

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
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from chainbuild.errors import NotReadyError
from chainbuild.registry.login import USER, Login
from chainbuild.userdirs import home, private_folder, read_private, state_home, write_private

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
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return f"docker login did not finish within {_SECONDS:.0f} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {done.returncode}").replace(password, "***")


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
            f"the login for {endpoint} is not in Docker's config ({stored.why}): builds work, but docker commands by hand "
            f"need DOCKER_CONFIG={stored.config.parent}"
        )
    return f"stored the login for {endpoint} with docker login ({stored.config})"
