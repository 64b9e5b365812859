"""Labels that chainbuild gives to images, and the identity of an image without them."""

from __future__ import annotations

import json
from typing import Final

from chainbuild.registry.config import ImageConfig

LABELS: Final = "io.github.chainbuild."


TRAIL_LABEL: Final = f"{LABELS}trail"


STAMPS_LABEL: Final = f"{LABELS}stamps"
"""The names of the labels that an image was given after it was built, or has from an image that was."""


def _stamped(config: ImageConfig) -> frozenset[str]:
    """The names of the stamped labels; none where that cannot be read."""
    try:
        found = json.loads(config.label(STAMPS_LABEL) or "[]")
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(name for name in found if isinstance(name, str)) if isinstance(found, list) else frozenset()


def identity_of(config: ImageConfig) -> str:
    """The content identity without what an image says of its own making: a comment in a Dockerfile is no content."""
    stamped = _stamped(config)
    labels = {name: value for name, value in config.labels if not name.startswith(LABELS) and name not in stamped}
    if len(labels) != len(config.labels):
        config = config.with_changes(labels=labels)
    return str(config.content_identity)
