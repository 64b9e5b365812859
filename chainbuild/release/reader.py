"""Read a release plan: check what its values mean, and make a ReleasePlan of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from chainbuild import limits
from chainbuild.errors import Problem, WrongUseError
from chainbuild.records.garbage import is_readable
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan, Warned
from chainbuild.release.rules import NOTHING, PLAN
from chainbuild.yamlspec.nodes import Content, ContentReader, read_nodes, shown_path

T = TypeVar("T")
_CREATE: Final = "Run chainbuild release create --force to create a plan from the built images."


def read_plan(path: Path) -> ReleasePlan:
    """Read a plan. Errors: `WrongUseError` with every problem and its line."""
    shown = shown_path(path)
    try:
        raw = limits.read_tree_file(path)
    except OSError as error:
        hint = "Run chainbuild release create to create it." if isinstance(error, FileNotFoundError) else ""
        raise WrongUseError([Problem(path=shown, message=f"cannot be read: {error.strerror}", hint=hint)]) from error
    return parse_plan(raw, path, shown)


def parse_plan(raw: bytes, path: Path, shown: str) -> ReleasePlan:
    """Read the bytes of a plan. Errors: as `read_plan`."""
    content = read_nodes(raw, shown, PLAN, if_empty=_CREATE)
    reader = _Reader(shown, content)
    images = reader.images()
    # Content without lines was reported as invalid YAML.
    problems = [*reader.problems, *(_aliases(raw, shown) if content.lines else ())]
    if problems:
        raise WrongUseError(problems)
    values = content.values
    return ReleasePlan(
        path=path, shown=shown, release=values.get("release", ""), images=images, policy=values.get("policy", "")
    )


def _aliases(raw: bytes, shown: str) -> list[Problem]:
    """Report the aliases of a plan: editing or updating one image would change another."""
    return [
        Problem(
            path=shown,
            line=token.start_mark.line + 1,
            message=f"YAML aliases are not allowed in a release plan (*{token.value})",
            hint="Write the values out for each image.",
        )
        for token in yaml.scan(raw.decode("utf-8-sig"))
        if isinstance(token, yaml.AliasToken)
    ]


class _Reader(ContentReader):
    """Make images of plain values. Values of the wrong shape were reported before and are absent."""

    def __init__(self, shown: str, content: Content) -> None:
        super().__init__(shown, content)
        self._named: dict[ImageReference, int] = {}
        self._given: dict[ImageReference, str] = {}

    def images(self) -> tuple[PlannedImage, ...]:
        value: Mapping[str, Any] = self.content.values.get("images") or {}
        result = (self._image(name, values) for name, values in value.items() if isinstance(values, dict))
        return tuple(image for image in result if image is not None)

    def _image(self, key: str, text: Mapping[str, Any]) -> PlannedImage | None:
        place = ("images", key)
        line = self.content.line(*place)
        name = self.parsed(ImageReference.parse, key, *place)
        if name is None:
            return None
        if name.digest:
            self.add(place, f"{key}: the name of an image must not have a digest", "List its digests below digests:.")
        name = ImageReference(name.registry, name.repository, name.tag_or_latest)
        if name in self._named:
            self.add(place, f"{key}: duplicate image; first listed in line {self._named[name]}", "Remove one of them.")
        self._named.setdefault(name, line)
        to = self._targets(key, text.get("to") or ())
        lines = {part: self.content.line(*place, part) for part in text}
        lines |= {str(target): self.content.line(*place, "to", index) for index, target in to}
        return PlannedImage(
            name=name,
            decision=text.get("decision", ""),
            to=tuple(target for _, target in to),
            note=text.get("note") or "",
            digests=self._digests(key, text.get("digests") or {}),
            replaces=self._replaces(key, text.get("replaces") or {}),
            differences={
                platform: Difference(**{part: _frozen(value) for part, value in item.items()})
                for platform, item in (text.get("differences") or {}).items()
            },
            tests={platform: _texts(lines) for platform, lines in (text.get("tests") or {}).items()},
            errors=_texts(text.get("errors")),
            warnings=self._warnings(key, text.get("warnings") or ()),
            key=key,
            line=line,
            lines=lines,
        )

    def _targets(self, key: str, names: Any) -> list[tuple[int, ImageReference]]:
        results = []
        for index, text in enumerate(names):
            place = ("images", key, "to", index)
            name = self.parsed(ImageReference.parse, text, *place) if text is not None else None
            if name is None:
                continue
            if name.digest:
                self.add(place, f"{text}: a new name must not have a digest", "Use NAME:TAG.")
            elif name.tag is None:
                self.add(place, f"{text} has no tag", f"Add a tag, for example {text}:latest.")
            elif not is_readable(name.tag):
                self.add(place, f"{text}: the tag {name.tag} is reserved for machine data", "Choose another tag.")
            elif self._given.get(name) == key:
                self.add(place, f"{key}: duplicate name {text}", "Remove one of them.")
            elif name in self._given:
                self.add(place, f"{self._given[name]} has the name {text}, too", "Use each name for one image.")
            self._given.setdefault(name, key)
            results.append((index, name))
        return results

    def _digests(self, key: str, value: Mapping[str, str]) -> dict[Platform, Digest]:
        results: dict[Platform, Digest] = {}
        for text, digest in value.items():
            place = ("images", key, "digests", text)
            platform = self.parsed(Platform.parse, text, *place)
            if platform is None:
                continue
            same = next((other for other in results if other.same_as(platform)), None)
            if same:
                self.add(place, f"{text} and {same} are the same platform", "Remove one of them.")
            results[platform] = Digest(digest)
        return results

    def _replaces(self, key: str, value: Mapping[str, str]) -> dict[ImageReference, Digest | None]:
        results: dict[ImageReference, Digest | None] = {}
        for text, digest in value.items():
            name = self.parsed(ImageReference.parse, text, "images", key, "replaces", text)
            if name is not None:
                results[name] = None if digest == NOTHING else Digest(digest)
        return results

    def _warnings(self, key: str, value: Any) -> tuple[Warned, ...]:
        return tuple(
            Warned(
                says=item.get("says", ""),
                accepted=item.get("accepted") or "",
                line=self.content.line("images", key, "warnings", index),
            )
            for index, item in enumerate(value)
            if isinstance(item, dict)
        )


def _texts(lines: Any) -> tuple[str, ...]:
    return tuple(line for line in lines or () if line is not None)


def _frozen(value: Any) -> Any:
    return _texts(value) if isinstance(value, list) else value
