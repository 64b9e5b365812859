"""Change single words of a Dockerfile and leave every other byte and every line number as they are.

The editing core (`Edit`, `apply_edits`, `edits_for`) knows nothing of images: it replaces ranges of an instruction's
joined text, whose characters may stand on several lines, between quotes and behind escape characters. What is written
into a Dockerfile must hold no white space, quotes, `$`, commas and escape characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.grammar import parse
from chainbuild.dockerfile.lines import Piece
from chainbuild.dockerfile.model import Dockerfile, ImageWordPosition, Instruction
from chainbuild.dockerfile.words import Span, csv_fields, split_instruction
from chainbuild.values import replace

_SAFE: Final = re.compile(r"[A-Za-z0-9_./:@\[\]-]+")


class Edit(Struct, frozen=True, order=True):
    """Put `text` in the place of the characters from `start` up to `end`.

    Offsets count the characters of the Dockerfile, decoded as UTF-8 with `surrogateescape`: bytes that are not UTF-8 are
    one character each, so nothing else changes.
    """

    start: int
    end: int
    text: str


class ImageWord(Struct, frozen=True):
    """A word that names an image or a stage: what it says, and the ranges of its characters in the file."""

    place: ImageWordPosition
    text: str
    edits: tuple[Edit, ...]
    """The edits that take the word away."""


def apply_edits(raw: bytes, edits: Iterable[Edit]) -> bytes:
    """Apply edits that do not overlap, in any order. Errors: `ValueError` if they do, or if one removes a line end."""
    whole = raw.decode("utf-8", "surrogateescape")
    parts: list[str] = []
    at = 0
    for edit in sorted(edits):
        if not at <= edit.start <= edit.end <= len(whole):
            raise ValueError(f"edits overlap at character {edit.start}")
        if "\n" in whole[edit.start : edit.end] or "\n" in edit.text:
            raise ValueError(f"the edit at character {edit.start} would change the number of lines")
        parts += [whole[at : edit.start], edit.text]
        at = edit.end
    return "".join((*parts, whole[at:])).encode("utf-8", "surrogateescape")


def edits_for(found: Instruction, spans: Iterable[Span], text: str = "") -> tuple[Edit, ...]:
    """The edits that replace ranges of an instruction's joined text by one text, which goes where the last range ends.

    A word that is continued on the next line would leave that line empty if the text went where the word begins, and an
    empty line does not end an instruction.
    """
    edits: list[Edit] = []
    for start, end in sorted(spans):
        for low, high in _in_file(found.pieces, start, end):
            if edits and edits[-1].end == low:
                edits[-1] = replace(edits[-1], end=high)
            else:
                edits.append(Edit(low, high, ""))
    if edits:
        edits[-1] = replace(edits[-1], text=text)
    return tuple(edits)


def _in_file(pieces: tuple[Piece, ...], start: int, end: int) -> Iterator[Span]:
    """The ranges of the file that a range of the joined text stands for."""
    for index, (begin, place) in enumerate(pieces):
        until = pieces[index + 1][0] if index + 1 < len(pieces) else end
        low, high = max(start, begin), min(end, until)
        if low < high:
            yield place + low - begin, place + high - begin


def image_words(dockerfile: Dockerfile) -> Mapping[ImageWordPosition, ImageWord]:
    """Every word of the file that may name an image: of FROM, `COPY --from=` and `RUN --mount=from=`.

    Those of ONBUILD are not among them: they become a part of an image's configuration.
    """
    words: dict[ImageWordPosition, ImageWord] = {}
    for stage in dockerfile.stages:
        for found in (stage.head, *stage.instructions) if stage.head else stage.instructions:
            for word in _words_of(found, dockerfile.escape):
                words[word.place] = word
    return words


def _words_of(found: Instruction, escape: str) -> Iterator[ImageWord]:
    if found.keyword not in {"FROM", "COPY", "RUN"} or not found.pieces:
        return
    split = split_instruction(found.text, escape)
    if found.keyword == "FROM":
        for start, end in split.rest_words():
            yield _word(found, ImageWordPosition(found.line), found.text[start:end], [(start, end)])
            return
    for index, flag in enumerate(split.flags):
        place = ImageWordPosition(found.line, index)
        if found.keyword == "COPY" and flag.name == "from" and flag.value:
            yield _word(found, place, flag.value, flag.value_spans())
        elif found.keyword == "RUN" and flag.name == "mount" and flag.value:
            value, spans = flag.value, flag.value_spans()
            for low, high in _from_field(value):
                yield _word(found, place, value[low:high], spans[low:high])


def _word(found: Instruction, place: ImageWordPosition, text: str, spans: Iterable[Span]) -> ImageWord:
    return ImageWord(place, text, edits_for(found, spans))


def _from_field(mount: str) -> Iterator[Span]:
    """The range of the value of the field `from` in a `--mount`, the last one if there are several."""
    last = (0, 0)
    for start, end in csv_fields(mount):
        name, equals, _ = mount[start:end].partition("=")
        if equals and name.lower() == "from":
            last = (start + len(name) + 1, end)
    if last[0] < last[1]:
        yield last


def pin_images(raw: bytes, pins: Mapping[ImageWordPosition, str]) -> bytes:
    """Return the Dockerfile with the image words at the given places replaced by other references.

    Errors: `KeyError` if there is no image word at a place; `ValueError` for a reference that would have to be quoted.
    """
    words = image_words(parse(raw, ""))
    edits: list[Edit] = []
    for place, reference in pins.items():
        if not _SAFE.fullmatch(reference):
            raise ValueError(f"{reference!r} cannot be written into a Dockerfile")
        removed = words[place].edits
        edits += [*removed[:-1], replace(removed[-1], text=reference)]
    return apply_edits(raw, edits)
