"""The order of Alpine's package versions, by the rules of apk-tools (apk-package(5), `src/version.c` of apk-tools 2.14 and 3).

A version is `number{.number}{letter}{_suffix{number}}{~hash}{-r#}`. Its parts are compared from left to right.
"""

from __future__ import annotations

from functools import cmp_to_key, lru_cache
from typing import Any, Final

from chainbuild.patterns import regex

LONGEST: Final = 1000
"""Characters of a version."""
_BEFORE: Final = ("alpha", "beta", "pre", "rc")
_AFTER: Final = ("cvs", "svn", "git", "hg", "p")
_SUFFIXES: Final = {name: number for number, name in enumerate((*_BEFORE, "", *_AFTER))}
_RELEASE: Final = _SUFFIXES[""]

# The kinds of parts. Of two versions that are equal so far, the one whose next part has the higher number is older.
_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _HASH, _REVISION, _END = range(8)
_NEXT: Final = (
    (regex(r"\.?([0-9]+)"), _NUMBER, {_FIRST, _NUMBER}),
    (regex(r"([0-9]+)"), _SUFFIX_NUMBER, {_SUFFIX}),
    (regex(r"([a-z])"), _LETTER, {_FIRST, _NUMBER}),
    (regex(r"_([a-z]+)"), _SUFFIX, {_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER}),
    (regex(r"~([0-9a-f]+)"), _HASH, {_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER}),
    (regex(r"-r([0-9]+)"), _REVISION, {_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _HASH}),
)
_DIGITS: Final = regex(r"[0-9]+")

Part = tuple[int, str]


@lru_cache(maxsize=1 << 16)
def alpine_parts(version: str) -> tuple[Part, ...]:
    """Return the parts of a version: pairs of their kind and their text. Errors: `ValueError` if it is not a version."""
    first = _DIGITS.match(version)
    if first is None or len(version) > LONGEST:
        raise ValueError(f"not an Alpine version: {version[:80]!r}")
    parts: list[Part] = [(_FIRST, first[0])]
    place = first.end()
    while place < len(version):
        kind = parts[-1][0]
        for pattern, following, after in _NEXT:
            match = pattern.match(version, place) if kind in after else None
            if match is not None and (following != _SUFFIX or match[1] in _SUFFIXES):
                parts.append((following, match[1]))
                place = match.end()
                break
        else:
            raise ValueError(f"not an Alpine version: {version[:80]!r}")
    return (*parts, (_END, ""))


def compare_alpine(first: str, second: str, *, fuzzy: bool = False) -> int:
    """Return a negative number if the first version is older, 0 if they are equal, else a positive number.

    `fuzzy`: a first version that begins with all parts of the second one is equal to it (the operator `~`).
    Errors: `ValueError` if one of them is not a version.
    """
    ours, theirs = alpine_parts(first), alpine_parts(second)
    for (kind, text), (other_kind, other_text) in zip(ours, theirs, strict=False):
        if kind == other_kind:
            if order := _order(kind, text, other_text):
                return order
            continue
        if other_kind == _END and fuzzy:
            return 0
        if kind == _SUFFIX and _SUFFIXES[text] < _RELEASE:
            return -1
        if other_kind == _SUFFIX and _SUFFIXES[other_text] < _RELEASE:
            return 1
        return other_kind - kind
    return 0


def _order(kind: int, text: str, other: str) -> int:
    """Compare two parts of one kind."""
    if kind == _SUFFIX:
        return _SUFFIXES[text] - _SUFFIXES[other]
    # Like decimal places: 1.05 is older than 1.1.
    as_text = kind in {_LETTER, _HASH} or (kind == _NUMBER and "0" in (text[0], other[0]))
    if as_text or kind == _END:
        return (text > other) - (text < other)
    return (int(text) > int(other)) - (int(text) < int(other))


alpine_key: Any = cmp_to_key(compare_alpine)
"""A key for `sorted` and `max` of versions."""


def alpine_fits(version: str, operator: str, other: str) -> bool:
    """Return whether a version fits a relation such as `>=1.2` or `~1.2`; without an operator, every one does.

    `><` is followed by a checksum, which only the package manager compares. Errors: as `compare_alpine`.
    """
    if not operator or operator.startswith("><"):
        return True
    order = compare_alpine(version, other, fuzzy="~" in operator)
    return bool(set("<" if order < 0 else ">" if order > 0 else "=~") & set(operator))
