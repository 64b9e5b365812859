"""The reasons of a plan in words: what changed, where it came from, how old a result is."""

from __future__ import annotations

import time
from collections.abc import Mapping

from chainbuild.model import Step
from chainbuild.planning.decisions import Decision, ImageFacts
from chainbuild.records.keys import Components
from chainbuild.records.notes import REBASED, digest_note
from chainbuild.records.record import Record
from chainbuild.text import plural


def cause_of(decision: Decision) -> str:
    """Return the original cause: each step passes its parent's reason on to the steps that depend on it."""
    if decision.reason.startswith("parent "):
        return decision.reason.removeprefix("parent ")
    return f"{decision.step.name}: {decision.reason}"


def describe(step: Step, change: str, last: Record, images: Mapping[str, ImageFacts]) -> str:
    """Return a description of a change; an image input is described as a parent or base image."""
    for image in step.images:
        if not change.startswith(f"{image.name} changed from "):
            continue
        if image.from_step is not None:
            return f"parent {image.from_step.short_name} has different content"
        before = last.notes.get(digest_note(image.name), "")
        now = images[image.name].digest
        moved = f" from {_short(before)} to {_short(now)}" if before and now else ""
        return f"{'base image' if image.name == step.parent else 'image'} {image.source} moved{moved}"
    return change


def rebased_words(record: Record) -> str:
    """Return what a plan says about a record of a rebased image."""
    return f" (rebased {record.notes[REBASED]})" if REBASED in record.notes else ""


def unknown_remotes(components: Components) -> str:
    """Return which addresses could not be queried, and why."""
    return "; ".join(f"could not query {address}: {why}" for address, why in components.unknown_remotes)


def built_words(record: Record) -> str:
    """Return when the image of a record was built, and its digest."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.built_at))
    return f"built {when}, {_short(str(record.image))}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def age_words(seconds: float) -> str:
    """Return a duration in its largest whole unit: `3 days`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return plural(round(seconds / length), unit)
    return plural(round(seconds), "second")
