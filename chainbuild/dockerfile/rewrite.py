"""Change single words of a Dockerfile without changing any other byte or any line number.

The editing functions (`Edit`, `apply_edits`, `edits_for`) replace ranges of an instruction's joined text, whose characters
may be on several lines, between quotes and after escape characters. Text that is written into a Dockerfile must not
contain white space, quotes, `$`, commas or escape characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.grammar import parse
from chainbuild.dockerfile.lines import Piece
from chainbuild.dockerfile.model import Dockerfile, ImageWordPosition, Instruction
from chainbuild.dockerfile.words import Span, csv_fields, split_instruction
from chainbuild.patterns import regex
from chainbuild.values import replace

_SAFE: Final = regex(r"[A-Za-z0-9_./:@\[\]-]+")
_SAFE_FLAG: Final = regex(r"--[a-z]+=[A-Za-z0-9_./:@=,${}\[\]-]+")


class Edit(Struct, frozen=True, order=True):
    """Replace the characters from `start` up to `end` with `text`.

    Offsets count the characters of the Dockerfile, decoded as UTF-8 with `surrogateescape`: each byte that is not UTF-8 is
    one character, so nothing else changes.
    """

    start: int
    end: int
    text: str


class ImageWord(Struct, frozen=True):
    """A word that names an image or a stage: its text, and the ranges of its characters in the file."""

    place: ImageWordPosition
    text: str
    edits: tuple[Edit, ...]
    """The edits that remove the word."""


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


def edits_for(instruction: Instruction, spans: Iterable[Span], text: str = "") -> tuple[Edit, ...]:
    """Return the edits that replace ranges of an instruction's joined text with one text, at the end of the last range.

    If the text were at the start of a word that is continued on the next line, it would leave an empty line there, which
    does not end an instruction.
    """
    edits: list[Edit] = []
    for start, end in sorted(spans):
        for low, high in _in_file(instruction.pieces, start, end):
            if edits and edits[-1].end == low:
                edits[-1] = replace(edits[-1], end=high)
            else:
                edits.append(Edit(low, high, ""))
    if edits:
        edits[-1] = replace(edits[-1], text=text)
    return tuple(edits)


def _in_file(pieces: tuple[Piece, ...], start: int, end: int) -> Iterator[Span]:
    """Yield the ranges of the file for a range of the joined text."""
    for index, (begin, place) in enumerate(pieces):
        until = pieces[index + 1][0] if index + 1 < len(pieces) else end
        low, high = max(start, begin), min(end, until)
        if low < high:
            yield place + low - begin, place + high - begin


def image_words(dockerfile: Dockerfile) -> Mapping[ImageWordPosition, ImageWord]:
    """Return every word of the file that may name an image: of FROM, `COPY --from=` and `RUN --mount=from=`.

    Words of ONBUILD are not included: they become part of an image's configuration.
    """
    words: dict[ImageWordPosition, ImageWord] = {}
    for stage in dockerfile.stages:
        for result in (stage.head, *stage.instructions) if stage.head else stage.instructions:
            for word in _words_of(result, dockerfile.escape):
                words[word.place] = word
    return words


def _words_of(result: Instruction, escape: str) -> Iterator[ImageWord]:
    if result.keyword not in {"FROM", "COPY", "RUN"} or not result.pieces:
        return
    split = split_instruction(result.text, escape)
    if result.keyword == "FROM":
        for start, end in split.rest_words():
            yield _word(result, ImageWordPosition(result.line), result.text[start:end], [(start, end)])
            return
    for index, flag in enumerate(split.flags):
        place = ImageWordPosition(result.line, index)
        if result.keyword == "COPY" and flag.name == "from" and flag.value:
            yield _word(result, place, flag.value, flag.value_spans())
        elif result.keyword == "RUN" and flag.name == "mount" and flag.value:
            value, spans = flag.value, flag.value_spans()
            for low, high in _from_field(value):
                yield _word(result, place, value[low:high], spans[low:high])


def _word(result: Instruction, place: ImageWordPosition, text: str, spans: Iterable[Span]) -> ImageWord:
    return ImageWord(place, text, edits_for(result, spans))


def _from_field(mount: str) -> Iterator[Span]:
    """Yield the range of the value of the field `from` in a `--mount`, the last one if it is repeated."""
    last = (0, 0)
    for start, end in csv_fields(mount):
        name, equals, _ = mount[start:end].partition("=")
        if equals and name.lower() == "from":
            last = (start + len(name) + 1, end)
    if last[0] < last[1]:
        yield last


def pin_images(raw: bytes, pins: Mapping[ImageWordPosition, str]) -> bytes:
    """Return the Dockerfile with the image words at these positions replaced by other references.

    Errors: `KeyError` if there is no image word at a position; `ValueError` for a reference that would need quotes.
    """
    words = image_words(parse(raw, ""))
    edits: list[Edit] = []
    for place, reference in pins.items():
        if not _SAFE.fullmatch(reference):
            raise ValueError(f"{reference!r} cannot be written into a Dockerfile")
        removed = words[place].edits
        edits += [*removed[:-1], replace(removed[-1], text=reference)]
    return apply_edits(raw, edits)


def add_run_flags(raw: bytes, flags: Mapping[int, Iterable[str]]) -> bytes:
    """Return the Dockerfile with flags added to RUN instructions, by the lines on which these begin.

    The flags come before the instruction's own, on the line on which its keyword ends. BuildKit expands variables in them,
    and writes no flags into an image's history, so the image's configuration stays the same. RUN instructions of ONBUILD are
    not changed: they become part of an image's configuration. Errors: `ValueError` for a flag that would need quotes.
    """
    texts = {line: "".join(f" {flag}" for flag in added) for line, added in flags.items()}
    for text in texts.values():
        if not all(_SAFE_FLAG.fullmatch(flag) for flag in text.split()):
            raise ValueError(f"{text.strip()!r} cannot be written into a Dockerfile")
    edits: list[Edit] = []
    for stage in parse(raw, "").stages:
        for result in stage.instructions:
            if result.keyword == "RUN" and result.line in texts and result.pieces:
                ((_, end),) = _in_file(result.pieces, len(result.keyword) - 1, len(result.keyword))
                edits.append(Edit(end, end, texts[result.line]))
    return apply_edits(raw, edits)
