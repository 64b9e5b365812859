"""A project as `chainbuild.yaml` says it, as frozen values. What is not said is None or empty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from chainbuild.model import BuildArg
from chainbuild.references import ImageReference
from chainbuild.trust.keys import PublicKey


class LayerEntry(Struct, frozen=True, kw_only=True):
    """A layer of the file. `image` may have no tag; `base` is an image or an earlier layer's name (None: nothing is said)."""

    name: str
    folder: Path
    image: ImageReference
    base: ImageReference | str | None = None
    base_arg: str = ""
    build_args: tuple[BuildArg, ...] = ()
    context: Path | None = None
    tests: bool = True
    line: int = 0


class ScienceEntry(Struct, frozen=True, kw_only=True):
    """Where the science and compatibility layers are, and below which repository their images go."""

    root: Path
    repo: str | None = None
    line: int = 0


class Project(Struct, frozen=True, kw_only=True):
    """The file's settings. Folders are absolute; names and durations are words, known to be right ones."""

    path: Path
    shown: str
    """The file's path as people see it."""
    platforms: tuple[str, ...] = ()
    repo: str | None = None
    tag: str | None = None
    base: ImageReference | str | None = None
    """An image, or the name of a layer."""
    production: ImageReference | str | None = None
    options: tuple[str, ...] = ()
    layers: tuple[LayerEntry, ...] = ()
    science: ScienceEntry | None = None
    registry: str | None = None
    port: int | None = None
    trusted_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """The keys whose records count in the registry, by name."""
    builders: tuple[str, ...] = ()
    """As `--builder` takes them."""
    context: Path | None = None
    build_args: tuple[BuildArg, ...] = ()
    build_contexts: tuple[str, ...] = ()
    """As `--build-context` takes them."""
    secrets: tuple[str, ...] = ()
    """As `--secret` takes them."""
    refresh_after: str | None = None
    deadline: str | None = None
    jobs: int | None = None
    keep_going: bool = False
    tests: bool = True
    strict: bool = False
    push: bool = False
    load: bool = True

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.path.parent

    def layer(self, name: str) -> LayerEntry | None:
        """The layer of that name."""
        return next((layer for layer in self.layers if layer.name == name), None)
