"""Create a bill of materials as SPDX 2.3 JSON (https://spdx.github.io/spdx-spec/v2.3/): packages, distributions, files.

The document depends only on the described files and on `SOURCE_DATE_EPOCH`: two runs give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from chainbuild.minimize.packages import Ownership, Package, owned
from chainbuild.minimize.root import FileTree, RootFileSystem, open_file
from chainbuild.minimize.write import Rows, digest_of

_NOTHING = "NOASSERTION"
_CHUNK = 1 << 20
_SKIP = ("/proc", "/sys", "/dev")
_ODD = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Digests:
    """The checksums of a file. `raw` stores them concatenated, because there may be very many; otherwise hexadecimal."""

    raw: bytes

    @property
    def md5(self) -> str:
        return self.raw[:16].hex()

    @property
    def sha1(self) -> str:
        return self.raw[16:36].hex()

    @property
    def sha256(self) -> str:
        return self.raw[36:].hex()


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """The distribution of an image: `ID` and `VERSION_ID` of os-release(5)."""

    name: str = ""
    version: str = ""


def digests_of(host: str) -> Digests:
    """Return the checksums of the regular file `host`. Errors: OSError if it cannot be read."""
    sums = [hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")]
    with os.fdopen(open_file(host), "rb") as stream:
        while data := stream.read(_CHUNK):
            for checksum in sums:
                checksum.update(data)
    return Digests(raw=b"".join(checksum.digest() for checksum in sums))


def system_of(tree: FileTree) -> System:
    """Read the distribution from the image's os-release."""
    text = tree.read("/etc/os-release") or tree.read("/usr/lib/os-release") or b""
    values = dict(re.findall(r"^(ID|VERSION_ID)=[\"']?([\w.-]*)", text.decode("utf-8", "replace"), re.MULTILINE))
    return System(name=values.get("ID", ""), version=values.get("VERSION_ID", ""))


def image_sbom(root: RootFileSystem, name: str, epoch: int | None) -> tuple[dict[str, Any], list[str]]:
    """Return the document about everything in `root`, and the paths that could not be read."""
    digests: dict[str, Digests] = {}
    unreadable: list[str] = []
    for path, node in root.walk("/", skip=_SKIP):
        if node.kind == "file":
            try:
                digests[path] = digests_of(node.host)
            except OSError:
                unreadable.append(path)
    ownership = owned(root)
    owners = {path: ownership.owner(path) for path in digests}
    return document(name, ownership, ownership.packages, owners, digests, system_of(root), epoch), unreadable


def document(
    name: str,
    ownership: Ownership,
    keys: Iterable[str],
    owners: dict[str, str],
    digests: dict[str, Digests],
    system: System,
    epoch: int | None,
) -> dict[str, Any]:
    """Return the document: the packages `keys`, and every file of `digests` (by path) with its owner, if any.

    A `name` that ends in `@sha256:…` also identifies the image exactly.
    """
    rows: dict[str, list[str]] = {key: [] for key in sorted(set(keys))}
    loose: list[str] = []
    order = sorted(digests)
    for path in order:
        rows.get(owners.get(path, ""), loose).append(path)
    packages = [_image(name, (digests[path].sha1 for path in loose))]
    for key, paths in rows.items():
        sums = (digests[path].sha1 for path in paths)
        packages.append(_package(_identity("Package", key), ownership.packages[key], sums, system))
    created = datetime.fromtimestamp(epoch or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": "",
        "creationInfo": {"created": created, "creators": ["Tool: chainbuild"]},
        "packages": packages,
        "files": Rows(lambda: (_file(path, digests[path]) for path in order)),
        "relationships": Rows(lambda: _relationships(rows, loose)),
    }
    return {**content, "documentNamespace": f"https://spdx.org/spdxdocs/chainbuild-{digest_of(content)}"}


def _relationships(rows: dict[str, list[str]], loose: list[str]) -> Iterator[dict[str, str]]:
    yield _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")
    for key, paths in rows.items():
        identity = _identity("Package", key)
        yield _relation("SPDXRef-image", "CONTAINS", identity)
        yield from (_relation(identity, "CONTAINS", _identity("File", path)) for path in paths)
    yield from (_relation("SPDXRef-image", "CONTAINS", _identity("File", path)) for path in loose)


def _image(name: str, sums: Iterable[str]) -> dict[str, Any]:
    repository, at, digest = name.partition("@")
    exact: dict[str, Any] = {}
    if at:
        # The format of purl's type oci; the registry is omitted because images are copied between registries.
        url = f"pkg:oci/{quote(repository.rpartition('/')[2].lower(), safe='')}@{quote(digest, safe='')}"
        exact = {"versionInfo": _text(digest), "externalRefs": [_url(url)]}
    return {
        "SPDXID": "SPDXRef-image",
        "name": _text(repository),
        **exact,
        "downloadLocation": _NOTHING,
        "supplier": _NOTHING,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
        **_analyzed(sums),
    }


def _analyzed(sums: Iterable[str]) -> dict[str, Any]:
    """Return `filesAnalyzed` and the verification code: the SHA-1 of the files' sorted SHA-1s (SPDX 2.3, 7.8 and 7.9)."""
    checksums = sorted(sums)
    if not checksums:
        return {"filesAnalyzed": False}
    code = hashlib.sha1("".join(checksums).encode(), usedforsecurity=False).hexdigest()
    return {"filesAnalyzed": True, "packageVerificationCode": {"packageVerificationCodeValue": code}}


def _package(identity: str, package: Package, sums: Iterable[str], system: System) -> dict[str, Any]:
    row: dict[str, Any] = {
        "SPDXID": identity,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _NOTHING,
        "licenseConcluded": _NOTHING,
        "licenseDeclared": package.licence if package.kind == "pypi" and package.licence else _NOTHING,
        "copyrightText": _NOTHING,
        "supplier": _NOTHING,
        "externalRefs": [_url(package_url(package, system))],
        **_analyzed(sums),
    }
    if package.supplier:
        match = re.fullmatch(r"\s*\"?([^<\"]*?)\"?\s*<([^>]+)>.*", package.supplier)
        words = f"{match[1]} ({match[2]})" if match is not None and match[1] else package.supplier
        row["supplier"] = f"Organization: {_text(words)}"
    if re.fullmatch(r"https?://\S+", package.homepage):
        row["homepage"] = _text(package.homepage)
    if package.source:
        row["sourceInfo"] = f"built from the source package {_text(package.source)}"
    return row


def package_url(package: Package, system: System) -> str:
    """Return the package URL (https://github.com/package-url/purl-spec) of `package` in an image of `system`."""
    version = quote(package.version, safe=":~")
    if package.kind == "pypi":
        return f"pkg:pypi/{quote(re.sub(r'[-_.]+', '-', package.name).lower(), safe='')}@{version}"
    space = system.name or {"deb": "debian", "apk": "alpine"}[package.kind]
    words = [f"arch={quote(package.arch, safe='')}"] if package.arch else []
    if system.version:
        words.append(f"distro={quote(f'{space}-{system.version}', safe='')}")
    if package.source:
        words.append(f"upstream={quote(package.source.split(' ')[0], safe='')}")
    return f"pkg:{package.kind}/{quote(space, safe='')}/{quote(package.name, safe='')}@{version}?{'&'.join(words)}"


def _url(locator: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}


def _file(path: str, digests: Digests) -> dict[str, Any]:
    return {
        "SPDXID": _identity("File", path),
        "fileName": f".{_text(path)}",
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": digests.sha1},
            {"algorithm": "SHA256", "checksumValue": digests.sha256},
        ],
        "licenseConcluded": _NOTHING,
        "licenseInfoInFiles": [_NOTHING],
        "copyrightText": _NOTHING,
    }


def _identity(kind: str, text: str) -> str:
    """Return an identifier of letters, digits, dots and dashes only; a digest keeps it unique if characters are replaced."""
    raw = text.encode("utf-8", "surrogateescape")
    short = _ODD.sub("-", text.rpartition("/")[2])[:40].strip("-")
    return f"SPDXRef-{kind}-{short}-{hashlib.sha256(raw).hexdigest()[:16]}"


def _text(text: str) -> str:
    """Return `text` with bytes that are not UTF-8 written as numbers."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _relation(subject: str, kind: str, target: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": target}
