"""Remote content: addresses as BuildKit parses them, and identities that change with the content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.context.remote import GitAddress, RemoteContent
from chainbuild.model import UNKNOWN
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, TransportError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class FakeResponse:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def read(self) -> bytes:
        return self.body

    def chunks(self) -> Iterator[bytes]:
        yield self.body

    def end_within(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


class FakeWeb:
    """A server with answers by method and address; other addresses give 404."""

    def __init__(self, answers: Mapping[tuple[str, str], FakeResponse | TransportError]) -> None:
        self.answers = dict(answers)
        self.asked: list[HttpRequest] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        answer = self.answers.get((request.method, request.url), FakeResponse(status=404))
        if isinstance(answer, TransportError):
            raise answer
        return answer

    def close(self) -> None:
        pass


def web(content: bytes = b"content", *, etag: str = "", url: str = "https://example.com/f") -> FakeWeb:
    headers = {"etag": etag} if etag else {}
    return FakeWeb({("HEAD", url): FakeResponse(headers=headers), ("GET", url): FakeResponse(body=content)})


def git(
    out: str = "", code: int = 0, err: str = ""
) -> tuple[list[tuple[Sequence[str], Mapping[str, str]]], RemoteContent]:
    calls: list[tuple[Sequence[str], Mapping[str, str]]] = []

    def run(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str, str]:
        calls.append((arguments, variables))
        return code, out, err

    return calls, RemoteContent(transport=FakeWeb({}), run_git=run)


@pytest.mark.parametrize(
    ("text", "remote", "ref", "commit"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r.git", "", ""),
        ("https://github.com/o/r.git#main", "https://github.com/o/r.git", "main", ""),
        ("https://github.com/o/r.git#main:sub/dir", "https://github.com/o/r.git", "main", ""),
        ("https://github.com/o/r.git#:sub", "https://github.com/o/r.git", "", ""),
        (f"https://example.com/r.git#{COMMIT}", "https://example.com/r.git", COMMIT, COMMIT),
        ("https://example.com/r.git?tag=v1", "https://example.com/r.git", "refs/tags/v1", ""),
        ("https://example.com/r.git?branch=b&subdir=x", "https://example.com/r.git", "refs/heads/b", ""),
        (f"https://example.com/r.git?ref=main&checksum={COMMIT}", "https://example.com/r.git", "main", COMMIT),
        ("git@github.com:o/r.git#v1", "git@github.com:o/r.git", "v1", ""),
        ("ssh://git@example.com/r#main", "ssh://git@example.com/r", "main", ""),
        ("git://example.com/r", "git://example.com/r", "", ""),
        ("github.com/o/r#main", "https://github.com/o/r", "main", ""),
    ],
)
def test_git_address_is_read_as_buildkit_reads_it(text: str, remote: str, ref: str, commit: str) -> None:
    assert GitAddress.parse(text) == GitAddress(remote=remote, ref=ref, commit=commit)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/f.tar",
        "https://github.com/o/r",
        "http://x/r.git/f",
        "ftp://x/r.git",
        "file:///r.git",
        "./r.git",
        "ext::sh -c evil",
        "r.git",
        "",
    ],
)
def test_git_address_is_none_for_files_and_other_protocols(text: str) -> None:
    assert GitAddress.parse(text) is None


@given(st.text())
def test_arbitrary_text_is_an_address_or_unknown(text: str) -> None:
    GitAddress.parse(text)
    content = RemoteContent(transport=FakeWeb({}), run_git=lambda *_: (1, "", "no"))
    assert content.identity(f"http://[{text}").startswith(UNKNOWN)


def test_etag_is_the_identity_without_download() -> None:
    there = web(etag='"1"')
    assert RemoteContent(transport=there).identity("https://example.com/f") == 'etag "1"'
    assert [request.method for request in there.asked] == ["HEAD"]


def test_content_without_etag_is_downloaded_despite_same_date_and_size() -> None:
    """A date has a resolution of one second and does not identify content; BuildKit downloads such content, too."""
    identities = {
        RemoteContent(transport=web(content)).identity("https://example.com/f") for content in (b"AAAA", b"BBBB")
    }
    assert identities == {f"sha256:{hashlib.sha256(content).hexdigest()}" for content in (b"AAAA", b"BBBB")}


def test_server_without_head_support_gets_a_get_request() -> None:
    there = FakeWeb({("GET", "http://x/f"): FakeResponse(body=b"a")})
    assert RemoteContent(transport=there).identity("http://x/f").startswith("sha256:")


def test_redirect_is_followed_without_token_for_another_host() -> None:
    there = FakeWeb(
        {
            ("HEAD", "https://a/f"): FakeResponse(status=302, headers={"location": "https://b/g"}),
            ("HEAD", "https://b/g"): FakeResponse(headers={"etag": "x"}),
        }
    )
    secrets = {"HTTP_AUTH_TOKEN_a": "secret"}
    assert RemoteContent(transport=there).identity("https://a/f", "", secrets.get) == "etag x"
    assert ["Authorization" in request.headers for request in there.asked] == [True, False]


@pytest.mark.parametrize("location", ["https://a/f", "file:///etc/passwd", "ftp://b/f"])
def test_endless_redirects_and_other_protocols_are_unknown(location: str) -> None:
    there = FakeWeb(
        {
            (method, "https://a/f"): FakeResponse(status=302, headers={"location": location})
            for method in ("HEAD", "GET")
        }
    )
    assert RemoteContent(transport=there).identity("https://a/f").startswith(UNKNOWN)


def test_unreachable_address_is_unknown_with_reason() -> None:
    there = FakeWeb({("HEAD", "https://a/f"): TransportError("refused", "a refuses connections")})
    assert RemoteContent(transport=there).identity("https://a/f") == f"{UNKNOWN}a refuses connections"
    assert RemoteContent(transport=FakeWeb({})).identity("https://a/f") == f"{UNKNOWN}a answered 404"


def test_checksum_and_full_commit_need_no_request() -> None:
    there = FakeWeb({})
    content = RemoteContent(transport=there, run_git=lambda *_: (1, "", "not to be asked"))
    assert content.identity("https://a/f", "sha256:1") == "checksum sha256:1"
    assert content.identity(f"https://a/r.git#{COMMIT.upper()}") == f"commit {COMMIT}"
    assert there.asked == []


def test_branch_identity_is_its_current_commit() -> None:
    names = {"heads/main": COMMIT, "heads/feature/main": OTHER, "tags/main": OTHER, "tags/main^{}": COMMIT}
    out = "".join(f"{commit}\trefs/{name}\n" for name, commit in names.items())
    calls, content = git(out)
    assert content.identity("https://a/r.git#main:sub") == f"commit {COMMIT} {OTHER}"
    assert calls[0][0] == ["ls-remote", "--", "https://a/r.git", "main", "main^{}"]
    content.identity("https://a/r.git#main:sub")
    assert len(calls) == 1
    content.fresh().identity("https://a/r.git#main:sub")
    assert len(calls) == 2


def test_missing_ref_and_failed_git_are_unknown() -> None:
    assert git()[1].identity("https://a/r.git") == f"{UNKNOWN}it has no ref 'HEAD'"
    assert (
        git(code=128, err="fatal: x\nfatal: no such host\n\n")[1].identity("git@a:r") == f"{UNKNOWN}fatal: no such host"
    )


def test_git_token_is_in_no_argument() -> None:
    calls, content = git(f"{COMMIT}\tHEAD\n")
    content.identity("https://a/r.git", "", {"GIT_AUTH_TOKEN": "secret"}.get)
    ((arguments, variables),) = calls
    assert "secret" not in str(arguments)
    assert variables["GIT_CONFIG_KEY_0"] == "http.https://a/.extraHeader"
