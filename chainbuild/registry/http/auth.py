"""Logins of registries: Docker's stored credentials, and the tokens that registries require.

Credentials come from where `docker login` stores them, `$DOCKER_CONFIG/config.json` (else `~/.docker/config.json`):
`credHelpers` by host, then `credsStore`, then `auths`. Helpers are called with the protocol of docker-credential-helpers:
`docker-credential-NAME get`, the host on stdin, JSON on stdout.

Authorization uses the token protocol of the distribution project, or Basic. A registry responds with 401 and
`WWW-Authenticate`, which names the token server and the scope; the token is then cached for its scope. Credentials are sent
only to the registry itself or to the token server that it names, over TLS (or to this machine).
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from chainbuild.errors import LoginNeededError, RegistryBusyError, RegistryError
from chainbuild.references import DOCKER_HUB
from chainbuild.registry.http.answers import is_busy
from chainbuild.registry.http.headers import Challenge, address_of, challenges, is_secret_header
from chainbuild.registry.http.transport import Body, HttpRequest
from chainbuild.values import Discreet

# Docker stores the hub's login under this historical name.
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HELPER_SECONDS: Final = 30
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the helpers' mark that the secret is an identity token


class Credentials(Discreet, frozen=True, kw_only=True):
    """A user name and password, or an identity token (OAuth2 refresh token). Its repr shows no secret."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        """Return the value of an `Authorization: Basic` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be shown."""
        basic = self.basic.removeprefix("Basic ") if self.password else ""
        return tuple(secret for secret in (self.password, self.identity_token, basic) if secret)


Lookup = Callable[[str], Credentials | None]
RunHelper = Callable[[str, str], str | None]


def from_docker_config(host: str) -> Credentials | None:
    """Return the credentials that Docker would use for a registry's host; None if there are none."""
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    return find_credentials(path, host, run_helper)


def find_credentials(path: Path, host: str, run: RunHelper) -> Credentials | None:
    """Read Docker's config at `path`; `run(helper, server)` asks a helper.

    Errors: `LoginNeededError` if the file is there but cannot be understood. Its content is never in the message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LoginNeededError(
            f"Docker's config cannot be read ({type(error).__name__})", where=str(path), hint="Check its permissions."
        ) from error
    try:
        config = json.loads(text)
    except ValueError:
        # `from None`: the parser's error contains the whole document.
        raise LoginNeededError(
            "Docker's config is not JSON", where=str(path), hint="Repair it, or remove it and log in again."
        ) from None
    if not isinstance(config, dict):
        raise LoginNeededError("Docker's config is not a JSON object", where=str(path))
    keys = _keys(host)
    helpers = _mapping(config, "credHelpers")
    for key in keys:
        if isinstance(helper := helpers.get(key), str) and helper:
            return _ask(helper, key, run)
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        for key in keys:
            if credentials := _ask(store, key, run):
                return credentials
    auths = _mapping(config, "auths")
    by_host = {_host_of(key): value for key, value in reversed(auths.items())}
    for key in keys:
        entry = auths.get(key) or by_host.get(_host_of(key))
        if isinstance(entry, dict) and (credentials := _entry(entry)):
            return credentials
    return None


def run_helper(helper: str, server: str) -> str | None:
    """Run `docker-credential-HELPER get`; None if it has nothing for the server.

    Errors: `LoginNeededError` if the helper is not there or hangs; what it printed is not repeated.
    """
    import subprocess

    if not all(character.isalnum() or character in "-_." for character in helper):
        raise LoginNeededError(f"{helper!r} is not a credential helper's name", where="Docker's config")
    argv = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(argv, input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False)
    except FileNotFoundError as error:
        raise LoginNeededError(
            f"Docker's config names the credential helper {argv[0]}, which is not installed",
            hint=f"Install {argv[0]}, or remove it from Docker's config and log in again.",
        ) from error
    except subprocess.TimeoutExpired:
        raise LoginNeededError(
            f"{argv[0]} did not answer in {_HELPER_SECONDS} s", hint=f"Try it by hand: echo {server} | {argv[0]} get"
        ) from None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _ask(helper: str, server: str, run: RunHelper) -> Credentials | None:
    answer = run(helper, server)
    if answer is None:
        return None
    try:
        body = json.loads(answer)
    except ValueError:
        raise LoginNeededError(f"docker-credential-{helper} returned invalid JSON") from None
    if not isinstance(body, dict):
        raise LoginNeededError(f"docker-credential-{helper} returned JSON that is not an object")
    user, secret = str(body.get("Username") or ""), str(body.get("Secret") or "")
    if not secret:
        return None
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(user=user, password=secret)


def _entry(entry: Mapping[str, Any]) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            user, _, password = base64.b64decode(auth).decode().partition(":")
        except (ValueError, UnicodeDecodeError):
            raise LoginNeededError("an entry of Docker's config is damaged", hint="Log in again.") from None
        # Docker pads with NUL bytes.
        password = password.rstrip("\0")
    if not token and not (user and password):
        return None
    return Credentials(user=user, password=password, identity_token=token)


def _keys(host: str) -> tuple[str, ...]:
    if host in {DOCKER_HUB, "registry-1.docker.io", "index.docker.io"}:
        return (_HUB_KEY, DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
    return (host, f"https://{host}")


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _mapping(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


Scope = tuple[str, ...]
Ask = Callable[[HttpRequest], tuple[int, bytes]]
"""Sends a request to a token server and returns the status and the body, both within limits."""
_BY_PREFERENCE: Final = ("bearer", "basic")


def scope_of(repository: str, *actions: str) -> str:
    """Return a scope of the token protocol: `repository:NAME:pull,push`."""
    return f"repository:{repository}:{','.join(actions)}"


class Authorizer:
    """Provides the `Authorization` for each scope. Thread-safe."""

    def __init__(self, host: str, lookup: Lookup) -> None:
        self._host = host
        self._lookup = lookup
        self._known: dict[Scope, str] = {}
        self._secrets: set[str] = set()
        self._asked = False
        self._credentials: Credentials | None = None
        self._lock = threading.RLock()

    def header(self, scope: Scope) -> str:
        """Return what is known to work for this scope; empty before the registry asked for anything."""
        with self._lock:
            return self._known.get(scope) or self._known.get((), "")

    def forget(self, scope: Scope, header: str) -> None:
        """Drop an authorization that the registry rejected, unless another thread has already renewed it."""
        with self._lock:
            if self._known.get(scope) == header:
                del self._known[scope]

    def answer(self, header: str, scope: Scope, ask: Ask) -> str:
        """Return the `Authorization` that answers a `WWW-Authenticate`; it is kept for the scope.

        Errors: `LoginNeededError` if there are no credentials, or the token server refuses them; `RegistryBusyError`,
        `UnreachableError` where that cannot answer now.
        """
        offered = challenges(header)
        chosen = min(
            (one for one in offered if one.scheme in _BY_PREFERENCE),
            key=lambda one: _BY_PREFERENCE.index(one.scheme),
            default=Challenge(offered[0].scheme if offered else "", {}),
        )
        with self._lock:
            if chosen.scheme == "bearer":
                authorization = f"Bearer {self._token(chosen.parameters, scope, ask)}"
                self._known[scope] = authorization
            elif chosen.scheme == "basic":
                credentials = self._login()
                if credentials is None or not credentials.password:
                    raise self._login_needed("requires a login")
                authorization = credentials.basic
                self._known[()] = authorization
            else:
                raise LoginNeededError(
                    f"{self._host} requires {chosen.scheme or 'an'} authorization, which chainbuild does not support"
                )
            return authorization

    def scrub(self, text: str) -> str:
        """Return the text without any secret that this object has seen."""
        with self._lock:
            for secret in self._secrets:
                text = text.replace(secret, "***")
        return text

    def refused(self, what: str) -> LoginNeededError:
        """Return the error for a registry that refuses what it was given."""
        with self._lock:
            had = self._asked and self._credentials is not None
        return self._login_needed(f"refuses {what}" + (" for this login" if had else " without a login"))

    def _login_needed(self, why: str) -> LoginNeededError:
        shown = "" if self._host == "docker.io" else f" {self._host}"
        return LoginNeededError(
            f"{self._host} {why}",
            hint=f"Log in with: docker login{shown}   (some registries respond like this for unknown names as well)",
        )

    def _login(self) -> Credentials | None:
        if not self._asked:
            self._credentials = self._lookup(self._host)
            self._asked = True
            if self._credentials is not None:
                self._secrets.update(self._credentials.secrets)
        return self._credentials

    def _token(self, parameters: Mapping[str, str], scope: Scope, ask: Ask) -> str:
        try:
            realm = address_of(parameters.get("realm", ""), "")
        except ValueError as error:
            raise LoginNeededError(
                f"{self._host} names no usable token server: {error}", hint="Check the registry's configuration."
            ) from error
        parts = urlsplit(realm)
        scopes = list(scope)
        if requested := parameters.get("scope"):
            scopes += [item for item in requested.split(" ") if item and item not in scopes]
        query = [("service", parameters.get("service", "")), *(("scope", item) for item in scopes)]
        credentials = self._login()
        if credentials is not None and parts.scheme != "https" and not is_this_machine(parts.hostname or ""):
            raise LoginNeededError(f"{self._host} requests the login for {parts.netloc} without TLS, which is refused")
        if credentials is not None and credentials.identity_token:
            form = [*query[:1], ("scope", " ".join(scopes)), ("grant_type", "refresh_token")]
            form += [("client_id", "chainbuild"), ("refresh_token", credentials.identity_token)]
            request = HttpRequest(
                method="POST",
                url=realm,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=Body.of(urlencode(form).encode()),
            )
        else:
            joint = "&" if parts.query else "?"
            headers = {"Authorization": credentials.basic} if credentials is not None else {}
            request = HttpRequest(method="GET", url=f"{realm}{joint}{urlencode(query)}", headers=headers)
        status, answer = ask(request)
        server = f"the token server of {self._host}, {parts.netloc},"
        if is_busy(status):
            raise RegistryBusyError(
                f"{server} answered {status}", hint="Wait and try again; log in for a higher limit."
            )
        if 400 <= status <= 499:
            what = "requires a login" if credentials is None else f"refuses the login (token server: {status})"
            raise self._login_needed(what)
        if status != 200:
            raise RegistryError(f"{server} answered {status}", hint="Check the registry's configuration.")
        token = _read_token(answer)
        if not token:
            raise RegistryError(f"{server} returned no usable token")
        self._secrets.add(token)
        return token


def _read_token(answer: bytes) -> str:
    try:
        document = json.loads(answer)
        token = document.get("token") or document.get("access_token") or ""
    except (ValueError, AttributeError, RecursionError):
        return ""
    return token if isinstance(token, str) and is_secret_header(token) else ""


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine, so plain HTTP to it passes no network: `localhost`, or a loopback address.

    Only literal addresses count. Any other name may resolve to anything (`127.evil.example`).
    """
    if host == "localhost":
        return True
    if not host[:1].isdigit() and ":" not in host:
        return False
    # Imported on demand: not needed for a registry at localhost.
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
