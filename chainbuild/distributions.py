"""The releases of Debian and Ubuntu, and the names of their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

RELEASES: Final[Mapping[str, Mapping[str, str]]] = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"},
    "ubuntu": {"20.04": "focal", "22.04": "jammy", "24.04": "noble", "26.04": "resolute"},
}
"""The code name of each version, by distribution."""
_ENDED: Final[Mapping[str, Mapping[str, str]]] = {
    "debian": {"7": "wheezy", "8": "jessie", "9": "stretch", "10": "buster"},
    "ubuntu": {"12.04": "precise", "14.04": "trusty", "16.04": "xenial", "18.04": "bionic"},
}
"""Releases that get no updates any more. Their images still exist."""
ROLLING: Final = frozenset({"sid", "unstable", "experimental", "devel"})
"""Suites without -updates and -security suites."""
_MOVING: Final[Mapping[str, tuple[str, ...]]] = {
    "debian": ("stable", "testing", "oldstable", "sid", "unstable"),
    "ubuntu": ("devel",),
}
SLIM: Final = "-slim"
USUAL_TAG: Final[Mapping[str, str]] = {"debian": "bookworm-slim", "ubuntu": "24.04"}
"""A tag for examples, by distribution."""


def has_ended(distribution: str, tag: str) -> bool:
    """Return whether a tag of a distribution's image names a release that gets no updates any more."""
    ended = _ENDED.get(distribution, {})
    return tag.removesuffix(SLIM) in {*ended, *ended.values()}


def image_tags(distribution: str) -> Iterator[str]:
    """Yield the tags of a distribution's image that name a release; none for other images."""
    releases = RELEASES.get(distribution, {})
    for suite in (*releases.values(), *releases, *_MOVING.get(distribution, ())):
        yield suite
        if distribution == "debian":
            yield f"{suite}{SLIM}"
