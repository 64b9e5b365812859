"""The names of SIF files, and the images that an argument of the command line selects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from chainbuild.patterns import regex
from chainbuild.references import ChainRegistry, ImageReference, Platform

SUFFIX: Final = ".sif"
_GLOB: Final = regex(r"[*?\[]")
_APART: Final = regex(r"[/:]")
_MOVING_TAG: Final = "latest"
_TAG_LENGTH: Final = 128


class SifName(Struct, frozen=True, kw_only=True, order=True):
    """The name of a SIF file, that of its image: `repository:tag`, without the chain registry's host.

    If a name has images for several platforms, the platform is appended to the tag, as in the tags of results.
    """

    repository: str
    tag: str

    @property
    def file(self) -> str:
        """The name of the file: `/` and `:` become `_`."""
        return _APART.sub("_", str(self)) + SUFFIX

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def sif_name(reference: ImageReference, chain: ChainRegistry, *, platform: Platform | None = None) -> SifName:
    """Return the SIF's name for an image; give `platform` if the name has several platforms."""
    # A digest is not a tag, but its short form is enough to tell images apart.
    tag = reference.tag or (f"digest-{reference.digest.short}" if reference.digest else reference.tag_or_latest)
    if platform:
        tag = f"{tag[: _TAG_LENGTH - len(platform.name) - 1]}-{platform.name}"
    return SifName(repository=short_name(reference, chain), tag=tag)


def short_name(reference: ImageReference, chain: ChainRegistry) -> str:
    """Return the repository as users type it, without the host and the path of the chain registry."""
    if not chain.holds(reference):
        return reference.familiar_name
    prefix = f"{chain.prefix}/"
    return reference.repository.removeprefix(prefix) if chain.prefix else reference.repository


def split_words(words: Iterable[str]) -> tuple[str, ...]:
    """Split arguments at commas and return each part once, in order."""
    return tuple(dict.fromkeys(part for word in words for part in word.split(",") if part))


def is_glob(word: str) -> bool:
    """Return whether an argument is a pattern (`*`, `?`, `[…]`) and not a name."""
    return bool(_GLOB.search(word))


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern matches the image `repository:tag`. `*` also matches `/` and `:`.

    A pattern without a `:` matches all tags except `latest`, which a pattern must name.
    """
    repository, _, tag = name.rpartition(":")
    if tag == _MOVING_TAG and _MOVING_TAG not in pattern:
        return False
    return fnmatchcase(name, pattern) or (":" not in pattern and fnmatchcase(repository, pattern))


def chosen(patterns: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that the arguments match, as names or patterns; all names if there are no arguments."""
    return tuple(
        name for name in names if not patterns or any(name == item or matches(item, name) for item in patterns)
    )
