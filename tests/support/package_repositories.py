"""Package repositories in memory, signed with keys that are made here: of apt, of apk, and an index of Python distributions.

A repository is a mapping of paths to files. `Mirror` serves several of them by address, with ETags, as a transport.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pysequoia import Cert, SignatureMode, Tsk, sign

from chainbuild.comparison.contents import Entry, LayeredRoot
from chainbuild.outdated.apt_settings import AptSettings, read_apt_settings
from chainbuild.registry.http.transport import HttpRequest, TransportError

VALID = "Tue, 01 Jan 2999 00:00:00 UTC"
ARCHIVE = "archive"
BUILDER = "builder.rsa.pub"
Files = dict[str, bytes]


# apt ------------------------------------------------------------------------------------------------------------------


@lru_cache
def secret_apt_key(name: str) -> Tsk:
    """Return the key with which an archive signs."""
    return Tsk.generate(f"{name} <{name}@example.org>")


def apt_key(name: str) -> Cert:
    """Return the public key of an archive."""
    return secret_apt_key(name).extract_certificate()


def apt_keyring(*names: str) -> bytes:
    """Return a binary keyring with the public keys."""
    return b"".join(_dearmored(str(apt_key(name))) for name in names or (ARCHIVE,))


def _dearmored(text: str) -> bytes:
    import base64

    body = text.split("-----")[2]
    lines = [line for line in body.strip().splitlines() if line and ":" not in line and not line.startswith("=")]
    return base64.b64decode("".join(lines))


def deb(name: str, version: str, **fields: str) -> str:
    """Return the paragraph of a package in an index."""
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    arch = "" if "Architecture" in fields else "Architecture: amd64\n"
    return f"Package: {name}\nVersion: {version}\n{arch}{more}"


def apt_suite(
    packages: Mapping[str, Iterable[str]],
    suite: str = "stable",
    *,
    key: str | None = ARCHIVE,
    detached: bool = False,
    ending: str = ".xz",
    valid_until: str = "",
    more: str = "",
    component: str = "main",
) -> Files:
    """Return the files of a suite. `packages` has paragraphs by architecture; `more` are lines of the Release file."""
    files: Files = {}
    rows: list[str] = []
    for architecture, blocks in packages.items():
        raw = "\n".join(blocks).encode()
        stored = lzma.compress(raw) if ending == ".xz" else gzip.compress(raw) if ending else raw
        path = f"{component}/binary-{architecture}/Packages{ending}"
        files[f"dists/{suite}/{path}"] = stored
        # apt fetches a compressed index only if the list has the digest of the unpacked one, too.
        for listed, content in {path: stored, path.removesuffix(ending): raw}.items():
            rows.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {listed}")
    head = [f"Suite: {suite}", f"Codename: {suite}", "Date: Mon, 01 Jan 2024 00:00:00 UTC"]
    head += [f"Valid-Until: {valid_until}"] if valid_until else []
    text = "\n".join([*head, *more.splitlines(), f"Architectures: {' '.join(packages)}", "SHA256:", *rows, ""]).encode()
    if key is None:
        files[f"dists/{suite}/Release"] = text
    elif detached:
        signer = secret_apt_key(key).signer()
        files[f"dists/{suite}/Release"] = text
        files[f"dists/{suite}/Release.gpg"] = sign(signer, text, mode=SignatureMode.DETACHED)
    else:
        signer = secret_apt_key(key).signer()
        files[f"dists/{suite}/InRelease"] = sign(signer, text, mode=SignatureMode.CLEAR)
    return files


# apk ------------------------------------------------------------------------------------------------------------------


@lru_cache
def apk_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def apk_public_key(name: str = BUILDER) -> bytes:
    public = apk_key(name).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _segment(name: str, content: bytes, *, ends: bool) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    raw = stream.getvalue()
    return gzip.compress(raw if ends else raw[: 512 + -(-len(content) // 512) * 512], mtime=0)


def apk_index(versions: Mapping[str, str], key: str = BUILDER) -> bytes:
    """Return a signed `APKINDEX.tar.gz`."""
    text = "\n".join(f"C:Q1=\nP:{name}\nV:{version}\nA:x86_64\n" for name, version in versions.items())
    signed = _segment("APKINDEX", text.encode(), ends=True)
    signature = apk_key(key).sign(signed, padding.PKCS1v15(), hashes.SHA1())
    return _segment(f".SIGN.RSA.{key}", signature, ends=False) + signed


# Python ---------------------------------------------------------------------------------------------------------------


def project_page(*files: str, **requires: str) -> bytes:
    """Return the page of a project in JSON. `requires` maps files (with `_` for other signs) to Requires-Python."""
    import json

    rows = [{"filename": name, "url": name, "hashes": {}, **_more(name, requires)} for name in files]
    return json.dumps({"meta": {"api-version": "1.0"}, "name": "x", "files": rows}).encode()


def _more(name: str, requires: Mapping[str, str]) -> dict[str, object]:
    wanted = {"yanked": True} if name in requires.get("yanked", "").split() else {}
    python = requires.get("python", "")
    return {**wanted, **({"requires-python": python} if python else {})}


# Serving --------------------------------------------------------------------------------------------------------------


@dataclass
class _Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.body), 1000):
            yield self.body[start : start + 1000]

    def end_within(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Mirror:
    """Serves files by address. `log` has the address and the status of every answer; hosts in `down` refuse connections."""

    files: Files = field(default_factory=dict)
    log: list[tuple[str, int]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)

    def add(self, address: str, files: Mapping[str, bytes]) -> None:
        """Serve a repository below an address."""
        self.files |= {f"{address.rstrip('/')}/{path}": content for path, content in files.items()}

    def send(self, request: HttpRequest) -> _Response:
        response = self._answer(request)
        self.log.append((request.url, response.status))
        return response

    def close(self) -> None:
        pass

    def _answer(self, request: HttpRequest) -> _Response:
        if request.url.split("/")[2] in self.down:
            raise TransportError("refused", f"{request.url.split('/')[2]} refuses connections")
        content = self.files.get(request.url)
        if content is None:
            return _Response(404)
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return _Response(304, headers={"etag": etag})
        return _Response(200, content, {"etag": etag})


def root_of(files: Mapping[str, str | bytes]) -> LayeredRoot:
    rows = []
    for path, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        rows.append((path, Entry(kind="file", size=len(data), data=data)))
    return LayeredRoot([rows])


def settings_of(files: Mapping[str, str | bytes]) -> AptSettings:
    return read_apt_settings(root_of({f"/etc/apt/{name}": content for name, content in files.items()}))
