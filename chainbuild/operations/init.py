"""`chainbuild init`: scan a folder, and write a `chainbuild.yaml` for it that the user can edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import BaseImage, find_base_image
from chainbuild.errors import WrongUseError
from chainbuild.layouts.layer_folder import layer_name
from chainbuild.local_registry import DEFAULT_PORT
from chainbuild.patterns import regex
from chainbuild.project.schema import SCHEMA_PLACE
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.last_run import load_last_run
from chainbuild.requests.options import RunOptions

_NUMBERED: Final = regex(r"(?P<number>[0-9]+)-Dockerfile-[A-Za-z0-9][A-Za-z0-9_.-]*")
_SCIENCE: Final = "sciserver-image.json"
_BASE: Final = "debian:bookworm-slim"
_HEAD: Final = """\
# What chainbuild builds in this folder. Show the plan with `chainbuild plan`, build with `chainbuild`.
# Flags override this file. All keys: docs/project-file.md.
"""
_PLAIN: Final = regex(r"[A-Za-z](?:[A-Za-z0-9._/@+-]|:(?=[A-Za-z0-9]))*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_UNFIT: Final = regex(r"[^a-z0-9]+")


class ScannedLayer(Struct, frozen=True, kw_only=True):
    """A folder with a plain Dockerfile, and its base image."""

    folder: str
    base_image: BaseImage | None

    @property
    def last_part(self) -> str:
        """The last part of the base image's repository; empty if the Dockerfile names none that can be parsed."""
        try:
            reference = ImageReference.parse(self.base_image.reference) if self.base_image else None
        except WrongUseError:
            return ""
        return reference.repository.rpartition("/")[2] if reference else ""


class ProjectScan(Struct, frozen=True, kw_only=True):
    """The content of a folder."""

    root: Path
    options: tuple[str, ...] = ()
    layers: tuple[ScannedLayer, ...] = ()
    science: int = 0
    """Number of science and compatibility layers."""
    last_run: RunOptions | None = None
    """The options of the last run in this folder."""

    @property
    def told(self) -> tuple[str, ...]:
        """Lines that say what was found."""
        lines = [f"option {name}: numbered Dockerfiles" for name in self.options]
        for layer in self.layers:
            written = f", FROM {layer.base_image.written}" if layer.base_image else ""
            lines.append(f"layer {layer.folder}: a plain Dockerfile{written}")
        if self.science:
            lines.append(f"science: {self.science} folders with {_SCIENCE}")
        if self.last_run:
            lines.append("the arguments of the last run")
        return tuple(lines)


def look(root: Path) -> ProjectScan:
    """Scan a folder, one level deep."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    options = [folder.name for folder in folders if any(_NUMBERED.fullmatch(entry.name) for entry in folder.iterdir())]
    science = len([*root.glob(f"science/*/{_SCIENCE}"), *root.glob(f"compat/*/{_SCIENCE}")])
    plain = [folder.name for folder in folders if (folder / "Dockerfile").is_file() and folder.name not in options]
    plain += ["."] if (root / "Dockerfile").is_file() else []
    try:
        last = load_last_run(root)
    except WrongUseError:
        last = None
    if last and last.option:
        # First the options of the last run, in its order, then the others.
        typed = [name for name in last.option.split(",") if name in options]
        options = [*typed, *(name for name in options if name not in typed)]
    layers = tuple(ScannedLayer(folder=name, base_image=_base_image(root / name)) for name in plain)
    return ProjectScan(root=root, options=tuple(options), layers=_stacked(layers), science=science, last_run=last)


def _base_image(folder: Path) -> BaseImage | None:
    native = Platform.of_this_machine()
    try:
        facts = parse((folder / "Dockerfile").read_bytes(), "Dockerfile")
    except OSError:
        return None
    return find_base_image(facts, args={}, platform=native, build_platform=native)


def _stacked(layers: tuple[ScannedLayer, ...]) -> tuple[ScannedLayer, ...]:
    """Sort layers by name, but each one after the layer whose folder has the name of its base image."""
    by_name = {_last(layer.folder): layer for layer in layers}
    done: dict[str, ScannedLayer] = {}

    def put(layer: ScannedLayer, above: tuple[str, ...]) -> None:
        below = by_name.get(layer.last_part)
        if below and below.folder not in (*above, layer.folder):
            put(below, (*above, layer.folder))
        done.setdefault(layer.folder, layer)

    for layer in layers:
        put(layer, ())
    return tuple(done.values())


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


# Writing --------------------------------------------------------------------------------------------------------------


def write(guess: ProjectScan) -> str:
    """Return the content of a chainbuild.yaml."""
    parts = [
        f"# yaml-language-server: $schema={SCHEMA_PLACE}\n",
        _HEAD,
        _platforms(guess),
    ]
    parts += [_options(guess)] if guess.options else []
    parts += [_layers(guess)] if guess.layers else []
    parts += [_science(guess)] if guess.science else []
    parts.append(_how(guess))
    return "\n".join(part for part in parts if part)


def _platforms(guess: ProjectScan) -> str:
    platforms = guess.last_run.platform if guess.last_run else None
    names = (platforms or Platform.of_this_machine().name).split(",")
    return f"platforms: [{', '.join(_quoted(name.strip()) for name in names)}]\n"


def _options(guess: ProjectScan) -> str:
    last = guess.last_run or RunOptions()
    repo = last.repo or f"{_team(guess)}/{_name(guess)}"
    lines = [
        f"repo: {_quoted(repo)}  # repository of the options' images: REPO:TAG-OPTION",
        f"tag: {_quoted(last.tag or 'v1')}",
        f"base: {_quoted(last.base or _BASE)}  # base image of the first option",
        f"production: {_quoted(last.production or _BASE)}  # base image of the slim images",
        "options:  # in build order: each one builds on the result of the one before",
        *(f"  - {_quoted(name)}" for name in guess.options),
    ]
    return "\n".join(lines) + "\n"


def _layers(guess: ProjectScan) -> str:
    lines = ["layers:  # one image each"]
    before = ""
    for layer in guess.layers:
        own = layer_name(guess.root / layer.folder)
        lines += [
            f"  - folder: {_quoted(layer.folder)}",
            f"    image: {_quoted(f'{_team(guess)}/{_safe(own)}:latest')}",
        ]
        base_image = layer.base_image
        reference = base_image.reference if base_image else ""
        if before and layer.last_part == before:
            lines.append(f"    # builds on the layer before it instead of {reference}")
        elif base_image and base_image.is_nothing:
            lines.append("    base: scratch  # as in its Dockerfile: no base image")
        elif reference:
            lines.append(f"    base: {_quoted(reference)}")
        else:
            lines.append(
                f"    base: {_BASE}  # its FROM {base_image.written if base_image else ''} has no default value"
            )
        if base_image and base_image.arg:
            lines.append(f"    base-arg: {base_image.arg}")
        before = _last(layer.folder)
    return "\n".join(lines) + "\n"


def _science(guess: ProjectScan) -> str:
    return f"science:\n  repo: {_quoted(_team(guess))}  # for sci/TARGET and rel/IMAGE\n"


def _how(guess: ProjectScan) -> str:
    last = guess.last_run or RunOptions()
    lines: list[str] = []
    if last.registry:
        lines.append(f"registry: {_quoted(last.registry)}")
    if last.port and last.port != DEFAULT_PORT:
        lines.append(f"registry-port: {last.port}")
    if last.refresh_after:
        lines.append(f"refresh-after: {_quoted(last.refresh_after)}")
    if last.build_args:
        pairs = [str(text).partition("=") for text in last.build_args]
        lines += [
            "build-args:",
            *(f"  {name}: {_quoted(value)}" if sign else f"  {name}:" for name, sign, value in pairs),
        ]
    more = [
        "# registry: ghcr.io/acme        # registry for steps and records (default: a temporary one on localhost)",
        "# builders: {aarch64: far}      # buildx builders",
        "# refresh-after: 7d             # rebuild steps that were built longer ago than this",
        "# build-args: {KEY: value}      # for every Dockerfile that declares them",
        "# tests: true                   # run the tests of the images",
        "# push: false                   # push results to their own registries",
    ]
    keys = {line.partition(":")[0] for line in lines}
    return "\n".join([*lines, *(line for line in more if line[2:].partition(":")[0] not in keys)]) + "\n"


def _team(guess: ProjectScan) -> str:
    """Return the first part of REPO: as last typed, else the name of the folder."""
    first, slash, _ = ((guess.last_run and guess.last_run.repo) or "").rpartition("/")
    return first if slash else _safe(guess.root.resolve().name)


def _name(guess: ProjectScan) -> str:
    return _safe(guess.root.resolve().name)


def _safe(text: str) -> str:
    """Return the text as a valid part of a repository name."""
    return _UNFIT.sub("-", text.lower()).strip("-") or "project"


def _quoted(text: str) -> str:
    """Return the text as a YAML scalar that every reader takes for a string. JSON strings are valid YAML."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)
