"""Compare the packages of images with their sources. Each source is fetched once for all images that trust the same keys."""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from chainbuild.in_parallel import in_parallel
from chainbuild.once import Once
from chainbuild.outdated.alpine import ApkIndex, ApkPolicy, ApkSettings, read_apk_index
from chainbuild.outdated.apk_repositories import Repository
from chainbuild.outdated.apt_index import AptIndex, read_indices, read_release
from chainbuild.outdated.apt_policy import AptPolicy
from chainbuild.outdated.apt_settings import AptSettings, AptSource
from chainbuild.outdated.fetching import Fetcher, Store
from chainbuild.outdated.inventory import Inventory
from chainbuild.outdated.model import (
    APK,
    DEB,
    PYPI,
    Finding,
    Installed,
    SourceError,
    SourceReport,
    SourceState,
    State,
)
from chainbuild.outdated.python_index import PythonIndex, PythonPolicy
from chainbuild.registry.http.transport import Transport
from chainbuild.text import without_login


class Asked:
    """Which sources were asked, and what was not understood in the settings of images. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[str, SourceReport] = {}
        self._problems: dict[str, None] = {}

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """The sources, sorted by kind and name."""
        unique = {(report.kind, report.name, report.reason): report for report in self._reports.values()}
        return tuple(sorted(unique.values(), key=lambda report: (report.kind, report.name)))

    @property
    def problems(self) -> tuple[str, ...]:
        """What was not understood."""
        return tuple(self._problems)

    def report(self, key: str, report: SourceReport) -> None:
        """Report a source; an earlier report with its key is replaced only by one that the source cannot be used."""
        with self._lock:
            if key not in self._reports or not report.state.is_used:
                self._reports[key] = report

    def add(self, other: Asked) -> None:
        """Add what another image's sources were asked."""
        for key, report in other._reports.items():
            self.report(key, report)
        self.notice(*other.problems)

    def notice(self, *texts: str) -> None:
        """Add problems."""
        with self._lock:
            self._problems.update(dict.fromkeys(texts))


class Sources:
    """The sources of packages of any number of images. Thread-safe."""

    def __init__(
        self, transport: Transport, store: Store | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store or Store()
        self.fetcher = Fetcher(transport, self._store)
        self._clock = clock
        self.asked = Asked()
        self._indices: Once[str, tuple[tuple[AptIndex, ...] | ApkIndex | None, SourceReport]] = Once()
        self._policies: Once[str, tuple[AptPolicy, Asked]] = Once()
        self._python_index = PythonIndex(self.fetcher)

    def apart(self) -> Sources:
        """Return the same sources, which share what was read, with reports and problems of their own."""
        other = copy.copy(self)
        other.asked = Asked()
        return other

    def compare(self, inventory: Inventory) -> tuple[Finding, ...]:
        """Return what is known about every package of an image, in their order."""
        by_kind = {kind: [item for item in inventory.packages if item.kind == kind] for kind in (DEB, APK, PYPI)}
        found = {
            DEB: iter(self._apt(inventory, by_kind[DEB]) if by_kind[DEB] else ()),
            APK: iter(self._apk(inventory.apk, by_kind[APK]) if by_kind[APK] else ()),
            PYPI: iter(self._python(inventory, by_kind[PYPI]) if by_kind[PYPI] else ()),
        }
        return tuple(next(found[package.kind]) for package in inventory.packages)

    # Debian and Ubuntu ------------------------------------------------------------------------------------------------

    def _apt(self, inventory: Inventory, packages: Sequence[Installed]) -> list[Finding]:
        settings = inventory.apt
        if not settings.sources:
            note = "the image has no sources of apt"
            return [Finding(package=package, state=State.UNKNOWN, note=note) for package in packages]
        chosen = sorted({package.arch for package in packages} - {"all", ""} | {inventory.architecture})
        key = _digest(settings, inventory.architecture, chosen)

        def make() -> tuple[AptPolicy, Asked]:
            asked = Asked()
            results = list(
                in_parallel(lambda source: self._apt_source(source, settings, chosen, asked), settings.sources)
            )
            indices = [index for result in results for index in result or ()]
            policy = AptPolicy(settings, indices, inventory.architecture, complete=None not in results)
            asked.notice(*settings.problems, *policy.problems)
            return policy, asked

        policy, asked = self._policies.get(key, make)
        self.asked.add(asked)
        return [policy.find(package) for package in packages]

    def _apt_source(
        self, source: AptSource, settings: AptSettings, architectures: Sequence[str], asked: Asked
    ) -> tuple[AptIndex, ...] | None:
        paths = source.keyrings or settings.trusted
        key = _digest(source, [settings.keys.get(path, b"") for path in paths], settings.ignores_dates, architectures)
        name = without_login(source.uri) + source.name.removeprefix(source.uri.rstrip("/"))

        def read() -> tuple[tuple[AptIndex, ...], SourceReport]:
            release = read_release(self.fetcher, source, settings, self._clock())
            state = SourceState.OK if release.is_verified else SourceState.TRUSTED
            reason = "" if release.is_verified else "not signed by a key of the image, but the image trusts it"
            report = SourceReport(kind=DEB, name=name, state=state, reason=reason, date=release.date)
            return read_indices(self.fetcher, self._store, source, release, architectures), report

        result = self._once(key, DEB, name, read, asked)
        return result if isinstance(result, tuple) else None

    # Alpine -----------------------------------------------------------------------------------------------------------

    def _apk(self, settings: ApkSettings, packages: Sequence[Installed]) -> list[Finding]:
        self.asked.notice(*settings.problems)
        if not settings.repositories:
            note = "the image has no repositories of apk"
            return [Finding(package=package, state=State.UNKNOWN, note=note) for package in packages]
        results = in_parallel(lambda repository: self._apk_source(repository, settings), settings.repositories)
        found = [index for index in results if index is not None]
        policy = ApkPolicy(settings, found, complete=None not in results)
        return [policy.find(package) for package in packages]

    def _apk_source(self, repository: Repository, settings: ApkSettings) -> ApkIndex | None:
        name = f"{without_login(repository.address)} {settings.architecture}"

        def read() -> tuple[ApkIndex, SourceReport]:
            index = read_apk_index(self.fetcher, repository, settings)
            return index, SourceReport(kind=APK, name=name, state=SourceState.OK)

        key = _digest(repository, settings.architecture, sorted(settings.keys.items()))
        result = self._once(key, APK, name, read, self.asked)
        return result if isinstance(result, ApkIndex) else None

    # Python -----------------------------------------------------------------------------------------------------------

    def _python(self, inventory: Inventory, packages: Sequence[Installed]) -> list[Finding]:
        policy = PythonPolicy(self._python_index, inventory.python, packages)
        name = " ".join(map(without_login, inventory.python.indices))

        def find(package: Installed) -> Finding:
            try:
                finding = policy.find(package)
            except SourceError as error:
                self.asked.report(name, SourceReport(kind=PYPI, name=name, state=error.state, reason=error.reason))
                return Finding(package=package, state=State.UNKNOWN, note="its index could not be read")
            return finding

        found = list(in_parallel(find, packages))
        self.asked.report(name, SourceReport(kind=PYPI, name=name, state=SourceState.OK))
        return found

    # Every source once ------------------------------------------------------------------------------------------------

    def _once(
        self,
        key: str,
        kind: str,
        name: str,
        read: Callable[[], tuple[tuple[AptIndex, ...] | ApkIndex, SourceReport]],
        asked: Asked,
    ) -> tuple[AptIndex, ...] | ApkIndex | None:
        """Return the result of `read` for a key, and report the source to `asked`; None if it cannot be used."""

        def read_or_failed() -> tuple[tuple[AptIndex, ...] | ApkIndex | None, SourceReport]:
            try:
                return read()
            except SourceError as error:
                return None, SourceReport(kind=kind, name=name, state=error.state, reason=error.reason)

        result, report = self._indices.get(key, read_or_failed)
        asked.report(key, report)
        return result


def _digest(*values: Any) -> str:
    """Return a digest of settings. Images with the same settings share what was read."""
    return hashlib.sha256(msgspec.msgpack.encode(values)).hexdigest()
