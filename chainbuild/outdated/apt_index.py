"""Read the package lists of apt repositories: the Release file of a suite, verified, and the indices that it lists.

Formats: the Debian wiki's "Repository format" (InRelease, Release, Packages, by-hash). An index counts only with the
SHA-256 that a verified Release file has for it. From an index, a table of the versions by package is kept, which is small
and quick to read.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.outdated.apt_settings import AptSettings, AptSource, truth_of, whole_fields
from chainbuild.outdated.fetching import Fetcher, Store
from chainbuild.outdated.model import SourceError, SourceState
from chainbuild.outdated.openpgp import verified
from chainbuild.patterns import regex
from chainbuild.values import decode_msgpack, replace

EVERY: Final = 100
"""The Phased-Update-Percentage of versions without one."""
_VERSION: Final = 2
"""Increment if the form of the kept tables changes."""
_FIELDS: Final = regex(
    rb"(?m)^(?:(Package|Version|Source|Architecture|Phased-Update-Percentage):[ \t]*(.*?)[ \t\r]*)?$"
)
_ENDINGS: Final = (".xz", ".gz", ".bz2", "")
_MOST_TABLE: Final = 256 << 20

Row = tuple[str, str, int, str]
"""A version of a package; its source package, as `Source` has it; its Phased-Update-Percentage; and its architecture, empty if
it is that of the index."""
Table = dict[str, list[Row]]


class _KeptTable(Struct, frozen=True, kw_only=True):
    form: int
    digest: str
    table: Table


class Release(Struct, frozen=True, kw_only=True):
    """A Release file: the fields that preferences and apt look at, and the indices by path with their SHA-256 and size."""

    origin: str = ""
    label: str = ""
    suite: str = ""
    codename: str = ""
    version: str = ""
    date: str = ""
    not_automatic: bool = False
    automatic_upgrades: bool = False
    by_hash: bool = False
    has_all: bool = False
    """True if it has an index of the architecture-independent packages that apt reads, beside those of architectures."""
    is_verified: bool = True
    files: Mapping[str, tuple[str, int]]

    @property
    def is_security(self) -> bool:
        """Return whether it is a suite of security updates: Debian's label, or Ubuntu's pocket `-security`."""
        return self.label.lower() == "debian-security" or self.suite.partition("/")[0].endswith("-security")


class AptIndex(Struct, frozen=True, kw_only=True):
    """An index of a suite: the versions of packages for one architecture in one component."""

    source: AptSource
    release: Release
    component: str
    architecture: str
    table: Mapping[str, Sequence[Row]]

    @property
    def name(self) -> str:
        """The suite and the component as `apt-cache policy` shows them."""
        suite = self.source.suite.strip("/") or self.release.suite or self.source.uri.rstrip("/").rpartition("/")[2]
        return f"{suite}/{self.component}" if self.component else suite


def read_release(fetcher: Fetcher, source: AptSource, settings: AptSettings, now: float) -> Release:
    """Return the Release file of a suite, verified with the keys of the image. `now` is in seconds since the epoch.

    Errors: `SourceError` if it cannot be fetched, is not signed by a key that the image trusts for it, or has expired.
    """
    folder = _folder(source)
    paths = source.keyrings or settings.trusted
    keys = [settings.keys.get(path, b"") if path.startswith("/") else path.encode() for path in paths]
    try:
        raw = fetcher.get(f"{folder}/InRelease", limits.RELEASE)
        signature = None
    except SourceError as error:
        if error.state is not SourceState.MISSING:
            raise
        raw = fetcher.get(f"{folder}/Release", limits.RELEASE)
        signature = None if source.trusted else _signature(fetcher, folder)
    try:
        text = verified(raw, keys, signature=signature, only=source.only)
        is_verified = True
    except SourceError:
        if not source.trusted:
            raise
        text, is_verified = _without_signature(raw), False
    release, until = parse_release(text.decode("utf-8", "replace"))
    if until and not (source.ignores_date or settings.ignores_dates) and _seconds(until) < now:
        raise SourceError(SourceState.EXPIRED, f"its list was valid until {until}")
    return replace(release, is_verified=is_verified)


def _folder(source: AptSource) -> str:
    base = source.uri.rstrip("/")
    if source.suite.endswith("/"):
        return f"{base}/{source.suite.strip('/')}".rstrip("/")
    return f"{base}/dists/{source.suite}"


def _signature(fetcher: Fetcher, folder: str) -> bytes:
    try:
        return fetcher.get(f"{folder}/Release.gpg", limits.RELEASE)
    except SourceError as error:
        if error.state is SourceState.MISSING:
            raise SourceError(SourceState.UNVERIFIED, "it is not signed") from None
        raise


def _without_signature(raw: bytes) -> bytes:
    """Return the text of a cleartext signature without checking it, or a document that is not signed."""
    _, marked, rest = raw.partition(b"-----BEGIN PGP SIGNED MESSAGE-----")
    if not marked:
        return raw
    return rest.partition(b"\n\n")[2].partition(b"-----BEGIN PGP SIGNATURE-----")[0]


def parse_release(text: str) -> tuple[Release, str]:
    """Return the content of a Release file, and its Valid-Until. Errors: `SourceError` if it lists no index."""
    fields = whole_fields(text.strip("\n"))
    files: dict[str, tuple[str, int]] = {}
    for line in fields.get("sha256", "").splitlines():
        words = line.split()
        if len(words) == 3 and words[1].isdecimal() and len(words[1]) < 16:
            files[words[2].removeprefix("./")] = words[0].lower(), int(words[1])
    if not files:
        raise SourceError(SourceState.UNSUPPORTED, "its Release file has no SHA-256 of any index")
    release = Release(
        origin=fields.get("origin", ""),
        label=fields.get("label", ""),
        suite=fields.get("suite", ""),
        codename=fields.get("codename", ""),
        version=fields.get("version", ""),
        date=fields.get("date", ""),
        not_automatic=truth_of(fields.get("notautomatic", "")),
        automatic_upgrades=truth_of(fields.get("butautomaticupgrades", "")),
        by_hash=truth_of(fields.get("acquire-by-hash", "")),
        has_all="all" in fields.get("architectures", "").split()
        and "packages" not in fields.get("no-support-for-architecture-all", "").lower(),
        files=files,
    )
    return release, fields.get("valid-until", "")


def _seconds(date: str) -> float:
    """Return a date of RFC 5322 in seconds since the epoch; 0 if it is none, so that it counts as expired."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


# Indices --------------------------------------------------------------------------------------------------------------


def read_indices(
    fetcher: Fetcher, store: Store, source: AptSource, release: Release, architectures: Sequence[str]
) -> tuple[AptIndex, ...]:
    """Return the indices of a suite for architectures, as far as the suite has them. Errors: `SourceError`."""
    if not source.has_packages:
        return ()
    places: list[tuple[str, str, str]] = []
    if source.suite.endswith("/"):
        places.append(("", "", "Packages"))
    else:
        names = source.chosen((*architectures, *(["all"] if release.has_all else [])))
        places += [
            (component, name, f"{component}/binary-{name}/Packages")
            for component in dict.fromkeys(source.components)
            for name in names
        ]
    return tuple(
        AptIndex(
            source=source,
            release=release,
            component=component,
            architecture=architecture,
            table=_table(fetcher, store, source, release, path, architecture),
        )
        for component, architecture, path in places
        if any(f"{path}{ending}" in release.files for ending in _ENDINGS)
    )


def _table(fetcher: Fetcher, store: Store, source: AptSource, release: Release, path: str, architecture: str) -> Table:
    """Return the table of an index: that of the cache folder, if it was made from the same index."""
    ending = next(ending for ending in _ENDINGS if f"{path}{ending}" in release.files)
    digest, size = release.files[f"{path}{ending}"]
    slot = f"table {_folder(source)}/{path}"
    raw = store.read(slot, _MOST_TABLE)
    try:
        kept = decode_msgpack(raw, _KeptTable) if raw else None
    except msgspec.MsgspecError:
        kept = None
    if kept is not None and (kept.form, kept.digest) == (_VERSION, digest):
        return kept.table
    content = _index(fetcher, f"{_folder(source)}/{path}{ending}", release, digest, size)
    table = parse_packages(_unpacked(content, ending, path), architecture)
    store.write(slot, msgspec.msgpack.encode(_KeptTable(form=_VERSION, digest=digest, table=table)))
    return table


def _index(fetcher: Fetcher, url: str, release: Release, digest: str, size: int) -> bytes:
    """Return an index with the given SHA-256 and size."""
    limit = limits.PACKAGE_INDEX
    hashed = f"{url.rpartition('/')[0]}/by-hash/SHA256/{digest}"
    for address in (hashed, url) if release.by_hash else (url,):
        try:
            content = fetcher.get(address, limit, keep=False)
        except SourceError:
            if address == url:
                raise
            continue  # not all mirrors have files by hash
        finally:
            fetcher.forget(address)
        if len(content) == size and hashlib.sha256(content).hexdigest() == digest:
            return content
    raise SourceError(SourceState.UNVERIFIED, f"{url.rpartition('/')[2]} is not what its signed list says")


def _unpacked(content: bytes, ending: str, path: str) -> bytes:
    limit = limits.PACKAGE_INDEX_UNPACKED
    try:
        if ending == ".gz":
            return limits.inflate(content, limit, path)
        if not ending:
            return content
        # One byte more than allowed, to detect what is too long.
        inflater = lzma.LZMADecompressor() if ending == ".xz" else bz2.BZ2Decompressor()
        unpacked = inflater.decompress(content, limit.value + 1)
        limit.check(len(unpacked), path)
    except (OSError, EOFError, lzma.LZMAError, DamagedContentError) as error:
        raise SourceError(SourceState.UNSUPPORTED, f"{path} cannot be unpacked: {error}"[:200]) from None
    if not inflater.eof:
        raise SourceError(SourceState.UNSUPPORTED, f"{path} cannot be unpacked: it is cut off")
    return unpacked


def parse_packages(raw: bytes, architecture: str = "") -> Table:
    """Return the versions by package of the Packages index of an architecture."""
    table: Table = {}
    fields: dict[bytes, bytes] = {}
    for match in _FIELDS.finditer(raw + b"\n"):
        name = match[1]
        if name:
            fields.setdefault(name, match[2])
        elif fields:
            _add(table, fields, architecture)
            fields = {}
    if fields:
        _add(table, fields, architecture)
    return table


def _add(table: Table, fields: Mapping[bytes, bytes], architecture: str) -> None:
    if b"Package" not in fields or b"Version" not in fields:
        return
    arch = fields.get(b"Architecture", b"").decode("utf-8", "replace")
    phased = fields.get(b"Phased-Update-Percentage", b"")
    row = (
        fields[b"Version"].decode("utf-8", "replace"),
        fields.get(b"Source", b"").decode("utf-8", "replace"),
        int(phased) if phased.isdigit() and len(phased) < 4 else EVERY,
        "" if arch == architecture else arch,
    )
    table.setdefault(fields[b"Package"].decode("utf-8", "replace"), []).append(row)
