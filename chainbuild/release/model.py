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
    """A warning; `accepted` is the reason why somebody found it fine, empty while nobody did."""

    says: str
    accepted: str = ""
    line: int = 0


class Difference(Struct, frozen=True, kw_only=True):
    """What changes on a platform, in words; `to` is what it was compared with."""

    to: str = ""
    size: str = ""
    packages: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    configuration: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    files: str = ""


class PlannedImage(Struct, frozen=True, kw_only=True):
    """An image of a plan. `name` is what the chain registry calls it; platforms are under the plan's own spelling.

    `replaces` has None for a name that means nothing yet. `key` is how the file writes the image's name; `lines` are
    those of its keys and of the names that it gets.
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
        """Whether somebody decided to release it."""
        return self.decision == RELEASE

    def line_of(self, key: str) -> int:
        """The line of a key, or of one of its names; the image's own where that is not written."""
        return self.lines.get(key, self.line)

    def as_json(self) -> dict[str, Any]:
        """The image as programs read it."""
        return {
            "image": str(self.name),
            "decision": self.decision,
            "to": [str(name) for name in self.to],
            "note": self.note,
            "digests": {platform.name: str(digest) for platform, digest in self.digests.items()},
            "replaces": {str(name): str(digest) if digest else None for name, digest in self.replaces.items()},
            "differences": {
                platform: {
                    "to": one.to,
                    "size": one.size,
                    "packages": list(one.packages),
                    "python": list(one.python),
                    "configuration": list(one.configuration),
                    "steps": list(one.steps),
                    "files": one.files,
                }
                for platform, one in self.differences.items()
            },
            "tests": {platform: list(lines) for platform, lines in self.tests.items()},
            "errors": list(self.errors),
            "warnings": [{"says": one.says, "accepted": one.accepted} for one in self.warnings],
        }


class ReleasePlan(Struct, frozen=True, kw_only=True):
    """A plan as it was read from `path`, which people are told as `shown`."""

    path: Path
    shown: str
    release: str
    images: tuple[PlannedImage, ...]

    @property
    def released(self) -> tuple[PlannedImage, ...]:
        """What somebody decided to release."""
        return tuple(image for image in self.images if image.is_released)

    @property
    def identity(self) -> str:
        """A digest of what applying it does: two plans that do the same have the same, whatever their words are."""
        what = [
            [str(image.name), sorted(map(str, image.to)), sorted(map(str, image.digests.values()))]
            for image in self.released
        ]
        return hashlib.sha256(json.dumps(sorted(what)).encode()).hexdigest()

    def problem(self, image: PlannedImage, key: str, message: str, hint: str = "") -> Problem:
        """Something that is wrong with an image, at a key of it."""
        return Problem(path=self.shown, line=image.line_of(key), message=f"{image.name}: {message}", hint=hint)

    def as_json(self) -> dict[str, Any]:
        """The plan as programs read it."""
        return {"schema": SHOWN_SCHEMA, "release": self.release, "images": [image.as_json() for image in self.images]}
