"""Versions of images: numbers with dots, compared as numbers."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Final

from msgspec import Struct

_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_BUILD: Final = re.compile(
    r"(?P<version>[0-9]+(?:\.[0-9]+)*)-(?P<count>[0-9]+)-(?P<commit>[0-9a-f]{4,64})(?P<dirty>-dirty)?"
)


@total_ordering
class Version(Struct, frozen=True):
    """A version as it is written. 2.10 comes after 2.9; 2 and 2.0 are the same number under two names."""

    text: str

    def __post_init__(self) -> None:
        if not is_version(self.text):
            raise ValueError(f"{self.text!r} is not a version")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers, without zeros at the end."""
        found = [int(part) for part in self.text.split(".")]
        while len(found) > 1 and found[-1] == 0:
            found.pop()
        return tuple(found)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.numbers, self.text) < (other.numbers, other.text)

    def __str__(self) -> str:
        return self.text


def is_version(text: str) -> bool:
    """Whether it is numbers with dots."""
    return bool(_VERSION.fullmatch(text))


class State(Struct, frozen=True, kw_only=True):
    """The commit that a tree is at: how many commits it has below it (itself counted), its short hash, edits on top."""

    count: int
    commit: str
    dirty: bool = False

    def name(self, version: Version | str) -> str:
        """What a build of a version at this commit is called: `2.4-32-f90dbd6`, marked where there are edits."""
        return f"{version}-{self.count}-{self.commit}{'-dirty' if self.dirty else ''}"


def version_of_build(tag: str) -> str | None:
    """The version in the tag of one build (`2.4` of `2.4-32-f90dbd6`); None where the tag is not of that form."""
    match = _BUILD.fullmatch(tag)
    return match["version"] if match else None
