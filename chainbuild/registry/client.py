"""A client of the OCI distribution spec (1.1) for one registry; every verb says in its name what it asks.

Thread-safe. Content is checked against its digest before anybody sees it. Errors name the method, the URL without its
query, and the status; no secret is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from chainbuild.errors import DamagedContentError, LoginNeededError, RegistryError, UnreachableError
from chainbuild.references import DOCKER_HUB, Digest
from chainbuild.registry.auth import Scope, is_this_machine, scope_of
from chainbuild.registry.credentials import Lookup, from_docker_config
from chainbuild.registry.oci import (
    ACCEPTED_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    RawManifest,
    digest_of,
    read_digest,
)
from chainbuild.registry.transport import Body, PlainTransport, PooledTransport, Response, Transport, TransportError
from chainbuild.registry.wire import WAITS, TransientError, Wire, shown

_PAGE: Final = 1000


class RegistryClient:
    """The verbs of one registry, `host[:port]` (`docker.io` is Docker Hub)."""

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool | None = None,
        transport: Transport | None = None,
        credentials: Lookup = from_docker_config,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`plain_http` None: HTTP for this machine's own names, HTTPS for all others."""
        self.host = host
        name = urlsplit(f"//{host}").hostname or host
        plain = is_this_machine(name) if plain_http is None else plain_http
        base = f"{'http' if plain else 'https'}://{'registry-1.docker.io' if host == DOCKER_HUB else host}"
        # A proxy for this machine would be a mistake; for any other host the environment may name one.
        transport = transport or (PlainTransport() if plain and is_this_machine(name) else PooledTransport())
        self._wire = Wire(host, base, transport, credentials, sleep)

    @property
    def base(self) -> str:
        """`scheme://host` of the registry's addresses."""
        return self._wire.base

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        self._wire.close()

    # ---- manifests ---------------------------------------------------------------------------------------------

    def head(self, repository: str, reference: str | Digest) -> Descriptor | None:
        """What a tag or digest points at, without fetching it; None where there is no such manifest."""
        url = self._url(repository, "manifests", str(reference))
        headers = {"Accept": ", ".join(ACCEPTED_TYPES)}
        response = self._wire.call("HEAD", url, (scope_of(repository, "pull"),), headers=headers, fine=(200, 404))
        response.close()
        if response.status == 404:
            return None
        digest, size = response.headers.get("docker-content-digest", ""), response.headers.get("content-length", "")
        if not digest or not size.isdigit():
            # Both headers are optional in the spec's letter; the document itself is not.
            found = self.manifest(repository, reference)
            return found.descriptor
        checked = read_digest(digest, shown(url))
        if isinstance(reference, Digest) and reference.value.startswith("sha256:") and checked != reference:
            raise RegistryError(f"HEAD {shown(url)}: the registry answers with another digest, {checked}")
        return Descriptor(media_type=_media_type(response), digest=checked, size=int(size))

    def manifest(self, repository: str, reference: str | Digest) -> RawManifest:
        """A manifest or index. Errors: `NotFoundInRegistryError`; `RegistryError` where it is damaged."""
        url = self._url(repository, "manifests", str(reference))
        headers = {"Accept": ", ".join(ACCEPTED_TYPES)}
        response = self._wire.call("GET", url, (scope_of(repository, "pull"),), headers=headers, fine=(200,))
        raw = self._wire.document(response, url)
        digest = digest_of(raw)
        promised = reference if isinstance(reference, Digest) else response.headers.get("docker-content-digest", "")
        if promised and str(promised).startswith("sha256:") and str(promised) != digest.value:
            raise DamagedContentError(
                f"GET {shown(url)}: the content is damaged: it should be {promised} and is {digest}",
                hint="Push the image again; the registry's storage or something on the way changes it.",
            )
        media_type = _media_type(response)
        if media_type not in ACCEPTED_TYPES:
            media_type = _own_media_type(raw) or media_type or OCI_MANIFEST
        return RawManifest(media_type=media_type, digest=digest, raw=raw)

    def put_manifest(self, repository: str, reference: str | Digest, raw: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag (or its own digest); what it points at must be there already."""
        url = self._url(repository, "manifests", str(reference))
        scope = (scope_of(repository, "pull", "push"),)
        headers = {"Content-Type": media_type}
        self._wire.call("PUT", url, scope, headers=headers, body=Body.of(raw), fine=(200, 201, 202)).close()
        return digest_of(raw)

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest and every tag that points at it; False where there was none."""
        url = self._url(repository, "manifests", str(digest))
        scope = (scope_of(repository, "pull", "push", "delete"),)
        response = self._wire.call("DELETE", url, scope, fine=(200, 202, 404, 405))
        response.close()
        if response.status == 405:
            raise RegistryError(
                f"DELETE {shown(url)}: {self.host} does not delete (405)",
                hint="Set REGISTRY_STORAGE_DELETE_ENABLED=true where it is a registry of yours.",
            )
        return response.status != 404

    def tags(self, repository: str) -> tuple[str, ...]:
        """Every tag, in the registry's order; none where there is no such repository."""
        first = self._url(repository, "tags", "list") + f"?n={_PAGE}"
        return tuple(self._paged(first, (scope_of(repository, "pull"),), "tags"))

    def some_tags(self, repository: str, *, pages: int) -> tuple[str, ...]:
        """The tags of so many pages (of up to 1,000 each, as the registry likes), which may not be all of them."""
        first = self._url(repository, "tags", "list") + f"?n={_PAGE}"
        return tuple(self._paged(first, (scope_of(repository, "pull"),), "tags", pages=pages))

    def repositories(self) -> tuple[str, ...]:
        """Every repository (the catalog, which public registries mostly refuse)."""
        return tuple(self._paged(f"{self.base}/v2/_catalog?n={_PAGE}", ("registry:catalog:*",), "repositories"))

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> RawManifest | None:
        """The index of what is attached to a manifest; None where the registry has no such list (from before 1.1)."""
        url = self._url(repository, "referrers", str(digest))
        if artifact_type:
            url += f"?artifactType={quote(artifact_type, safe='')}"
        headers = {"Accept": OCI_INDEX}
        # What a registry says of an address that it does not know is not in any specification.
        response = self._wire.call(
            "GET", url, (scope_of(repository, "pull"),), headers=headers, fine=(200, 400, 404, 405, 501)
        )
        if response.status != 200 or _media_type(response) != OCI_INDEX:
            response.close()
            return None
        raw = self._wire.document(response, url)
        return RawManifest(media_type=OCI_INDEX, digest=digest_of(raw), raw=raw)

    # ---- blobs -------------------------------------------------------------------------------------------------

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the repository holds a blob."""
        url = self._url(repository, "blobs", str(digest))
        response = self._wire.call("HEAD", url, (scope_of(repository, "pull"),), fine=(200, 404))
        response.close()
        return response.status == 200

    def blob(self, repository: str, digest: Digest) -> bytes:
        """A small blob (a config, a record). Errors: `NotFoundInRegistryError`; `RegistryError` where damaged."""
        url = self._url(repository, "blobs", str(digest))
        raw = self._wire.document(self._wire.call("GET", url, (scope_of(repository, "pull"),), fine=(200,)), url)
        _check(hashlib.new(_algorithm(digest), raw).hexdigest(), digest, url)
        return raw

    def stream(self, repository: str, digest: Digest) -> Iterator[bytes]:
        """A blob in pieces; a damaged one raises at its end, so nothing counts before the last piece."""
        url = self._url(repository, "blobs", str(digest))
        response = self._wire.call("GET", url, (scope_of(repository, "pull"),), fine=(200,))
        running = hashlib.new(_algorithm(digest))
        try:
            for chunk in response.chunks():
                running.update(chunk)
                yield chunk
        except TransportError as error:
            raise UnreachableError(f"GET {shown(url)}: {error}") from error
        finally:
            response.close()
        _check(running.hexdigest(), digest, url)

    def download(
        self, repository: str, digest: Digest, path: Path, told: Callable[[int], None] = lambda _: None
    ) -> None:
        """A blob into a file, which appears whole or not at all; `told` hears of every piece's bytes."""
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with aside.open("wb") as file:
                for chunk in self.stream(repository, digest):
                    file.write(chunk)
                    told(len(chunk))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def put_blob(self, repository: str, data: bytes | Path | Body, *, digest: Digest | None = None) -> Digest:
        """Store a blob, unless it is there. A `Body` needs its `digest`. Returns the digest."""
        if isinstance(data, bytes):
            digest, body = digest or digest_of(data), Body.of(data)
        elif isinstance(data, Path):
            digest, body = digest or digest_of_file(data), Body.of_file(data)
        elif digest is None:
            raise ValueError("a body without its digest")
        else:
            body = data
        if self.has_blob(repository, digest):
            return digest
        scope = (scope_of(repository, "pull", "push"),)
        start = self._url(repository, "blobs", "uploads") + "/"
        for wait in (*WAITS, None):
            # An upload whose session broke begins anew: registries forget half of one.
            try:
                opened = self._wire.call("POST", start, scope, body=Body.of(b""), fine=(202,))
                opened.close()
                target = _with_query(self._wire.location(opened, start), "digest", str(digest))
                headers = {"Content-Type": "application/octet-stream"}
                self._wire.call("PUT", target, scope, headers=headers, body=body, fine=(201,), patient=False).close()
            except (UnreachableError, TransientError):
                if wait is None:
                    raise
                self._wire.pause(wait)
            else:
                return digest
        raise AssertionError("unreachable")

    def mount_blob(self, repository: str, digest: Digest, from_repository: str) -> bool:
        """Have a blob of another repository here without sending it; False where the registry did not do that."""
        scope = (scope_of(repository, "pull", "push"), scope_of(from_repository, "pull"))
        url = self._url(repository, "blobs", "uploads") + f"/?mount={digest}&from={quote(from_repository, safe='')}"
        try:
            response = self._wire.call("POST", url, scope, body=Body.of(b""), fine=(201, 202))
        except LoginNeededError:
            # No right to read there, or none to ask for both at once: sending it is still possible.
            return False
        response.close()
        if response.status == 202 and (location := response.headers.get("location")):
            # The registry began an upload instead, which nobody is going to use.
            self._wire.call("DELETE", urljoin(url, location), scope, fine=(200, 202, 204, 400, 404, 405)).close()
        return response.status == 201

    # ---- the registry ------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Whether it answers as a registry. Errors: `UnreachableError`, `LoginNeededError`, `RegistryError`."""
        self._wire.call("GET", f"{self.base}/v2/", (), fine=(200,)).close()

    def _url(self, repository: str, kind: str, name: str) -> str:
        return f"{self.base}/v2/{repository}/{kind}/{quote(name, safe=':')}"

    def _paged(self, url: str, scope: Scope, key: str, *, pages: int | None = None) -> Iterator[str]:
        seen: set[str] = set()
        while url not in seen and (pages is None or len(seen) < pages):
            seen.add(url)
            response = self._wire.call("GET", url, scope, fine=(200, 404))
            raw = self._wire.document(response, url)
            if response.status == 404:
                return
            try:
                names = json.loads(raw).get(key) or []
                yield from (str(name) for name in names)
            except (ValueError, AttributeError, TypeError) as error:
                raise RegistryError(f"GET {shown(url)}: not a list of {key}") from error
            link = response.headers.get("link", "")
            target, _, attributes = link.partition(">")
            if 'rel="next"' not in attributes.replace(" ", "") and "rel=next" not in attributes.replace(" ", ""):
                return
            url = urljoin(url, target.strip().lstrip("<"))


def digest_of_file(path: Path) -> Digest:
    """The sha256 digest of a file's content."""
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def _with_query(url: str, key: str, value: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{key}={quote(value, safe=':')}"


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


def _own_media_type(raw: bytes) -> str:
    try:
        found = json.loads(raw).get("mediaType")
    except (ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


def _algorithm(digest: Digest) -> str:
    return digest.value.partition(":")[0]


def _check(found: str, digest: Digest, url: str) -> None:
    if found != digest.hex:
        raise DamagedContentError(
            f"GET {shown(url)}: the content is damaged: its digest is {found[:12]}…, not {digest.short}…",
            hint="Push the image again; the registry's storage or something on the way changes it.",
        )
