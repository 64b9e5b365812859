"""A client of the OCI distribution spec (1.1) for one registry.

Thread-safe. Content is checked against its digest before it is returned. Errors name the method, the URL without its
query, and the status; no secret is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from chainbuild import limits
from chainbuild.errors import NotFoundInRegistryError, RegistryBusyError, RegistryError, UnreachableError
from chainbuild.in_parallel import AT_ONCE
from chainbuild.patterns import regex
from chainbuild.references import DOCKER_HUB, Digest
from chainbuild.registry.blobs import BlobClient
from chainbuild.registry.content_checks import (
    QUOTED,
    check_digest,
    check_manifest,
    is_repository,
    media_type_of,
    not_a_registry,
    own_media_type,
    read_names,
)
from chainbuild.registry.http.answers import is_page
from chainbuild.registry.http.auth import Lookup, Scope, from_docker_config, is_this_machine, scope_of
from chainbuild.registry.http.headers import next_link, whole_number
from chainbuild.registry.http.plain_transport import PlainTransport
from chainbuild.registry.http.pooled_transport import PooledTransport
from chainbuild.registry.http.transport import Body, Transport
from chainbuild.registry.http.wire import Wire, shown
from chainbuild.registry.oci import (
    ACCEPTED_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    RawManifest,
    digest_of,
    read_digest,
)
from chainbuild.text import escaped, plural

_PAGE: Final = 1000
_TAG: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

Notice = Callable[[str], None]
"""Receive a warning about skipped content of a registry."""


class RegistryClient(BlobClient):
    """The verbs of one registry, `host[:port]` (`docker.io` is Docker Hub); those of blobs are in `BlobClient`."""

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool | None = None,
        transport: Transport | None = None,
        credentials: Lookup = from_docker_config,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        pace: limits.Pace | None = None,
        notice: Notice = lambda _: None,
    ) -> None:
        """`plain_http` None: HTTP for this machine's own names, HTTPS for all others.

        `pace` is how long the registry may take (default: `limits.PACE`). `notice` receives warnings.
        """
        self.host = host
        name = urlsplit(f"//{host}").hostname or host
        here = is_this_machine(name)
        self.at_once = 1 if here else AT_ONCE
        """How many requests to make at the same time. On this machine, more threads would only take more CPU time."""
        plain = here if plain_http is None else plain_http
        base = f"{'http' if plain else 'https'}://{'registry-1.docker.io' if host == DOCKER_HUB else host}"
        # Never use a proxy for this machine; for other hosts the environment may name one.
        transport = transport or (PlainTransport() if plain and here else PooledTransport())
        super().__init__(Wire(host, base, transport, credentials, sleep=sleep, clock=clock, pace=pace))
        self._notice = notice

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        self._wire.close()

    # ---- manifests ---------------------------------------------------------------------------------------------

    def head(self, repository: str, reference: str | Digest) -> Descriptor | None:
        """Return what a tag or digest points at, without fetching it; None if there is no such manifest."""
        url = self._url(repository, "manifests", str(reference))
        headers = {"Accept": ", ".join(ACCEPTED_TYPES)}
        try:
            response = self._wire.call("HEAD", url, (scope_of(repository, "pull"),), headers=headers, fine=(200,))
        except NotFoundInRegistryError:
            return None
        response.close()
        size = whole_number(response.headers.get("content-length", ""))
        media_type = media_type_of(response)
        stated = response.headers.get("docker-content-digest", "")
        digest = read_digest(stated, shown(url)) if stated else None
        if digest and isinstance(reference, Digest) and digest != reference:
            if digest.algorithm == reference.algorithm:
                raise RegistryError(f"HEAD {shown(url)}: the registry returned another digest, {digest}")
            digest = None
        if digest is None or not size or media_type not in ACCEPTED_TYPES:
            # The specification makes the headers optional, but not the document.
            return self._fetched(repository, reference)
        limits.MANIFEST.check(size, f"HEAD {shown(url)}: the manifest")
        return Descriptor(media_type=media_type, digest=digest, size=size)

    def _fetched(self, repository: str, reference: str | Digest) -> Descriptor | None:
        try:
            return self.manifest(repository, reference).descriptor
        except NotFoundInRegistryError:
            return None

    def manifest(self, repository: str, reference: str | Digest) -> RawManifest:
        """Return a manifest or index, held against the digest that names it.

        Errors: `NotFoundInRegistryError`; `DamagedContentError` if it is not what its digest says; `RegistryError` if
        what answers is not a registry.
        """
        url = self._url(repository, "manifests", str(reference))
        headers = {"Accept": ", ".join(ACCEPTED_TYPES)}
        response, raw = self._wire.fetch(url, (scope_of(repository, "pull"),), limits.MANIFEST, headers=headers)
        if is_page(response.headers) and not isinstance(reference, Digest):
            raise not_a_registry(url, "an HTML page instead of a manifest")
        named = str(reference) if isinstance(reference, Digest) else response.headers.get("docker-content-digest", "")
        if not named:
            check_manifest(raw, url)
        digest = read_digest(named, shown(url)) if named else digest_of(raw)
        check_digest(digest_of(raw, digest.algorithm).hex, digest, url, response)
        media_type = media_type_of(response)
        if media_type not in ACCEPTED_TYPES:
            media_type = own_media_type(raw) or media_type or OCI_MANIFEST
        return RawManifest(media_type=media_type, digest=digest, raw=raw)

    def put_manifest(self, repository: str, reference: str | Digest, raw: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag (or its own digest); its children must already exist.

        If the response is lost, the tag is queried.
        """
        url = self._url(repository, "manifests", str(reference))
        scope = (scope_of(repository, "pull", "push"),)
        headers = {"Content-Type": media_type}
        digest = digest_of(raw, reference.algorithm if isinstance(reference, Digest) else "sha256")
        try:
            response = self._wire.call("PUT", url, scope, headers=headers, body=Body.of(raw), fine=(200, 201, 202))
        except (UnreachableError, RegistryBusyError):
            if not self._points_at(repository, reference, digest):
                raise
            return digest
        response.close()
        stored = response.headers.get("docker-content-digest", "")
        if stored and stored.partition(":")[0] == digest.algorithm and stored != digest.value:
            raise RegistryError(
                f"PUT {shown(url)}: the registry stored something else: {stored[:100]} instead of {digest}",
                hint="The registry, or a proxy in between, changes manifests.",
            )
        return digest

    def _points_at(self, repository: str, reference: str | Digest, digest: Digest) -> bool:
        try:
            existing = self.head(repository, reference)
        except RegistryError:
            return False
        return existing is not None and existing.digest == digest

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest and every tag that points at it; False if there was none."""
        url = self._url(repository, "manifests", str(digest))
        scope = (scope_of(repository, "pull", "push", "delete"),)
        try:
            response = self._wire.call("DELETE", url, scope, fine=(200, 202, 405))
        except NotFoundInRegistryError:
            return False
        response.close()
        if response.status == 405:
            raise RegistryError(
                f"DELETE {shown(url)}: {self.host} does not allow deletion (405)",
                hint="Set REGISTRY_STORAGE_DELETE_ENABLED=true if it is your registry.",
            )
        return True

    def tags(self, repository: str) -> tuple[str, ...]:
        """Return every tag, in the registry's order; none if there is no such repository.

        What the specification does not allow as a tag is left out, with a notice: it cannot be asked for.
        """
        return self.some_tags(repository, pages=limits.LIST_PAGES.value)

    def some_tags(self, repository: str, *, pages: int) -> tuple[str, ...]:
        """Return the tags of so many pages (of up to 1,000 each, as the registry likes), which may not be all of them."""
        first = self._url(repository, "tags", "list") + f"?n={_PAGE}"
        listed = self._listed(first, (scope_of(repository, "pull"),), "tags", pages)
        return self._allowed(listed, lambda name: bool(_TAG.fullmatch(name)), f"tags of {self.host}/{repository}")

    def repositories(self) -> tuple[str, ...]:
        """Return every repository (the catalog, which public registries mostly refuse). Names that are none are left out."""
        first = f"{self.base}/v2/_catalog?n={_PAGE}"
        listed = self._listed(first, ("registry:catalog:*",), "repositories", limits.LIST_PAGES.value)
        return self._allowed(listed, is_repository, f"repositories of {self.host}")

    def referrers(self, repository: str, digest: Digest, artifact_type: str = "") -> RawManifest | None:
        """Return the index of what is attached to a manifest; None if the registry has no such list (from before 1.1)."""
        url = self._url(repository, "referrers", str(digest))
        if artifact_type:
            url += f"?artifactType={quote(artifact_type, safe='')}"
        headers = {"Accept": OCI_INDEX}
        # The response to an unknown address is not specified. Quay also sends 400.
        response = self._wire.call(
            "GET", url, (scope_of(repository, "pull"),), headers=headers, fine=(200, 400, 404, 405, 501)
        )
        if response.status != 200 or media_type_of(response) != OCI_INDEX:
            response.close()
            return None
        raw = self._wire.document(response, url, limits.MANIFEST)
        return RawManifest(media_type=OCI_INDEX, digest=digest_of(raw), raw=raw)

    # ---- the registry ------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Whether it answers as a registry. Errors: `UnreachableError`, `LoginNeededError`, `RegistryError`."""
        self._wire.call("GET", f"{self.base}/v2/", (), fine=(200,)).close()

    def _listed(self, url: str, scope: Scope, key: str, pages: int) -> list[str]:
        """Return the names of that many pages; empty if there are none. Errors: `LimitError` if the list does not end."""
        seen: set[str] = set()
        names: list[str] = []
        what = f"GET {shown(url)}: the list of {key}"
        until = self._wire.clock() + self._wire.pace.listing
        while url not in seen and len(seen) < pages:
            seen.add(url)
            try:
                response, raw = self._wire.fetch(url, scope, limits.LIST_PAGE)
            except NotFoundInRegistryError:
                if len(seen) > 1:
                    # A truncated list must not be taken for a complete one.
                    raise
                break
            names += read_names(raw, key, url)
            limits.LIST_NAMES.check(len(names), what)
            try:
                following = next_link(response.headers.get("link", ""))
            except ValueError as error:
                raise RegistryError(f"{what} has an invalid Link to the next page: {error}") from error
            if following is None:
                break
            if len(seen) >= limits.LIST_PAGES.value:
                raise limits.LIST_PAGES.error(what)
            if self._wire.clock() > until:
                raise UnreachableError(f"{what} did not finish within {self._wire.pace.listing:g} s")
            url = self._wire.address(following, url, "a page with a Link")
        return names

    def _allowed(self, names: list[str], is_allowed: Callable[[str], bool], what: str) -> tuple[str, ...]:
        odd = [name for name in names if not is_allowed(name)]
        if odd:
            shown_names = ", ".join(f'"{escaped(name[:128])}"' for name in odd[:QUOTED])
            more = ", …" if len(odd) > QUOTED else ""
            self._notice(f"skipped {plural(len(odd), 'invalid name')} among the {what}: {shown_names}{more}")
        return tuple(name for name in names if is_allowed(name))
