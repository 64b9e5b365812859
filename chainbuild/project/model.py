"""The settings of `chainbuild.yaml` as frozen values. A setting that is missing is None or empty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from chainbuild.model import BuildArg
from chainbuild.references import ImageReference
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace


class LayerEntry(Struct, frozen=True, kw_only=True):
    """A layer of the file. `image` may lack a tag; its base is the image `base` or the earlier layer `base_layer`, if set."""

    name: str
    folder: Path
    image: ImageReference
    base: ImageReference | None = None
    base_layer: str = ""
    base_arg: str = ""
    build_args: tuple[BuildArg, ...] = ()
    context: Path | None = None
    tags: tuple[str, ...] = ()
    dockerfile: str = ""
    image_key: str = ""
    packages: tuple[str, ...] = ()
    skip_packages: tuple[str, ...] = ()
    search_dirs: tuple[Path, ...] = ()
    tests: bool = True
    line: int = 0

    @property
    def sets_base(self) -> bool:
        """True if the file sets the layer's base."""
        return self.base is not None or bool(self.base_layer)

    def after(self, below: LayerEntry | None) -> LayerEntry:
        """Return the layer with its base: the layer `below` unless the file sets one."""
        return self if self.sets_base or below is None else replace(self, base_layer=below.name)


class ScienceEntry(Struct, frozen=True, kw_only=True):
    """The folder of the science and compatibility layers, and the repository prefix of their images."""

    root: Path
    repo: str | None = None
    line: int = 0


class Project(Struct, frozen=True, kw_only=True):
    """The settings of the file. Folders are absolute; names and durations are strings that were checked."""

    path: Path
    shown: str
    """The file's path as messages show it."""
    platforms: tuple[str, ...] = ()
    repo: str | None = None
    tag: str | None = None
    base: str | None = None
    """The full name of an image, or the name of a layer."""
    production: str | None = None
    options: tuple[str, ...] = ()
    base_arg: str | None = None
    layers: tuple[LayerEntry, ...] = ()
    science: ScienceEntry | None = None
    registry: str | None = None
    port: int | None = None
    trusted_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """The keys whose records count in the registry, by name."""
    builders: tuple[str, ...] = ()
    """In the form that `--builder` takes."""
    context: Path | None = None
    build_args: tuple[BuildArg, ...] = ()
    build_contexts: tuple[str, ...] = ()
    """In the form that `--build-context` takes."""
    secrets: tuple[str, ...] = ()
    """In the form that `--secret` takes."""
    refresh_after: str | None = None
    deadline: str | None = None
    jobs: int | None = None
    keep_going: bool = False
    tests: bool = True
    strict: bool = False
    native: str | None = None
    native_steps: Mapping[str, str] = field(default_factory=dict)
    """The modes of single steps, by a pattern of `option/name`."""
    push: bool = False
    load: bool = True

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.path.parent

    def layer(self, name: str) -> LayerEntry | None:
        """Return the layer with this name; None if there is no such layer."""
        return next((layer for layer in self.layers if layer.name == name), None)
