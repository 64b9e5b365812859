"""The tags of machine data in the chain registry. This module defines every tag that begins with `k1-`."""

from __future__ import annotations

import hashlib
from typing import Final

from chainbuild.references import Digest, Platform

PREFIX: Final = "k1-"
_PACKAGES: Final = f"{PREFIX}packages-"
_HEX: Final = frozenset("0123456789abcdef")
_LONGEST: Final = 128


def is_machine_tag(tag: str) -> bool:
    """Return whether a tag is machine data."""
    return tag.startswith(PREFIX)


def key_tag(hex_digits: str) -> str:
    """Return a step's key, which is also the tag of its record: `k1-` and 64 hex digits."""
    return f"{PREFIX}{hex_digits}"


def is_key(tag: str) -> bool:
    """Return whether a tag is a step key."""
    digits = tag.removeprefix(PREFIX)
    return tag.startswith(PREFIX) and len(digits) == 64 and _HEX.issuperset(digits)


def last_tag(family: str) -> str:
    """Return the tag of a step's newest record."""
    return _fitted(f"{PREFIX}last-{family}", family)


def image_record_tag(image: Digest) -> str:
    """Return the tag of the newest record of an image."""
    return f"{PREFIX}of-{image.hex}"[:_LONGEST]


def image_tag(image: Digest) -> str:
    """Return the tag made of an image's digest: a list of tags shows that the image still exists."""
    return f"{PREFIX}image-{image.hex}"[:_LONGEST]


def packages_tag(layer: Digest) -> str:
    """Return the tag of the extract of a layer that says which packages it has."""
    return f"{_PACKAGES}{layer.hex}"[:_LONGEST]


def packages_layer(tag: str) -> Digest | None:
    """Return the layer of such a tag; None for any other tag."""
    digits = tag.removeprefix(_PACKAGES)
    is_one = tag.startswith(_PACKAGES) and len(digits) == 64 and _HEX.issuperset(digits)
    return Digest(f"sha256:{digits}") if is_one else None


def index_tag(key_id: str, option: str, platform: str) -> str:
    """Return the tag of the record index that one key signs for a chain."""
    name = f"{key_id[:16]}-{option}-{platform}"
    return _fitted(f"{PREFIX}index-{name}", name)


def staging_tag(family: str) -> str:
    """Return the tag of a step's image before it is checked. There is one per step, so tags do not accumulate."""
    return f"{PREFIX}staging-{family}"[:_LONGEST]


def is_local_tag(tag: str) -> bool:
    """Return whether a tag is that of a copy of a local image (see `local_tag`)."""
    return tag.startswith(f"{PREFIX}local-")


def local_tag(platform: Platform, image_id: str) -> str:
    """Return the tag of a copy of an image of the local store, by the engine's id for it."""
    return f"{PREFIX}local-{platform.architecture}{platform.variant}-{image_id.rpartition(':')[2]}"


def _fitted(tag: str, name: str) -> str:
    """Shorten a tag that is too long; a hash of the whole name keeps it unique."""
    if len(tag) <= _LONGEST:
        return tag
    return f"{tag[:111]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
