"""Read `sciserver-image.json`, the manifests of science and compat layers, and the versions in them.

The files are JSON with `#` and `//` comments; the line of each key of the outermost object is kept. Versions of images are
numbers with dots, and compared as numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import total_ordering
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.patterns import regex
from chainbuild.references import check_repository
from chainbuild.text import perhaps_you_meant

_VERSION: Final = regex(r"[0-9]+(?:\.[0-9]+)*")
_BUILD: Final = regex(
    r"(?P<version>[0-9]+(?:\.[0-9]+)*)-(?P<count>[0-9]+)-(?P<commit>[0-9a-f]{4,64})(?P<dirty>-dirty)?"
)


@total_ordering
class Version(Struct, frozen=True):
    """A version as it is written. 2.10 is after 2.9; 2 and 2.0 are the same number in two spellings."""

    text: str

    def __post_init__(self) -> None:
        if not is_version(self.text):
            raise ValueError(f"{self.text!r} is not a version")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers, without trailing zeros."""
        results = [int(part) for part in self.text.split(".")]
        while len(results) > 1 and results[-1] == 0:
            results.pop()
        return tuple(results)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.numbers, self.text) < (other.numbers, other.text)

    def __str__(self) -> str:
        return self.text


def is_version(text: str) -> bool:
    """Return whether a text consists of numbers with dots."""
    return bool(_VERSION.fullmatch(text))


class State(Struct, frozen=True, kw_only=True):
    """The commit of a tree: the number of commits up to it, its short hash, and whether there are uncommitted changes."""

    count: int
    commit: str
    dirty: bool = False

    def name(self, version: Version | str) -> str:
        """Return the name of a build at this commit: `2.4-32-f90dbd6`, with a suffix if there are uncommitted changes."""
        return f"{version}-{self.count}-{self.commit}{'-dirty' if self.dirty else ''}"


def version_of_build(tag: str) -> str | None:
    """Return the version in the tag of a build (`2.4` of `2.4-32-f90dbd6`); None if the tag does not have that form."""
    match = _BUILD.fullmatch(tag)
    return match["version"] if match else None


# A string is one token, so that comment characters in it are kept.
_TOKEN: Final = regex(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|//[^\n]*|[{}\[\]]')
_COLON: Final = regex(r"\s*:")


class CommentedObject(Struct, frozen=True, kw_only=True):
    """An object: its values, the line of each key, and duplicate keys. Numbers are strings, as they are written."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    twice: tuple[tuple[str, int], ...] = ()


class CommentedJsonError(ValueError):
    """Raised for invalid text, with its line (from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_object(raw: bytes) -> CommentedObject:
    """Parse an object. Errors: `CommentedJsonError`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommentedJsonError("not UTF-8 text", raw.count(b"\n", 0, error.start) + 1) from error
    plain = without_comments(text)
    try:
        # Keep numbers as they are written: 2.10 is not 2.1.
        values = json.loads(plain, parse_float=str, parse_int=str)
    except json.JSONDecodeError as error:
        raise CommentedJsonError(f"not JSON: {error.msg[0].lower()}{error.msg[1:]}", error.lineno) from error
    except RecursionError as error:
        raise CommentedJsonError("not JSON: nested too deeply", 1) from error
    if not isinstance(values, dict):
        raise CommentedJsonError("not a JSON object", 1)
    places = _keys(plain)
    lines: dict[str, int] = {}
    twice: list[tuple[str, int]] = []
    for key, line in places:
        if key in lines:
            twice.append((key, line))
        lines[key] = line
    return CommentedObject(values=values, lines=lines, twice=tuple(twice))


def without_comments(text: str) -> str:
    """Replace comments with blanks: lines and columns do not change."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return " " * len(token) if token[0] in "#/" else token

    return _TOKEN.sub(blank, text)


def _keys(text: str) -> list[tuple[str, int]]:
    """Return the keys of the outermost object and their lines."""
    results: list[tuple[str, int]] = []
    depth, line, last = 0, 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", last, match.start())
        last = match.start()
        word = match[0]
        if word in {"{", "["}:
            depth += 1
        elif word in {"}", "]"}:
            depth -= 1
        elif depth == 1 and _COLON.match(text, match.end()):
            results.append((str(json.loads(word)), line))
    return results


MANIFEST: Final = "sciserver-image.json"
DOCKERFILE: Final = "Dockerfile"
TEST: Final = "layer-test"
"""The optional test of a layer's image. The test of a compat layer runs in every final image with the layer."""
SCIENCE: Final = "science"
COMPAT: Final = "compat"
DEFAULT_VERSION: Final = "1.0"
_SCIENCE_KEYS: Final = ("image", "version", "target", "compat")
_COMPAT_KEYS: Final = ("includes",)


class Described(Struct, frozen=True, kw_only=True):
    """The content of a science layer's manifest, without its Dockerfile; also for a layer that was removed."""

    folder: str
    """Relative to the root, such as `science/nist-basic`."""
    image: str
    version: Version
    target: str
    compat: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    """The lines of the manifest's keys."""

    @property
    def release(self) -> str:
        """`image:version`, the name of its final image."""
        return f"{self.image}:{self.version}"

    @property
    def layer(self) -> str:
        """`target:version`, the name that other layers use as their base."""
        return f"{self.target}:{self.version}"

    @property
    def manifest(self) -> str:
        """The manifest's path relative to the root."""
        return f"{self.folder}/{MANIFEST}"


class ScienceLayer(Struct, frozen=True, kw_only=True):
    """A science layer of the tree."""

    said: Described
    path: Path
    dockerfile: Dockerfile

    @property
    def target(self) -> str:
        """Its name, unique among the layers."""
        return self.said.target


class CompatLayer(Struct, frozen=True, kw_only=True):
    """A compat layer of the tree: a Dockerfile without FROM, files, and the layers that it includes."""

    name: str
    path: Path
    includes: tuple[str, ...] = ()
    text: str = ""
    """The text of the Dockerfile."""
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Relative to the root, such as `compat/jupyter`."""
        return f"{COMPAT}/{self.name}"

    @property
    def manifest(self) -> str:
        """The manifest's path relative to the root."""
        return f"{self.folder}/{MANIFEST}"

    @property
    def shown(self) -> str:
        """The Dockerfile's path relative to the root."""
        return f"{self.folder}/{DOCKERFILE}"


def describe(raw: bytes, folder: str, problems: list[Problem]) -> Described | None:
    """Read the manifest of a science layer; problems go to `problems`."""
    shown = f"{folder}/{MANIFEST}"
    result = _parsed(raw, shown, _SCIENCE_KEYS, problems)
    if result is None:
        return None
    before = len(problems)
    image = _name(result, "image", None, shown, problems)
    target = _name(result, "target", folder.rpartition("/")[2], shown, problems)
    version = _text(result, "version", DEFAULT_VERSION, shown, problems)
    if version is not None and not is_version(version):
        hint = "Use numbers with dots, for example 2.4."
        problems.append(_problem(shown, result, "version", f"version {version!r} is not a version", hint))
    compat = _text(result, "compat", None, shown, problems) if "compat" in result.values else None
    if len(problems) > before or image is None or target is None or version is None:
        return None
    return Described(
        folder=folder, image=image, version=Version(version), target=target, compat=compat, lines=result.lines
    )


def read_compat_manifest(raw: bytes, shown: str, problems: list[Problem]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Return the includes of a compat layer's manifest, and the lines of its keys."""
    result = _parsed(raw, shown, _COMPAT_KEYS, problems)
    if result is None:
        return (), {}
    includes = result.values.get("includes", [])
    if not isinstance(includes, list) or not all(isinstance(item, str) for item in includes):
        hint = 'For example "includes": ["base", "jupyter"].'
        problems.append(_problem(shown, result, "includes", "includes is not a list of names", hint))
        return (), result.lines
    twice = sorted({item for item in includes if includes.count(item) > 1})
    problems += [_problem(shown, result, "includes", f"duplicate include {name!r}", "Remove one.") for name in twice]
    return tuple(dict.fromkeys(includes)), result.lines


def read_dockerfile(folder: Path, shown: str, manifest: str, problems: list[Problem]) -> bytes | None:
    """Return the bytes of a layer's Dockerfile; None if it cannot be read."""
    try:
        return limits.read_tree_file(folder / DOCKERFILE)
    except FileNotFoundError:
        problems.append(Problem(path=manifest, message=f"{shown} is missing", hint="Add a Dockerfile to the layer."))
    except OSError as error:
        problems.append(Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="Make it readable."))
    return None


def science_layer(said: Described, path: Path, problems: list[Problem]) -> ScienceLayer | None:
    """Return the layer with its Dockerfile parsed."""
    shown = f"{said.folder}/{DOCKERFILE}"
    raw = read_dockerfile(path, shown, said.manifest, problems)
    if raw is None:
        return None
    dockerfile = parse(raw, shown)
    problems.extend(dockerfile.problems)
    return ScienceLayer(said=said, path=path, dockerfile=dockerfile)


def _parsed(raw: bytes, shown: str, keys: tuple[str, ...], problems: list[Problem]) -> CommentedObject | None:
    try:
        result = parse_object(raw)
    except CommentedJsonError as error:
        hint = "Write a JSON object; # and // begin comments."
        problems.append(Problem(path=shown, line=error.line, message=str(error), hint=hint))
        return None
    for key, line in result.twice:
        problems.append(Problem(path=shown, line=line, message=f"duplicate key {key!r}", hint="Remove one of them."))
    for key in result.values:
        if key not in keys:
            hint = f"{perhaps_you_meant(key, keys)}Valid keys: {', '.join(keys)}."
            problems.append(_problem(shown, result, key, f"unknown key {key!r}", hint))
    return result


def _text(result: CommentedObject, key: str, default: str | None, shown: str, problems: list[Problem]) -> str | None:
    value: Any = result.values.get(key, default)
    if isinstance(value, str) and value:
        return value
    if value is None and key not in result.values:
        problems.append(
            Problem(path=shown, line=1, message=f"{key!r} is missing", hint=f'For example "{key}": "nist-basic".')
        )
    else:
        problems.append(_problem(shown, result, key, f"{key} is not a string", f'For example "{key}": "…".'))
    return None


def _name(result: CommentedObject, key: str, default: str | None, shown: str, problems: list[Problem]) -> str | None:
    """Return a string that can be the last part of a repository name."""
    value = _text(result, key, default, shown, problems)
    if value is None:
        return None
    try:
        check_repository(value)
        if "/" not in value:
            return value
        hint = "Remove the '/'."
    except WrongUseError as error:
        hint = error.problems[0].hint
    text = f"{key} {value!r}" if key in result.values else f"the target {value!r} (the folder's name)"
    problems.append(_problem(shown, result, key, f"{text} is not a valid repository name", hint))
    return None


def _problem(shown: str, result: CommentedObject, key: str, message: str, hint: str) -> Problem:
    return Problem(path=shown, line=result.lines.get(key, 0), message=message, hint=hint)
