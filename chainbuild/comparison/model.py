"""What differs between two images, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.registry.images import RemoteImage
from chainbuild.text import plural, size

SCHEMA: Final = "chainbuild.diff/1"


class Change(Struct, frozen=True, kw_only=True, order=True):
    """Something that one of two images has, or both have differently. None: it is not there.

    `words` say what changed where the two values do not tell, `owner` whose it is (a file's package).
    """

    name: str
    before: str | None = None
    after: str | None = None
    words: tuple[str, ...] = ()
    owner: str = ""

    @property
    def kind(self) -> str:
        """`added`, `removed` or `changed`."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    def as_json(self) -> dict[str, Any]:
        """The change as programs read it; `words` and `owner` only where there are some."""
        more: dict[str, Any] = {"words": list(self.words)} if self.words else {}
        if self.owner:
            more["owner"] = self.owner
        return {"name": self.name, "kind": self.kind, "before": self.before, "after": self.after} | more

    def __str__(self) -> str:
        if self.before is None:
            text = f"{self.name} added" + (f" ({self.after})" if self.after else "")
        elif self.after is None:
            text = f"{self.name} removed" + (f" (was {self.before})" if self.before else "")
        elif self.words:
            return f"{self.name}: {', '.join(self.words)}"
        else:
            text = f"{self.name} {self.before} → {self.after}"
        return text


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two tables of texts, in the order of names."""
    return tuple(
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


class ImageSizes(Struct, frozen=True, kw_only=True):
    """How big an image is: `compressed` as registries store it, `unpacked` what its files take; bytes."""

    compressed: int
    unpacked: int
    layers: int


class Comparison(Struct, frozen=True, kw_only=True):
    """What changed from one image to another one of the same platform."""

    before: RemoteImage
    after: RemoteImage
    sizes: tuple[ImageSizes, ImageSizes]
    packages: tuple[Change, ...]
    python: tuple[Change, ...]
    files: tuple[Change, ...]
    configuration: tuple[Change, ...]
    steps: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether nothing at all differs but dates, history and how layers are cut and packed."""
        return not (self.packages or self.python or self.files or self.configuration or self.steps)

    def as_json(self) -> dict[str, Any]:
        """The document."""
        images = (self.before, self.after)
        told = [
            {
                "image": str(image.reference),
                "digest": str(image.digest),
                "compressed": size.compressed,
                "unpacked": size.unpacked,
                "layers": size.layers,
            }
            for image, size in zip(images, self.sizes, strict=True)
        ]
        parts = ("packages", "python", "files", "configuration", "steps")
        changes = {part: [change.as_json() for change in getattr(self, part)] for part in parts}
        return {
            "schema": SCHEMA,
            "platform": self.after.platform.oci,
            "before": told[0],
            "after": told[1],
            "same": self.same,
            **changes,
        }


def size_words(found: Comparison) -> str:
    """`44.9 MB compressed (1.2 MB more), 131 MB unpacked (the same), 5 layers`."""
    before, after = found.sizes
    layers = plural(after.layers, "layer") + (f" (was {before.layers})" if before.layers != after.layers else "")
    return ", ".join(
        (
            f"{size(after.compressed)} compressed ({more_or_less(before.compressed, after.compressed)})",
            f"{size(after.unpacked)} unpacked ({more_or_less(before.unpacked, after.unpacked)})",
            layers,
        )
    )


def more_or_less(before: int, after: int) -> str:
    """`1.2 MB more`, `3 kB less`, `the same`."""
    if before == after:
        return "the same"
    return f"{size(abs(after - before))} {'more' if after > before else 'less'}"
