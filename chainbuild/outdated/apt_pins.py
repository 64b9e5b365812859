"""What the records of apt's preferences match: packages, versions, and indices (apt's `policy.cc` and `versionmatch.cc`)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from chainbuild.outdated.apt_index import AptIndex
from chainbuild.outdated.apt_settings import Pin
from chainbuild.patterns import regex

_RELEASE_FIELDS: Final = frozenset("voanlcb")
_STATUS: Final = {"a": "now", "c": "now"}
"""dpkg's database is a source of apt, too: `release a=now`."""
_SIMPLE: Final = regex(r"/\^?(?:[A-Za-z0-9_-]|\\[.+]|\.(?![*+]))*(?:\.[*+](?:[A-Za-z0-9_-]|\\[.+])*){0,3}\$?/")
"""Regular expressions of letters, `.`, up to three `.*`, and escaped dots. An image may not choose how long a match takes."""


def matches_package(pattern: str, name: str, source: str, arch: str, native: str) -> bool:
    """Return whether a pattern of `Package` matches a version of a package.

    Architecture-independent packages have the native architecture. A pattern without one is for the native one.
    """
    by_source = pattern.startswith("src:")
    plain = pattern.removeprefix("src:")
    pattern, colon, wanted = plain.rpartition(":") if ":" in plain else (plain, "", "")
    if (wanted if colon else native) not in {arch, "any", "linux-any"}:
        return False
    own = source if by_source else name
    if is_expression(pattern) or any(sign in pattern for sign in "*[?"):
        return pattern != own and matches(pattern, own)
    return pattern == own


def matches_version(pin: Pin, version: str, source_version: str) -> bool:
    """Return whether a record with `version` or `source-version` matches a version."""
    return _matches_version(pin.data, source_version if pin.kind == "source-version" else version)


def matches_index(pin: Pin, index: AptIndex) -> bool:
    """Return whether a record with `release` or `origin` matches an index."""
    if pin.kind == "origin":
        host = urlsplit(index.source.uri).hostname or ""
        return matches(_unquoted(pin.data), host)
    release = index.release
    values = {
        "v": release.version,
        "o": release.origin,
        "a": release.suite,
        "n": release.codename,
        "l": release.label,
        "c": index.component,
        "b": index.architecture,
    }
    return pin.data == "*" or (bool(_conditions(pin.data)) and _matches_release(pin.data, values))


def matches_status(pin: Pin) -> bool:
    """Return whether a record matches dpkg's database, which has the installed versions."""
    return pin.kind == "release" and (pin.data == "*" or _matches_release(pin.data, _STATUS))


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _conditions(data: str) -> list[tuple[str, str]]:
    """Return the fields and the patterns of `release`; those without a field are for the suite or the codename (`*`)."""
    if "=" not in data:
        return [("v" if data[:1].isdigit() else "*", data)] if data else []
    words = [word.strip().partition("=")[::2] for word in data.split(",")]
    found = [(name.lower(), value) for name, value in words if name.lower() in _RELEASE_FIELDS and value]
    return [pair for pair in found if pair != ("v", "*")]  # apt takes `v=*` for no condition


def _matches_release(data: str, values: Mapping[str, str]) -> bool:
    def fits(name: str, pattern: str) -> bool:
        if name == "*":
            return fits("a", pattern) or fits("n", pattern)
        value = values.get(name, "")
        # To apt every list has a component, if only an empty one: `c=*` is for all of them.
        return bool(value or name == "c") and (
            _matches_version(pattern, value) if name == "v" else matches(pattern, value)
        )

    # Of several conditions for a field, the last one counts.
    return all(fits(name, pattern) for name, pattern in dict(_conditions(data)).items())


def _matches_version(pattern: str, version: str) -> bool:
    """Return whether a version matches: literally, as a prefix before `*`, or as a pattern."""
    plain = pattern.removesuffix("*")
    start = version if plain == pattern else version[: len(plain)]
    return start.lower() == plain.lower() or matches(plain, version)


def matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a pattern of the preferences: a glob, or a regular expression in slashes."""
    expression = _expression(pattern)
    return expression is not None and expression.search(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str] | None:
    if is_expression(pattern):
        return re.compile(pattern[1:-1], re.IGNORECASE) if _SIMPLE.fullmatch(pattern) else None
    return re.compile(rf"\A{fnmatch.translate(pattern.replace('[^', '[!'))}", re.IGNORECASE)


def is_expression(pattern: str) -> bool:
    """Return whether a pattern of the preferences is a regular expression."""
    return len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/")


def is_read(pattern: str) -> bool:
    """Return whether a pattern is understood: all globs, and regular expressions that take little time on every text."""
    return not is_expression(pattern) or _SIMPLE.fullmatch(pattern) is not None
