"""Installed packages, the versions that their sources offer, and what follows, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

DEB: Final = "deb"
APK: Final = "apk"
PYPI: Final = "pypi"
"""The kinds of packages, as in package URLs: of dpkg, of apk, and Python distributions of an index."""


class Installed(Struct, frozen=True, kw_only=True):
    """A package of an image. `source` is the field of its source package; `arch` is empty for Python distributions.

    `place`: the folder of a Python distribution, because an image may have several environments. `requires`: what it requires
    (Requires-Dist). `only_files`: the image has only files of it, and the record of a production image; the package manager
    does not know it.
    """

    kind: str
    name: str
    version: str
    arch: str = ""
    source: str = ""
    held: bool = False
    place: str = ""
    requires: tuple[str, ...] = ()
    from_url: bool = False
    only_files: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What the same package has in another image, in the same version."""
        return self.kind, self.name, self.arch, self.version


class State(StrEnum):
    """What a comparison with the sources says about a package."""

    CURRENT = "current"
    OUTDATED = "outdated"
    HELD = "held"
    """A newer version exists, but the package is on hold (`apt-mark hold`)."""
    PINNED = "pinned"
    """A newer version exists, but the image's settings, or what requires the package, exclude it."""
    AHEAD = "ahead"
    """It is newer than everything that the sources have."""
    GONE = "gone"
    """No source has the package any more."""
    UNKNOWN = "unknown"
    """Its sources could not be read, or it came from no source."""


class Finding(Struct, frozen=True, kw_only=True):
    """What is known about a package of an image.

    `candidate`: the version that an update would install, or that is excluded (`HELD`, `PINNED`); `security`: whether it has
    a security update, None if the sources do not say so; `origin`: the source that has the candidate; `note`: the reason for
    the state.
    """

    package: Installed
    state: State
    candidate: str = ""
    security: bool | None = None
    origin: str = ""
    note: str = ""

    @property
    def change(self) -> str:
        """The update in words: `libssl3 3.0.15-1 → 3.0.17-1, security`."""
        return f"{self.package.name} {self.package.version} → {self.candidate}{', security' if self.security else ''}"


class SourceState(StrEnum):
    """Whether a source could be used."""

    OK = "ok"
    TRUSTED = "trusted"
    """Used without a valid signature, because the image's settings say so (`trusted=yes`)."""
    UNVERIFIED = "unverified"
    """Not used: its signature is missing or invalid, or its key is not in the image."""
    EXPIRED = "expired"
    """Not used: its list is older than it says it may be, so newer versions may be hidden."""
    MISSING = "missing"
    """Not used: its server does not have it."""
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"
    """Not used: its address or its form is one that chainbuild does not read."""

    @property
    def is_used(self) -> bool:
        """Return whether packages are compared with this source."""
        return self in {SourceState.OK, SourceState.TRUSTED}


class SourceReport(Struct, frozen=True, kw_only=True):
    """A source of packages, as users know it, and whether it could be used. `date` is that of its list."""

    kind: str
    name: str
    state: SourceState
    reason: str = ""
    date: str = ""

    def as_json(self) -> Mapping[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "name": self.name,
            "state": self.state.value,
            "reason": self.reason,
            "date": self.date,
        }


class SourceError(Exception):
    """A source cannot be used, for the reason in its text."""

    def __init__(self, state: SourceState, reason: str) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
