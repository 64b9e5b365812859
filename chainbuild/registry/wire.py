"""A request's way to a registry and back: authorization, redirects, patience, and what an answer means as an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from chainbuild.errors import LoginNeededError, NotFoundInRegistryError, RegistryError, UnreachableError
from chainbuild.registry.auth import Authorizer, Scope
from chainbuild.registry.credentials import Lookup
from chainbuild.registry.transport import Body, Request, Response, Transport, TransportError

# Waits between tries in seconds, a little shuffled so that parallel runs do not come back together. Their sum, about
# 5 s, outlives the restart of a registry and the second for which most rate limits count; who asks to wait longer
# (Retry-After) is obeyed up to the limit below, past which a person should know.
WAITS: Final = (0.2, 0.8, 4.0)
_LONGEST_RETRY_AFTER: Final = 30.0
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Larger than any manifest that registries take (4 MiB), and small enough to be held in memory.
_LARGEST_DOCUMENT: Final = 32 << 20


class Wire:
    """Sends one registry's requests. `base` is `scheme://host`; everything else is as in `RegistryClient`."""

    def __init__(
        self, host: str, base: str, transport: Transport, credentials: Lookup, sleep: Callable[[float], None]
    ) -> None:
        self.host = host
        self.base = base
        self._transport = transport
        self._sleep = sleep
        self._authorizer = Authorizer(host, credentials, lambda request: self._patiently(request, "token server"))

    def pause(self, seconds: float) -> None:
        """Wait, as between tries."""
        self._sleep(seconds)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def call(
        self,
        method: str,
        url: str,
        scope: Scope,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        fine: tuple[int, ...],
        patient: bool = True,
    ) -> Response:
        """Send with authorization, follow redirects, and raise unless the status is one of `fine`."""
        response = self._authorized(method, url, scope, headers or {}, body, patient=patient)
        for _ in range(5):
            if response.status not in _REDIRECTS or method not in {"GET", "HEAD"}:
                break
            response.close()
            there = self.location(response, url)
            if urlsplit(there)[:2] == urlsplit(self.base)[:2]:
                response = self._authorized(method, there, scope, headers or {}, body, patient=patient)
            else:
                # A storage's own, signed address: our authorization is not for it.
                if self.base.startswith("https:") and not there.startswith("https:"):
                    raise RegistryError(f"{method} {shown(url)}: {self.host} redirects to an address without TLS")
                response = self._patiently(Request(method=method, url=there, headers=dict(headers or {})), method)
            url = there
        if response.status in fine:
            return response
        raise self._error(method, url, response)

    def _authorized(
        self, method: str, url: str, scope: Scope, headers: Mapping[str, str], body: Body | None, *, patient: bool
    ) -> Response:
        ours = urlsplit(url)[:2] == urlsplit(self.base)[:2]
        known = self._authorizer.header(scope) if ours else ""
        response = self._send(method, url, headers, known, body, patient=patient)
        if response.status == 401 and ours:
            response.close()
            if known:
                self._authorizer.forget(scope, known)
            fresh = self._authorizer.answer(response.headers.get("www-authenticate", ""), scope)
            response = self._send(method, url, headers, fresh, body, patient=patient)
        return response

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str, body: Body | None, *, patient: bool
    ) -> Response:
        whole = {"User-Agent": "chainbuild", **headers}
        if authorization:
            whole["Authorization"] = authorization
        request = Request(method=method, url=url, headers=whole, body=body)
        return self._patiently(request, method) if patient else self._once(request, method)

    def _patiently(self, request: Request, shown_method: str) -> Response:
        """Send; repeat what may be repeated where the answer or its absence is a passing one."""
        for wait in WAITS:
            try:
                response = self._transport.send(request)
            except TransportError as error:
                # Refused, no host, no TLS and no answer at all are told at once: a person waits for the message.
                if error.fault != "reset" or request.method not in _SAFE_TO_REPEAT:
                    raise self._unreachable(request, shown_method, error) from error
                self._sleep(_shuffled(wait))
                continue
            if response.status not in _RETRIED or (request.method not in _SAFE_TO_REPEAT and response.status != 429):
                return response
            after = response.headers.get("retry-after", "")
            if after.isdigit() and int(after) > _LONGEST_RETRY_AFTER:
                return response
            response.close()
            self._sleep(max(float(after) if after.isdigit() else 0.0, _shuffled(wait)))
        return self._once(request, shown_method)

    def _once(self, request: Request, shown_method: str) -> Response:
        try:
            return self._transport.send(request)
        except TransportError as error:
            raise self._unreachable(request, shown_method, error) from error

    def _unreachable(self, request: Request, method: str, error: TransportError) -> UnreachableError:
        hint = {
            "refused": "Is it running? Is the port right?",
            "no-host": "Is the name right? Is there a network?",
            "tls": "Put its CA into the system's trust store, or name it in SSL_CERT_FILE.",
            "timeout": "Is there a network, a proxy (HTTPS_PROXY), a firewall?",
            "proxy": "See HTTPS_PROXY and NO_PROXY.",
        }.get(error.fault, "Try again; see the registry's log where it is yours.")
        return UnreachableError(f"{method} {shown(request.url)}: {self._authorizer.scrub(str(error))}", hint=hint)

    def _error(self, method: str, url: str, response: Response) -> RegistryError:
        """The error that a status means, with what the registry itself says about it."""
        status = response.status
        said = self._authorizer.scrub(_registry_says(response))
        line = f"{method} {shown(url)}: {status}" + (f" ({said})" if said else "")
        if status == 404:
            return NotFoundInRegistryError(line)
        if status in {401, 403}:
            refusal = self._authorizer.refused(f"{method} {shown(url)} ({status}{', ' + said if said else ''})")
            return LoginNeededError(refusal.message, hint=refusal.hint)
        if status == 429:
            return RegistryError(line, hint="The registry limits how often one may ask; log in, or wait.")
        if status in _RETRIED:
            return TransientError(line, hint="The registry has a problem of its own: its log, its disk space.")
        return RegistryError(line)

    def document(self, response: Response, url: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            for chunk in response.chunks():
                size += len(chunk)
                if size > _LARGEST_DOCUMENT:
                    response.close()
                    raise RegistryError(f"GET {shown(url)}: longer than {_LARGEST_DOCUMENT >> 20} MiB")
                parts.append(chunk)
        except TransportError as error:
            raise UnreachableError(f"GET {shown(url)}: {error}") from error
        return b"".join(parts)

    def location(self, response: Response, url: str) -> str:
        location = response.headers.get("location", "")
        if not location:
            raise RegistryError(f"{shown(url)}: {response.status} without a Location", hint="Is that a registry?")
        return urljoin(url, location)


class TransientError(RegistryError):
    """A 5xx that outlived the tries; an upload is begun anew for it."""


def _shuffled(wait: float) -> float:
    # Late: a run that needs no patience need not import what gives chance.
    from random import uniform

    return wait * uniform(0.8, 1.2)  # noqa: S311 - nothing secret hangs on it


def shown(url: str) -> str:
    """The URL without what may be secret: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _registry_says(response: Response) -> str:
    """The registry's own words, from the spec's error document; never a page of HTML."""
    try:
        raw = response.read()[:100_000]
        first = json.loads(raw)["errors"][0]
        return f"{first.get('code', '')}: {first.get('message', '')}"[:300].strip(": ")
    except (TransportError, ValueError, LookupError, TypeError, AttributeError):
        return ""
