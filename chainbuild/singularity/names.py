"""What SIF files are called, and which images a word of the command line means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from chainbuild.references import ChainRegistry, ImageReference, Platform

SUFFIX: Final = ".sif"
_GLOB: Final = re.compile(r"[*?\[]")
_APART: Final = re.compile(r"[/:]")
_MOVING_TAG: Final = "latest"
_TAG_LENGTH: Final = 128


class SifName(Struct, frozen=True, kw_only=True, order=True):
    """The name of a SIF file: that of its image, `repository:tag`, without the chain registry's host.

    Where one name means images of several platforms, each tag ends in the platform, as those of results do.
    """

    repository: str
    tag: str

    @property
    def file(self) -> str:
        """The file's name: `/` and `:` become `_`."""
        return _APART.sub("_", str(self)) + SUFFIX

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def sif_name(reference: ImageReference, chain: ChainRegistry, *, platform: Platform | None = None) -> SifName:
    """The SIF's name for an image; `platform` where its name means several."""
    # A digest is no tag; that much of it is enough to tell images apart.
    tag = reference.tag or (f"digest-{reference.digest.short}" if reference.digest else reference.tag_or_latest)
    if platform:
        tag = f"{tag[: _TAG_LENGTH - len(platform.name) - 1]}-{platform.name}"
    return SifName(repository=short_name(reference, chain), tag=tag)


def short_name(reference: ImageReference, chain: ChainRegistry) -> str:
    """The repository as people type it: neither with the chain registry's host nor with its path."""
    if not chain.holds(reference):
        return reference.familiar_name
    prefix = f"{chain.prefix}/"
    return reference.repository.removeprefix(prefix) if chain.prefix else reference.repository


def split_words(words: Iterable[str]) -> tuple[str, ...]:
    """Words, each of which may be several with commas; every one once, in order."""
    return tuple(dict.fromkeys(part for word in words for part in word.split(",") if part))


def is_glob(word: str) -> bool:
    """Whether a word is a pattern (`*`, `?`, `[…]`) and no name."""
    return bool(_GLOB.search(word))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means the image `repository:tag`. `*` goes over `/` and `:`; without a `:` any tag is meant.

    `latest`, which moves, is only meant by a pattern that says so.
    """
    repository, _, tag = name.rpartition(":")
    if tag == _MOVING_TAG and _MOVING_TAG not in pattern:
        return False
    return fnmatchcase(name, pattern) or (":" not in pattern and fnmatchcase(repository, pattern))


def chosen(patterns: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """The names that a word means, as a name or as a pattern; all of them without any word."""
    return tuple(name for name in names if not patterns or any(name == one or matches(one, name) for one in patterns))
