"""An in-memory registry at the transport seam, which unit tests use instead of a network.

    fake = FakeRegistry()                       # answers for any host
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    image = fake.add_image("team/app:1", Platform.parse("amd64"), layers=[b"one"], labels={"a": "b"})
    fake.add_index("team/app:all", [image, other])

`fake.transport` may be called for several hosts: each has its own content (`fake.host("ghcr.io")`; the methods of
`FakeRegistry` itself use `localhost:5000`). It implements the distribution spec: manifests by tag and digest,
blobs, uploads, mounts, tag lists and catalog with pages, deletion. `fake.log` holds every request as `(method, path)`,
without host and query; `fake.counted("PUT", "manifests")` counts them. Faults: `fake.answers.append(Answer(503))`
replaces the answer to the next request (an exception is raised); `host.require(token…)` requires a login;
`host.damage(digest)` damages a blob or manifest; `host.forget(digest)` deletes it; `host.down = True` refuses requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.http.transport import HttpRequest, HttpResponse, Transport, TransportError
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import (
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    digest_of,
)

DEFAULT_HOST = "localhost:5000"
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_BLOB = re.compile(r"/v2/(.+)/blobs/([^/]+:[^/]+)")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)")
_REFERRERS = re.compile(r"/v2/(.+)/referrers/([^/]+)")
_TAGS = re.compile(r"/v2/(.+)/tags/list")


@dataclass
class Answer:
    """A response. `headers` may have any case; they arrive in lower case."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def error(cls, status: int, code: str, message: str = "") -> Answer:
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower(), "detail": None}]}).encode()
        return cls(
            status, body, {"content-type": "application/json", "docker-distribution-api-version": "registry/2.0"}
        )


class FakeResponse:
    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = {key.lower(): value for key, value in answer.headers.items()}
        self._body = answer.body

    def chunks(self) -> Iterator[bytes]:
        # Small chunks reveal code that takes the first chunk for the whole.
        for start in range(0, len(self._body), 7):
            yield self._body[start : start + 7]

    def end_within(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


class FakeHost:
    """One registry's content: `manifests` by (repository, digest), `tags` by (repository, tag), `blobs` like manifests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.uploads: set[str] = set()
        self.down = False
        self.can_mount = True
        self.can_delete = True
        self.lists_referrers = False
        """True if it supports the referrers list of distribution spec 1.1; docker-registry 2.8 does not."""
        self.page = 1000
        self.authorization = ""
        self.challenge = ""

    def require(self, authorization: str, challenge: str) -> None:
        """Answer 401 with this `WWW-Authenticate` to requests without this `Authorization`."""
        self.authorization, self.challenge = authorization, challenge

    def damage(self, digest: Digest | str) -> None:
        """Change one byte of a blob or manifest in every repository."""
        for key, raw in list(self.blobs.items()):
            if key[1] == str(digest):
                self.blobs[key] = raw[:-1] + bytes([raw[-1] ^ 1])
        for key, (media_type, raw) in list(self.manifests.items()):
            if key[1] == str(digest):
                self.manifests[key] = (media_type, raw[:-1] + b" " + raw[-1:])

    def forget(self, digest: Digest | str) -> None:
        """Delete a blob or manifest, and the tags that point to it."""
        gone = str(digest)
        self.blobs = {key: value for key, value in self.blobs.items() if key[1] != gone}
        self.manifests = {key: value for key, value in self.manifests.items() if key[1] != gone}
        self.tags = {key: value for key, value in self.tags.items() if value != gone}

    @property
    def repositories(self) -> list[str]:
        return sorted({key[0] for key in self.manifests} | {key[0] for key in self.blobs})

    # ---- the protocol ---------------------------------------------------------------------------------------------

    def respond(self, request: HttpRequest, body: bytes) -> Answer:
        parts = urlsplit(request.url)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if self.authorization and request.headers.get("Authorization") != self.authorization:
            answer = Answer.error(401, "UNAUTHORIZED", "authentication required")
            answer.headers["WWW-Authenticate"] = self.challenge
            return answer
        if path == "/v2/":
            return Answer(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
        if path == "/v2/_catalog":
            return self._page(path, query, "repositories", self.repositories, {})
        if match := _UPLOAD.fullmatch(path):
            return self._upload(request.method, match[1], match[2], query, body)
        if match := _BLOB.fullmatch(path):
            return self._blob(request.method, match[1], match[2])
        if match := _MANIFEST.fullmatch(path):
            return self._manifest(request, match[1], match[2], body)
        if self.lists_referrers and (match := _REFERRERS.fullmatch(path)):
            return self._referrers(match[1], match[2])
        if match := _TAGS.fullmatch(path):
            names = sorted(tag for repository, tag in self.tags if repository == match[1])
            if match[1] not in self.repositories:
                return Answer.error(404, "NAME_UNKNOWN", "repository name not known to registry")
            return self._page(path, query, "tags", names, {"name": match[1]})
        return Answer(404, b"404 page not found", {"content-type": "text/plain"})

    def _page(
        self, path: str, query: Mapping[str, list[str]], key: str, names: Sequence[str], more: Mapping[str, Any]
    ) -> Answer:
        size = min(self.page, int(query.get("n", ["1000"])[0]))
        last = query.get("last", [""])[0]
        left = [name for name in names if name > last]
        page = left[:size]
        headers = {"content-type": "application/json"}
        if len(left) > size:
            headers["Link"] = f'<{path}?last={page[-1]}&n={size}>; rel="next"'
        # The real registry returns null, not [], if there are none.
        return Answer(200, json.dumps({**more, key: page or None}).encode(), headers)

    def _referrers(self, repository: str, subject: str) -> Answer:
        rows = []
        for (where, digest), (media_type, raw) in self.manifests.items():
            document = json.loads(raw)
            if where == repository and document.get("subject", {}).get("digest") == subject:
                row = {"mediaType": media_type, "digest": digest, "size": len(raw)}
                rows.append(
                    row | {"artifactType": document["artifactType"], "annotations": document.get("annotations", {})}
                )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows}
        return Answer(200, json.dumps(index).encode(), {"Content-Type": OCI_INDEX})

    def _upload(
        self, method: str, repository: str, session: str, query: Mapping[str, list[str]], body: bytes
    ) -> Answer:
        if method == "POST":
            mount, source = query.get("mount", [""])[0], query.get("from", [""])[0]
            if mount and self.can_mount and (source, mount) in self.blobs:
                self.blobs[repository, mount] = self.blobs[source, mount]
                return Answer(201, b"", {"Location": f"/v2/{repository}/blobs/{mount}", "Docker-Content-Digest": mount})
            session = f"session-{len(self.uploads) + 1}"
            self.uploads.add(session)
            return Answer(202, b"", {"Location": f"/v2/{repository}/blobs/uploads/{session}?_state=secret"})
        if session not in self.uploads:
            return Answer.error(404, "BLOB_UPLOAD_UNKNOWN")
        if method == "DELETE":
            self.uploads.discard(session)
            return Answer(204)
        if method == "PUT":
            wanted = query.get("digest", [""])[0]
            if digest_of(body).value != wanted:
                return Answer.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            self.uploads.discard(session)
            self.blobs[repository, wanted] = body
            return Answer(201, b"", {"Location": f"/v2/{repository}/blobs/{wanted}", "Docker-Content-Digest": wanted})
        return Answer.error(405, "UNSUPPORTED")

    def _blob(self, method: str, repository: str, digest: str) -> Answer:
        raw = self.blobs.get((repository, digest))
        if raw is None:
            return Answer.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if method == "DELETE":
            del self.blobs[repository, digest]
            return Answer(202)
        headers = {"Content-Length": str(len(raw)), "Docker-Content-Digest": digest}
        headers["Content-Type"] = "application/octet-stream"
        return Answer(200, b"" if method == "HEAD" else raw, headers)

    def _manifest(self, request: HttpRequest, repository: str, reference: str, body: bytes) -> Answer:
        if request.method == "PUT":
            return self._put_manifest(request, repository, reference, body)
        digest = reference if ":" in reference else self.tags.get((repository, reference), "")
        found = self.manifests.get((repository, digest))
        if found is None:
            return Answer.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = found
        if request.method == "DELETE":
            if not self.can_delete:
                return Answer.error(405, "UNSUPPORTED", "The operation is unsupported.")
            del self.manifests[repository, digest]
            self.tags = {
                key: value for key, value in self.tags.items() if not (key[0] == repository and value == digest)
            }
            return Answer(202)
        if media_type not in request.headers.get("Accept", ""):
            return Answer.error(
                404, "MANIFEST_UNKNOWN", f"OCI manifest found, but accept header does not support {media_type}"
            )
        headers = {"Content-Type": media_type, "Content-Length": str(len(raw)), "Docker-Content-Digest": digest}
        return Answer(200, b"" if request.method == "HEAD" else raw, headers)

    def _put_manifest(self, request: HttpRequest, repository: str, reference: str, body: bytes) -> Answer:
        media_type = request.headers.get("Content-Type", "")
        digest = digest_of(body).value
        if ":" in reference and reference != digest:
            return Answer.error(400, "DIGEST_INVALID")
        document = json.loads(body)
        if media_type in INDEX_TYPES:
            missing = [
                child["digest"]
                for child in document["manifests"]
                if (repository, child["digest"]) not in self.manifests
            ]
        else:
            wanted = [document["config"], *document["layers"]]
            missing = [blob["digest"] for blob in wanted if (repository, blob["digest"]) not in self.blobs]
        if missing:
            return Answer.error(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        self.manifests[repository, digest] = (media_type, body)
        if ":" not in reference:
            self.tags[repository, reference] = digest
        location = f"/v2/{repository}/manifests/{digest}"
        return Answer(201, b"", {"Location": location, "Docker-Content-Digest": digest})


class FakeRegistry:
    """The fake network: hosts by name, a log of requests, and faults to inject."""

    def __init__(self) -> None:
        self.hosts: dict[str, FakeHost] = {}
        self.log: list[tuple[str, str]] = []
        self.requests: list[HttpRequest] = []
        self.answers: list[Answer | TransportError | None] = []
        """The answers to the next requests; None: the real answer."""
        self.pages: dict[str, Answer] = {}
        """Answers of URLs outside registries (token servers, storages), by URL without query."""

    def host(self, name: str = DEFAULT_HOST) -> FakeHost:
        """Return the registry with a name, created on first use."""
        return self.hosts.setdefault(name, FakeHost(name))

    def transport(self, host: str = DEFAULT_HOST) -> Transport:
        """Return a transport for `Registries(transport=…)` and `RegistryClient(transport=…)`."""
        self.host(host)
        return _FakeTransport(self)

    def counted(self, method: str, part: str = "") -> int:
        """Return the number of requests with this method and `part` in their path."""
        return sum(1 for had, path in self.log if had == method and part in path)

    # ---- content, without going through the client ----------------------------------------------------------------

    def add_blob(self, repository: str, data: bytes, *, host: str = DEFAULT_HOST) -> Digest:
        digest = digest_of(data)
        self.host(host).blobs[repository, digest.value] = data
        return digest

    def add_image(
        self,
        name: str,
        platform: Platform | str = "amd64",
        *,
        layers: Iterable[bytes] = (b"layer",),
        tag: bool = True,
        **changes: Any,
    ) -> RemoteImage:
        """Add an image as `name` (`team/app:1` is on localhost:5000 unless the name has a host).

        `layers` are the stored bytes, whose diff ids are their own digests; `changes` are passed to
        `ImageConfig.with_changes` (env=, labels=, cmd=, …).
        """
        reference = self._reference(name)
        target = Platform.parse(platform) if isinstance(platform, str) else platform
        stored = [bytes(layer) for layer in layers]
        diff_ids = [self.add_blob(reference.repository, layer, host=reference.registry) for layer in stored]
        config = ImageConfig.make(target, diff_ids).with_changes(**changes)
        self.add_blob(reference.repository, config.raw, host=reference.registry)
        manifest = Manifest.make(
            config=Descriptor.of(config.raw, OCI_CONFIG),
            layers=[Descriptor.of(layer, OCI_LAYER_GZIP) for layer in stored],
        )
        self._put(reference if tag else None, reference, manifest.digest, OCI_MANIFEST, manifest.raw)
        return RemoteImage(
            reference=reference.with_digest(manifest.digest),
            index_digest=None,
            platform=target,
            manifest=manifest,
            config=config,
        )

    def add_index(self, name: str, images: Iterable[RemoteImage], *, attested: bool = False) -> Index:
        """Add an index over images of the same repository; `attested` adds what BuildKit attaches to each image."""
        reference = self._reference(name)
        children: list[Descriptor] = []
        for image in images:
            children.append(image.descriptor)
            if attested:
                proof = Manifest.make(
                    config=Descriptor.of(
                        self._blob_bytes(reference, b'{"architecture":"unknown","os":"unknown"}'), OCI_CONFIG
                    ),
                    layers=[Descriptor.of(self._blob_bytes(reference, b'{"proof":1}'), "application/vnd.in-toto+json")],
                )
                self._put(None, reference, proof.digest, OCI_MANIFEST, proof.raw)
                children.append(
                    Descriptor(
                        media_type=OCI_MANIFEST,
                        digest=proof.digest,
                        size=len(proof.raw),
                        platform=Platform.from_oci("unknown", "unknown"),
                        annotations=(
                            ("vnd.docker.reference.digest", image.digest.value),
                            ("vnd.docker.reference.type", "attestation-manifest"),
                        ),
                    )
                )
        index = Index.make(children)
        self._put(reference, reference, index.digest, index.media_type, index.raw)
        return index

    def _blob_bytes(self, reference: ImageReference, data: bytes) -> bytes:
        self.add_blob(reference.repository, data, host=reference.registry)
        return data

    def _reference(self, name: str) -> ImageReference:
        first = name.partition("/")[0]
        hosted = "." in first or ":" in first.partition("/")[0] or first == "localhost"
        return ImageReference.parse(name if hosted and "/" in name else f"{DEFAULT_HOST}/{name}")

    def _put(
        self, tagged: ImageReference | None, where: ImageReference, digest: Digest, media_type: str, raw: bytes
    ) -> None:
        host = self.host(where.registry)
        host.manifests[where.repository, digest.value] = (media_type, raw)
        if tagged is not None:
            host.tags[where.repository, tagged.tag_or_latest] = digest.value

    # ---- the transport ------------------------------------------------------------------------------------------

    def send(self, request: HttpRequest) -> HttpResponse:
        body = b"".join(request.body.chunks()) if request.body is not None else b""
        if request.body is not None:
            assert len(body) == request.body.size, "a body must be as long as it says"
        parts = urlsplit(request.url)
        self.log.append((request.method, unquote(parts.path)))
        self.requests.append(request)
        if self.answers and (answer := self.answers.pop(0)) is not None:
            if isinstance(answer, TransportError):
                raise answer
            return FakeResponse(answer)
        if page := self.pages.get(f"{parts.scheme}://{parts.netloc}{parts.path}"):
            return FakeResponse(page)
        name = "docker.io" if parts.netloc == "registry-1.docker.io" else parts.netloc
        if name not in self.hosts:
            raise TransportError("no-host", f"there is no host {name!r}")
        host = self.hosts[name]
        if host.down:
            raise TransportError("refused", f"{name} refuses connections")
        return FakeResponse(host.respond(request, body))


class _FakeTransport:
    def __init__(self, fake: FakeRegistry) -> None:
        self._fake = fake

    def send(self, request: HttpRequest) -> HttpResponse:
        return self._fake.send(request)

    def close(self) -> None:
        pass
