"""The differences between two images, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.registry.images import RemoteImage
from chainbuild.text import plural, size

SCHEMA: Final = "chainbuild.diff/1"


class Change(Struct, frozen=True, kw_only=True, order=True):
    """An item that only one image has, or that differs in both. None: the image does not have it.

    `words` describe the change if the two values do not, `owner` is the package that a file belongs to.
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
        """Return the JSON form; `words` and `owner` only if not empty."""
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
    """Return the differences between two tables of strings, sorted by name."""
    return tuple(
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


class ImageSizes(Struct, frozen=True, kw_only=True):
    """The size of an image in bytes: `compressed` as stored in registries, `unpacked` on disk."""

    compressed: int
    unpacked: int
    layers: int


class Comparison(Struct, frozen=True, kw_only=True):
    """What changed from one image to another of the same platform."""

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
        """True if the images differ in nothing but dates, history, and how the layers are split and compressed."""
        return not (self.packages or self.python or self.files or self.configuration or self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document."""
        images = (self.before, self.after)
        documents = [
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
            "before": documents[0],
            "after": documents[1],
            "same": self.same,
            **changes,
        }


def size_words(comparison: Comparison) -> str:
    """Return the size of the newer image, such as `44.9 MB compressed (1.2 MB more), 131 MB unpacked (the same), 5 layers`."""
    before, after = comparison.sizes
    layers = plural(after.layers, "layer") + (f" (was {before.layers})" if before.layers != after.layers else "")
    return ", ".join(
        (
            f"{size(after.compressed)} compressed ({more_or_less(before.compressed, after.compressed)})",
            f"{size(after.unpacked)} unpacked ({more_or_less(before.unpacked, after.unpacked)})",
            layers,
        )
    )


def more_or_less(before: int, after: int) -> str:
    """Return the difference of two sizes in bytes: `1.2 MB more`, `3 kB less`, `the same`."""
    if before == after:
        return "the same"
    return f"{size(abs(after - before))} {'more' if after > before else 'less'}"
