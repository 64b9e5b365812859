"""The client with wrong, unclear, endless or lost answers: only a clear answer means "not found"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping

import pytest

from chainbuild import limits
from chainbuild.errors import (
    DamagedContentError,
    LimitError,
    LoginNeededError,
    NotFoundInRegistryError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.limits import Limit
from chainbuild.references import Digest
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.http.auth import Credentials, is_this_machine
from chainbuild.registry.http.transport import Body, HttpRequest, HttpResponse, TransportError
from chainbuild.registry.oci import OCI_MANIFEST, digest_of
from chainbuild.values import replace
from tests.support.fake_registry import Answer, FakeRegistry

HTML = {"Content-Type": "text/html"}
PLAIN = {"Content-Type": "text/plain"}
CONTENT = b"content"
SHA512 = Digest(f"sha512:{hashlib.sha512(CONTENT).hexdigest()}")


class Clock:
    """A clock that only `sleep` and `spend` move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def client(fake: FakeRegistry, clock: Clock, notices: list[str]) -> RegistryClient:
    return RegistryClient(
        "localhost:5000",
        transport=fake.transport(),
        credentials=lambda _: None,
        sleep=clock.sleep,
        clock=clock,
        notice=notices.append,
    )


QUESTIONS: dict[str, Callable[[RegistryClient], object]] = {
    "head": lambda client: client.head("team/app", "1"),
    "head of a digest": lambda client: client.head("team/app", digest_of(CONTENT)),
    "manifest": lambda client: client.manifest("team/app", "1"),
    "has_blob": lambda client: client.has_blob("team/app", digest_of(CONTENT)),
    "blob": lambda client: client.blob("team/app", digest_of(CONTENT)),
    "stream": lambda client: list(client.stream("team/app", digest_of(CONTENT))),
    "tags": lambda client: client.tags("team/app"),
    "some_tags": lambda client: client.some_tags("team/app", pages=3),
    "repositories": lambda client: client.repositories(),
    "delete_manifest": lambda client: client.delete_manifest("team/app", digest_of(CONTENT)),
}
NOT_ABSENT: dict[str, Answer | TransportError] = {
    "a rate limit": Answer.error(429, "TOOMANYREQUESTS"),
    "a rate limit as 403": Answer.error(403, "TOOMANYREQUESTS"),
    "500": Answer(500),
    "502 of a proxy": Answer(502, b"<html>", HTML),
    "503": Answer.error(503, "UNAVAILABLE"),
    "504": Answer(504),
    "522 of Cloudflare": Answer(522, b"<html>", HTML),
    "408": Answer(408),
    "a 503 that says MANIFEST_UNKNOWN": Answer.error(503, "MANIFEST_UNKNOWN"),
    "400": Answer.error(400, "NAME_INVALID"),
    "410": Answer(410),
    "418": Answer(418),
    "501": Answer(501),
    "401": Answer.error(401, "UNAUTHORIZED"),
    "403": Answer.error(403, "DENIED"),
    "404 with DENIED": Answer.error(404, "DENIED"),
    "404 with an unknown code": Answer.error(404, "UNKNOWN"),
    "no answer": TransportError("timeout", "no answer within 60 s"),
    "no HTTP": TransportError("not-http", "does not speak HTTP"),
    "refused": TransportError("refused", "refuses connections"),
}


@pytest.mark.parametrize("kind", NOT_ABSENT)
@pytest.mark.parametrize("question", QUESTIONS)
def test_question_with_an_unclear_answer_raises(
    fake: FakeRegistry, client: RegistryClient, question: str, kind: str
) -> None:
    """Existing content must not be rebuilt or deleted because its registry was busy or broken for a while."""
    fake.answers = [NOT_ABSENT[kind]] * 20
    with pytest.raises(RegistryError) as raised:
        QUESTIONS[question](client)
    assert not isinstance(raised.value, NotFoundInRegistryError)


@pytest.mark.parametrize("question", ["head", "has_blob", "tags", "delete_manifest"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_question_to_a_busy_registry_raises_busy(
    fake: FakeRegistry, client: RegistryClient, clock: Clock, question: str, status: int
) -> None:
    fake.answers = [Answer(status)] * 4
    with pytest.raises(RegistryBusyError) as raised:
        QUESTIONS[question](client)
    assert raised.value.hint
    assert len(clock.waits) == 3


PROXIES = {
    "a page": Answer(404, b"<html>not found</html>", HTML),
    "a line of text": Answer(404, b"404 page not found\n", PLAIN),
    "nothing": Answer(404),
    "a page with the registry's header": Answer(
        404, b"<html>", HTML | {"Docker-Distribution-Api-Version": "registry/2.0"}
    ),
}


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_question_with_a_404_of_a_proxy_raises(
    fake: FakeRegistry, client: RegistryClient, question: str, kind: str
) -> None:
    """A proxy whose registry is down says 404 to everything, also to `GET /v2/`."""
    fake.answers = [PROXIES[kind]] * 20
    with pytest.raises(RegistryError, match="does not answer as a registry") as raised:
        QUESTIONS[question](client)
    assert not isinstance(raised.value, NotFoundInRegistryError)


@pytest.mark.parametrize("kind", PROXIES)
def test_head_with_a_bare_404_of_a_registry_is_none(fake: FakeRegistry, client: RegistryClient, kind: str) -> None:
    """Small registries send no error document. That they answer `/v2/` makes it clear."""
    fake.answers = [PROXIES[kind], None, PROXIES[kind]]
    assert client.head("team/app", "1") is None
    assert fake.log == [("HEAD", "/v2/team/app/manifests/1"), ("GET", "/v2/"), ("HEAD", "/v2/team/app/manifests/1")]


@pytest.mark.parametrize("kind", PROXIES)
def test_head_with_one_404_of_a_proxy_asks_again(fake: FakeRegistry, client: RegistryClient, kind: str) -> None:
    """The registry restarted between two requests: the proxy answered 404 although the registry has the content."""
    image = fake.add_image("team/app:1")
    fake.answers = [PROXIES[kind]]
    found = client.head("team/app", "1")
    assert found is not None
    assert found.digest == image.digest


@pytest.mark.parametrize(
    "front", [Answer(503), Answer(502, b"<html>", HTML), TransportError("refused", "refuses connections")]
)
def test_head_with_a_bare_404_and_no_clear_front_raises(
    fake: FakeRegistry, client: RegistryClient, front: Answer | TransportError
) -> None:
    fake.answers = [Answer(404), *[front] * 5]
    with pytest.raises((RegistryBusyError, UnreachableError)):
        client.head("team/app", "1")


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"])
def test_head_with_a_clear_404_is_none_and_asks_once(fake: FakeRegistry, client: RegistryClient, code: str) -> None:
    fake.answers = [Answer.error(404, code)]
    assert client.head("team/app", "1") is None
    assert len(fake.log) == 1


def test_blob_that_the_storage_lost_is_damaged_content(fake: FakeRegistry, client: RegistryClient) -> None:
    """The registry knows it and redirects; that its storage has nothing is a loss, not an absence."""
    fake.pages["https://storage.example/blob"] = Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
    fake.answers = [Answer(307, b"", {"Location": "https://storage.example/blob?sig=1"})]
    with pytest.raises(DamagedContentError, match="storage has lost it"):
        client.blob("team/app", digest_of(CONTENT))


@pytest.mark.parametrize("early", [b"", CONTENT[:3]])
def test_blob_that_ends_too_early_once_is_asked_for_again(
    fake: FakeRegistry, client: RegistryClient, early: bytes
) -> None:
    """A registry can show a file that it is still writing: the answer is whole, its content is not."""
    digest = fake.add_blob("team/app", CONTENT)
    fake.answers = [Answer(200, early)]
    assert client.blob("team/app", digest, size=len(CONTENT)) == CONTENT
    assert fake.counted("GET", "blobs") == 2


def test_blob_that_stays_too_short_is_damaged_content(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answers = [Answer(200, CONTENT[:3])] * 4
    with pytest.raises(DamagedContentError, match="damaged"):
        client.blob("team/app", digest_of(CONTENT), size=len(CONTENT))
    assert fake.counted("GET", "blobs") == 4


# ---- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["head", "manifest", "has_blob", "tags", "repositories"])
def test_question_with_a_login_page_as_answer_raises(fake: FakeRegistry, client: RegistryClient, question: str) -> None:
    """A captive portal answers 200 with a page to everything."""
    fake.answers = [Answer(200, b"<html>Please log in</html>", HTML)] * 5
    with pytest.raises(RegistryError) as raised:
        QUESTIONS[question](client)
    assert not isinstance(raised.value, NotFoundInRegistryError)


@pytest.mark.parametrize("body", [b"", b"garbage", b"\x00" * 100, b"[" * 100_000])
def test_manifest_of_a_digest_with_another_body_is_damaged(
    fake: FakeRegistry, client: RegistryClient, body: bytes
) -> None:
    fake.answers = [Answer(200, body, {"Content-Type": OCI_MANIFEST})]
    with pytest.raises(DamagedContentError, match="damaged"):
        client.manifest("team/app", digest_of(CONTENT))


def test_manifest_with_a_digest_header_of_something_else_is_damaged(fake: FakeRegistry, client: RegistryClient) -> None:
    image = fake.add_image("team/app:1")
    fake.answers = [Answer(200, image.manifest.raw, {"Docker-Content-Digest": f"sha256:{'0' * 64}"})]
    with pytest.raises(DamagedContentError, match="damaged"):
        client.manifest("team/app", "1")


@pytest.mark.parametrize("header", ["sha256:abc", "md5:" + "0" * 32, "\x1b[31m", "sha256:" + "0" * 10_000])
@pytest.mark.parametrize("question", ["head", "manifest"])
def test_question_with_a_digest_header_that_is_none_raises(
    fake: FakeRegistry, client: RegistryClient, question: str, header: str
) -> None:
    fake.answers = [Answer(200, b"{}", {"Docker-Content-Digest": header, "Content-Length": "2"})] * 2
    with pytest.raises(DamagedContentError, match="not a digest") as raised:
        QUESTIONS[question](client)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("length", ["²", "-1", "abc", "1_0", "9" * 30])
def test_head_with_a_length_that_is_no_number_asks_for_the_document(
    fake: FakeRegistry, client: RegistryClient, length: str
) -> None:
    image = fake.add_image("team/app:1")
    headers = {"Docker-Content-Digest": str(image.digest), "Content-Length": length, "Content-Type": OCI_MANIFEST}
    fake.answers = [Answer(200, b"", headers)]
    found = client.head("team/app", "1")
    assert found is not None
    assert found.size == len(image.manifest.raw)


def test_manifest_larger_than_the_limit_is_not_read(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answers = [Answer(200, b"", {"Content-Length": str(1 << 40)})]
    with pytest.raises(LimitError, match="the size of a manifest, 8 MiB"):
        client.manifest("team/app", "1")


@pytest.mark.parametrize("question", ["manifest", "blob", "tags", "repositories"])
def test_question_with_an_endless_body_raises(
    fake: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    for name in ("MANIFEST", "ARTIFACT", "LIST_PAGE"):
        monkeypatch.setattr(limits, name, replace(getattr(limits, name), value=1000))
    fake.answers = [Answer(200, b"x" * 100_000)]
    with pytest.raises(LimitError, match="1,000 bytes"):
        QUESTIONS[question](client)


# ---- digests and sizes ------------------------------------------------------------------------------------------------


def test_blob_of_a_sha512_digest_is_verified_by_sha512(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.host().blobs["team/app", str(SHA512)] = CONTENT
    assert client.blob("team/app", SHA512) == CONTENT
    assert b"".join(client.stream("team/app", SHA512)) == CONTENT
    fake.host().damage(SHA512)
    with pytest.raises(DamagedContentError):
        client.blob("team/app", SHA512)
    with pytest.raises(DamagedContentError):
        list(client.stream("team/app", SHA512))


def test_manifest_of_a_sha512_digest_is_verified_by_sha512(fake: FakeRegistry, client: RegistryClient) -> None:
    raw = fake.add_image("team/app:1").manifest.raw
    digest = digest_of(raw, "sha512")
    fake.host().manifests["team/app", str(digest)] = (OCI_MANIFEST, raw)
    assert client.manifest("team/app", digest).digest == digest
    fake.host().manifests["team/app", str(digest)] = (OCI_MANIFEST, raw + b" ")
    with pytest.raises(DamagedContentError, match="damaged"):
        client.manifest("team/app", digest)


def test_head_with_sha512_digest_verifies_the_document(fake: FakeRegistry, client: RegistryClient) -> None:
    raw = fake.add_image("team/app:1").manifest.raw
    digest = digest_of(raw, "sha512")
    fake.host().manifests["team/app", str(digest)] = (OCI_MANIFEST, raw)
    headers = {"Docker-Content-Digest": str(digest_of(raw)), "Content-Length": "3", "Content-Type": OCI_MANIFEST}
    fake.answers = [Answer(200, b"", headers)]
    found = client.head("team/app", digest)
    assert found is not None
    assert found.digest == digest


class Counted:
    """A response whose body is as long as anybody reads."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self.given = 0

    def chunks(self) -> Iterator[bytes]:
        while True:
            self.given += 100
            yield b"x" * 100

    def end_within(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


class OneAnswer:
    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    def send(self, request: HttpRequest) -> HttpResponse:
        return self._response

    def close(self) -> None:
        pass


def test_stream_longer_than_its_descriptor_stops_early() -> None:
    """The size of a layer is known: bytes after it are not read, however fast they arrive."""
    response = Counted()
    client = RegistryClient("localhost:5000", transport=OneAnswer(response), credentials=lambda _: None)
    with pytest.raises(DamagedContentError, match="it has 1,100 bytes, not 1,050"):
        list(client.stream("team/app", digest_of(CONTENT), size=1050))
    assert response.given == 1100


@pytest.mark.parametrize("size", [3, 100])
def test_stream_of_another_length_than_announced_raises(fake: FakeRegistry, client: RegistryClient, size: int) -> None:
    digest = fake.add_blob("team/app", CONTENT)
    with pytest.raises(DamagedContentError, match=f"not {size}"):
        list(client.stream("team/app", digest, size=size))
    assert fake.counted("GET") == 1


def test_stream_of_blob_over_the_limit_sends_no_request(fake: FakeRegistry, client: RegistryClient) -> None:
    with pytest.raises(LimitError, match="the size of a blob"):
        list(client.stream("team/app", digest_of(CONTENT), size=1 << 60))
    assert fake.log == []


# ---- lists ------------------------------------------------------------------------------------------------------------


def page(names: list[object], following: str = "") -> Answer:
    headers = {"Content-Type": "application/json"} | ({"Link": following} if following else {})
    return Answer(200, json.dumps({"tags": names, "repositories": names}).encode(), headers)


def link(number: int) -> str:
    return f'</v2/team/app/tags/list?n=1000&last={number}>; rel="next"'


def test_tags_with_pages_without_end_name_the_limit(
    fake: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST_PAGES", Limit("the pages of a list", 20, "pages"))
    fake.answers = [page([], link(number)) for number in range(100)]
    with pytest.raises(LimitError, match="the pages of a list, 20 pages"):
        client.tags("team/app")
    assert len(fake.log) == 20


def test_tags_with_too_many_names_name_the_limit(
    fake: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST_NAMES", Limit("the names of a list", 5, "names"))
    fake.answers = [page(["a", "b", "c"], link(1)), page(["d", "e", "f"], link(2))]
    with pytest.raises(LimitError, match="the names of a list, 5 names"):
        client.tags("team/app")


def test_tags_of_a_slow_registry_end_with_the_time_for_lists(
    fake: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    class Slow:
        def send(self, request: HttpRequest) -> HttpResponse:
            clock.now += 30
            return fake.send(request)

        def close(self) -> None:
            pass

    slow = RegistryClient(
        "localhost:5000", transport=Slow(), credentials=lambda _: None, sleep=clock.sleep, clock=clock
    )
    fake.answers = [page([], link(number)) for number in range(100)]
    with pytest.raises(UnreachableError, match="did not finish within 300 s"):
        slow.tags("team/app")
    assert len(fake.log) == 11


@pytest.mark.parametrize(
    "following",
    [
        "</v2/a",
        "/v2/a; rel=next",
        '<http://[::1>; rel="next"',
        '<ftp://x/>; rel="next"',
        '< >; rel="next"',
        '<http://a b/>; rel="next"',
        "<" + "a" * 17_000,
        '</x>; rel="next',
        '<\x1b[31m>; rel="next"',
    ],
)
def test_tags_with_a_link_that_cannot_be_followed_raise(
    fake: FakeRegistry, client: RegistryClient, following: str
) -> None:
    """A truncated list must not count as complete: garbage collection would delete the missing entries."""
    fake.answers = [page(["a"], following)]
    with pytest.raises(RegistryError, match="Link"):
        client.tags("team/app")


def test_tags_that_vanish_between_pages_raise(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answers = [page(["a"], link(1)), Answer.error(404, "NAME_UNKNOWN")]
    with pytest.raises(NotFoundInRegistryError):
        client.tags("team/app")


def test_tags_that_no_tool_accepts_are_left_out_with_a_notice(
    fake: FakeRegistry, client: RegistryClient, notices: list[str]
) -> None:
    """One hostile name used to end the whole list. It is shown, escaped, and everything else is listed."""
    fake.answers = [page(["good", "\x1b[31mred", "a" * 129, "", "-x", "a/b", "ö", 3, None, {"a": 1}, "x\ny", "ok"])]
    assert client.tags("team/app") == ("good", "3", "None", "ok")
    (notice,) = notices
    assert "skipped 8 invalid names among the tags of localhost:5000/team/app" in notice
    assert r"\x1b[31mred" in notice
    assert "\x1b" not in notice


def test_repositories_that_no_tool_accepts_are_left_out_with_a_notice(
    fake: FakeRegistry, client: RegistryClient, notices: list[str]
) -> None:
    names: list[object] = ["team/app", "../../etc", "a b", "Team/App", "x?n=1#", "", "\x1b]0;title\x07", "a" * 300, "x"]
    fake.answers = [page(names)]
    assert client.repositories() == ("team/app", "x")
    assert len(notices) == 1
    assert "\x1b" not in notices[0]


# ---- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["²", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e3", "9" * 30, "1.5", ""])
def test_ping_with_a_retry_after_that_is_no_number_waits_as_usual(
    fake: FakeRegistry, client: RegistryClient, clock: Clock, after: str
) -> None:
    fake.answers = [Answer(429, b"", {"Retry-After": after})]
    client.ping()
    assert len(clock.waits) == 1
    assert clock.waits[0] < 1


def test_call_with_retries_ends_with_the_time_for_a_call(fake: FakeRegistry, clock: Clock) -> None:
    """A registry that answers 503 after a minute, asks to wait and redirects does not block a run for long."""

    class Slow:
        def send(self, request: HttpRequest) -> HttpResponse:
            assert request.answer_seconds is not None
            clock.now += min(50, request.answer_seconds)
            return fake.send(request)

        def close(self) -> None:
            pass

    client = RegistryClient(
        "localhost:5000", transport=Slow(), credentials=lambda _: None, sleep=clock.sleep, clock=clock
    )
    fake.answers = [
        Answer(307, b"", {"Location": "/v2/team/app/manifests/2"}),
        *[Answer(503, b"", {"Retry-After": "29"})] * 30,
    ]
    with pytest.raises(RegistryBusyError):
        client.manifest("team/app", "1")
    assert clock.now <= limits.PACE.call + limits.PACE.answer


def test_call_in_a_loop_of_redirects_ends(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answers = [Answer(307, b"", {"Location": "/v2/team/app/manifests/1"})] * 50
    with pytest.raises(RegistryError, match="307"):
        client.manifest("team/app", "1")
    assert len(fake.log) == 6


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://localhost:99999999/",
        "http://[::1",
        "http://a b/",
        "http://" + "a" * 64 + ".x/",
        "http://a..b/",
        "ftp://a/",
        "file:///etc/passwd",
        "/ö",
        "http://user:secret@a/",
        "\x1b[2J",
        "/" + "a" * 9000,
        "http://:80/",
    ],
)
@pytest.mark.parametrize("verb", ["GET", "upload"])
def test_location_that_is_no_address_raises(
    fake: FakeRegistry, client: RegistryClient, location: str, verb: str
) -> None:
    if verb == "GET":
        fake.answers = [Answer(307, b"", {"Location": location})]
        with pytest.raises(RegistryError, match="Location") as raised:
            client.manifest("team/app", "1")
    else:
        fake.answers = [None, Answer(202, b"", {"Location": location})]
        with pytest.raises(RegistryError, match="Location") as raised:
            client.put_blob("team/app", CONTENT)
    assert "secret" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_upload_to_an_address_without_tls_is_refused(fake: FakeRegistry, clock: Clock) -> None:
    """A layer may be private: it goes nowhere that is less protected than the registry."""
    client = RegistryClient("ghcr.io", transport=fake.transport("ghcr.io"), credentials=lambda _: None)
    fake.answers = [None, Answer(202, b"", {"Location": "http://ghcr.io/upload"})]
    with pytest.raises(RegistryError, match="without TLS"):
        client.put_blob("team/app", CONTENT)


def test_document_that_breaks_once_is_read_again(fake: FakeRegistry, client: RegistryClient, clock: Clock) -> None:
    image = fake.add_image("team/app:1")

    class Breaking(FakeRegistry):
        broken = 0

        def send(self, request: HttpRequest) -> HttpResponse:
            response = fake.send(request)
            if request.method == "GET" and not self.broken:
                self.broken += 1

                def chunks() -> Iterator[bytes]:
                    yield b"{"
                    raise TransportError("reset", "the connection broke")

                response.chunks = chunks  # type: ignore[method-assign]
            return response

    breaking = Breaking()
    again = RegistryClient(
        "localhost:5000", transport=breaking.transport(), credentials=lambda _: None, sleep=clock.sleep
    )
    assert again.manifest("team/app", "1").digest == image.digest
    assert len(clock.waits) == 1


# ---- uploads ----------------------------------------------------------------------------------------------------------


class Losing(FakeRegistry):
    """A registry that accepts requests but loses the answers to these methods, `times` times."""

    def __init__(self, *, status: int = 0, times: int = 1, method: str = "PUT") -> None:
        super().__init__()
        self.status, self.times, self.method = status, times, method

    def send(self, request: HttpRequest) -> HttpResponse:
        response = super().send(request)
        if request.method == self.method and self.times:
            self.times -= 1
            if not self.status:
                raise TransportError("reset", "the connection broke")
            self.answers.insert(0, Answer(self.status))
            return super().send(replace(request, method="GET", body=None))
        return response


@pytest.mark.parametrize("status", [0, 500, 502, 504, 202])
def test_put_blob_with_lost_answer_is_checked_by_a_query(clock: Clock, status: int) -> None:
    """The blob is there: sending it again, or ending the run, would be wrong."""
    losing = Losing(status=status)
    client = RegistryClient(
        "localhost:5000", transport=losing.transport(), credentials=lambda _: None, sleep=clock.sleep
    )
    digest = client.put_blob("team/app", CONTENT)
    assert losing.host().blobs["team/app", str(digest)] == CONTENT
    assert losing.counted("POST") == 1


def test_put_blob_repeated_in_a_session_is_checked_by_a_query(fake: FakeRegistry, client: RegistryClient) -> None:
    """An answer that was lost below HTTP: the request is sent again, and the session is unknown by then."""
    digest = digest_of(CONTENT)

    def arrive(request: HttpRequest) -> Answer:
        fake.host().blobs["team/app", str(digest)] = CONTENT
        return Answer.error(404, "BLOB_UPLOAD_UNKNOWN")

    class Replayed:
        def send(self, request: HttpRequest) -> HttpResponse:
            if request.method == "PUT":
                fake.answers = [arrive(request)]
            return fake.send(request)

        def close(self) -> None:
            pass

    replayed = RegistryClient("localhost:5000", transport=Replayed(), credentials=lambda _: None, sleep=lambda _: None)
    assert replayed.put_blob("team/app", CONTENT) == digest
    assert fake.counted("PUT") == 1


def test_put_blob_whose_session_is_always_unknown_raises(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answers = [None, *[None, Answer.error(404, "BLOB_UPLOAD_UNKNOWN"), None] * 5]
    with pytest.raises(RegistryBusyError, match="did not store the upload") as raised:
        client.put_blob("team/app", CONTENT)
    assert "http.secret" in raised.value.hint


@pytest.mark.parametrize("times", [1, 5])
def test_put_manifest_with_lost_answer_is_checked_by_a_query(clock: Clock, times: int) -> None:
    losing = Losing(times=times)
    image = losing.add_image("team/app:old")
    client = RegistryClient(
        "localhost:5000", transport=losing.transport(), credentials=lambda _: None, sleep=clock.sleep
    )
    assert client.put_manifest("team/app", "new", image.manifest.raw, OCI_MANIFEST) == image.digest


def test_put_manifest_that_did_not_arrive_raises_the_first_error(fake: FakeRegistry, client: RegistryClient) -> None:
    image = fake.add_image("team/app:old")
    fake.answers = [TransportError("timeout", "no answer within 300 s")]
    with pytest.raises(UnreachableError, match=r"PUT .*no answer within 300 s"):
        client.put_manifest("team/app", "new", image.manifest.raw, OCI_MANIFEST)


def test_put_manifest_that_is_stored_as_something_else_raises(fake: FakeRegistry, client: RegistryClient) -> None:
    image = fake.add_image("team/app:old")
    fake.answers = [Answer(201, b"", {"Docker-Content-Digest": f"sha256:{'0' * 64}"})]
    with pytest.raises(RegistryError, match="stored something else"):
        client.put_manifest("team/app", "new", image.manifest.raw, OCI_MANIFEST)


def test_mount_blob_with_lost_answer_is_checked_by_a_query(clock: Clock) -> None:
    losing = Losing(method="POST")
    digest = losing.add_blob("team/app", CONTENT)
    client = RegistryClient(
        "localhost:5000", transport=losing.transport(), credentials=lambda _: None, sleep=clock.sleep
    )
    assert client.mount_blob("team/other", digest, "team/app")


def test_has_blob_of_another_size_is_damaged_and_put_sends_it_again(fake: FakeRegistry, client: RegistryClient) -> None:
    """Half of a blob under the digest of the complete blob, as after a full disk."""
    digest = digest_of(CONTENT)
    fake.host().blobs["team/app", str(digest)] = CONTENT[:3]
    with pytest.raises(DamagedContentError, match="it has 3 bytes, not 7"):
        client.has_blob("team/app", digest, size=len(CONTENT))
    assert client.put_blob("team/app", CONTENT) == digest
    assert fake.host().blobs["team/app", str(digest)] == CONTENT


def test_body_of_many_bytes_is_sent_in_pieces() -> None:
    """Each piece has a time limit of its own."""
    pieces = list(Body.of(bytes(5 << 19)).chunks())
    assert [len(piece) for piece in pieces] == [1 << 20, 1 << 20, 1 << 19]


# ---- logins -----------------------------------------------------------------------------------------------------------

CHALLENGE = 'Bearer realm="https://auth.example/token",service="registry"'


def login_client(fake: FakeRegistry, challenge: str = CHALLENGE) -> RegistryClient:
    fake.host("ghcr.io").require("Bearer token", challenge)
    return RegistryClient(
        "ghcr.io", transport=fake.transport("ghcr.io"), credentials=lambda _: None, sleep=lambda _: None
    )


@pytest.mark.parametrize("status", [429, 500, 503])
def test_token_server_that_is_busy_raises_busy(fake: FakeRegistry, status: int) -> None:
    """It used to say that a login is needed, or that the login is wrong."""
    fake.pages["https://auth.example/token"] = Answer(status)
    with pytest.raises(RegistryBusyError, match=r"auth\.example"):
        login_client(fake).ping()


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_token_server_that_refuses_asks_for_a_login(fake: FakeRegistry, status: int) -> None:
    fake.pages["https://auth.example/token"] = Answer(status)
    with pytest.raises(LoginNeededError, match="requires a login"):
        login_client(fake).ping()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"token": 3}',
        b'{"token": ""}',
        b'{"token": "a\\r\\nX-Evil: 1"}',
        b'{"token": "\\u00e9"}',
        b'{"token": {"a": 1}}',
        b"[" * 100_000,
        b'{"access_token": null}',
    ],
)
def test_token_server_without_a_usable_token_raises(fake: FakeRegistry, body: bytes) -> None:
    fake.pages["https://auth.example/token"] = Answer(200, body)
    with pytest.raises(RegistryError, match="no usable token"):
        login_client(fake).ping()


def test_token_server_with_an_endless_answer_raises(fake: FakeRegistry) -> None:
    fake.pages["https://auth.example/token"] = Answer(200, b"x" * (2 << 20))
    with pytest.raises(LimitError, match="a token server's answer, 1 MiB"):
        login_client(fake).ping()


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "x",
        "ftp://a/",
        "http://[::1",
        "https://a b/",
        "https://auth.example:99999999/",
        "https://" + "a" * 70 + "/",
        "https://user:pw@auth.example/",
        "https://a..b/",
        "\x1b[31m",
        "https://ö/",
    ],
)
def test_realm_that_is_no_address_raises(fake: FakeRegistry, realm: str) -> None:
    with pytest.raises(LoginNeededError, match="no usable token server"):
        login_client(fake, f'Bearer realm="{realm}"').ping()


def test_bearer_is_preferred_over_basic_in_any_order(fake: FakeRegistry) -> None:
    fake.pages["https://auth.example/token"] = Answer(200, b'{"token":"token"}')
    login_client(fake, f'Basic realm="x", {CHALLENGE}').ping()


@pytest.mark.parametrize("letter", ["A", "a=", ",", '"'])
def test_challenge_of_65_kb_asks_for_a_login(fake: FakeRegistry, letter: str) -> None:
    with pytest.raises(LoginNeededError):
        login_client(fake, "Bearer " + letter * 65_000).ping()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127", False),
        ("127.1", False),
        ("localhost.evil.example", False),
        ("evil.localhost", False),
        ("localhost.", False),
        ("xlocalhost", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::2", False),
        ("[::1]", False),
        ("", False),
        ("1e.example", False),
    ],
)
def test_is_this_machine_follows_the_address_of_the_host(host: str, expected: bool) -> None:
    """`127.evil.example` belongs to whoever owns that domain: no plain HTTP to it, and no login without TLS."""
    assert is_this_machine(host) == expected


@pytest.mark.parametrize("host", ["127.evil.example", "evil.localhost"])
def test_client_of_a_name_that_looks_like_loopback_uses_tls(fake: FakeRegistry, host: str) -> None:
    assert RegistryClient(host, transport=fake.transport(host)).base == f"https://{host}"
    fake.host("ghcr.io").require("Bearer x", f'Bearer realm="http://{host}/token"')
    client = RegistryClient(
        "ghcr.io",
        transport=fake.transport("ghcr.io"),
        credentials=lambda _: Credentials(user="me", password="pa55word-of-tests"),
    )
    with pytest.raises(LoginNeededError, match="without TLS"):
        client.ping()
