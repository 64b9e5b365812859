"""Alpine's repositories: the settings of apk in an image, verified indices, and the version that `apk upgrade` would take.

Formats: apk-repositories(5), apk-world(5), apk-keys(5), and the index `APKINDEX.tar.gz`: a tar with the signature, then a tar
with the index, each compressed by itself. The signature (RSA, PKCS#1 v1.5) covers the compressed bytes of the second one.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cmp_to_key
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from msgspec import Struct, field

from chainbuild import limits
from chainbuild.distro.alpine_versions import alpine_fits, alpine_parts, compare_alpine
from chainbuild.errors import DamagedContentError
from chainbuild.minimize.root import RootFileSystem
from chainbuild.outdated.apk_repositories import NDX, V3, Repository, RepositoryReader
from chainbuild.outdated.fetching import Fetcher
from chainbuild.outdated.model import Finding, Installed, SourceError, SourceState, State
from chainbuild.patterns import regex

ETC: Final = "/etc/apk"
_MOST: Final = 1 << 20
_WORLD: Final = regex(r"(!?)([^\s=<>~@!]+)(?:@([^\s=<>~]+))?(?:([=<>~]+)([^\s@]+))?(?:@(\S+))?")
_SIGNATURES: Final = {".SIGN.RSA.": "SHA1", ".SIGN.RSA256.": "SHA256", ".SIGN.RSA512.": "SHA512"}
_ARCHITECTURES: Final = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/386": "x86", "linux/arm": "armhf"}
_ARCHITECTURES_V: Final = {"linux/arm/v7": "armv7", "linux/arm/v6": "armhf", "linux/arm64/v8": "aarch64"}


class Wish(Struct, frozen=True, kw_only=True):
    """An entry of `/etc/apk/world`: a package that the user asked for, with a version or a tagged repository."""

    name: str
    operator: str = ""
    version: str = ""
    tag: str = ""

    def allows(self, version: str) -> bool:
        """Return whether a version is one that the entry allows."""
        return alpine_fits(version, self.operator, self.version)


class ApkSettings(Struct, frozen=True, kw_only=True):
    """Where apk takes packages from: the repositories, the keys by name, and the wishes by package."""

    repositories: tuple[Repository, ...] = ()
    architecture: str = ""
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class ApkIndex(Struct, frozen=True, kw_only=True):
    """The versions by package of a repository. `tag`: packages are only taken from it if the world names the tag."""

    address: str
    tag: str
    table: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """The last two parts of the address: `v3.22/main`."""
        return "/".join(self.address.rstrip("/").split("/")[-2:])


def read_apk_settings(root: RootFileSystem, platform: str) -> ApkSettings:
    """Return the settings of apk in a root file system for a platform in OCI form. Nothing is run."""

    def text(path: str) -> str:
        return (root.read(path, _MOST) or b"").decode("utf-8", "replace")

    own = text(f"{ETC}/arch").split()
    usual = _ARCHITECTURES_V.get(platform) or _ARCHITECTURES.get("/".join(platform.split("/")[:2]), "")
    architecture = own[0] if own else usual or posixpath.basename(platform)
    reader = RepositoryReader(architecture)
    for path in (f"{ETC}/repositories", *_lists(root)):
        reader.read(text(path), path)
    wishes = {}
    for line in text(f"{ETC}/world").split():
        match = _WORLD.fullmatch(line)
        if match is not None and not match[1]:
            wish = Wish(name=match[2], operator=match[4] or "", version=match[5] or "", tag=match[3] or match[6] or "")
            wishes[wish.name] = wish
    folders = (f"{ETC}/keys", "/usr/share/apk/keys", "/lib/apk/keys", "/usr/lib/apk/keys")
    return ApkSettings(
        repositories=tuple(dict.fromkeys(reader.repositories)),
        architecture=architecture,
        wishes=wishes,
        keys={
            name: content
            for folder in folders
            for name in root.names(folder)
            if (content := root.read(f"{folder}/{name}", _MOST))
        },
        problems=tuple(reader.problems),
    )


def _lists(root: RootFileSystem) -> list[str]:
    """Return the paths of `repositories.d/*.list`, by name; of equal names, the first folder's counts."""
    paths: dict[str, str] = {}
    for folder in (f"{ETC}/repositories.d", "/lib/apk/repositories.d"):
        place = root.resolve(folder)
        for name in root.names(place) if place else ():
            if name.endswith(".list") and not name.startswith("."):
                paths.setdefault(name, f"{folder}/{name}")
    return [paths[name] for name in sorted(paths)]


# Indices --------------------------------------------------------------------------------------------------------------


def read_apk_index(fetcher: Fetcher, repository: Repository, settings: ApkSettings) -> ApkIndex:
    """Return the index of a repository, verified with the image's keys. Errors: `SourceError`."""
    if repository.form == V3 or repository.address.endswith(".adb"):
        raise SourceError(SourceState.UNSUPPORTED, "its index has the format of apk 3, which chainbuild does not read")
    url = repository.address
    if repository.form != NDX:
        url = f"{url}/{settings.architecture}/APKINDEX.tar.gz"
    raw = fetcher.get(url, limits.PACKAGE_INDEX)
    try:
        text = verified_index(raw, settings.keys)
    except (zlib.error, tarfile.TarError, EOFError, OSError, ValueError, KeyError, DamagedContentError) as error:
        raise SourceError(SourceState.UNSUPPORTED, f"its index cannot be read: {error}"[:200]) from None
    return ApkIndex(address=repository.address, tag=repository.tag, table=parse_apk_index(text))


def verified_index(raw: bytes, keys: Mapping[str, bytes]) -> str:
    """Return the index in an `APKINDEX.tar.gz` whose signature is valid. Errors: `SourceError`; those of gzip and tar."""
    inflater = zlib.decompressobj(31)
    head = inflater.decompress(raw, _MOST)
    signed = inflater.unused_data
    if not inflater.eof or not signed:
        raise SourceError(SourceState.UNVERIFIED, "its index is not signed")
    with tarfile.open(fileobj=io.BytesIO(head + b"\0" * 1024), mode="r:") as file:
        signatures = [
            (member.name, content.read())
            for member in file
            if member.isreg() and (content := file.extractfile(member)) is not None
        ]
    if not any(_is_valid(name, signature, signed, keys) for name, signature in signatures):
        names = ", ".join(sorted(_key_name(name) for name, _ in signatures))
        raise SourceError(SourceState.UNVERIFIED, f"the image has no key with which its signature is valid: {names}")
    unpacked = limits.inflate(signed, limits.PACKAGE_INDEX_UNPACKED, "the index")
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as file:
        member = file.extractfile("APKINDEX")
        return (member.read() if member is not None else b"").decode("utf-8", "replace")


def _key_name(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _SIGNATURES if name.startswith(prefix)), name)


def _is_valid(name: str, signature: bytes, signed: bytes, keys: Mapping[str, bytes]) -> bool:
    """Return whether a signature of a tar is by the key that its name says."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    algorithm = next((value for prefix, value in _SIGNATURES.items() if name.startswith(prefix)), "")
    raw = keys.get(_key_name(name))
    if not algorithm or raw is None:
        return False
    try:
        key = serialization.load_pem_public_key(raw)
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        key.verify(signature, signed, padding.PKCS1v15(), getattr(hashes, algorithm)())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def parse_apk_index(text: str) -> dict[str, list[str]]:
    """Return the versions by package of an index."""
    table: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.split("\n") if line[1:2] == ":")
        if fields.get("P") and fields.get("V"):
            table.setdefault(fields["P"], []).append(fields["V"])
    return table


# The choice -----------------------------------------------------------------------------------------------------------


class ApkPolicy:
    """The choices of apk with the settings of an image and the indices of its repositories."""

    def __init__(self, settings: ApkSettings, indices: Sequence[ApkIndex], *, complete: bool = True) -> None:
        """`complete`: all repositories could be read."""
        self._complete = complete
        self._settings = settings
        self._indices = indices

    def find(self, package: Installed) -> Finding:
        """Return what is known about an installed package.

        Whether an update is for security is unknown: indices do not say so.
        """
        wish = self._settings.wishes.get(package.name, Wish(name=package.name))
        offers = sorted(self._offers(package.name, wish), key=cmp_to_key(_newest_first))
        if not offers:
            state, note = State.UNKNOWN, "its sources could not all be read"
            if self._complete:
                state, note = State.GONE, "no source of the image has it"
            return Finding(package=package, state=state, note=note)
        newer = [(version, index) for version, index in offers if _compared(version, package.version) > 0]
        for version, index in newer:
            if _allows(wish, version):
                return Finding(package=package, state=State.OUTDATED, candidate=version, origin=index.name)
        if newer:
            version, index = newer[0]
            note = f"{ETC}/world has {wish.name}{wish.operator}{wish.version}"
            return Finding(package=package, state=State.PINNED, candidate=version, origin=index.name, note=note)
        if _compared(offers[0][0], package.version) < 0:
            note = f"the newest version of its sources is {offers[0][0]}"
            return Finding(package=package, state=State.AHEAD, note=note)
        return Finding(package=package, state=State.CURRENT)

    def _offers(self, name: str, wish: Wish) -> Iterator[tuple[str, ApkIndex]]:
        """Yield the versions that apk considers. Those of the tag that the world names come before all others.

        The order is that of `compare_providers` in solver.c of apk-tools: what the world allows, the tag, the version.
        """
        tagged = [index for index in self._indices if index.tag and index.tag == wish.tag]
        others = [index for index in self._indices if not index.tag]
        usable = any(_allows(wish, version) for index in tagged for version in index.table.get(name, ()))
        for index in tagged if usable else (*tagged, *others):
            for version in index.table.get(name, ()):
                yield version, index


def _newest_first(one: tuple[str, ApkIndex], other: tuple[str, ApkIndex]) -> int:
    return -_compared(one[0], other[0])


def _compared(one: str, other: str) -> int:
    """Compare versions; one that is invalid is older than all others."""
    valid, other_valid = _is_version(one), _is_version(other)
    return compare_alpine(one, other) if valid and other_valid else valid - other_valid


def _is_version(text: str) -> bool:
    try:
        alpine_parts(text)
    except ValueError:
        return False
    return True


def _allows(wish: Wish, version: str) -> bool:
    try:
        return wish.allows(version)
    except ValueError:
        return False
