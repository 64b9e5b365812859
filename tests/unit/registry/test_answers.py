"""The meaning of registry answers: the table that decides whether content is "not found"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.registry.http.answers import Meaning, is_busy, is_page, is_registry, meaning, statement
from tests.support.fake_registry import Answer, FakeResponse

JSON = {"content-type": "application/json; charset=utf-8"}
API = {"docker-distribution-api-version": "registry/2.0"}
HTML = {"content-type": "text/html"}
PLAIN = {"content-type": "text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    ("who", "status", "headers", "code", "has_body", "expected"),
    [
        ("distribution, a missing tag", 404, JSON | API, "MANIFEST_UNKNOWN", True, "absent"),
        ("distribution, a missing repository", 404, JSON | API, "NAME_UNKNOWN", True, "absent"),
        ("distribution, a missing blob", 404, JSON | API, "BLOB_UNKNOWN", True, "absent"),
        ("distribution, HEAD", 404, JSON | API, "", False, "absent"),
        ("Harbor", 404, JSON, "NOT_FOUND", True, "absent"),
        ("ECR, a missing repository", 404, JSON | API, "NAME_UNKNOWN", True, "absent"),
        ("registry.redhat.io, no document", 404, PLAIN, "", True, "perhaps absent"),
        ("HEAD without any header", 404, {}, "", False, "perhaps absent"),
        ("HEAD of Kong or AWS API Gateway", 404, JSON, "", False, "perhaps absent"),
        ("Kong or AWS API Gateway", 404, JSON, "", True, "perhaps absent"),
        ("Traefik without its backend", 404, PLAIN, "", True, "perhaps absent"),
        ("nginx without its location", 404, HTML | API, "", True, "perhaps absent"),
        ("Kubernetes' default backend", 404, PLAIN, "", True, "perhaps absent"),
        ("Docker Hub, a missing or private repository", 401, JSON, "UNAUTHORIZED", True, "login"),
        ("GHCR, a missing or private package", 403, JSON, "DENIED", True, "login"),
        ("Quay, a missing repository", 401, JSON, "UNAUTHORIZED", True, "login"),
        ("404 for a refusal", 404, JSON, "DENIED", True, "login"),
        ("a rate limit", 429, JSON, "TOOMANYREQUESTS", True, "busy"),
        ("a rate limit as 403", 403, JSON, "TOOMANYREQUESTS", True, "busy"),
        ("a rate limit as 404", 404, JSON, "TOOMANYREQUESTS", True, "busy"),
        ("an error that nobody knows", 500, JSON, "UNKNOWN", True, "busy"),
        ("a 5xx with a code of absence", 503, JSON, "MANIFEST_UNKNOWN", True, "busy"),
        ("Cloudflare", 522, HTML, "", True, "busy"),
        ("a timeout of the server", 408, {}, "", True, "busy"),
        ("distribution, an unknown error as 404", 404, JSON, "UNKNOWN", True, "refused"),
        ("an unknown upload", 404, JSON, "BLOB_UPLOAD_UNKNOWN", True, "refused"),
        ("what is gone", 410, JSON, "", True, "refused"),
        ("a bad name", 400, JSON, "NAME_INVALID", True, "refused"),
        ("a code of absence with another status", 400, JSON, "MANIFEST_UNKNOWN", True, "refused"),
        ("a teapot", 418, HTML, "", True, "refused"),
        ("no HTTP at all", 200, HTML, "", True, "refused"),
        ("not implemented", 501, {}, "", True, "refused"),
        ("a redirect to nowhere", 302, {}, "", True, "refused"),
    ],
)
def test_meaning_of_an_answer_is_that_of_its_registry(
    who: str, status: int, headers: dict[str, str], code: str, has_body: bool, expected: Meaning
) -> None:
    assert meaning(status, headers, code, has_body=has_body) == expected, who


@given(st.integers(100, 999), st.sampled_from(["", "MANIFEST_UNKNOWN", "NOT_FOUND", "X"]), st.booleans())
def test_meaning_of_any_status_but_404_is_never_absent(status: int, code: str, has_body: bool) -> None:
    for headers in ({}, JSON, JSON | API, HTML):
        means = meaning(status, headers, code, has_body=has_body)
        assert status == 404 or means not in {"absent", "perhaps absent"}
        assert not is_busy(status) or means == "busy"


@given(st.binary(max_size=100))
def test_statement_of_any_body_is_short_and_never_raises(body: bytes) -> None:
    said = statement(FakeResponse(Answer(500, body)))
    assert len(said.quote) <= 300
    assert len(said.code) <= 64


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"errors":[]}',
        b'{"errors":{}}',
        b'{"errors":[3]}',
        b'{"errors":null}',
        b'"errors"',
        b'{"errors":[[' + b"[" * 50_000,
        b'{"errors":[{"code":{"a":1},"message":[]}]}',
    ],
)
def test_statement_of_a_body_that_is_no_error_document_has_no_code(body: bytes) -> None:
    assert statement(FakeResponse(Answer(500, body))).code == ""


def test_statement_of_an_endless_body_reads_no_more_than_the_limit() -> None:
    class Endless(FakeResponse):
        taken = 0

        def chunks(self):
            while True:
                self.taken += 1 << 10
                yield b"x" * (1 << 10)

    response = Endless(Answer(500))
    assert statement(response).quote == ""
    assert response.taken <= 64 << 10


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, API, b"", True),
        (200, {}, b"{}", True),
        (401, API, b"", True),
        (401, {}, b'{"errors":[{"code":"UNAUTHORIZED"}]}', True),
        (200, HTML, b"<html>", False),
        (200, {}, b"[]", False),
        (404, API, b"{}", False),
        (200, {}, b"[" * 100_000, False),
        (401, {}, b"", False),
    ],
)
def test_is_registry_of_an_answer_to_the_front_page(
    status: int, headers: dict[str, str], body: bytes, expected: bool
) -> None:
    assert is_registry(status, headers, body) == expected


def test_is_page_of_html_is_true() -> None:
    assert is_page({"content-type": "Text/HTML; charset=utf-8"})
    assert not is_page(JSON)
