"""Write the parts of a release plan as YAML, one value per line, so that each change is one line of a diff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from chainbuild.patterns import regex
from chainbuild.release.model import Difference, PlannedImage, Warned
from chainbuild.release.rules import NOTHING, SCHEMA, WRITTEN

STEP: Final = 2
"""The indentation of a level, in columns."""
REASON_HERE: Final = "# the reason why it is fine"
_HEAD: Final = """\
# The images to release. Read, edit and review this file. More: chainbuild docs release-plans.
# Edit decision, to, note and accepted; chainbuild release update rewrites everything else, and keeps comments.
"""
# Text that is a string in every YAML dialect.
_PLAIN: Final = regex(r"[A-Za-z/][A-Za-z0-9_./@()+~=,;→ -]*[A-Za-z0-9_./)]|[A-Za-z]")
_NAME: Final = regex(r"[A-Za-z][A-Za-z0-9_./-]*(:[A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?")
_DIGEST: Final = regex(r"sha256:[0-9a-f]{64}")
_OTHER: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def scalar(text: str) -> str:
    """Return a text as a YAML scalar that every dialect reads as the same string, in quotes if needed."""
    plain = _PLAIN.fullmatch(text) and " #" not in text and text.lower() not in _OTHER
    if (plain and "  " not in text) or _NAME.fullmatch(text) or _DIGEST.fullmatch(text):
        return text if text.lower() not in _OTHER else f'"{text}"'
    return '"' + "".join(_letter(letter) for letter in text) + '"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    number = ord(letter)
    # Escape characters that are invisible or end a line in some dialect, and lone surrogates (PEP 383).
    if letter == " " or (letter.isprintable() and number < 0xFFFE):
        return letter
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def plan_text(release: str, images: Iterable[PlannedImage], policy: str = "") -> str:
    """Return the text of a new plan. `policy` is the path of its policy file, if any."""
    rules = [f"policy: {scalar(policy)}"] if policy else []
    lines = [f"schema: {SCHEMA}", f"release: {scalar(release)}", *rules, "images:"]
    for image in images:
        lines += image_lines(image, STEP)
    return _HEAD + "\n".join(lines) + "\n"


def image_lines(image: PlannedImage, indent: int) -> list[str]:
    """Return the lines of an image; `indent` is the column of its name."""
    pad, below = " " * indent, " " * (indent + STEP)
    lines = ["", f"{pad}{scalar(str(image.name))}:", f"{below}decision: {image.decision}  # release, or skip"]
    if image.to:
        lines += [f"{below}to:", *(f"{below}  - {scalar(str(name))}" for name in image.to)]
    else:
        lines.append(f"{below}to: []  # full names, for example ghcr.io/acme/tools:1")
    if image.note:
        lines.append(f"{below}note: {scalar(image.note)}")
    for key in WRITTEN:
        lines += key_lines(image, key, indent + STEP)
    return lines


def key_lines(image: PlannedImage, key: str, indent: int) -> list[str]:
    """Return the lines of a key that this program writes, at column `indent`; none if there is nothing to write."""
    value: dict[str, Iterator[str]] = {
        "digests": _pairs((platform.name, str(digest)) for platform, digest in image.digests.items()),
        "replaces": _pairs((str(name), str(digest or NOTHING)) for name, digest in image.replaces.items()),
        "differences": _differences(image.differences),
        "tests": _below((platform, _items(lines)) for platform, lines in image.tests.items()),
        "errors": _items(image.errors),
        "warnings": _warnings(image.warnings),
    }
    lines = list(value[key])
    pad = " " * indent
    return [f"{pad}{key}:", *(f"{pad}  {line}" for line in lines)] if lines else []


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"{scalar(name)}: {scalar(value)}" for name, value in pairs)


def _below(parts: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    for name, lines in parts:
        message = list(lines)
        yield f"{scalar(name)}:" if message else f"{scalar(name)}: []"
        yield from (f"  {line}" for line in message)


def _items(lines: Sequence[str]) -> Iterator[str]:
    return (f"- {scalar(line)}" for line in lines)


def _differences(differences: Mapping[str, Difference]) -> Iterator[str]:
    for platform, item in differences.items():
        yield f"{scalar(platform)}:" if item != Difference() else f"{scalar(platform)}: {{}}"
        for key in ("to", "size"):
            if text := getattr(item, key):
                yield f"  {key}: {scalar(text)}"
        for key in ("packages", "python", "configuration", "steps"):
            if lines := getattr(item, key):
                yield f"  {key}:"
                yield from (f"    {line}" for line in _items(lines))
        if item.files:
            yield f"  files: {scalar(item.files)}"


def _warnings(warnings: Iterable[Warned]) -> Iterator[str]:
    for item in warnings:
        yield f"- says: {scalar(item.says)}"
        yield f"  accepted: {scalar(item.accepted)}" if item.accepted else f"  accepted:  {REASON_HERE}"
