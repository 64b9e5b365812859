"""The methods of the client with a registry in memory: requests, checks and error messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from chainbuild.errors import LoginNeededError, NotFoundInRegistryError, RegistryError, UnreachableError
from chainbuild.references import Digest
from chainbuild.registry.client import RegistryClient
from chainbuild.registry.http.auth import Credentials
from chainbuild.registry.http.transport import Body, HttpRequest, HttpResponse, Transport, TransportError
from chainbuild.registry.oci import OCI_INDEX, OCI_MANIFEST, digest_of
from tests.support.fake_registry import Answer, FakeRegistry

SECRET = "pa55word-of-tests"
TOKEN = "t0ken-of-tests"
ClientMaker = Callable[..., RegistryClient]


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def make(fake: FakeRegistry, waits: list[float]) -> ClientMaker:
    def client(
        host: str = "localhost:5000", credentials: Credentials | None = None, plain_http: bool | None = None
    ) -> RegistryClient:
        return RegistryClient(
            host,
            transport=fake.transport(host),
            credentials=lambda _: credentials,
            sleep=waits.append,
            plain_http=plain_http,
        )

    return client


class Recorder:
    """A transport that keeps its requests."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.requests: list[HttpRequest] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        return self.inner.send(request)

    def close(self) -> None:
        self.inner.close()


def test_upload_of_a_blob_is_sent_only_once(fake: FakeRegistry) -> None:
    """A registry that gets the same upload twice at once may forget the size of the blob."""
    transport = Recorder(fake.transport("localhost:5000"))
    RegistryClient("localhost:5000", transport=transport).put_blob("team/app", b"content")
    assert {request.method: request.once for request in transport.requests} == {
        "HEAD": False,
        "POST": False,
        "PUT": True,
    }


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("localhost.example.org", "https://localhost.example.org"),
    ],
)
def test_plain_http_is_used_for_this_machine_only(make: ClientMaker, host: str, base: str) -> None:
    assert make(host).base == base


def test_plain_http_is_a_setting(make: ClientMaker) -> None:
    assert make("registry.lan:5000", plain_http=True).base == "http://registry.lan:5000"


# ---- manifests --------------------------------------------------------------------------------------------------------


def test_head_returns_the_descriptor_without_fetching(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    found = make().head("team/app", "1")
    assert found is not None
    assert (found.digest, found.media_type, found.size) == (image.digest, OCI_MANIFEST, len(image.manifest.raw))
    assert fake.log == [("HEAD", "/v2/team/app/manifests/1")]


def test_head_of_a_missing_manifest_is_none(make: ClientMaker) -> None:
    assert make().head("team/app", "1") is None


def test_head_without_its_optional_headers_asks_for_the_document(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    fake.answers = [Answer(200, b"", {"Content-Type": OCI_MANIFEST})]
    found = make().head("team/app", "1")
    assert found is not None
    assert found.digest == image.digest


def test_manifest_with_wrong_digest_is_refused(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    fake.host().damage(image.digest)
    for reference in (image.digest, "1"):
        with pytest.raises(RegistryError, match="damaged"):
            make().manifest("team/app", reference)


def test_media_type_missing_in_the_response_comes_from_the_document(fake: FakeRegistry, make: ClientMaker) -> None:
    index = fake.add_index("team/app:all", [fake.add_image("team/app:1")])
    fake.answers = [Answer(200, index.raw, {"Content-Type": "application/octet-stream"})]
    assert make().manifest("team/app", "all").media_type == OCI_INDEX


def test_missing_manifest_error_has_method_url_status_and_message(make: ClientMaker) -> None:
    with pytest.raises(NotFoundInRegistryError) as told:
        make().manifest("team/app", "1")
    expected = "GET http://localhost:5000/v2/team/app/manifests/1: 404 (MANIFEST_UNKNOWN: manifest unknown)"
    assert str(told.value) == expected


def test_deletion_returns_whether_the_manifest_existed(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    client = make()
    assert client.delete_manifest("team/app", image.digest)
    assert not client.delete_manifest("team/app", image.digest)
    assert client.tags("team/app") == ()


def test_registry_without_deletion_has_a_hint(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    fake.host().can_delete = False
    with pytest.raises(RegistryError, match="REGISTRY_STORAGE_DELETE_ENABLED"):
        make().delete_manifest("team/app", image.digest)


# ---- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_tags_and_repositories_of_all_pages_are_listed(fake: FakeRegistry, make: ClientMaker, page: int) -> None:
    for tag in "abcde":
        fake.add_image(f"team/app:{tag}")
    fake.add_image("team/other:1")
    fake.host().page = page
    assert make().tags("team/app") == tuple("abcde")
    assert make().repositories() == ("team/app", "team/other")


def test_page_linking_to_itself_ends(fake: FakeRegistry, make: ClientMaker) -> None:
    link = '</v2/team/app/tags/list?n=1000>; rel="next"'
    fake.answers = [Answer(200, b'{"tags":["a"]}', {"Link": link})] * 3
    assert make().tags("team/app") == ("a",)


@pytest.mark.parametrize("body", [b"[]", b'{"tags": 3}', b"<html>", b'"x"'])
def test_invalid_list_is_an_error(fake: FakeRegistry, make: ClientMaker, body: bytes) -> None:
    fake.answers = [Answer(200, body)]
    with pytest.raises(RegistryError, match="not a list of tags"):
        make().tags("team/app")


# ---- blobs ------------------------------------------------------------------------------------------------------------


def test_blob_is_sent_once(fake: FakeRegistry, make: ClientMaker) -> None:
    client = make()
    digest = client.put_blob("team/app", b"content")
    assert client.put_blob("team/app", b"content") == digest == digest_of(b"content")
    assert client.blob("team/app", digest) == b"content"
    assert fake.counted("PUT", "blobs/uploads") == 1


def test_file_is_sent_and_fetched(fake: FakeRegistry, make: ClientMaker, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 100)
    client = make()
    digest = client.put_blob("team/app", source)
    client.download("team/app", digest, target)
    assert target.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_damaged_blob_is_never_returned(fake: FakeRegistry, make: ClientMaker, tmp_path: Path) -> None:
    client = make()
    digest = client.put_blob("team/app", b"content of a layer")
    fake.host().damage(digest)
    with pytest.raises(RegistryError, match="damaged"):
        client.blob("team/app", digest)
    with pytest.raises(RegistryError, match="damaged"):
        client.download("team/app", digest, tmp_path / "layer")
    assert list(tmp_path.iterdir()) == []


def test_broken_upload_restarts_in_a_new_session(fake: FakeRegistry, make: ClientMaker, waits: list[float]) -> None:
    # HEAD, POST, then the PUT breaks.
    fake.answers = [None, None, TransportError("reset", "the connection broke")]
    digest = make().put_blob("team/app", b"content")
    assert fake.host().blobs["team/app", digest.value] == b"content"
    assert fake.counted("POST", "uploads") == 2
    assert len(waits) == 1


def test_body_without_digest_is_an_error(make: ClientMaker) -> None:
    with pytest.raises(ValueError, match="digest"):
        make().put_blob("team/app", Body.of(b"x"))


def test_mount_sends_no_blob_data(fake: FakeRegistry, make: ClientMaker) -> None:
    client = make()
    digest = client.put_blob("team/app", b"content")
    fake.log.clear()
    assert client.mount_blob("team/other", digest, "team/app")
    assert client.blob("team/other", digest) == b"content"
    assert fake.counted("PUT") == 0


def test_mount_that_becomes_an_upload_is_cancelled(fake: FakeRegistry, make: ClientMaker) -> None:
    client = make()
    digest = client.put_blob("team/app", b"content")
    fake.host().can_mount = False
    assert not client.mount_blob("team/other", digest, "team/app")
    assert fake.counted("DELETE", "uploads") == 1
    assert fake.host().uploads == set()


# ---- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failure_is_retried(fake: FakeRegistry, make: ClientMaker, waits: list[float], status: int) -> None:
    fake.add_image("team/app:1")
    fake.answers = [Answer(status), TransportError("reset", "gone")]
    assert make().head("team/app", "1") is not None
    assert len(waits) == 2


def test_retry_after_is_obeyed(fake: FakeRegistry, make: ClientMaker, waits: list[float]) -> None:
    fake.answers = [Answer(429, b"", {"Retry-After": "7"})]
    make().ping()
    assert waits == [7.0]


def test_long_retry_after_is_reported_instead(fake: FakeRegistry, make: ClientMaker, waits: list[float]) -> None:
    fake.answers = [Answer(429, b"", {"Retry-After": "3600"})]
    with pytest.raises(RegistryError, match="429"):
        make().ping()
    assert waits == []


def test_retries_end_with_the_last_error(fake: FakeRegistry, make: ClientMaker, waits: list[float]) -> None:
    fake.answers = [Answer.error(503, "UNAVAILABLE", "storage is read-only")] * 4
    with pytest.raises(
        RegistryError, match=r"GET http://localhost:5000/v2/: 503 \(UNAVAILABLE: storage is read-only\)"
    ):
        make().ping()
    assert len(waits) == 3


@pytest.mark.parametrize("fault", ["refused", "no-host", "tls", "timeout", "proxy"])
def test_permanent_failure_is_reported_at_once(
    fake: FakeRegistry, make: ClientMaker, waits: list[float], fault: str
) -> None:
    fake.answers = [TransportError(fault, "no way")]  # type: ignore[arg-type]
    with pytest.raises(UnreachableError, match="GET http://localhost:5000/v2/: no way") as told:
        make().ping()
    assert waits == []
    assert told.value.hint


def test_error_page_is_not_repeated(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.answers = [Answer(418, b"<html><body>teapot</body></html>")]
    with pytest.raises(RegistryError) as told:
        make().ping()
    assert "html" not in str(told.value)


# ---- redirects --------------------------------------------------------------------------------------------------------


def test_storage_address_gets_no_authorization(fake: FakeRegistry, make: ClientMaker) -> None:
    host = fake.host("ghcr.io")
    host.require("Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(), 'Basic realm="x"')
    client = make("ghcr.io", Credentials(user="me", password=SECRET))
    client.ping()
    fake.pages["https://storage.example/blob"] = Answer(200, b"content")
    fake.answers = [Answer(307, b"", {"Location": "https://storage.example/blob?signature=abc"})]
    assert client.blob("team/app", digest_of(b"content")) == b"content"
    assert fake.requests[-1].url.startswith("https://storage.example/")
    assert "Authorization" not in fake.requests[-1].headers


def test_redirect_away_from_tls_is_refused(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.answers = [Answer(307, b"", {"Location": "http://storage.example/blob"})]
    with pytest.raises(RegistryError, match="without TLS"):
        make("ghcr.io").blob("team/app", digest_of(b"content"))


# ---- authorization ----------------------------------------------------------------------------------------------------

CHALLENGE = 'Bearer realm="https://auth.example/token",service="registry",scope="repository:team/app:pull"'


def test_token_is_fetched_once_for_a_scope(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.add_image("ghcr.io/team/app:1")
    fake.host("ghcr.io").require(f"Bearer {TOKEN}", CHALLENGE)
    fake.pages["https://auth.example/token"] = Answer(200, json.dumps({"token": TOKEN}).encode())
    client = make("ghcr.io")
    assert client.head("team/app", "1") is not None
    assert client.head("team/app", "1") is not None
    assert fake.counted("GET", "token") == 1
    asked = parse_qs(urlsplit(next(r.url for r in fake.requests if "auth.example" in r.url)).query)
    assert asked == {"service": ["registry"], "scope": ["repository:team/app:pull"]}


def test_expired_token_is_renewed(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.add_image("ghcr.io/team/app:1")
    host = fake.host("ghcr.io")
    host.require("Bearer first", CHALLENGE)
    fake.pages["https://auth.example/token"] = Answer(200, b'{"access_token":"first"}')
    client = make("ghcr.io")
    client.head("team/app", "1")
    host.require("Bearer second", CHALLENGE)
    fake.pages["https://auth.example/token"] = Answer(200, b'{"access_token":"second"}')
    assert client.head("team/app", "1") is not None


def test_login_goes_to_the_token_server(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.host("ghcr.io").require(f"Bearer {TOKEN}", CHALLENGE)
    fake.pages["https://auth.example/token"] = Answer(200, json.dumps({"token": TOKEN}).encode())
    credentials = Credentials(user="me", password=SECRET)
    make("ghcr.io", credentials).ping()
    assert fake.requests[1].headers["Authorization"] == credentials.basic


def test_identity_token_is_exchanged(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.host("ghcr.io").require(f"Bearer {TOKEN}", CHALLENGE)
    fake.pages["https://auth.example/token"] = Answer(200, json.dumps({"access_token": TOKEN}).encode())
    make("ghcr.io", Credentials(identity_token=SECRET)).ping()
    request = fake.requests[1]
    assert request.method == "POST"
    assert request.body is not None
    form = parse_qs(b"".join(request.body.chunks()).decode())
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], [SECRET])


def test_login_is_not_sent_to_a_token_server_without_tls(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.host("ghcr.io").require("Bearer x", 'Bearer realm="http://auth.example/token"')
    with pytest.raises(LoginNeededError, match="without TLS"):
        make("ghcr.io", Credentials(user="me", password=SECRET)).ping()
    assert all("auth.example" not in request.url for request in fake.requests)


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", "", "Bearer", 'Bearer realm="ftp://x/"'])
def test_missing_login_error_has_the_host(fake: FakeRegistry, make: ClientMaker, challenge: str) -> None:
    fake.host("ghcr.io").require("Basic never", challenge)
    with pytest.raises(LoginNeededError, match=r"ghcr\.io"):
        make("ghcr.io").ping()


def test_refusal_is_reported(fake: FakeRegistry, make: ClientMaker) -> None:
    fake.answers = [Answer.error(403, "DENIED", "requested access to the resource is denied")]
    with pytest.raises(LoginNeededError, match="403, DENIED") as told:
        make("ghcr.io").manifest("team/app", "1")
    assert "docker login ghcr.io" in told.value.hint


@pytest.mark.parametrize("where", ["registry", "token server", "network"])
def test_errors_contain_no_secret(fake: FakeRegistry, make: ClientMaker, where: str) -> None:
    """A server may repeat the request in its answer."""
    credentials = Credentials(user="me", password=SECRET)
    client = make("ghcr.io", credentials)
    basic = credentials.basic.removeprefix("Basic ")
    fake.host("ghcr.io").require(f"Bearer {TOKEN}", CHALLENGE)
    echo = f"you sent {SECRET} and {basic} and {TOKEN}"
    token = Answer(200, json.dumps({"token": TOKEN}).encode())
    if where == "token server":
        token = Answer.error(401, "UNAUTHORIZED", echo)
    fake.pages["https://auth.example/token"] = token
    fake.answers = [None, None]
    if where == "registry":
        fake.answers.append(Answer.error(400, "BAD", echo))
    elif where == "network":
        fake.answers.append(TransportError("timeout", echo))
    with pytest.raises(RegistryError) as told:
        client.manifest("team/app", "1")
    text = f"{told.value}{told.value!r}{told.value.hint}{client!r}{credentials!r}{fake.requests!r}"
    for secret in (SECRET, TOKEN, basic):
        assert secret not in text


def test_query_is_never_shown(fake: FakeRegistry, make: ClientMaker) -> None:
    # The upload's address carries the registry's signed state.
    fake.answers = [None, None, Answer.error(400, "DIGEST_INVALID")]
    with pytest.raises(RegistryError) as told:
        make().put_blob("team/app", b"content")
    assert "_state" not in str(told.value)
    assert "secret" not in str(told.value)


def test_registry_returning_another_digest_is_an_error(fake: FakeRegistry, make: ClientMaker) -> None:
    image = fake.add_image("team/app:1")
    other = Digest("sha256:" + "0" * 64)
    fake.answers = [Answer(200, b"", {"Docker-Content-Digest": image.digest.value, "Content-Length": "3"})]
    with pytest.raises(RegistryError, match="another digest"):
        make().head("team/app", other)


@pytest.mark.parametrize(("host", "at_once"), [("localhost:5000", 1), ("127.0.0.1", 1), ("registry.example", 8)])
def test_remote_registries_are_asked_several_things_at_once(host: str, at_once: int) -> None:
    assert RegistryClient(host).at_once == at_once
