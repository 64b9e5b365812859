"""Manifests of science layers: JSON with comments, and the versions in it.

Versions of images: numbers with dots, compared as numbers.

JSON with `#` and `//` comments, and the line on which each key of the outermost object stands.

The two kinds of `sciserver-image.json`: what a science layer and a compat layer say of themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import total_ordering
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.references import check_repository
from chainbuild.text import perhaps_you_meant

_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_BUILD: Final = re.compile(
    r"(?P<version>[0-9]+(?:\.[0-9]+)*)-(?P<count>[0-9]+)-(?P<commit>[0-9a-f]{4,64})(?P<dirty>-dirty)?"
)


@total_ordering
class Version(Struct, frozen=True):
    """A version as it is written. 2.10 comes after 2.9; 2 and 2.0 are the same number under two names."""

    text: str

    def __post_init__(self) -> None:
        if not is_version(self.text):
            raise ValueError(f"{self.text!r} is not a version")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers, without zeros at the end."""
        found = [int(part) for part in self.text.split(".")]
        while len(found) > 1 and found[-1] == 0:
            found.pop()
        return tuple(found)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.numbers, self.text) < (other.numbers, other.text)

    def __str__(self) -> str:
        return self.text


def is_version(text: str) -> bool:
    """Whether it is numbers with dots."""
    return bool(_VERSION.fullmatch(text))


class State(Struct, frozen=True, kw_only=True):
    """The commit that a tree is at: how many commits it has below it (itself counted), its short hash, edits on top."""

    count: int
    commit: str
    dirty: bool = False

    def name(self, version: Version | str) -> str:
        """What a build of a version at this commit is called: `2.4-32-f90dbd6`, marked where there are edits."""
        return f"{version}-{self.count}-{self.commit}{'-dirty' if self.dirty else ''}"


def version_of_build(tag: str) -> str | None:
    """The version in the tag of one build (`2.4` of `2.4-32-f90dbd6`); None where the tag is not of that form."""
    match = _BUILD.fullmatch(tag)
    return match["version"] if match else None


# A string is taken whole, so that what looks like a comment in it stays.
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|//[^\n]*|[{}\[\]]')
_COLON: Final = re.compile(r"\s*:")


class CommentedObject(Struct, frozen=True, kw_only=True):
    """An object: its values, the line of each key, and the keys that stand twice. Numbers are texts, as written."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    twice: tuple[tuple[str, int], ...] = ()


class CommentedJsonError(ValueError):
    """What is wrong with the text, and on which line (from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_object(raw: bytes) -> CommentedObject:
    """Read an object. Errors: `CommentedJsonError`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommentedJsonError("it is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1) from error
    plain = without_comments(text)
    try:
        # Numbers stay what was written: 2.10 is not 2.1.
        values = json.loads(plain, parse_float=str, parse_int=str)
    except json.JSONDecodeError as error:
        raise CommentedJsonError(f"not JSON: {error.msg[0].lower()}{error.msg[1:]}", error.lineno) from error
    except RecursionError as error:
        raise CommentedJsonError("not JSON: it is nested too deeply", 1) from error
    if not isinstance(values, dict):
        raise CommentedJsonError("it is not a JSON object", 1)
    places = _keys(plain)
    lines: dict[str, int] = {}
    twice: list[tuple[str, int]] = []
    for key, line in places:
        if key in lines:
            twice.append((key, line))
        lines[key] = line
    return CommentedObject(values=values, lines=lines, twice=tuple(twice))


def without_comments(text: str) -> str:
    """The text with blanks for its comments: every line and column stays where it was."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return " " * len(token) if token[0] in "#/" else token

    return _TOKEN.sub(blank, text)


def _keys(text: str) -> list[tuple[str, int]]:
    """The keys of the outermost object, with their lines."""
    found: list[tuple[str, int]] = []
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
            found.append((str(json.loads(word)), line))
    return found


MANIFEST: Final = "sciserver-image.json"
DOCKERFILE: Final = "Dockerfile"
TEST: Final = "layer-test"
"""The test of a layer's image, where there is one; of a compat layer's: of every final image with it."""
SCIENCE: Final = "science"
COMPAT: Final = "compat"
DEFAULT_VERSION: Final = "1.0"
_SCIENCE_KEYS: Final = ("image", "version", "target", "compat")
_COMPAT_KEYS: Final = ("includes",)


class Described(Struct, frozen=True, kw_only=True):
    """What a science layer's manifest says, without its Dockerfile: also of one that is no more in the tree."""

    folder: str
    """Below the root, as `science/nist-basic`."""
    image: str
    version: Version
    target: str
    compat: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    """The lines of the manifest's keys."""

    @property
    def release(self) -> str:
        """`image:version`: what its final image is called."""
        return f"{self.image}:{self.version}"

    @property
    def layer(self) -> str:
        """`target:version`: what others stand on."""
        return f"{self.target}:{self.version}"

    @property
    def manifest(self) -> str:
        """The manifest's path below the root."""
        return f"{self.folder}/{MANIFEST}"


class ScienceLayer(Struct, frozen=True, kw_only=True):
    """A science layer of the tree."""

    said: Described
    path: Path
    dockerfile: Dockerfile

    @property
    def target(self) -> str:
        """Its name; no other layer has it."""
        return self.said.target


class CompatLayer(Struct, frozen=True, kw_only=True):
    """A compat layer of the tree: a Dockerfile without FROM, files, and the layers that come before it."""

    name: str
    path: Path
    includes: tuple[str, ...] = ()
    text: str = ""
    """The Dockerfile's."""
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Below the root, as `compat/jupyter`."""
        return f"{COMPAT}/{self.name}"

    @property
    def manifest(self) -> str:
        """The manifest's path below the root."""
        return f"{self.folder}/{MANIFEST}"

    @property
    def shown(self) -> str:
        """The Dockerfile's path below the root."""
        return f"{self.folder}/{DOCKERFILE}"


def describe(raw: bytes, folder: str, problems: list[Problem]) -> Described | None:
    """Read a science layer's manifest; what is wrong with it goes to `problems`."""
    shown = f"{folder}/{MANIFEST}"
    found = _parsed(raw, shown, _SCIENCE_KEYS, problems)
    if found is None:
        return None
    before = len(problems)
    image = _name(found, "image", None, shown, problems)
    target = _name(found, "target", folder.rpartition("/")[2], shown, problems)
    version = _text(found, "version", DEFAULT_VERSION, shown, problems)
    if version is not None and not is_version(version):
        hint = "A version is numbers with dots, as 2.4."
        problems.append(_problem(shown, found, "version", f"version {version!r} is not a version", hint))
    compat = _text(found, "compat", None, shown, problems) if "compat" in found.values else None
    if len(problems) > before or image is None or target is None or version is None:
        return None
    return Described(
        folder=folder, image=image, version=Version(version), target=target, compat=compat, lines=found.lines
    )


def read_compat_manifest(raw: bytes, shown: str, problems: list[Problem]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """The includes of a compat layer's manifest and the lines of its keys."""
    found = _parsed(raw, shown, _COMPAT_KEYS, problems)
    if found is None:
        return (), {}
    includes = found.values.get("includes", [])
    if not isinstance(includes, list) or not all(isinstance(one, str) for one in includes):
        hint = 'As in "includes": ["base", "jupyter"].'
        problems.append(_problem(shown, found, "includes", "includes is not a list of names", hint))
        return (), found.lines
    twice = sorted({one for one in includes if includes.count(one) > 1})
    problems += [_problem(shown, found, "includes", f"{name!r} is included twice", "Name it once.") for name in twice]
    return tuple(dict.fromkeys(includes)), found.lines


def read_dockerfile(folder: Path, shown: str, manifest: str, problems: list[Problem]) -> bytes | None:
    """The bytes of a layer's Dockerfile; None where there is none that can be read."""
    try:
        return (folder / DOCKERFILE).read_bytes()
    except FileNotFoundError:
        problems.append(Problem(path=manifest, message=f"{shown} is missing", hint="Each layer has a Dockerfile."))
    except OSError as error:
        problems.append(Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="It is a text file."))
    return None


def science_layer(said: Described, path: Path, problems: list[Problem]) -> ScienceLayer | None:
    """The layer with its Dockerfile read."""
    shown = f"{said.folder}/{DOCKERFILE}"
    raw = read_dockerfile(path, shown, said.manifest, problems)
    if raw is None:
        return None
    dockerfile = parse(raw, shown)
    problems.extend(dockerfile.problems)
    return ScienceLayer(said=said, path=path, dockerfile=dockerfile)


def _parsed(raw: bytes, shown: str, keys: tuple[str, ...], problems: list[Problem]) -> CommentedObject | None:
    try:
        found = parse_object(raw)
    except CommentedJsonError as error:
        hint = "It is a JSON object; # and // begin comments."
        problems.append(Problem(path=shown, line=error.line, message=str(error), hint=hint))
        return None
    for key, line in found.twice:
        problems.append(Problem(path=shown, line=line, message=f"{key!r} stands twice", hint="Keep one of the two."))
    for key in found.values:
        if key not in keys:
            hint = f"{perhaps_you_meant(key, keys)}Keys here: {', '.join(keys)}."
            problems.append(_problem(shown, found, key, f"unknown key {key!r}", hint))
    return found


def _text(found: CommentedObject, key: str, default: str | None, shown: str, problems: list[Problem]) -> str | None:
    value: Any = found.values.get(key, default)
    if isinstance(value, str) and value:
        return value
    if value is None and key not in found.values:
        problems.append(
            Problem(path=shown, line=1, message=f"{key!r} is missing", hint=f'As in "{key}": "nist-basic".')
        )
    else:
        problems.append(_problem(shown, found, key, f"{key} is not a text", f'As in "{key}": "…".'))
    return None


def _name(found: CommentedObject, key: str, default: str | None, shown: str, problems: list[Problem]) -> str | None:
    """A text that can be the last part of a repository's name."""
    value = _text(found, key, default, shown, problems)
    if value is None:
        return None
    try:
        check_repository(value)
        if "/" not in value:
            return value
        hint = "It has no '/'."
    except WrongUseError as error:
        hint = error.problems[0].hint
    said = f"{key} {value!r}" if key in found.values else f"the folder's name {value!r} is the target, and"
    problems.append(_problem(shown, found, key, f"{said} cannot be a repository's name", hint))
    return None


def _problem(shown: str, found: CommentedObject, key: str, message: str, hint: str) -> Problem:
    return Problem(path=shown, line=found.lines.get(key, 0), message=message, hint=hint)
