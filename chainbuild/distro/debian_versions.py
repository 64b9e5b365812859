"""The order of Debian's package versions: deb-version(7), "Sorting algorithm".

A version is `[epoch:]upstream[-revision]`. Both texts are split into pairs of a text without digits and a number. In the
texts, `~` comes before the end, letters come before everything else, and all others follow in the order of ASCII.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from chainbuild.patterns import regex

LONGEST: Final = 1000
"""Characters of a version. Python refuses to convert much longer numbers, and no real version comes near."""
_PAIR: Final = regex(r"([^0-9]*)([0-9]*)")
_VERSION: Final = regex(r"(?:[0-9]+:)?[0-9A-Za-z.+~:_-]+")
_END: Final = (0,)

Part = tuple[tuple[tuple[int, ...], int], ...]
DebianKey = tuple[int, Part, Part]


@lru_cache(maxsize=1 << 16)
def debian_key(version: str) -> DebianKey:
    """Return a value that sorts as the version does. Errors: `ValueError` if it is not a version."""
    if len(version) > LONGEST or not _VERSION.fullmatch(version):
        raise ValueError(f"not a Debian version: {version[:80]!r}")
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    if not upstream or not epoch.isdecimal():
        raise ValueError(f"not a Debian version: {version[:80]!r}")
    return int(epoch), _part(upstream), _part(revision)


def _part(text: str) -> Part:
    first, *others = _PAIR.findall(text)
    pairs = [first, *(pair for pair in others if any(pair))]
    # A missing number counts as 0, so `1.` and `1.0` are the same, and so are a missing revision and the revision 0.
    # The end of the text comes before every letter and after `~`.
    return (*((tuple(map(_weight, word)) + _END, int(number or "0")) for word, number in pairs), (_END, 0))


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
