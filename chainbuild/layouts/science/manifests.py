"""The two kinds of `sciserver-image.json`: what a science layer and a compat layer say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.science.commented_json import CommentedJsonError, CommentedObject, parse_object
from chainbuild.layouts.science.versions import Version, is_version
from chainbuild.references import check_repository
from chainbuild.wording import perhaps_you_meant

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
