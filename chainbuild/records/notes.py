"""The names of notes of a record that several parts of the program read."""

from __future__ import annotations

from typing import Final

COMMIT: Final = "commit"
DIRTY: Final = "dirty"
"""`yes` if the tree differs from its commit, `no` if not."""
SOURCE: Final = "source"
"""The address of the tree's git repository, without a login."""
DOCKERFILE: Final = "dockerfile"
"""The path of the Dockerfile, as messages show it."""
BASE: Final = "base"
"""The name of the image input that the image is based on, if that image is not a step's."""
REBASED: Final = "rebased"
"""How an image was rebased: `from IMAGE onto IMAGE`."""
BILL: Final = "bill of materials"
"""The digest of the bill of materials that was made for the image, `sha256:…`: what is attached to it is not signed."""


def digest_note(name: str) -> str:
    """Return the name of the note with the digest of an image input."""
    return f"digest of {name}"


def image_note(name: str) -> str:
    """Return the name of the note with the reference of an image input."""
    return f"image of {name}"
