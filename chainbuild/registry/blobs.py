"""The requests of the OCI distribution spec (1.1) for blobs: look for them, get, store and mount them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from chainbuild import limits
from chainbuild.errors import (
    DamagedContentError,
    LoginNeededError,
    NotFoundInRegistryError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.references import Digest
from chainbuild.registry.content_checks import check_digest, check_size, not_a_registry
from chainbuild.registry.http.answers import is_page
from chainbuild.registry.http.auth import scope_of
from chainbuild.registry.http.headers import whole_number
from chainbuild.registry.http.transport import Body, TransportError
from chainbuild.registry.http.wire import Wire, shown
from chainbuild.registry.oci import digest_of


class BlobClient:
    """The verbs of one registry for blobs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def base(self) -> str:
        """Return `scheme://host` of the registry's addresses."""
        return self._wire.base

    def has_blob(self, repository: str, digest: Digest, *, size: int | None = None) -> bool:
        """Return whether the repository holds a blob. Errors: `DamagedContentError` if it has another `size` there."""
        url = self._url(repository, "blobs", str(digest))
        try:
            response = self._wire.call("HEAD", url, (scope_of(repository, "pull"),), fine=(200,))
        except NotFoundInRegistryError:
            return False
        response.close()
        if is_page(response.headers):
            raise not_a_registry(url, "an HTML page instead of a blob")
        stored = response.headers.get("docker-content-digest", "")
        if stored.partition(":")[0] == digest.algorithm and stored != digest.value:
            raise RegistryError(f"HEAD {shown(url)}: the registry returned another digest, {stored[:100]}")
        length = whole_number(response.headers.get("content-length", ""))
        # Some registries omit the length, or send 0, in responses without a body.
        check_size(length or 0, size if length else None, url)
        return True

    def needs_blob(self, repository: str, digest: Digest, *, size: int) -> bool:
        """Return whether a blob has to be sent to the repository: it is not there, or not whole."""
        try:
            return not self.has_blob(repository, digest, size=size)
        except DamagedContentError:
            return True

    def blob(
        self, repository: str, digest: Digest, *, size: int | None = None, limit: limits.Limit | None = None
    ) -> bytes:
        """Return a small blob (a config, a record), of `size` bytes if that is known.

        Errors: `NotFoundInRegistryError`; `DamagedContentError` if it is not what its digest says; `LimitError`.
        """
        url = self._url(repository, "blobs", str(digest))
        limit = limit or limits.ARTIFACT
        limit.check(size or 0, f"GET {shown(url)}: the blob")
        scope = (scope_of(repository, "pull"),)
        response, raw = self._wire.fetch(url, scope, limit)
        for wait in self._wire.pace.again:
            if raw and (size is None or len(raw) >= size):
                break
            # It ended properly but too early, like a file still being written. Damage is reported as such.
            self._wire.pause(wait)
            response, raw = self._wire.fetch(url, scope, limit)
        check_digest(digest_of(raw, digest.algorithm).hex, digest, url, response)
        check_size(len(raw), size, url)
        return raw

    def stream(self, repository: str, digest: Digest, *, size: int | None = None) -> Iterator[bytes]:
        """Yield a blob in pieces; a damaged one raises at its end, so nothing counts before the last piece.

        One that is longer than `size` raises as soon as it is. Errors: as `blob`.
        """
        url = self._url(repository, "blobs", str(digest))
        limits.BLOB.check(size or 0, f"GET {shown(url)}: the blob")
        response = self._wire.call("GET", url, (scope_of(repository, "pull"),), fine=(200,))
        running, count = hashlib.new(digest.algorithm), 0
        try:
            length = whole_number(response.headers.get("content-length", ""))
            if length is not None:
                check_size(length, size, url)
            for chunk in response.chunks():
                count += len(chunk)
                if size is not None and count > size:
                    check_size(count, size, url)
                limits.BLOB.check(count, f"GET {shown(url)}: the blob")
                running.update(chunk)
                yield chunk
        except TransportError as error:
            raise UnreachableError(f"GET {shown(url)}: {error}") from error
        finally:
            response.close()
        check_digest(running.hexdigest(), digest, url, response)
        check_size(count, size, url)

    def download(
        self,
        repository: str,
        digest: Digest,
        path: Path,
        told: Callable[[int], None] = lambda _: None,
        *,
        size: int | None = None,
    ) -> None:
        """A blob into a file, which appears completely or not at all; `told` receives the size of every piece."""
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with aside.open("wb") as file:
                for chunk in self.stream(repository, digest, size=size):
                    file.write(chunk)
                    told(len(chunk))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def put_blob(self, repository: str, data: bytes | Path | Body, *, digest: Digest | None = None) -> Digest:
        """Store a blob, unless it is there. A `Body` needs its `digest`. Returns the digest.

        If the response to an upload is lost, the blob is queried, and uploaded again if missing.
        """
        if isinstance(data, bytes):
            digest, body = digest or digest_of(data), Body.of(data)
        elif isinstance(data, Path):
            digest, body = digest or digest_of_file(data), Body.of_file(data)
        elif digest is None:
            raise ValueError("a body without its digest")
        else:
            body = data
        if not self.needs_blob(repository, digest, size=body.size):
            return digest
        for wait in (*self._wire.pace.waits, None):
            try:
                self._upload(repository, digest, body)
            except (UnreachableError, RegistryBusyError):
                # The response or the upload was lost: ask the registry which.
                if self._arrived(repository, digest, body.size):
                    return digest
                if wait is None:
                    raise
                self._wire.pause(wait)
            else:
                return digest
        raise AssertionError("unreachable")

    def check_upload(self, repository: str) -> None:
        """Begin an upload and end it, to find out whether blobs can be stored. Errors: those of an upload."""
        scope = (scope_of(repository, "pull", "push"),)
        start = self._url(repository, "blobs", "uploads") + "/"
        opened = self._wire.call("POST", start, scope, body=Body.of(b""), fine=(202,))
        opened.close()
        with suppress(RegistryError):
            self._end_session(self._wire.location(opened, start), scope)

    def _end_session(self, session: str, scope: tuple[str, ...]) -> None:
        """End an upload that is not used. A registry may refuse: it forgets the session some time later."""
        self._wire.call("DELETE", session, scope, fine=(200, 202, 204, 400, 404, 405)).close()

    def _upload(self, repository: str, digest: Digest, body: Body) -> None:
        """Upload a blob in a session of its own. Errors: `UnreachableError`, `RegistryBusyError` if it may be repeated."""
        scope = (scope_of(repository, "pull", "push"),)
        start = self._url(repository, "blobs", "uploads") + "/"
        opened = self._wire.call("POST", start, scope, body=Body.of(b""), fine=(202,))
        opened.close()
        target = _with_query(self._wire.location(opened, start), "digest", str(digest))
        headers = {"Content-Type": "application/octet-stream"}
        fine = (200, 201, 202, 204, 404)
        stored = self._wire.call("PUT", target, scope, headers=headers, body=body, fine=fine, patient=False)
        stored.close()
        if stored.status != 201:
            # 404: the session ended, by an answer that was lost or by a registry that forgot it.
            raise RegistryBusyError(
                f"PUT {shown(target)}: {stored.status}: the registry did not store the upload",
                hint="Several registries behind one name need shared storage and a common secret (http.secret).",
            )

    def _arrived(self, repository: str, digest: Digest, size: int | None) -> bool:
        try:
            return self.has_blob(repository, digest, size=size)
        except (UnreachableError, RegistryBusyError, DamagedContentError):
            return False

    def mount_blob(self, repository: str, digest: Digest, from_repository: str) -> bool:
        """Mount a blob of another repository without sending it; False if the registry did not."""
        scope = (scope_of(repository, "pull", "push"), scope_of(from_repository, "pull"))
        url = self._url(repository, "blobs", "uploads") + f"/?mount={digest}&from={quote(from_repository, safe='')}"
        try:
            response = self._wire.call("POST", url, scope, body=Body.of(b""), fine=(201, 202))
        except LoginNeededError:
            # No read access there, or not for both at once: sending the blob is still possible.
            return False
        except (UnreachableError, RegistryBusyError):
            if not self._arrived(repository, digest, None):
                raise
            return True
        response.close()
        if response.status == 202 and response.headers.get("location"):
            # The registry started an upload instead, which is not used.
            self._end_session(self._wire.location(response, url), scope)
        return response.status == 201

    def _url(self, repository: str, kind: str, name: str) -> str:
        return f"{self.base}/v2/{quote(repository)}/{kind}/{quote(name, safe=':')}"


def digest_of_file(path: Path) -> Digest:
    """Return the sha256 digest of a file's content."""
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def _with_query(url: str, key: str, value: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{key}={quote(value, safe=':')}"
