"""Send requests to a registry: authorization, redirects, retries, and errors for responses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import (
    DamagedContentError,
    LoginNeededError,
    NotFoundInRegistryError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.registry.http.answers import is_busy, is_page, is_registry, meaning, statement
from chainbuild.registry.http.auth import Authorizer, Lookup, Scope
from chainbuild.registry.http.headers import address_of, origin, whole_number
from chainbuild.registry.http.transport import Body, HttpRequest, HttpResponse, Transport, TransportError
from chainbuild.values import replace

_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_HINTS: Final = {
    "refused": "Check that it is running, and the port.",
    "no-host": "Check the name and the network.",
    "tls": "Add its CA to the system's trust store, or set SSL_CERT_FILE.",
    "timeout": "Check the network, the proxy (HTTPS_PROXY) and the firewall.",
    "proxy": "Check HTTPS_PROXY and NO_PROXY.",
    "not-http": "Check that this is a registry, without a proxy in between.",
}


class _Call(Struct, frozen=True, kw_only=True):
    """One call of the client: all requests that it takes share its time. `deadline` is of the wire's clock."""

    method: str
    scope: Scope
    deadline: float
    patient: bool


class Wire:
    """Sends one registry's requests. `base` is `scheme://host`; everything else is as in `RegistryClient`."""

    def __init__(
        self,
        host: str,
        base: str,
        transport: Transport,
        credentials: Lookup,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        pace: limits.Pace | None = None,
    ) -> None:
        self.host = host
        self.base = base
        self.clock = clock
        self._transport = transport
        self._sleep = sleep
        self._pace = pace
        self._authorizer = Authorizer(host, credentials)

    @property
    def pace(self) -> limits.Pace:
        """Return how long the registry may take."""
        return self._pace or limits.PACE

    def pause(self, seconds: float) -> None:
        """Wait between attempts."""
        self._sleep(_shuffled(seconds))

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
    ) -> HttpResponse:
        """Send with authorization, follow redirects, and raise unless the status is one of `fine`.

        `patient`: retry after temporary failures; else a request is sent only once. Errors: `NotFoundInRegistryError` only
        if the registry said so clearly; `LoginNeededError`, `RegistryBusyError`, `UnreachableError`; `RegistryError` for
        every other answer.
        """
        size = body.size if body is not None else 0
        allowed = self.pace.call + (self.pace.transfer(size) + self.pace.commit if size else 0.0)
        call = _Call(method=method, scope=scope, deadline=self.clock() + allowed, patient=patient)
        headers = headers or {}
        response, last = self._followed(call, url, headers, body)
        if response.status in fine:
            return response
        error = self._error(call, last, response)
        if error is None:
            # A 404 that is not clear, from a registry that is there. It may have come back just now: ask again.
            response, last = self._followed(call, url, headers, body)
            if response.status in fine:
                return response
            error = self._error(call, last, response, is_there=True)
        raise error or NotFoundInRegistryError(f"{method} {shown(url)}: 404")

    def _followed(
        self, call: _Call, url: str, headers: Mapping[str, str], body: Body | None
    ) -> tuple[HttpResponse, str]:
        """Send, and follow redirects. Returns the last answer and its address."""
        response = self._authorized(call, url, headers, body)
        for _ in range(_MOST_REDIRECTS):
            if response.status not in _REDIRECTS or call.method not in {"GET", "HEAD"}:
                break
            response.close()
            url = self.location(response, url)
            if self._is_ours(url):
                response = self._authorized(call, url, headers, body)
            else:
                # A storage's own, signed address: our authorization is not for it.
                response = self._send(call, url, headers, "", None)
        return response, url

    def fetch(
        self, url: str, scope: Scope, limit: limits.Limit, *, headers: Mapping[str, str] | None = None
    ) -> tuple[HttpResponse, bytes]:
        """GET a document that is held in memory; a connection that breaks in its middle is tried once more.

        Errors: as `call`; `LimitError`; `UnreachableError` if it does not come to its end.
        """
        try:
            response = self.call("GET", url, scope, headers=headers, fine=(200,))
            return response, _read(response, url, limit)
        except TransportError as error:
            if error.fault != "reset":
                raise _incomplete(url, error) from error
        self.pause(self.pace.waits[0])
        response = self.call("GET", url, scope, headers=headers, fine=(200,))
        return response, self.document(response, url, limit)

    def document(self, response: HttpResponse, url: str, limit: limits.Limit) -> bytes:
        """Read a body into memory. Errors: `LimitError`; `UnreachableError` if it does not come to its end."""
        try:
            return _read(response, url, limit)
        except TransportError as error:
            raise _incomplete(url, error) from error

    def location(self, response: HttpResponse, url: str) -> str:
        """Return the address that an answer to `url` names. Errors: `RegistryError` if there is none that can be asked."""
        return self.address(response.headers.get("location", ""), url, f"{response.status} with a Location")

    def address(self, text: str, url: str, what: str) -> str:
        """Return the absolute address of a header's `text`. Errors: `RegistryError`, also for one without TLS."""
        try:
            address = address_of(text, url)
        except ValueError as error:
            raise RegistryError(
                f"{shown(url)}: {what} that is not an address: {error}", hint="Check that this is a registry."
            ) from error
        if self.base.startswith("https:") and not address.startswith("https:"):
            raise RegistryError(f"{shown(url)}: {self.host} redirects to an address without TLS")
        return address

    # ---- one request ------------------------------------------------------------------------------------------------

    def _is_ours(self, url: str) -> bool:
        return origin(url) == origin(self.base)

    def _authorized(self, call: _Call, url: str, headers: Mapping[str, str], body: Body | None) -> HttpResponse:
        ours = self._is_ours(url)
        known = self._authorizer.header(call.scope) if ours else ""
        response = self._send(call, url, headers, known, body)
        if response.status == 401 and ours:
            response.close()
            if known:
                self._authorizer.forget(call.scope, known)
            challenge = response.headers.get("www-authenticate", "")
            fresh = self._authorizer.answer(challenge, call.scope, lambda request: self._ask(call, request))
            response = self._send(call, url, headers, fresh, body)
        return response

    def _send(
        self, call: _Call, url: str, headers: Mapping[str, str], authorization: str, body: Body | None
    ) -> HttpResponse:
        all_headers = {"User-Agent": "chainbuild", **headers}
        if authorization:
            all_headers["Authorization"] = authorization
        once = not call.patient
        request = HttpRequest(method=call.method, url=url, headers=all_headers, body=body, pace=self.pace, once=once)
        return self._patiently(call, request) if call.patient else self._once(call, request)

    def _ask(self, call: _Call, request: HttpRequest) -> tuple[int, bytes]:
        """Ask a token server."""
        response = self._patiently(call, replace(request, pace=self.pace))
        return response.status, self.document(response, request.url, limits.TOKEN)

    def _patiently(self, call: _Call, request: HttpRequest) -> HttpResponse:
        """Send; repeat what may be repeated if the answer, or its absence, is a passing one and there is time left."""
        for wait in self.pace.waits:
            try:
                response = self._try(call, request)
            except TransportError as error:
                # Refused, no host, no TLS and no answer at all are reported at once: the user waits for the message.
                if error.fault != "reset" or request.method not in _SAFE_TO_REPEAT or not self._wait(call, wait):
                    raise self._unreachable(request, error) from error
                continue
            if not is_busy(response.status) or (request.method not in _SAFE_TO_REPEAT and response.status != 429):
                return response
            asked = whole_number(response.headers.get("retry-after", "")) or 0
            if asked > self.pace.retry_after or not self._wait(call, wait, asked):
                return response
            response.close()
        return self._once(call, request)

    def _once(self, call: _Call, request: HttpRequest) -> HttpResponse:
        try:
            return self._try(call, request)
        except TransportError as error:
            raise self._unreachable(request, error) from error

    def _try(self, call: _Call, request: HttpRequest) -> HttpResponse:
        left = call.deadline - self.clock()
        if left <= 0:
            raise TransportError("timeout", f"no response within {self.pace.call:g} s")
        return self._transport.send(replace(request, answer_seconds=min(request.usual_seconds, left)))

    def _wait(self, call: _Call, seconds: float, at_least: float = 0.0) -> bool:
        """Wait before the next try; return False, at once, if the call has no time left for that."""
        seconds = max(_shuffled(seconds), at_least)
        if self.clock() + seconds >= call.deadline:
            return False
        self._sleep(seconds)
        return True

    # ---- errors -----------------------------------------------------------------------------------------------------

    def _unreachable(self, request: HttpRequest, error: TransportError) -> UnreachableError:
        hint = _HINTS.get(error.fault, "Try again; see the registry's log if it is yours.")
        return UnreachableError(f"{request.method} {shown(request.url)}: {self._scrub(str(error))}", hint=hint)

    def _error(self, call: _Call, url: str, response: HttpResponse, *, is_there: bool = False) -> RegistryError | None:
        """Return the error for a status, with the registry's own message.

        None: a 404 that is not clear, although a registry answers there. `is_there`: that is known already.
        """
        response.end_within(self.pace.error)
        statement_of_registry = statement(response)
        status, quote = response.status, self._scrub(statement_of_registry.quote)
        request = f"{call.method} {shown(url)}"
        line = f"{request}: {status}" + (f" ({quote})" if quote else "")
        means = meaning(status, response.headers, statement_of_registry.code, has_body=call.method != "HEAD")
        if means == "busy":
            hint = "Check the registry's log and its disk space."
            if status < 500:
                hint = "The registry limits the request rate; log in, or wait."
            return RegistryBusyError(line, hint=hint)
        if not self._is_ours(url):
            # The response came from the storage behind the registry: content missing there is lost.
            if status == 404:
                return DamagedContentError(f"{line}: the registry's storage has lost it", hint="Push the image again.")
            return RegistryError(line, hint="The storage that the registry redirects to refused the request.")
        if means == "login":
            refusal = self._authorizer.refused(f"{request} ({status}{', ' + quote if quote else ''})")
            return LoginNeededError(refusal.message, hint=refusal.hint)
        if means == "absent":
            return NotFoundInRegistryError(line)
        if means == "perhaps absent":
            if is_there or self._confirm(call):
                return None
            return RegistryError(
                f"{line}, but {self.base}/v2/ does not answer as a registry",
                hint="Check that this is a registry, and that it is running behind its proxy.",
            )
        return RegistryError(line)

    def _confirm(self, call: _Call) -> bool:
        """Return whether a registry answers at all. Errors: `UnreachableError`, `RegistryBusyError` if that is unknown."""
        url = f"{self.base}/v2/"
        request = HttpRequest(method="GET", url=url, headers={"User-Agent": "chainbuild"}, pace=self.pace)
        response = self._patiently(call, request)
        if is_busy(response.status):
            response.close()
            raise RegistryBusyError(f"GET {shown(url)}: {response.status}", hint="Wait and try again.")
        response.end_within(self.pace.error)
        try:
            body = limits.read_start(response.chunks(), limits.ERROR_BODY)
        except TransportError as error:
            raise self._unreachable(request, error) from error
        finally:
            response.close()
        return not is_page(response.headers) and is_registry(response.status, response.headers, body)

    def _scrub(self, text: str) -> str:
        return self._authorizer.scrub(text)


def _read(response: HttpResponse, url: str, limit: limits.Limit) -> bytes:
    what = f"GET {shown(url)}: the answer"
    try:
        limit.check(whole_number(response.headers.get("content-length", "")) or 0, what)
        return limits.read_all(response.chunks(), limit, what)
    finally:
        response.close()


def _incomplete(url: str, error: TransportError) -> UnreachableError:
    return UnreachableError(f"GET {shown(url)}: {error}", hint="Try again; see the registry's log if it is yours.")


def _shuffled(wait: float) -> float:
    """Return a slightly varied time, so that parallel runs do not retry together."""
    # Imported on demand: only needed for retries.
    from random import uniform

    return wait * uniform(0.8, 1.2)  # noqa: S311 - nothing secret hangs on it


def shown(url: str) -> str:
    """Return the URL without parts that may be secret: user, password, query."""
    scheme, _, rest = url.partition("#")[0].partition("?")[0].partition("://")
    netloc, slash, path = rest.partition("/")
    return f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}"
