"""Authorization towards one registry: the token protocol of the distribution project, and Basic.

A registry answers 401 with `WWW-Authenticate`, which says where a token is had and for what; the token is then kept
for its scope. Credentials go to the registry itself or to the token server that it names, over TLS (or to this
machine), and nowhere else.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from chainbuild.errors import LoginNeededError
from chainbuild.registry.credentials import Credentials, Lookup
from chainbuild.registry.transport import Body, Request, Response

_PARAMETER: Final = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
Scope = tuple[str, ...]


def scope_of(repository: str, *actions: str) -> str:
    """A scope of the token protocol: `repository:NAME:pull,push`."""
    return f"repository:{repository}:{','.join(actions)}"


class Authorizer:
    """Knows what `Authorization` each scope needs. Thread-safe."""

    def __init__(self, host: str, lookup: Lookup, send: Callable[[Request], Response]) -> None:
        self._host = host
        self._lookup = lookup
        self._send = send
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

    def answer(self, challenge: str, scope: Scope) -> str:
        """The `Authorization` that answers a `WWW-Authenticate`; it is kept for the scope.

        Errors: `LoginNeededError` where there are no credentials, or the token server refuses them.
        """
        scheme, _, rest = challenge.strip().partition(" ")
        with self._lock:
            if scheme.lower() == "bearer":
                header = f"Bearer {self._token(_parameters(rest), scope)}"
                self._known[scope] = header
            elif scheme.lower() == "basic":
                credentials = self._login()
                if credentials is None or not credentials.password:
                    raise self._login_needed("wants a login")
                header = credentials.basic
                self._known[()] = header
            else:
                raise LoginNeededError(f"{self._host} wants {scheme or 'an'} authorization, which is not known here")
            return header

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

    def _token(self, parameters: Mapping[str, str], scope: Scope) -> str:
        realm = parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LoginNeededError(f"{self._host} names no usable token server", hint="Its set-up is wrong.")
        scopes = list(scope)
        if wanted := parameters.get("scope"):
            scopes += [item for item in wanted.split(" ") if item and item not in scopes]
        query = [("service", parameters.get("service", "")), *(("scope", item) for item in scopes)]
        credentials = self._login()
        if credentials is not None and parts.scheme != "https" and not is_this_machine(parts.hostname):
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
        response = self._send(request)
        answer = response.read()
        if response.status != 200:
            what = "wants a login" if credentials is None else f"refuses the login (token server: {response.status})"
            raise self._login_needed(what)
        try:
            document = json.loads(answer)
            token = str(document.get("token") or document.get("access_token") or "")
        except (ValueError, AttributeError):
            token = ""
        if not token:
            raise LoginNeededError(f"the token server of {self._host} gave no token")
        self._secrets.add(token)
        return token


def is_this_machine(host: str) -> bool:
    """Whether a host name means this machine (so plain HTTP shows nothing to anybody)."""
    return host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".localhost")


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        quoted, bare = match.group(2), match.group(3)
        found[match.group(1).lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    return found
