"""Find the version of a package that apt would install: apt_preferences(5), by the rules of apt's `policy.cc` (apt 3.1).

1. Each index has a priority: 500; 100 or 1 if its Release file says NotAutomatic; that of the first general pin that matches
   it, before which APT::Default-Release counts with 990. dpkg's database is one of them, with 100 or that of a pin.
2. A version has the priority of the first specific pin that matches it, else the highest one of its indices.
3. The candidate is the version with the highest priority, the newest one of those. A version that is older than the installed
   one needs 1000.
4. `upgrade` keeps packages that are on hold, and those whose candidate is phased and not for this image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from chainbuild.distro.debian_versions import DebianKey, debian_key
from chainbuild.outdated.apt_index import EVERY, AptIndex
from chainbuild.outdated.apt_pins import is_read, matches_index, matches_package, matches_status, matches_version
from chainbuild.outdated.apt_settings import LOWEST, AptSettings, Pin
from chainbuild.outdated.model import Finding, Installed, State
from chainbuild.patterns import regex
from chainbuild.values import replace

_INSTALLED: Final = 100
_USUAL: Final = 500
_DOWNGRADES: Final = 1000
_SOURCE: Final = regex(r"(\S*)(?:\s+\(([^()]*)\))?.*")


class Offer(Struct, frozen=True, kw_only=True):
    """A version of a package, its source package, and the indices that have it. `installed`: dpkg's database has it, too."""

    version: str
    source: str = ""
    source_version: str = ""
    phased: int = EVERY
    indices: tuple[AptIndex, ...] = ()
    installed: bool = False

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
        self._priorities = {
            id(index): _pinned([pin for pin in general if matches_index(pin, index)], _usual_priority(index))
            for index in indices
        }
        self._installed = _pinned([pin for pin in general if matches_status(pin)], _INSTALLED)

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
            state, note = State.OUTDATED, f"phased to {chosen.phased} %" if chosen.phased < EVERY else ""
            if package.held:
                state, note = State.HELD, "on hold"
            elif reason := self._kept_back(chosen, newer):
                state, note = State.PINNED, reason
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
        wanted = self._arch_of(package.arch)
        for index in self._indices:
            for version, source, phased, arch in index.table.get(package.name, ()):
                if self._arch_of(arch or index.architecture) != wanted:
                    continue
                earlier = found.get(version) or _offer(package.name, version, source, phased)
                found[version] = replace(earlier, indices=(*earlier.indices, index))
        own = found.get(package.version) or _offer(package.name, package.version, package.source, EVERY)
        found[package.version] = replace(own, installed=True)
        return sorted((offer for offer in found.values() if _is_version(offer)), key=_order, reverse=True)

    def _arch_of(self, arch: str) -> str:
        """Return the architecture of which apt takes a package to be."""
        return self._native if arch == "all" else arch

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
        phasing = self._settings.phasing
        ceiling = 1 if phasing.by_policy and self._phase(offer) else -LOWEST
        places = [self._priorities[id(index)] for index in offer.indices]
        if offer.installed:
            places.append(self._installed)
        pin = next(self._pins(package, offer), None)
        if pin is not None and any(priority != LOWEST for priority in places):
            return min(pin.priority, ceiling)
        return min(max(places, default=0), ceiling)

    def _phase(self, offer: Offer) -> str:
        return self._settings.phasing.excludes(offer.phased, offer.source, offer.source_version)

    def _kept_back(self, chosen: Offer, newer: Iterable[Offer]) -> str:
        """Return why `upgrade` keeps a package whose candidate is phased; empty if it does not (`PhasingApplied`)."""
        up_to = [offer for offer in newer if debian_key(offer.version) <= debian_key(chosen.version)]
        suites = {index.release.suite for offer in up_to for index in offer.indices}
        if self._settings.phasing.by_policy or any(suite.endswith("-security") for suite in suites):
            return ""
        return self._phase(chosen)

    def _pins(self, package: Installed, offer: Offer) -> Iterator[Pin]:
        """Yield the specific pins that match a version, the first one first."""
        for pin in self._specific:
            if self._names(pin, package, offer) and _matches(pin, offer):
                yield pin

    def _names(self, pin: Pin, package: Installed, offer: Offer) -> bool:
        arch = self._arch_of(package.arch)
        return any(matches_package(name, package.name, offer.source, arch, self._native) for name in pin.packages)

    def _reason(self, package: Installed, newer: Sequence[Offer]) -> str:
        """Return why a newer version is not the candidate; empty if its suite is one that apt never takes by itself."""
        for offer in newer:
            if pin := next(self._pins(package, offer), None):
                return f"pinned by {pin.place}"
        for pin in self._specific:
            if self._names(pin, package, newer[0]):
                return f"pinned by {pin.place}"
        usual = [offer for offer in newer if any(not index.release.not_automatic for index in offer.indices)]
        if not usual:
            return ""
        if self._settings.phasing.by_policy and all(self._phase(offer) for offer in usual):
            return self._phase(usual[0])
        general = next((pin.place for pin in self._settings.pins if not pin.packages), "apt.conf")
        return f"pinned by {general}"


def _finding(package: Installed, state: State, offer: Offer, *, security: bool, note: str) -> Finding:
    # If several suites have it, the one for security updates says most.
    index = next((index for index in offer.indices if index.release.is_security), offer.indices[0])
    return Finding(
        package=package, state=state, candidate=offer.version, security=security, origin=index.name, note=note
    )


def _offer(name: str, version: str, source: str, phased: int) -> Offer:
    match = _SOURCE.match(source)
    source, source_version = (match[1], match[2]) if match else ("", "")
    return Offer(version=version, source=source or name, source_version=source_version or version, phased=phased)


def _is_version(offer: Offer) -> bool:
    try:
        debian_key(offer.version)
    except ValueError:
        return False
    return True


def _order(offer: Offer) -> DebianKey:
    return debian_key(offer.version)


# Priorities -----------------------------------------------------------------------------------------------------------


def _usual_priority(index: AptIndex) -> int:
    if index.release.automatic_upgrades:
        return _INSTALLED
    return 1 if index.release.not_automatic else _USUAL


def _pinned(pins: Sequence[Pin], usual: int) -> int:
    """Return the priority of an index with the general pins that match it. `never` counts before the others."""
    never = any(pin.priority == LOWEST for pin in pins)
    return LOWEST if never else pins[0].priority if pins else usual


def _matches(pin: Pin, offer: Offer) -> bool:
    if pin.kind in {"version", "source-version"}:
        return matches_version(pin, offer.version, offer.source_version)
    return any(matches_index(pin, index) for index in offer.indices) or (offer.installed and matches_status(pin))
