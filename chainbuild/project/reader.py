"""Read `chainbuild.yaml`: check what its values mean, and make a Project of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.layer_folder import layer_name
from chainbuild.layouts.numbered_names import has_numbered
from chainbuild.model import BuildArg
from chainbuild.parsing.option_values import ProblemCollector, parse_repository, read_build_contexts, read_secrets
from chainbuild.project.model import LayerEntry, Project, ScienceEntry
from chainbuild.project.schema import PROJECT
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.text import parse_duration, perhaps_you_meant
from chainbuild.trust.keys import PublicKey
from chainbuild.yamlspec.nodes import Content, ContentReader, Place, read_nodes, shown_path

T = TypeVar("T")


def read_project(path: Path, environ: Mapping[str, str], *, has_secrets: bool = True) -> Project:
    """Read a project file. `environ` has the values of build args that the file lists without a value.

    `has_secrets`: the run has the secrets, so their sources must exist. Errors: `WrongUseError` with every problem of the
    file and its line.
    """
    shown = shown_path(path)
    try:
        raw = limits.read_tree_file(path)
    except OSError as error:
        raise WrongUseError([Problem(path=shown, message=f"cannot be read: {error.strerror}")]) from error
    return parse_project(raw, path, environ, has_secrets=has_secrets)


def parse_project(raw: bytes, path: Path, environ: Mapping[str, str], *, has_secrets: bool = True) -> Project:
    """Return the project of a file with this content. Errors: as `read_project`."""
    shown = shown_path(path)
    reader = _Reader(path.resolve(), shown, read_nodes(raw, shown, PROJECT), environ)
    reader.has_secrets = has_secrets
    project = reader.project()
    if reader.problems:
        raise WrongUseError(reader.problems)
    return project


def read_trusted_keys(path: Path) -> Mapping[str, PublicKey]:
    """Read the keys that a project file trusts, and ignore the rest of the file.

    Errors: `WrongUseError` with every problem of `trust`.
    """
    return _read_part(path, ("trust.", "trust:"), _Reader.trusted_keys) or {}


class RegistrySettings(Struct, frozen=True, kw_only=True):
    """The settings of a project file that a session is opened with, as text; None or empty: not set."""

    registry: str | None = None
    port: int | None = None
    builders: tuple[str, ...] = ()


def read_registry_settings(path: Path) -> RegistrySettings:
    """Read the registry, its port and the builders of a project file, and ignore the rest of the file.

    Errors: `WrongUseError` with every problem of these keys.
    """
    keys = ("registry:", "registry-port:", "builders:", "builders.")
    return _read_part(path, keys, _Reader.registry_settings) or RegistrySettings()


def _read_part(path: Path, keys: tuple[str, ...], read: Callable[[_Reader], T]) -> T | None:
    """Read a part of a project file; None if the file cannot be read. Problems of other parts are ignored.

    `keys` are the beginnings of messages about the part. Errors: `WrongUseError` with every such problem.
    """
    shown = shown_path(path)
    try:
        content = read_nodes(limits.read_tree_file(path), shown, PROJECT)
    except OSError:
        return None
    reader = _Reader(path.resolve(), shown, content, {})
    reader.problems = [problem for problem in reader.problems if problem.message.startswith(keys)]
    part = read(reader)
    if reader.problems:
        raise WrongUseError(reader.problems)
    return part


class _Reader(ContentReader):
    """Make a Project of plain values. Values of the wrong shape were reported before and are absent."""

    def __init__(self, path: Path, shown: str, content: Content, environ: Mapping[str, str]) -> None:
        super().__init__(shown, content)
        self.path = path
        self.root = path.parent
        self.values = content.values
        self.environ = environ
        self.has_secrets = True

    def project(self) -> Project:
        values = self.values
        session = self.registry_settings()
        layers = self._layers()
        names = {layer.name: layer for layer in layers}
        native = values.get("native")
        return Project(
            path=self.path,
            shown=self.shown,
            platforms=self._platforms(),
            repo=self._checked(parse_repository, "repo"),
            tag=values.get("tag"),
            base=self._image_or_layer(names, "base"),
            production=self._image_or_layer(names, "production"),
            options=self._options(names),
            base_arg=values.get("base-arg"),
            layers=layers,
            science=self._science(),
            registry=session.registry,
            port=session.port,
            trusted_keys=self.trusted_keys(),
            builders=session.builders,
            context=self._folder("context"),
            build_args=self._build_args("build-args"),
            build_contexts=self._build_contexts(),
            secrets=self._secrets(),
            refresh_after=self._checked(parse_duration, "refresh-after"),
            deadline=self._checked(parse_duration, "deadline"),
            jobs=values.get("jobs"),
            keep_going=values.get("keep-going", False),
            tests=values.get("tests", True),
            strict=values.get("strict", False),
            native=native if isinstance(native, str) else None,
            native_steps=native if isinstance(native, dict) else {},
            push=values.get("push", False),
            load=values.get("load", True),
        )

    def registry_settings(self) -> RegistrySettings:
        return RegistrySettings(
            registry=self._checked(ChainRegistry.parse, "registry"),
            port=self.values.get("registry-port"),
            builders=self._builders(),
        )

    # Problems ---------------------------------------------------------------------------------------------------------

    def subject(self, place: Place) -> str:
        return f"{_last_key(place)}: "

    def _value(self, *place: str | int) -> Any:
        value: Any = self.values
        for part in place:
            value = value.get(part) if isinstance(part, str) else value[part]
            if value is None:
                return None
        return value

    def _checked(self, parse: Callable[[str], object], *place: str | int) -> str | None:
        """Return a string as it is written if it can be parsed; else None, and report why."""
        text: str | None = self._value(*place)
        return text if text and self.parsed(parse, text, *place) is not None else None

    def _collected(self, place: tuple[str | int, ...], flag: str, read: Callable[[ProblemCollector], object]) -> None:
        """Collect the problems that a reader of flags finds, with the file's line instead of the flag."""
        collector = ProblemCollector()
        read(collector)
        for problem in collector.problems:
            self.add(place, problem.message.replace(flag, _last_key(place[:1]) + ":", 1), problem.hint)

    def trusted_keys(self) -> dict[str, PublicKey]:
        """Return the keys of `trust`, by name."""
        keys: dict[str, PublicKey] = {}
        for name, text in (self._value("trust") or {}).items():
            key = self.parsed(PublicKey.parse, text, "trust", name)
            if key:
                keys[name] = key
        return keys

    # Simple settings --------------------------------------------------------------------------------------------------

    def _platforms(self) -> tuple[str, ...]:
        names: list[str] = []
        for index, name in self._items("platforms"):
            same = next((other for other in names if Platform.parse(other).same_as(Platform.parse(name))), None)
            if same:
                text = f"platforms: {name!r} and {same!r} are the same platform"
                self.add(("platforms", index), text, "Remove one of them.")
            names.append(name)
        return tuple(names)

    def _items(self, *place: str | int) -> list[tuple[int, Any]]:
        return [(index, item) for index, item in enumerate(self._value(*place) or ()) if item is not None]

    def _folder(self, *place: str | int) -> Path | None:
        text: str | None = self._value(*place)
        if not text:
            return None
        folder = self.root / text
        if not folder.is_dir():
            self.add(place, f"{_last_key(place)}: no such folder: {text!r}", self._nearest_folder(text))
        return folder.resolve()

    def _nearest_folder(self, text: str) -> str:
        path = Path(text)
        try:
            folders = sorted(entry.name for entry in (self.root / path.parent).iterdir() if entry.is_dir())
        except OSError:
            folders = []
        near = perhaps_you_meant(path.name, folders, lambda near: repr(str(path.parent / near))).rstrip()
        return near or f"Paths are relative to the folder of {self.shown}."

    def _builders(self) -> tuple[str, ...]:
        builders = self._value("builders") or {}
        if isinstance(builders, str):
            return (builders,)
        seen: list[Platform] = []
        for name in builders:
            platform = Platform.parse(name)
            if any(platform.same_as(other) for other in seen):
                self.add(("builders", name), f"builders: duplicate platform {name}", "Remove one of them.")
            seen.append(platform)
        return tuple(f"{name}={builder}" for name, builder in builders.items())

    def _build_args(self, *place: str | int) -> tuple[BuildArg, ...]:
        args: list[BuildArg] = []
        for name, value in (self._value(*place) or {}).items():
            origin = f"{self.shown}:{self.content.line(*place, name)}"
            if value is None and name not in self.environ:
                hint = f'Write {name}: VALUE, {name}: "" for an empty value, or export {name} before the run.'
                self.add((*place, name), f"{name} has no value, here or in the environment", hint)
            args.append(
                BuildArg(name=name, value=self.environ.get(name, "") if value is None else value, origin=origin)
            )
        return tuple(args)

    def _build_contexts(self) -> tuple[str, ...]:
        texts: list[str] = []
        for name, place in (self._value("build-contexts") or {}).items():
            local = "://" not in place and not place.startswith("git@")
            texts.append(f"{name}={self.root / place if local else place}")
            self._collected(
                ("build-contexts", name), "--build-context", lambda into: read_build_contexts(texts[-1:], into)
            )
        return tuple(texts)

    def _secrets(self) -> tuple[str, ...]:
        texts: list[str] = []
        for name, source in (self._value("secrets") or {}).items():
            if {"src", "env"} <= set(source):
                self.add(("secrets", name), f"secrets: {name} has both src and env", "Remove one of them.")
            origin = f"src={self.root / source['src']}" if "src" in source else f"env={source.get('env', '')}"
            texts.append(f"id={name},{origin}")
            if self.has_secrets:
                self._collected(
                    ("secrets", name), "--secret", lambda into: read_secrets(texts[-1:], self.environ, into)
                )
        return tuple(texts)

    # Options, layers, science -----------------------------------------------------------------------------------------

    def _image_or_layer(self, layers: Mapping[str, LayerEntry], *place: str | int) -> str | None:
        text: str | None = self._value(*place)
        if not text or text in layers:
            return text or None
        image = self.parsed(ImageReference.parse, text, *place)
        return str(image) if image else None

    def _options(self, layers: Mapping[str, LayerEntry]) -> tuple[str, ...]:
        names: list[str] = []
        for index, text in self._items("options"):
            name = text.rstrip("/")
            if "," in name:
                self.add(
                    ("options", index), f"options: {text!r} has a comma", "Write each folder as an entry of its own."
                )
            elif not (self.root / name).is_dir():
                near = perhaps_you_meant(name, _option_folders(self.root)).rstrip()
                hint = near or "An option is a folder of numbered Dockerfiles."
                self.add(("options", index), f"options: no such folder: {name!r}", hint)
            elif (self.root / name).resolve().name in layers:
                message = f"options: {name!r} is also the name of a layer"
                self.add(("options", index), message, "Rename the layer.")
            names.append(name)
        return tuple(names)

    def _layers(self) -> tuple[LayerEntry, ...]:
        layers: dict[str, LayerEntry] = {}
        for index, entry in self._items("layers"):
            layer = self._layer(index, entry, layers)
            if layer is None:
                continue
            if layer.name in layers:
                text = f"duplicate layer name {layer.name!r}; first used in line {layers[layer.name].line}"
                self.add(("layers", index), text, "Set a different name: for one of them.")
            layers[layer.name] = layer
        return tuple(layers.values())

    def _layer(self, index: int, entry: Mapping[str, Any], earlier: Mapping[str, LayerEntry]) -> LayerEntry | None:
        place = ("layers", index)
        folder = self._folder(*place, "folder")
        image = self.parsed(ImageReference.parse, entry["image"], *place, "image") if entry.get("image") else None
        base, base_layer = self._layer_base(index, earlier)
        build_args = self._build_args(*place, "build-args")
        context = self._folder(*place, "context")
        if image and image.digest:
            self.add((*place, "image"), f"image: {image} has a digest", "Give the name to publish as: NAME:TAG.")
        if folder is None or image is None:
            return None
        return LayerEntry(
            name=entry.get("name") or layer_name(folder, entry.get("dockerfile", "")),
            folder=folder,
            image=image,
            base=base,
            base_layer=base_layer,
            base_arg=entry.get("base-arg", ""),
            build_args=build_args,
            context=context,
            tags=self._tags(index, image),
            dockerfile=entry.get("dockerfile", ""),
            image_key=entry.get("image-key", ""),
            packages=tuple(item for _, item in self._items(*place, "packages")),
            skip_packages=tuple(item for _, item in self._items(*place, "skip-packages")),
            search_dirs=self._search_dirs(index, entry),
            tests=entry.get("tests", True),
            line=self.content.line(*place),
        )

    def _tags(self, index: int, image: ImageReference) -> tuple[str, ...]:
        """Return the further tags of a layer's image."""
        tags = []
        for item, tag in self._items("layers", index, "tags"):
            if tag == image.tag:
                self.add(("layers", index, "tags", item), f"tags: {image} has the tag {tag!r}", "Remove it from tags.")
            tags.append(tag)
        return tuple(tags)

    def _search_dirs(self, index: int, entry: Mapping[str, Any]) -> tuple[Path, ...]:
        """Return the folders that are searched for a layer's Dockerfiles; check that they are used."""
        place = ("layers", index)
        chosen = [key for key in ("dockerfile", "image-key", "packages") if entry.get(key)]
        for key in chosen[1:]:
            self.add((*place, key), f"{key} cannot be combined with {chosen[0]}", "Remove one of them.")
        for key, needed in (("search-dirs", ("image-key", "packages")), ("skip-packages", ("packages",))):
            if entry.get(key) and not any(entry.get(other) for other in needed):
                self.add((*place, key), f"{key} needs {' or '.join(needed)}", "Remove it, or add that key.")
        folders = [self._folder(*place, "search-dirs", item) for item, _ in self._items(*place, "search-dirs")]
        return tuple(folder for folder in folders if folder)

    def _layer_base(self, index: int, earlier: Mapping[str, LayerEntry]) -> tuple[ImageReference | None, str]:
        """Return the image that is a layer's base, or the name of the earlier layer. Report the name of a later layer."""
        text: str = self._value("layers", index, "base") or ""
        if not text or text in earlier:
            return None, text
        later = [other for place, other in self._items("layers") if place >= index]
        names = {
            other.get("name") or layer_name(self.root / other["folder"], other.get("dockerfile", ""))
            for other in later
            if other.get("folder")
        }
        if text in names:
            self.add(
                ("layers", index, "base"),
                f"base: layer {text!r} is not defined before this layer",
                "Set an earlier layer or an image.",
            )
            return None, ""
        return self.parsed(ImageReference.parse, text, "layers", index, "base"), ""

    def _science(self) -> ScienceEntry | None:
        if self._value("science") is None:
            return None
        return ScienceEntry(
            root=self._folder("science", "root") or self.root,
            repo=self._checked(parse_repository, "science", "repo"),
            line=self.content.line("science"),
        )


def _last_key(place: Iterable[str | int]) -> str:
    return next((part for part in reversed(tuple(place)) if isinstance(part, str)), "")


def _option_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and has_numbered(entry))
