"""Find the version of a package that apt would install: apt_preferences(5), by the rules of apt's `policy.cc` (apt 3.1).

1. Each index has a priority: 500; 100 or 1 if its Release file says NotAutomatic; that of the first general pin that matches
   it, before which APT::Default-Release counts with 990. The installed version has 100.
2. A version has the priority of the first specific pin that matches it, else the highest one of its indices.
3. The candidate is the version with the highest priority, the newest one of those. A version that is older than the installed
   one needs 1000.

Phased updates (Phased-Update-Percentage) count as available: apt includes them on systems without a machine id, which is how
images are (`ExcludePhased` in `policy.cc`), unless APT::Get::Never-Include-Phased-Updates is set.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from chainbuild.distro.debian_versions import DebianKey, debian_key
from chainbuild.outdated.apt_index import EVERY, AptIndex
from chainbuild.outdated.apt_settings import LOWEST, AptSettings, Pin
from chainbuild.outdated.model import Finding, Installed, State
from chainbuild.patterns import regex

_INSTALLED: Final = 100
_USUAL: Final = 500
_DOWNGRADES: Final = 1000
_RELEASE_FIELDS: Final = frozenset("voanlcb")
_SIMPLE: Final = regex(r"/\^?(?:[A-Za-z0-9_-]|\\[.+]|\.(?![*+]))*(?:\.[*+](?:[A-Za-z0-9_-]|\\[.+])*){0,3}\$?/")
"""Regular expressions of letters, `.`, up to three `.*`, and escaped dots. An image may not choose how long a match takes."""


class Offer(Struct, frozen=True, kw_only=True):
    """A version of a package, and the indices that have it; none for the installed version of no source."""

    version: str
    source: str = ""
    phased: int = EVERY
    indices: tuple[AptIndex, ...] = ()

    @property
    def is_security(self) -> bool:
        """Return whether a suite of security updates has it."""
        return any(index.release.is_security for index in self.indices)


class AptPolicy:
    """The choices of apt with the settings of an image and the indices of its sources."""

    def __init__(
        self, settings: AptSettings, indices: Sequence[AptIndex], native: str, *, complete: bool = True
    ) -> None:
        """`native` is Debian's name of the image's architecture. `complete`: all of the image's sources could be read."""
        self._complete = complete
        self._found: dict[Installed, Finding] = {}
        self._settings = settings
        self._indices = indices
        self._native = native
        general = [pin for pin in settings.pins if not pin.packages]
        self._specific = [pin for pin in settings.pins if pin.packages]
        if settings.default_release:
            wanted = Pin(packages=(), kind="release", data=settings.default_release, priority=990, place="apt.conf")
            general.insert(0, wanted)
        self.problems = tuple(
            f"{pin.place}: this regular expression is not understood: {name}"[:200]
            for pin in settings.pins
            for name in (*pin.packages, pin.data)
            if not is_read(name)
        )
        """Records of the preferences that are ignored here, but not by apt."""
        self._priorities = {id(index): _index_priority(index, general) for index in indices}

    def find(self, package: Installed) -> Finding:
        """Return what is known about an installed package. The same package is judged once."""
        if package not in self._found:
            self._found[package] = self._judged(package)
        return self._found[package]

    def _judged(self, package: Installed) -> Finding:
        offers = self._offers(package)
        available = [offer for offer in offers if offer.indices]
        if not available:
            if not self._complete:
                return Finding(package=package, state=State.UNKNOWN, note="its sources could not all be read")
            return Finding(package=package, state=State.GONE, note="no source of the image has it")
        chosen = self._chosen(package, offers)
        newer = [offer for offer in available if debian_key(offer.version) > debian_key(package.version)]
        security = any(offer.is_security for offer in newer)
        if chosen is not None and debian_key(chosen.version) > debian_key(package.version):
            state = State.HELD if package.held else State.OUTDATED
            note = "on hold" if package.held else _phase(chosen)
            return _finding(package, state, chosen, security=security, note=note)
        if newer:
            reason = self._reason(package, newer)
            # What only a suite offers from which apt installs nothing by itself is no news.
            if reason:
                return _finding(package, State.PINNED, newer[0], security=security, note=reason)
        if all(debian_key(offer.version) < debian_key(package.version) for offer in available):
            note = f"the newest version of its sources is {available[0].version}"
            return Finding(package=package, state=State.AHEAD, note=note)
        return Finding(package=package, state=State.CURRENT)

    def _offers(self, package: Installed) -> list[Offer]:
        """Return all versions of a package, the newest first, with the installed one among them."""
        found: dict[str, Offer] = {}
        for index in self._indices:
            if package.arch not in {"all", index.architecture} and index.architecture not in {"", "all"}:
                continue
            for version, source, phased in index.table.get(package.name, ()):
                earlier = found.get(version)
                indices = (*earlier.indices, index) if earlier else (index,)
                found[version] = Offer(version=version, source=source or package.name, phased=phased, indices=indices)
        found.setdefault(package.version, Offer(version=package.version, source=package.source or package.name))
        return sorted((offer for offer in found.values() if _is_version(offer)), key=_order, reverse=True)

    def _chosen(self, package: Installed, offers: Iterable[Offer]) -> Offer | None:
        """Return apt's candidate (`pkgPolicy::GetCandidateVer`)."""
        best, highest = None, -1
        for offer in offers:
            priority = self._priority(package, offer)
            if priority == 0 or priority <= highest:
                continue
            if priority < _DOWNGRADES and debian_key(offer.version) < debian_key(package.version):
                continue
            best, highest = offer, priority
        return best

    def _priority(self, package: Installed, offer: Offer) -> int:
        """Return the priority of a version (`pkgPolicy::GetPriority`)."""
        excluded = self._settings.never_phased and offer.phased < EVERY and not offer.is_security
        ceiling = 1 if excluded else -LOWEST
        own = [_INSTALLED] if offer.version == package.version else []
        all_of = [*(self._priorities[id(index)] for index in offer.indices), *own]
        pin = next(self._pins(package, offer), None)
        if pin is not None and any(priority != LOWEST for priority in all_of):
            return min(pin.priority, ceiling)
        return min(max(all_of, default=0), ceiling)

    def _pins(self, package: Installed, offer: Offer) -> Iterator[Pin]:
        for pin in self._specific:
            if any(self._names(name, package, offer) for name in pin.packages) and _matches_version(pin, offer):
                yield pin

    def _names(self, pattern: str, package: Installed, offer: Offer) -> bool:
        by_source = pattern.startswith("src:")
        name, _, arch = pattern.removeprefix("src:").partition(":")
        if (arch or self._native) not in {package.arch, "any"} and not (package.arch == "all" and not arch):
            return False
        return matches(name, offer.source if by_source else package.name)

    def _reason(self, package: Installed, newer: Sequence[Offer]) -> str:
        """Return why a newer version is not the candidate; empty if its suite is one that apt never takes by itself."""
        for offer in newer:
            if pin := next(self._pins(package, offer), None):
                return f"pinned by {pin.place}"
        for pin in self._specific:
            if any(self._names(name, package, newer[0]) for name in pin.packages):
                return f"pinned by {pin.place}"
        usual = [offer for offer in newer if any(not index.release.not_automatic for index in offer.indices)]
        if not usual:
            return ""
        if self._settings.never_phased and all(offer.phased < EVERY for offer in usual):
            return f"phased to {usual[0].phased} %, and apt.conf excludes phased updates"
        general = next((pin.place for pin in self._settings.pins if not pin.packages), "apt.conf")
        return f"pinned by {general}"


def _finding(package: Installed, state: State, offer: Offer, *, security: bool, note: str) -> Finding:
    # If several suites have it, the one for security updates says most.
    index = next((index for index in offer.indices if index.release.is_security), offer.indices[0])
    return Finding(
        package=package, state=state, candidate=offer.version, security=security, origin=index.name, note=note
    )


def _phase(offer: Offer) -> str:
    return f"phased to {offer.phased} %" if offer.phased < EVERY else ""


def _is_version(offer: Offer) -> bool:
    try:
        debian_key(offer.version)
    except ValueError:
        return False
    return True


def _order(offer: Offer) -> DebianKey:
    return debian_key(offer.version)


# Matching -------------------------------------------------------------------------------------------------------------


def _index_priority(index: AptIndex, general: Iterable[Pin]) -> int:
    for pin in general:
        if _matches_index(pin, index):
            return pin.priority
    if index.release.not_automatic:
        return _INSTALLED if index.release.automatic_upgrades else 1
    return _USUAL


def _matches_version(pin: Pin, offer: Offer) -> bool:
    if pin.kind in {"version", "source-version"}:
        return matches(pin.data, offer.version)
    return any(_matches_index(pin, index) for index in offer.indices)


def _matches_index(pin: Pin, index: AptIndex) -> bool:
    release = index.release
    if pin.kind == "origin":
        return matches(pin.data.strip('"'), urlsplit(index.source.uri).hostname or "")
    if pin.data == "*":
        return True
    if "=" not in pin.data:
        values = (release.version,) if pin.data[:1].isdigit() else (release.suite, release.codename)
        return any(matches(pin.data, value) for value in values)
    values_by_field: Mapping[str, str] = {
        "v": release.version,
        "o": release.origin,
        "a": release.suite,
        "n": release.codename,
        "l": release.label,
        "c": index.component,
        "b": index.architecture,
    }
    conditions = [word.strip().partition("=") for word in pin.data.split(",")]
    known = [(name.lower(), value) for name, _, value in conditions if name.lower() in _RELEASE_FIELDS and value]
    return bool(known) and all(matches(value, values_by_field[name]) for name, value in known)


def matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a pattern of the preferences: a glob, or a regular expression in slashes."""
    expression = _expression(pattern)
    return expression is not None and expression.search(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str] | None:
    if is_expression(pattern):
        return re.compile(pattern[1:-1], re.IGNORECASE) if _SIMPLE.fullmatch(pattern) else None
    return re.compile(rf"\A{fnmatch.translate(pattern)}", re.IGNORECASE)


def is_expression(pattern: str) -> bool:
    """Return whether a pattern of the preferences is a regular expression."""
    return len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/")


def is_read(pattern: str) -> bool:
    """Return whether a pattern is understood: all globs, and regular expressions that take little time on every text."""
    return not is_expression(pattern) or _SIMPLE.fullmatch(pattern) is not None
