"""Phased updates of Ubuntu (Phased-Update-Percentage): whether apt keeps one back, by the rules of apt's `depcache.cc`.

apt draws a number from 0 to 100 for each source package, its version and the machine id, and keeps back what is phased to
less. Without a machine id, which is how most images are, it takes every update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

_WORD: Final = 0xFFFFFFFF
_MODULUS: Final = 2**31 - 1
_COUNT: Final = 4
_ABOVE: Final = 101


class Phasing(Struct, frozen=True, kw_only=True):
    """The settings of an image for phased updates. `machine` is its machine id, empty if it has none.

    `by_policy`: a phased update that is not for this image has priority 1 (APT::Get::Phase-Policy); if false, it is the
    candidate, but `upgrade` keeps the installed version.
    """

    always: bool = False
    never: bool = False
    by_policy: bool = False
    machine: str = ""

    def excludes(self, percentage: int, source: str, version: str) -> str:
        """Return why the version of a source package is not for this image; empty if it is."""
        if percentage >= 100 or self.always:
            return ""
        if self.never:
            return f"phased to {percentage} %, and apt.conf excludes phased updates"
        if self.machine and draw(f"{source}-{version}-{self.machine}") > percentage:
            return f"phased to {percentage} %, and not yet for the image's machine id"
        return ""


def draw(text: str) -> int:
    """Return the number from 0 to 100 that apt draws for a text (C++: `seed_seq`, `minstd_rand`, libstdc++)."""
    signed = [byte - 256 & _WORD if byte > 127 else byte for byte in text.encode()]
    state = _seed(signed) % _MODULUS or 1
    scale = (_MODULUS - 2) // _ABOVE
    for number in _numbers(state):
        if number - 1 < scale * _ABOVE:
            return (number - 1) // scale
    raise AssertionError


def _numbers(state: int) -> Iterator[int]:
    while True:
        state = state * 48271 % _MODULUS
        yield state


def _seed(values: Sequence[int]) -> int:
    """Return the last of the four words of `std::seed_seq::generate`."""
    words, size = [0x8B8B8B8B] * _COUNT, len(values)
    rounds = max(size + 1, _COUNT)
    for k in range(rounds + _COUNT):
        here, after, last = k % _COUNT, (k + 1) % _COUNT, (k + 2) % _COUNT
        before = (k - 1) % _COUNT
        if k < rounds:
            mixed = words[here] ^ words[after] ^ words[before]
            first = 1664525 * (mixed ^ mixed >> 27) & _WORD
            more = size if k == 0 else here + (values[k - 1] if k <= size else 0)
            second = first + more & _WORD
            words[after] = words[after] + first & _WORD
            words[last] = words[last] + second & _WORD
        else:
            mixed = words[here] + words[after] + words[before] & _WORD
            first = 1566083941 * (mixed ^ mixed >> 27) & _WORD
            second = first - here & _WORD
            words[after] ^= first
            words[last] ^= second
        words[here] = second
    return words[-1]
