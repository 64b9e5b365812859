"""What an image says of its own making: the breadcrumb trail in its labels, and the state of the tree it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import NotReadyError
from chainbuild.host.git import run_git
from chainbuild.model import PostBuildLabel
from chainbuild.records.labels import LABELS, STAMPS_LABEL, TRAIL_LABEL, _stamped
from chainbuild.records.tags import is_key
from chainbuild.registry.config import ImageConfig

VISIBILITY_LABEL: Final = "org.casa-distro.visibility"
"""Who may have an image: `public` or `private`. An image type says it; any image may."""
PRIVATE: Final = "private"


class ProvenanceStep(Struct, frozen=True, kw_only=True):
    """A step that an image is based on, and the key under which its record lies."""

    step: str
    key: str


Provenance = tuple[ProvenanceStep, ...]
"""The lowest step first, the image's own last."""


def with_provenance(config: ImageConfig, trail: Provenance) -> ImageConfig:
    """Return the config with the trail in its labels (and none that it inherited)."""
    labels = {name: text for name, text in config.labels if not name.startswith(LABELS) or name == STAMPS_LABEL}
    text = json.dumps([[crumb.step, crumb.key] for crumb in trail], separators=(",", ":"))
    return config.with_changes(labels={**labels, TRAIL_LABEL: text})


def with_post_build_labels(config: ImageConfig, stamps: Iterable[PostBuildLabel], now: float) -> ImageConfig:
    """Return the config with what the image is told of its own making; `now` is in seconds since the epoch."""
    said = {stamp: f"{now}" if stamp.clock else stamp.value for stamp in stamps}
    labels = {stamp.name: value for stamp, value in said.items() if not stamp.variable}
    names = sorted({*_stamped(config), *labels})
    marks = {STAMPS_LABEL: json.dumps(names, separators=(",", ":"))} if names else {}
    return config.with_changes(
        labels={**dict(config.labels), **labels, **marks},
        env=(dict(config.env) | {stamp.name: value for stamp, value in said.items() if stamp.variable}).items(),
    )


def read_provenance(config: ImageConfig) -> Provenance:
    """Return the trail in the labels; empty if there is none or it cannot be read."""
    try:
        found = json.loads(config.label(TRAIL_LABEL) or "[]")
        if len(found) > limits.TRAIL.value:
            return ()
        pairs = [(step, key) for step, key in found if isinstance(step, str) and is_key(key)]
        well = isinstance(found, list) and len(pairs) == len(found)
        return tuple(ProvenanceStep(step=step, key=key) for step, key in pairs) if well else ()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()


def tree_notes(root: Path) -> Mapping[str, str]:
    """Return the git commit of the tree and whether it was dirty; nothing if it is no git tree (or git is missing)."""
    try:
        commit = run_git(root, ["rev-parse", "HEAD"])
        # A status that fails is no proof of a clean tree.
        status = run_git(root, ["status", "--porcelain", "--", "."]) if commit else None
    except NotReadyError:
        return {}
    if not commit:
        return {}
    return {"commit": commit.strip(), "dirty": "no" if status == "" else "yes"}
