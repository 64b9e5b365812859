"""The identity of what a build downloads by ADD or as a remote context; it changes when the content changes.

BuildKit queries such an address in every build. A plan queries it, too, and adds the answer to the step's key:

| address | identity |
| --- | --- |
| git, pinned by a full commit or a checksum | that value; no query |
| git | the commits that the ref points at now (`git ls-remote`) |
| HTTP with `--checksum` | the checksum; no query |
| HTTP with an ETag | the ETag, which BuildKit compares, too |
| any other HTTP | the sha256 of the content, which is downloaded |

Addresses are recognized as BuildKit does (frontend/dockerfile/dfgitutil, `ParseGitRef`). They come from an untrusted
tree: only HTTP(S), git and SSH are used, no program that a tree names is run, and sizes and times are limited.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urljoin, urlsplit, urlunsplit

from msgspec import Struct

from chainbuild.host.git import ask_remote
from chainbuild.model import UNKNOWN
from chainbuild.patterns import regex
from chainbuild.registry.http.pooled_transport import PooledTransport
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, Transport, TransportError

_COMMIT: Final = regex(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_SCHEME: Final = regex(r"([A-Za-z0-9]+)://")
_SCP: Final = regex(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_MOST_BYTES: Final = 4 << 30
"""Content without an ETag is downloaded whole, as BuildKit does in every build, but at most 4 GiB of it."""
_READ_SECONDS: Final = 30.0
_WHOLE_SECONDS: Final = 600.0

Secrets = Callable[[str], str | None]
"""Returns the value of a secret by its id."""
RunGit = Callable[[Sequence[str], Mapping[str, str]], tuple[int, str, str]]
"""Runs git with these arguments and additional variables; returns its exit code, stdout and stderr."""


class GitAddress(Struct, frozen=True, kw_only=True):
    """A git address as BuildKit parses it: the repository and the ref (empty: the default branch)."""

    remote: str
    ref: str = ""
    commit: str = ""
    """The commit that the address pins."""

    @classmethod
    def parse(cls, text: str) -> GitAddress | None:
        """Parse an address; return None if it is not a git address or is invalid."""
        try:
            return cls._parse(text)
        except ValueError:
            return None

    @classmethod
    def _parse(cls, text: str) -> GitAddress | None:
        scp = _SCP.match(text) and "://" not in text
        scheme = _SCHEME.match(text)
        if text.startswith("github.com/"):
            text = f"https://{text}"
        elif not scp and (scheme is None or scheme[1].lower() not in {"http", "https", "ssh", "git"}):
            return None
        bare, _, fragment = text.partition("#")
        bare, _, query = bare.partition("?")
        by_http = urlsplit(bare).scheme.lower() in {"http", "https"}
        # Without a scheme, github.com/owner/name is a repository. With a scheme, it is a page.
        if by_http and not bare.endswith(".git") and (scheme or not text.startswith("https://github.com/")):
            return None
        fields = {name: values[-1] for name, values in parse_qs(query).items()}
        ref = fragment.partition(":")[0] or fields.get("ref", "")
        if tag := fields.get("tag"):
            ref = tag if tag.startswith("refs/tags/") else f"refs/tags/{tag}"
        elif branch := fields.get("branch"):
            ref = branch if branch.startswith("refs/heads/") else f"refs/heads/{branch}"
        pinned = next(
            (item for item in (fields.get("checksum"), fields.get("commit"), ref) if item and _is_commit(item)), ""
        )
        return cls(remote=bare, ref=ref, commit=pinned.lower())


class RemoteContent:
    """Queries addresses, each only once. Thread-safe."""

    def __init__(self, *, transport: Transport | None = None, run_git: RunGit | None = None) -> None:
        self._transport = transport or PooledTransport()
        self._run_git = run_git or ask_remote
        self._cached: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def fresh(self) -> RemoteContent:
        """Return a new instance that queries every address again."""
        return RemoteContent(transport=self._transport, run_git=self._run_git)

    def identity(self, address: str, checksum: str = "", secrets: Secrets = lambda _: None) -> str:
        """Return the identity of the content at the address now; it begins with `UNKNOWN` if the query failed.

        `secrets` returns BuildKit's secrets for such addresses by id (`GIT_AUTH_TOKEN`, `HTTP_AUTH_TOKEN_<host>`).
        """
        with self._lock:
            key = (address, checksum)
            if key not in self._cached:
                self._cached[key] = self._ask(address, checksum, secrets)
            return self._cached[key]

    def _ask(self, address: str, checksum: str, secrets: Secrets) -> str:
        git = GitAddress.parse(address)
        if checksum:
            return f"checksum {checksum}"
        if git:
            return f"commit {git.commit}" if git.commit else self._ask_git(git, secrets)
        return self._ask_http(address, secrets)

    # HTTP -------------------------------------------------------------------------------------------------------------

    def _ask_http(self, address: str, secrets: Secrets) -> str:
        headers = {"User-Agent": "chainbuild", "Accept-Encoding": "identity"}
        try:
            host = urlsplit(address).hostname or ""
            token = secrets(f"HTTP_AUTH_TOKEN_{host}")
            # If the server does not support HEAD or its answer has no ETag, download the content.
            response = self._send("HEAD", address, headers, token)
            etag = response.headers.get("etag", "") if response.status == 200 else ""
            response.close()
            if etag:
                return f"etag {etag[:1000]}"
            response = self._send("GET", address, headers, token)
            if response.status != 200:
                response.close()
                return f"{UNKNOWN}{host} answered {response.status}"
            return _digest(response)
        except TransportError as error:
            return f"{UNKNOWN}{error}"
        except (ValueError, LookupError) as error:
            return f"{UNKNOWN}the address cannot be asked ({error})"

    def _send(self, method: str, address: str, headers: Mapping[str, str], token: str | None) -> HttpResponse:
        first = urlsplit(address)
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(address)
            if parts.scheme not in {"http", "https"}:
                raise ValueError(f"a redirect to {parts.scheme or 'nothing'}")
            # Send the token only to the host and with the scheme of the original address.
            own = token if (parts.scheme, parts.netloc) == (first.scheme, first.netloc) else None
            whole = {**headers, "Authorization": f"Bearer {own}"} if own else dict(headers)
            response = self._transport.send(
                HttpRequest(
                    method=method,
                    url=urlunsplit(parts._replace(fragment="")),
                    headers=whole,
                    answer_seconds=_READ_SECONDS,
                )
            )
            location = response.headers.get("location", "")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            address = urljoin(address, location)
        raise ValueError("too many redirects")

    # git --------------------------------------------------------------------------------------------------------------

    def _ask_git(self, git: GitAddress, secrets: Secrets) -> str:
        ref = git.ref or "HEAD"
        code, out, err = self._run_git(["ls-remote", "--", git.remote, ref, f"{ref}^{{}}"], _git_login(git, secrets))
        if code:
            reason = next((line for line in reversed(err.splitlines()) if line.strip()), "git failed")
            return f"{UNKNOWN}{reason.strip()[:200]}"
        # Several refs may have this name. BuildKit chooses one of them, so include them all.
        commits = sorted(_matching(out, ref))
        return f"commit {' '.join(dict.fromkeys(commits))}" if commits else f"{UNKNOWN}it has no ref {ref!r}"


def _git_login(git: GitAddress, secrets: Secrets) -> Mapping[str, str]:
    """Return the variables that make git send BuildKit's token to that host, without putting it on a command line."""
    parts = urlsplit(git.remote)
    token = secrets(f"GIT_AUTH_TOKEN.{parts.hostname}") or secrets("GIT_AUTH_TOKEN")
    if not token or parts.scheme != "https":
        return {}
    login = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.https://{parts.netloc.rpartition('@')[2]}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {login}",
    }


def _is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


def _matching(out: str, ref: str) -> Iterator[str]:
    """Yield the commits of a ref from the output of `git ls-remote` (`HASH TAB NAME`), peeled tags (`^{}`) included."""
    names = {ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"}
    for line in out.splitlines():
        commit, _, name = line.partition("\t")
        if name.removesuffix("^{}") in names and _is_commit(commit):
            yield commit


def _digest(response: HttpResponse) -> str:
    running, size = hashlib.sha256(), 0
    limit = time.monotonic() + _WHOLE_SECONDS
    try:
        for chunk in response.chunks():
            running.update(chunk)
            size += len(chunk)
            if size > _MOST_BYTES or time.monotonic() > limit:
                what = f"longer than {_MOST_BYTES >> 30} GiB" if size > _MOST_BYTES else "too slow to be read whole"
                return f"{UNKNOWN}its server sends no ETag, and the content is {what}"
    finally:
        response.close()
    return f"sha256:{running.hexdigest()}"
