"""The provenance of an image: the steps in its labels, and the git state of its tree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from chainbuild import limits
from chainbuild.errors import NotReadyError
from chainbuild.model import PostBuildLabel
from chainbuild.records.labels import LABELS, STAMPS_LABEL, TRAIL_LABEL, stamped_names
from chainbuild.records.notes import COMMIT, DIRTY, SOURCE
from chainbuild.records.tags import is_key
from chainbuild.registry.config import ImageConfig
from chainbuild.step_id import StepId
from chainbuild.values import convert

VISIBILITY_LABEL: Final = "org.casa-distro.visibility"
"""The visibility of an image: `public` or `private`. Set for image types; allowed for any image."""
PRIVATE: Final = "private"


class ProvenanceStep(Struct, frozen=True, kw_only=True):
    """A step that an image is based on, and the key of its record."""

    step: StepId
    key: str


Provenance = tuple[ProvenanceStep, ...]
"""The lowest step first, the image's own step last."""
_Entries = Annotated[tuple[tuple[str, str], ...], Meta(max_length=limits.TRAIL.value)]


def with_provenance(config: ImageConfig, trail: Provenance) -> ImageConfig:
    """Return the config with the provenance in its labels, replacing an inherited one."""
    labels = {name: text for name, text in config.labels if not name.startswith(LABELS) or name == STAMPS_LABEL}
    text = json.dumps([[str(entry.step), entry.key] for entry in trail], separators=(",", ":"))
    return config.with_changes(labels={**labels, TRAIL_LABEL: text})


def with_post_build_labels(config: ImageConfig, stamps: Iterable[PostBuildLabel], now: float) -> ImageConfig:
    """Return the config with the labels added; `now` is in seconds since the epoch."""
    values = {stamp: f"{now}" if stamp.clock else stamp.value for stamp in stamps}
    labels = {stamp.name: value for stamp, value in values.items() if not stamp.variable}
    names = sorted({*stamped_names(config), *labels})
    marks = {STAMPS_LABEL: json.dumps(names, separators=(",", ":"))} if names else {}
    return config.with_changes(
        labels={**dict(config.labels), **labels, **marks},
        env=(dict(config.env) | {stamp.name: value for stamp, value in values.items() if stamp.variable}).items(),
    )


def read_provenance(config: ImageConfig) -> Provenance:
    """Return the provenance in the labels; empty if missing or unreadable."""
    try:
        entries = convert(json.loads(config.label(TRAIL_LABEL) or "[]"), _Entries)
    except (ValueError, RecursionError):
        return ()
    valid = all(is_key(key) for _, key in entries)
    return tuple(ProvenanceStep(step=StepId.parse(step), key=key) for step, key in entries) if valid else ()


def tree_notes(root: Path) -> Mapping[str, str]:
    """Return the git commit of the tree, whether it was dirty, and the address of its repository, if known.

    Nothing if it is no git tree (or git is missing).
    """
    try:
        from chainbuild.host.git import run_git
        from chainbuild.host.git_origin import origin_address

        commit = run_git(root, ["rev-parse", "HEAD"])
        # If `git status` fails, the tree may be dirty.
        status = run_git(root, ["status", "--porcelain", "--", "."]) if commit else None
    except NotReadyError:
        return {}
    if not commit:
        return {}
    notes = {COMMIT: commit.strip(), DIRTY: "no" if status == "" else "yes"}
    source = origin_address(root)
    return {**notes, SOURCE: source} if source else notes
