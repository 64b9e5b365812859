"""Interpret the responses of registries: this module alone decides when something does not exist.

Only a registry can state "not found", not a server in its place. The statement is clear if the status is 404 and the
body is the specification's error document with a code for it. Registries differ in that code and in other answers:

* distribution (2.8, 3), GHCR, ECR, Quay, GitLab, Artifactory: 404 with MANIFEST_UNKNOWN, BLOB_UNKNOWN, NAME_UNKNOWN;
* Harbor: 404 with NOT_FOUND;
* Docker Hub, Quay, GHCR for a repository that does not exist or is private: 401, 403 or a token server's refusal. That
  counts as a required login, because only the owner can tell the difference;
* some (registry.redhat.io, small ones) send a 404 without an error document, which the specification allows, as do all
  of them for HEAD.

A reverse proxy or an API gateway also responds with 404 while the registry behind it is down, and a captive portal with
404, 403 or 200. So a 404 without an error document counts only after `GET /v2/` gave a registry's
response; for HEAD, which never has one, it counts at once if its headers are a registry's.
429 and 5xx mean "not now", and everything else is an error. None of those ever means "not found".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from chainbuild import limits
from chainbuild.registry.http.transport import HttpResponse, TransportError

Meaning = Literal["absent", "perhaps absent", "login", "busy", "refused"]

_ABSENT_CODES: Final = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"})
_LOGIN_CODES: Final = frozenset({"UNAUTHORIZED", "DENIED"})
_BUSY_CODES: Final = frozenset({"TOOMANYREQUESTS", "UNAVAILABLE"})
# 408 and 425: the server gave up waiting, or does not want to answer yet. 501 and 505 will not change.
_BUSY: Final = frozenset({408, 425, 429})
_PERMANENT: Final = frozenset({501, 505})
_LONGEST_QUOTE: Final = 300


def is_busy(status: int) -> bool:
    """Return whether a status means that the same request may succeed later."""
    return status in _BUSY or (500 <= status <= 599 and status not in _PERMANENT)


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The body of an error response: the code of its first error, and a line to quote. Both may be empty."""

    code: str = ""
    quote: str = ""


def statement(response: HttpResponse) -> ErrorBody:
    """Read the specification's error document ("Error Codes"), up to the limit; an HTML page gives an empty result."""
    try:
        raw = limits.read_start(response.chunks(), limits.ERROR_BODY)
        first = json.loads(raw)["errors"][0]
        code, message = first.get("code", ""), first.get("message", "")
    except (TransportError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ErrorBody()
    finally:
        response.close()
    code = code if isinstance(code, str) else ""
    return ErrorBody(code=code.upper()[:64], quote=f"{code}: {message}".strip(": ")[:_LONGEST_QUOTE])


def meaning(status: int, headers: Mapping[str, str], code: str, *, has_body: bool) -> Meaning:
    """Return what a status that is no success means.

    `headers` has lower-case names; `code` is that of the error document; `has_body` is False for HEAD.
    """
    if is_busy(status) or code in _BUSY_CODES:
        return "busy"
    if status in {401, 403} or code in _LOGIN_CODES:
        return "login"
    if status != 404:
        return "refused"
    if code:
        return "absent" if code in _ABSENT_CODES else "refused"
    # The answer to HEAD has no document. API gateways also send JSON, but not the header that says whose it is.
    if not has_body and is_json(headers) and _has_api_header(headers):
        return "absent"
    return "perhaps absent"


def is_json(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is JSON by its `Content-Type`, as all answers of a registry's API are but content itself."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def is_page(headers: Mapping[str, str]) -> bool:
    """Return whether a response is an HTML page, which a registry never serves but a portal or proxy may."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}


def _has_api_header(headers: Mapping[str, str]) -> bool:
    return headers.get("docker-distribution-api-version", "").startswith("registry/2")


def is_registry(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether an answer to `GET /v2/` is a registry's: 200 or 401, with its header or an empty JSON object."""
    if status not in {200, 401}:
        return False
    if _has_api_header(headers):
        return True
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return document == {} if status == 200 else isinstance(document, dict) and "errors" in document
