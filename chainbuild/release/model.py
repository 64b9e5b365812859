"""A release plan as frozen values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.errors import Problem
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.release.rules import RELEASE

SHOWN_SCHEMA: Final = "chainbuild.release/1"


class Warned(Struct, frozen=True, kw_only=True):
    """A warning; `accepted` is the reason why a person accepted it, empty if nobody did."""

    says: str
    accepted: str = ""
    line: int = 0


class Difference(Struct, frozen=True, kw_only=True):
    """The changes on a platform as text; `to` is the image that it was compared with."""

    to: str = ""
    size: str = ""
    packages: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    configuration: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    files: str = ""


class PlannedImage(Struct, frozen=True, kw_only=True):
    """An image of a plan. `name` is its name in the chain registry; platforms are spelled as in the plan.

    `replaces` has None for a name that does not exist yet. `key` is the image's name as the file spells it; `lines` are
    the lines of its keys and of its new names.
    """

    name: ImageReference
    decision: str
    to: tuple[ImageReference, ...] = ()
    note: str = ""
    digests: Mapping[Platform, Digest]
    replaces: Mapping[ImageReference, Digest | None] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)
    tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()
    key: str = ""
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_released(self) -> bool:
        """True if the decision is to release it."""
        return self.decision == RELEASE

    def line_of(self, key: str) -> int:
        """Return the line of a key or of a name; the image's own line if it is missing."""
        return self.lines.get(key, self.line)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of the image."""
        return {
            "image": str(self.name),
            "decision": self.decision,
            "to": [str(name) for name in self.to],
            "note": self.note,
            "digests": {platform.name: str(digest) for platform, digest in self.digests.items()},
            "replaces": {str(name): str(digest) if digest else None for name, digest in self.replaces.items()},
            "differences": {
                platform: {
                    "to": item.to,
                    "size": item.size,
                    "packages": list(item.packages),
                    "python": list(item.python),
                    "configuration": list(item.configuration),
                    "steps": list(item.steps),
                    "files": item.files,
                }
                for platform, item in self.differences.items()
            },
            "tests": {platform: list(lines) for platform, lines in self.tests.items()},
            "errors": list(self.errors),
            "warnings": [{"says": item.says, "accepted": item.accepted} for item in self.warnings],
        }


class ReleasePlan(Struct, frozen=True, kw_only=True):
    """A plan that was read from `path`, which messages show as `shown`."""

    path: Path
    shown: str
    release: str
    images: tuple[PlannedImage, ...]
    policy: str = ""
    """The policy file that the plan names, relative to its folder."""

    @property
    def released(self) -> tuple[PlannedImage, ...]:
        """The images to release."""
        return tuple(image for image in self.images if image.is_released)

    @property
    def identity(self) -> str:
        """A digest of what applying the plan does; plans with the same effect have the same identity."""
        what = [
            [str(image.name), sorted(map(str, image.to)), sorted(map(str, image.digests.values()))]
            for image in self.released
        ]
        return hashlib.sha256(json.dumps(sorted(what)).encode()).hexdigest()

    def problem(self, image: PlannedImage, key: str, message: str, hint: str = "") -> Problem:
        """Return a problem at a key of an image."""
        return Problem(path=self.shown, line=image.line_of(key), message=f"{image.name}: {message}", hint=hint)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of the plan."""
        return {"schema": SHOWN_SCHEMA, "release": self.release, "images": [image.as_json() for image in self.images]}
