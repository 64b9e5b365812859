"""The engine's local image store in memory."""

from __future__ import annotations

from collections.abc import Mapping

from chainbuild.images.local_store import LocalImage, LocalStore
from chainbuild.references import Digest, Platform


class FakeStore(LocalStore):
    """A local store with the given images. `loaded` has the name of every image that was loaded, in order."""

    def __init__(self, images: Mapping[str, LocalImage] | None = None) -> None:
        self.images = dict(images or {})
        self.loaded: list[str] = []
        self.loads: list[tuple[str, str, str]] = []
        """The pinned reference, the platform and the name of every loaded image."""
        self.pulled: list[tuple[str, str]] = []
        """The pinned reference and the platform of every image that was pulled without a name."""

    def find(self, name: str) -> LocalImage | None:
        return self.images.get(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self.images)

    def load(self, pinned: str, digest: Digest, platform: Platform, name: str) -> None:
        self.loaded.append(name)
        self.loads.append((pinned, platform.oci, name))

    def pull(self, pinned: str, platform: Platform) -> None:
        self.pulled.append((pinned, platform.oci))
