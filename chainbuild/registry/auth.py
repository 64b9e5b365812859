"""Authorization towards one registry: the token protocol of the distribution project, and Basic.

A registry answers 401 with `WWW-Authenticate`, which says where a token is had and for what; the token is then kept
for its scope. Credentials go to the registry itself or to the token server that it names, over TLS (or to this
machine), and nowhere else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from chainbuild.errors import LoginNeededError, RegistryBusyError, RegistryError
from chainbuild.registry.answers import is_busy
from chainbuild.registry.credentials import Credentials, Lookup
from chainbuild.registry.headers import Challenge, address_of, challenges, is_secret_header
from chainbuild.registry.transport import Body, Request

Scope = tuple[str, ...]
Ask = Callable[[Request], tuple[int, bytes]]
"""Sends a request to a token server and returns the status and the body, both within limits."""
_BY_PREFERENCE: Final = ("bearer", "basic")


def scope_of(repository: str, *actions: str) -> str:
    """A scope of the token protocol: `repository:NAME:pull,push`."""
    return f"repository:{repository}:{','.join(actions)}"


class Authorizer:
    """Knows what `Authorization` each scope needs. Thread-safe."""

    def __init__(self, host: str, lookup: Lookup) -> None:
        self._host = host
        self._lookup = lookup
        self._known: dict[Scope, str] = {}
        self._secrets: set[str] = set()
        self._asked = False
        self._credentials: Credentials | None = None
        self._lock = threading.RLock()

    def header(self, scope: Scope) -> str:
        """What is known to work for this scope; empty before the registry asked for anything."""
        with self._lock:
            return self._known.get(scope) or self._known.get((), "")

    def forget(self, scope: Scope, header: str) -> None:
        """Drop what the registry no longer takes, unless another thread has renewed it already."""
        with self._lock:
            if self._known.get(scope) == header:
                del self._known[scope]

    def answer(self, header: str, scope: Scope, ask: Ask) -> str:
        """The `Authorization` that answers a `WWW-Authenticate`; it is kept for the scope.

        Errors: `LoginNeededError` where there are no credentials, or the token server refuses them; `RegistryBusyError`,
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
                    raise self._login_needed("wants a login")
                authorization = credentials.basic
                self._known[()] = authorization
            else:
                raise LoginNeededError(
                    f"{self._host} wants {chosen.scheme or 'an'} authorization, which chainbuild does not support"
                )
            return authorization

    def scrub(self, text: str) -> str:
        """The text without any secret that this object has seen."""
        with self._lock:
            for secret in self._secrets:
                text = text.replace(secret, "***")
        return text

    def refused(self, what: str) -> LoginNeededError:
        """The error for a registry that refuses what it was given."""
        with self._lock:
            had = self._asked and self._credentials is not None
        return self._login_needed(f"refuses {what}" + (" for this login" if had else " without a login"))

    def _login_needed(self, why: str) -> LoginNeededError:
        shown = "" if self._host == "docker.io" else f" {self._host}"
        return LoginNeededError(
            f"{self._host} {why}",
            hint=f"Log in with: docker login{shown}   (some registries say this of unknown names, too)",
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
                f"{self._host} names no usable token server: {error}", hint="The registry is set up wrongly."
            ) from error
        parts = urlsplit(realm)
        scopes = list(scope)
        if wanted := parameters.get("scope"):
            scopes += [item for item in wanted.split(" ") if item and item not in scopes]
        query = [("service", parameters.get("service", "")), *(("scope", item) for item in scopes)]
        credentials = self._login()
        if credentials is not None and parts.scheme != "https" and not is_this_machine(parts.hostname or ""):
            raise LoginNeededError(f"{self._host} wants the login sent to {parts.netloc} without TLS: not done")
        if credentials is not None and credentials.identity_token:
            form = [*query[:1], ("scope", " ".join(scopes)), ("grant_type", "refresh_token")]
            form += [("client_id", "chainbuild"), ("refresh_token", credentials.identity_token)]
            request = Request(
                method="POST",
                url=realm,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=Body.of(urlencode(form).encode()),
            )
        else:
            joint = "&" if parts.query else "?"
            headers = {"Authorization": credentials.basic} if credentials is not None else {}
            request = Request(method="GET", url=f"{realm}{joint}{urlencode(query)}", headers=headers)
        status, answer = ask(request)
        server = f"the token server of {self._host}, {parts.netloc},"
        if is_busy(status):
            raise RegistryBusyError(
                f"{server} answered {status}", hint="Wait and try again; log in for a higher limit."
            )
        if 400 <= status <= 499:
            what = "wants a login" if credentials is None else f"refuses the login (token server: {status})"
            raise self._login_needed(what)
        if status != 200:
            raise RegistryError(f"{server} answered {status}", hint="The registry is set up wrongly.")
        token = _read_token(answer)
        if not token:
            raise RegistryError(f"{server} answered without a token that can be used")
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
    """Whether a host is this machine, so plain HTTP to it passes no network: `localhost`, or a loopback address.

    Only a literal address is one. Any other name is whatever its owner's name server says (`127.evil.example`).
    """
    if host == "localhost":
        return True
    if not host[:1].isdigit() and ":" not in host:
        return False
    # Late: a run that finds its registry at localhost needs no more than that.
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
