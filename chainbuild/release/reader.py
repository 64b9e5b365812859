"""Reads a release plan: checks what its values mean, and makes a ReleasePlan of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from chainbuild.errors import Problem, WrongUseError
from chainbuild.records.garbage import is_readable
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan, Warned
from chainbuild.release.rules import NOTHING, PLAN
from chainbuild.yamlspec.nodes import Content, read_nodes

T = TypeVar("T")
_CREATE: Final = "chainbuild release create --force writes one from what was built."


def read_plan(path: Path) -> ReleasePlan:
    """Read a plan. Errors: `WrongUseError` with everything that is wrong with it, each with its line."""
    shown = shown_path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "chainbuild release create writes one." if isinstance(error, FileNotFoundError) else ""
        raise WrongUseError([Problem(path=shown, message=f"cannot be read: {error.strerror}", hint=hint)]) from error
    return parse_plan(raw, path, shown)


def shown_path(path: Path) -> str:
    """A plan's path as people are told it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../../..") else relative


def parse_plan(raw: bytes, path: Path, shown: str) -> ReleasePlan:
    """Read a plan's bytes. Errors: as `read_plan`."""
    content = read_nodes(raw, shown, PLAN, if_empty=_CREATE)
    reader = _Reader(shown, content)
    images = reader.images()
    # What has no lines is no YAML, and was told to be none.
    problems = [*reader.problems, *(_aliases(raw, shown) if content.lines else ())]
    if problems:
        raise WrongUseError(problems)
    return ReleasePlan(path=path, shown=shown, release=content.values.get("release", ""), images=images)


def _aliases(raw: bytes, shown: str) -> list[Problem]:
    """Where one part of the file stands for another: who edits or renews the one would not see the other."""
    return [
        Problem(
            path=shown,
            line=token.start_mark.line + 1,
            message=f"*{token.value} stands for something else",
            hint="Write it out: in a plan each image says all of itself.",
        )
        for token in yaml.scan(raw.decode("utf-8-sig"))
        if isinstance(token, yaml.AliasToken)
    ]


class _Reader:
    """From plain values to images; the shape of the values is right or was told already."""

    def __init__(self, shown: str, content: Content) -> None:
        self.shown = shown
        self.content = content
        self.problems = list(content.problems)
        self._named: dict[ImageReference, int] = {}
        self._given: dict[ImageReference, str] = {}

    def images(self) -> tuple[PlannedImage, ...]:
        said: Mapping[str, Any] = self.content.values.get("images") or {}
        found = (self._image(name, values) for name, values in said.items() if isinstance(values, dict))
        return tuple(image for image in found if image is not None)

    def _say(self, place: tuple[str | int, ...], message: str, hint: str = "") -> None:
        self.problems.append(Problem(path=self.shown, line=self.content.line(*place), message=message, hint=hint))

    def _parsed(self, parse: Callable[[str], T], text: str, *place: str | int) -> T | None:
        try:
            return parse(text)
        except WrongUseError as error:
            for problem in error.problems:
                self._say(place, problem.message, problem.hint)
            return None

    def _image(self, key: str, said: Mapping[str, Any]) -> PlannedImage | None:
        place = ("images", key)
        line = self.content.line(*place)
        name = self._parsed(ImageReference.parse, key, *place)
        if name is None:
            return None
        if name.digest:
            self._say(place, f"{key}: an image of a plan has no digest in its name", "Its digests are below it.")
        name = ImageReference(name.registry, name.repository, name.tag_or_latest)
        if name in self._named:
            self._say(place, f"{key} is the image of line {self._named[name]}", "Keep one of the two.")
        self._named.setdefault(name, line)
        to = self._targets(key, said.get("to") or ())
        lines = {part: self.content.line(*place, part) for part in said}
        lines |= {str(target): self.content.line(*place, "to", index) for index, target in to}
        return PlannedImage(
            name=name,
            decision=said.get("decision", ""),
            to=tuple(target for _, target in to),
            note=said.get("note") or "",
            digests=self._digests(key, said.get("digests") or {}),
            replaces=self._replaces(key, said.get("replaces") or {}),
            differences={
                platform: Difference(**{part: _frozen(value) for part, value in one.items()})
                for platform, one in (said.get("differences") or {}).items()
            },
            tests={platform: _texts(lines) for platform, lines in (said.get("tests") or {}).items()},
            errors=_texts(said.get("errors")),
            warnings=self._warnings(key, said.get("warnings") or ()),
            key=key,
            line=line,
            lines=lines,
        )

    def _targets(self, key: str, names: Any) -> list[tuple[int, ImageReference]]:
        found = []
        for index, text in enumerate(names):
            place = ("images", key, "to", index)
            name = self._parsed(ImageReference.parse, text, *place) if text is not None else None
            if name is None:
                continue
            if name.digest:
                self._say(place, f"{text}: a name that an image gets has no digest", "It is NAME:TAG.")
            elif name.tag is None:
                self._say(place, f"{text} has no tag", f"Write the tag that it gets: {text}:latest.")
            elif not is_readable(name.tag):
                self._say(place, f"{text}: {name.tag} is a tag of machine data", "Take a tag that does not begin so.")
            elif self._given.get(name) == key:
                self._say(place, f"{key} gets the name {text} twice", "Keep one of the two.")
            elif name in self._given:
                self._say(place, f"{self._given[name]} gets the name {text}, too", "A name means one image.")
            self._given.setdefault(name, key)
            found.append((index, name))
        return found

    def _digests(self, key: str, said: Mapping[str, str]) -> dict[Platform, Digest]:
        found: dict[Platform, Digest] = {}
        for text, digest in said.items():
            place = ("images", key, "digests", text)
            platform = self._parsed(Platform.parse, text, *place)
            if platform is None:
                continue
            twin = next((other for other in found if other.same_as(platform)), None)
            if twin:
                self._say(place, f"{text} and {twin} are the same platform", "Keep one of the two.")
            found[platform] = Digest(digest)
        return found

    def _replaces(self, key: str, said: Mapping[str, str]) -> dict[ImageReference, Digest | None]:
        found: dict[ImageReference, Digest | None] = {}
        for text, digest in said.items():
            name = self._parsed(ImageReference.parse, text, "images", key, "replaces", text)
            if name is not None:
                found[name] = None if digest == NOTHING else Digest(digest)
        return found

    def _warnings(self, key: str, said: Any) -> tuple[Warned, ...]:
        return tuple(
            Warned(
                says=one.get("says", ""),
                accepted=one.get("accepted") or "",
                line=self.content.line("images", key, "warnings", index),
            )
            for index, one in enumerate(said)
            if isinstance(one, dict)
        )


def _texts(lines: Any) -> tuple[str, ...]:
    return tuple(line for line in lines or () if line is not None)


def _frozen(value: Any) -> Any:
    return _texts(value) if isinstance(value, list) else value
