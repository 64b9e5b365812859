"""Writes the parts of a release plan as YAML: one value a line, so that a change of a value is a line of a diff."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from chainbuild.release.model import Difference, PlannedImage, Warned
from chainbuild.release.rules import NOTHING, SCHEMA, WRITTEN

STEP: Final = 2
"""The columns by which what is below something stands further right."""
REASON_HERE: Final = "# the reason why it is fine"
_HEAD: Final = """\
# What is to be released, for people to read, edit and review: docs/release-plans.md.
# decision, to, note and accepted are yours; chainbuild release update renews everything else, and keeps comments.
"""
# Words that are a text in every YAML dialect, whatever follows them.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./@()+~=,;→ -]*[A-Za-z0-9_./)]|[A-Za-z]")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(:[A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def scalar(text: str) -> str:
    """A text as YAML has it, in quotes where it could be anything else. Every dialect reads it as the same text."""
    plain = _PLAIN.fullmatch(text) and " #" not in text and text.lower() not in _OTHER
    if (plain and "  " not in text) or _NAME.fullmatch(text) or _DIGEST.fullmatch(text):
        return text if text.lower() not in _OTHER else f'"{text}"'
    return '"' + "".join(_letter(letter) for letter in text) + '"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    number = ord(letter)
    # What cannot be seen, or ends a line in some dialect, is written by its number; so are halves of letters (PEP 383).
    if letter == " " or (letter.isprintable() and number < 0xFFFE):
        return letter
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def plan_text(release: str, images: Iterable[PlannedImage]) -> str:
    """A new plan."""
    lines = [f"schema: {SCHEMA}", f"release: {scalar(release)}", "images:"]
    for image in images:
        lines += image_lines(image, STEP)
    return _HEAD + "\n".join(lines) + "\n"


def image_lines(image: PlannedImage, indent: int) -> list[str]:
    """An image of the plan; `indent` is the column of its name."""
    pad, below = " " * indent, " " * (indent + STEP)
    lines = ["", f"{pad}{scalar(str(image.name))}:", f"{below}decision: {image.decision}  # release, or skip"]
    if image.to:
        lines += [f"{below}to:", *(f"{below}  - {scalar(str(name))}" for name in image.to)]
    else:
        lines.append(f"{below}to: []  # the full names that it gets")
    if image.note:
        lines.append(f"{below}note: {scalar(image.note)}")
    for key in WRITTEN:
        lines += key_lines(image, key, indent + STEP)
    return lines


def key_lines(image: PlannedImage, key: str, indent: int) -> list[str]:
    """The lines of one of the keys that this program writes, in the column `indent`; none where there is nothing to say."""
    said: dict[str, Iterator[str]] = {
        "digests": _pairs((platform.name, str(digest)) for platform, digest in image.digests.items()),
        "replaces": _pairs((str(name), str(digest or NOTHING)) for name, digest in image.replaces.items()),
        "differences": _differences(image.differences),
        "tests": _below((platform, _items(lines)) for platform, lines in image.tests.items()),
        "errors": _items(image.errors),
        "warnings": _warnings(image.warnings),
    }
    lines = list(said[key])
    pad = " " * indent
    return [f"{pad}{key}:", *(f"{pad}  {line}" for line in lines)] if lines else []


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"{scalar(name)}: {scalar(value)}" for name, value in pairs)


def _below(parts: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    for name, lines in parts:
        told = list(lines)
        yield f"{scalar(name)}:" if told else f"{scalar(name)}: []"
        yield from (f"  {line}" for line in told)


def _items(lines: Sequence[str]) -> Iterator[str]:
    return (f"- {scalar(line)}" for line in lines)


def _differences(differences: Mapping[str, Difference]) -> Iterator[str]:
    for platform, one in differences.items():
        yield f"{scalar(platform)}:" if one != Difference() else f"{scalar(platform)}: {{}}"
        for key in ("to", "size"):
            if text := getattr(one, key):
                yield f"  {key}: {scalar(text)}"
        for key in ("packages", "python", "configuration", "steps"):
            if lines := getattr(one, key):
                yield f"  {key}:"
                yield from (f"    {line}" for line in _items(lines))
        if one.files:
            yield f"  files: {scalar(one.files)}"


def _warnings(warnings: Iterable[Warned]) -> Iterator[str]:
    for one in warnings:
        yield f"- says: {scalar(one.says)}"
        yield f"  accepted: {scalar(one.accepted)}" if one.accepted else f"  accepted:  {REASON_HERE}"
