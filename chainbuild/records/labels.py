"""Labels that chainbuild adds to images, and the identity of an image without them."""

from __future__ import annotations

import json
from typing import Final

from chainbuild.registry.config import ImageConfig

LABELS: Final = "io.github.chainbuild."


TRAIL_LABEL: Final = f"{LABELS}trail"


STAMPS_LABEL: Final = f"{LABELS}stamps"
"""The names of the labels that were added after the build, or inherited from an image with such labels."""


def stamped_names(config: ImageConfig) -> frozenset[str]:
    """Return the names of the labels added after the build; none if the label cannot be read."""
    try:
        names = json.loads(config.label(STAMPS_LABEL) or "[]")
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


def identity_of(config: ImageConfig) -> str:
    """Return the content identity without provenance labels: how an image was built is not content."""
    stamped = stamped_names(config)
    labels = {name: value for name, value in config.labels if not name.startswith(LABELS) and name not in stamped}
    if len(labels) != len(config.labels):
        config = config.with_changes(labels=labels)
    return str(config.content_identity)
