"""`chainbuild init`: scan a folder, and write a `chainbuild.yaml` for it that the user can edit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.execution.session import environment
from chainbuild.layouts.layer_folder import layer_name
from chainbuild.local_registry import DEFAULT_PORT
from chainbuild.operations.base_layers import safe_name
from chainbuild.operations.layer_proposals import DEFAULT_BASE, ProposedLayer
from chainbuild.operations.project_proposal import Guess, Proposal, propose
from chainbuild.operations.tree_scan import IMAGE_TYPE, SCIENCE, TreeScan, scan_tree
from chainbuild.patterns import regex
from chainbuild.project.location import FILE_NAME
from chainbuild.project.reader import parse_project
from chainbuild.project.schema import SCHEMA_PLACE
from chainbuild.references import Platform
from chainbuild.requests.last_run import load_last_run
from chainbuild.requests.options import RunOptions
from chainbuild.requests.project_runs import read_run
from chainbuild.text import escaped

_HEAD: Final = """\
# What chainbuild builds in this folder. Show the plan with `chainbuild plan`, build with `chainbuild`.
# Flags override this file. All keys: chainbuild docs project-file.
"""
_GENERIC: Final = frozenset({"build", "ci", "containers", "docker", "dockerfiles", "images", "repository", "src"})
"""Names of folders that many repositories have: images of different repositories would have one name."""
_PLAIN: Final = regex(r"[A-Za-z](?:[A-Za-z0-9._/@+-]|:(?=[A-Za-z0-9]))*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


class ProjectScan(Struct, frozen=True, kw_only=True):
    """The content of a folder, and the project that is proposed for it."""

    root: Path
    tree: TreeScan
    proposal: Proposal
    last_run: RunOptions | None = None
    """The options of the last run in this folder."""

    @property
    def options(self) -> tuple[str, ...]:
        """The options, in build order."""
        return self.proposal.options.options

    @property
    def layers(self) -> tuple[ProposedLayer, ...]:
        """The layers, each after its base."""
        return self.proposal.layers

    @property
    def is_empty(self) -> bool:
        """True if there is nothing that can be planned."""
        return not (self.options or self.tree.science or any(not layer.problems for layer in self.layers))

    @property
    def told(self) -> tuple[str, ...]:
        """Lines that say what was found."""
        bases = {layer.place: layer.base_image for layer in (*self.tree.layers, *self.tree.named)}
        lines = [f"option {name}: numbered Dockerfiles" for name in self.options]
        lines += [f"order of the options: {reason}" for reason in self.proposal.options.reasons]
        lines += [f"stages {folder}: Dockerfiles of minimize or production" for folder in self.tree.stages]
        for layer in self.layers:
            base = bases.get(layer.place)
            if layer.image_key:
                lines.append(f"layer {layer.folder}: Dockerfile.<key> files, image key {layer.image_key}")
            elif layer.packages:
                lines.append(f"layer {layer.folder}: packages with dependencies, {', '.join(layer.packages)}")
            else:
                what = "a Dockerfile" if layer.dockerfile else "a plain Dockerfile"
                lines.append(f"layer {layer.place}: {what}" + (f", FROM {base.written}" if base else ""))
        if self.tree.unused:
            lines.append(
                f"but not used: {', '.join(self.tree.unused)}: their FROM lines take no base image from an ARG"
            )
        if self.tree.science:
            lines.append(f"science: {self.tree.science} folders with {SCIENCE}")
        if self.tree.image_types:
            lines.append(f"image types: {self.tree.image_types} folders with {IMAGE_TYPE} (see chainbuild types list)")
        if self.proposal.unused:
            lines.append(f"but not used: {', '.join(self.proposal.unused)}: no other Dockerfile builds on them")
        if self.tree.without_manifest:
            lines.append(f"but not used: {', '.join(self.tree.without_manifest)}: no {IMAGE_TYPE}")
        if self.last_run:
            lines.append("the arguments of the last run")
        return tuple(lines)

    @property
    def guesses(self) -> tuple[Guess, ...]:
        """The values of the file that nothing in the tree decides."""
        return tuple(self._option_guesses()) + self.proposal.guesses

    def _option_guesses(self) -> Iterator[Guess]:
        if not self.options:
            return
        if not self.proposal.options.sure:
            why = "nothing in the tree says which one builds on which"
            yield Guess(key="options", text="Options in build order", value=",".join(self.options), why=why)
        if self.last_run:
            return
        repo = f"{_team(self)}/{_name(self)}"
        yield Guess(key="repo", text="Repository of the options' images", value=repo, why="the name of the folder")
        base = self.proposal.option_base
        if not base:
            why = f"no FROM of {self.options[0]} names an image"
            yield Guess(key="base", text="Base image of the first option", value=DEFAULT_BASE, why=why)
        production = base or DEFAULT_BASE
        yield Guess(key="production", text="Base image of the slim images", value=production, why="the default")


def look(root: Path) -> ProjectScan:
    """Scan a folder at all depths, and propose a project."""
    tree = scan_tree(root)
    try:
        last = load_last_run(root)
    except WrongUseError:
        last = None
    # First the options of the last run, in its order, then the others.
    typed = [name for name in (last.option or "").split(",") if name in tree.options] if last else []
    return ProjectScan(root=root, tree=tree, proposal=propose(tree, _team_of(root, last), typed), last_run=last)


# Writing --------------------------------------------------------------------------------------------------------------


Values = Mapping[tuple[str, str], str]
"""Values for the guesses, by their folders and keys."""


def write(guess: ProjectScan, answers: Values | None = None) -> str:
    """Return the content of a chainbuild.yaml. `answers` replace guessed values."""
    said = {(item.folder, item.key): item.value for item in guess.guesses} | dict(answers or {})
    parts = [
        f"# yaml-language-server: $schema={SCHEMA_PLACE}\n",
        _HEAD,
        _platforms(guess),
    ]
    parts += [_options(guess, said)] if guess.options else []
    parts += [_layers(guess, said)] if any(not layer.problems for layer in guess.layers) else []
    parts += [_left_out(guess)]
    parts += [_science(guess)] if guess.tree.science else []
    parts.append(_how(guess))
    return "\n".join(part for part in parts if part)


def problems_of(guess: ProjectScan, text: str) -> tuple[Problem, ...]:
    """Return what `chainbuild plan` would report about a project file with this text."""
    environ = environment()
    try:
        read_run(parse_project(text.encode(), guess.root / FILE_NAME, environ), RunOptions())
    except WrongUseError as error:
        return error.problems
    return guess.proposal.option_problems


def _platforms(guess: ProjectScan) -> str:
    platforms = guess.last_run.platform if guess.last_run else None
    names = (platforms or Platform.of_this_machine().name).split(",")
    return f"platforms: [{', '.join(_quoted(name.strip()) for name in names)}]\n"


def _options(guess: ProjectScan, said: Values) -> str:
    last = guess.last_run or RunOptions()
    names = [name.strip() for name in said.get(("", "options"), ",".join(guess.options)).split(",")]
    base = last.base or said.get(("", "base")) or guess.proposal.option_base
    base_arg = last.base_arg or guess.proposal.option_base_arg
    context = guess.proposal.option_context
    lines = [
        f"repo: {_quoted(last.repo or said['', 'repo'])}  # repository of the options' images: REPO:TAG-OPTION",
        f"tag: {_quoted(last.tag or 'v1')}",
        f"base: {_quoted(base)}  # base image of the first option",
        f"production: {_quoted(last.production or said['', 'production'])}  # base image of the slim images",
        *([f"context: {_quoted(context)}  # has the files that the Dockerfiles copy"] if context else []),
        *([f"base-arg: {_quoted(base_arg)}  # the ARG that takes the base image"] if base_arg else []),
        "options:  # in build order: each one builds on the result of the one before",
        *(f"  - {_quoted(name)}" for name in names),
    ]
    return "\n".join(lines) + "\n"


def _layers(guess: ProjectScan, said: Values) -> str:
    lines = ["layers:  # one image each"]
    before = ""
    for layer in (layer for layer in guess.layers if not layer.problems):
        lines += [f"  - folder: {_quoted(layer.folder)}", f"    image: {_quoted(layer.image)}"]
        if layer.dockerfile:
            lines.append(f"    dockerfile: {_quoted(layer.dockerfile)}")
        if layer.name != layer_name(guess.root / layer.folder, layer.dockerfile):
            lines.append(f"    name: {_quoted(layer.name)}")
        note = f"  # {layer.note}" if layer.note else ""
        if layer.image_key:
            lines.append(f"    image-key: {_quoted(said[layer.folder, 'image-key'])}{note}")
        if layer.packages:
            names = said[layer.folder, "packages"].split(",")
            lines.append(f"    packages: [{', '.join(_quoted(name.strip()) for name in names)}]")
        if layer.base_layer and layer.base_is_guessed:
            lines.append(f"    base: {_quoted(said[layer.place, 'base'])}{note}")
        elif layer.base_layer and layer.base_layer == before:
            lines.append(f"    # builds on the layer before it instead of {layer.instead_of}")
        elif layer.base_layer:
            lines.append(f"    base: {_quoted(layer.base_layer)}  # the layer, instead of {layer.instead_of}")
        elif layer.base:
            lines.append(f"    base: {_quoted(said.get((layer.place, 'base'), layer.base))}{note}")
        if layer.base_arg:
            lines.append(f"    base-arg: {_quoted(layer.base_arg)}")
        if layer.context:
            lines.append(f"    context: {_quoted(layer.context)}  # has the files that the Dockerfile copies")
        before = layer.name
    return "\n".join(lines) + "\n"


def _left_out(guess: ProjectScan) -> str:
    """Return comments for the layers that cannot be planned as they are."""
    lines: list[str] = []
    for layer in guess.layers:
        if layer.problems:
            first = layer.problems[0]
            where = f"{first.where}: " if first.where else ""
            more = f" (and {len(layer.problems) - 1} more)" if len(layer.problems) > 1 else ""
            lines.append(f"# left out: {escaped(layer.place)}: {escaped(f'{where}{first.message}')}{more}")
    return "\n".join(lines) + "\n" if lines else ""


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
    return _team_of(guess.root, guess.last_run)


def _team_of(root: Path, last: RunOptions | None) -> str:
    """Return the first part of REPO: as last typed, else the name of the folder, or of the one above `docker/` and the like."""
    first, slash, _ = ((last and last.repo) or "").rpartition("/")
    if slash:
        return first
    folder = root.resolve()
    if safe_name(folder.name) in _GENERIC and safe_name(folder.parent.name) not in _GENERIC and folder.parent.name:
        folder = folder.parent
    return safe_name(folder.name)


def _name(guess: ProjectScan) -> str:
    return safe_name(guess.root.resolve().name)


def _quoted(text: str) -> str:
    """Return the text as a YAML scalar that every reader takes for a string. JSON strings are valid YAML."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # JSON leaves characters as they are that are line ends in YAML, or not allowed in it.
    return "".join(letter if letter.isprintable() else _code(letter) for letter in json.dumps(text, ensure_ascii=False))


def _code(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else f"\\U{ord(letter):08x}"
