"""The words of an instruction: quotes and escapes, and comma lists as `--mount` has them.

The names that COPY and RUN take files from: `--from=` and the field `from=` of a mount.

Split one joined instruction into its keyword, flags and arguments, and tell where in it each of them stands.

Flags are lexed byte by byte, as BuildKit does: a byte of a multi-byte character stands for the Latin-1 character of its
value, also for white space (`parser/split_command.go`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, Literal, NoReturn

from msgspec import Struct

from chainbuild.dockerfile.expansion import SPACE
from chainbuild.dockerfile.model import ImageWordPosition, Instruction


def csv_fields(line: str) -> Iterator[Span]:
    """The ranges of the fields of a comma-separated line, without the quotes around them."""
    at = 0
    while at <= len(line):
        if line.startswith('"', at):
            end = at + 1
            while end < len(line) and (line[end] != '"' or line.startswith('""', end)):
                end += 2 if line[end] == '"' else 1
            yield at + 1, end
            at = line.find(",", end)
        else:
            end = line.find(",", at)
            yield at, len(line) if end < 0 else end
            at = end
        if at < 0:
            return
        at += 1


def mount_fields(value: str) -> dict[str, str]:
    """The fields of a `--mount`: comma-separated `key=value` or bare keys, quoted as CSV; keys in lower case."""
    fields: dict[str, str] = {}
    aliases = {"src": "source", "dst": "target", "destination": "target"}
    for start, end in csv_fields(value):
        key, equals, text = value[start:end].replace('""', '"').partition("=")
        name = key.lower()
        fields[aliases.get(name, name)] = text if equals else ""
    return fields


def froms(
    found: Instruction,
) -> tuple[tuple[str, Literal["COPY --from", "RUN --mount"], ImageWordPosition | None], ...]:
    """The names that an instruction takes files from, by which means, and where they stand (None: in a trigger)."""
    how: Literal["COPY --from", "RUN --mount"] = "COPY --from" if found.keyword == "COPY" else "RUN --mount"
    named: list[tuple[str, Literal["COPY --from", "RUN --mount"], ImageWordPosition | None]] = []
    for index, flag in enumerate(found.flags if found.keyword in {"COPY", "RUN"} else ()):
        name = ""
        if found.keyword == "COPY" and flag.name == "from":
            name = flag.value or ""
        elif found.keyword == "RUN" and flag.name == "mount":
            name = mount_fields(flag.value or "").get("from", "")
        if name:
            named.append((name, how, ImageWordPosition(found.line, index) if found.pieces else None))
    return tuple(named)


Span = tuple[int, int]
"""A half-open range of offsets into an instruction's joined text."""

BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
_WORD: Final = re.compile(r"[^\t\v\f\r ]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class FlagWord(Struct, frozen=True):
    """One flag as it is written: `word` without quotes and escapes, and the range in the text of each of its characters."""

    word: str
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        """The flag's name, without the dashes."""
        return self.word[2:].partition("=")[0]

    @property
    def value(self) -> str | None:
        """What follows the `=`, None if there is none."""
        _, equals, value = self.word.partition("=")
        return value if equals else None

    def value_spans(self) -> tuple[Span, ...]:
        """The ranges of the characters of the value."""
        return self.spans[self.word.find("=") + 1 :]


class SplitInstruction(Struct, frozen=True):
    """An instruction's parts. `rest` is what follows the flags; `start` is where it begins, `flags_start` where they do."""

    keyword: str
    flags: tuple[FlagWord, ...]
    rest: str
    start: int
    flags_start: int

    def rest_words(self) -> Iterator[Span]:
        """The ranges of the words of the rest, split at white space."""
        for match in _WORD.finditer(self.rest):
            yield self.start + match.start(), self.start + match.end()


def split_instruction(text: str, escape: str = "\\") -> SplitInstruction:
    """Divide a joined line into its keyword (upper case), its flags, and the rest."""
    begin = len(text) - len(text.lstrip(SPACE))
    stripped = text.strip(SPACE)
    match = BLANKS.search(stripped)
    if match is None:
        return SplitInstruction(stripped.upper(), (), "", begin + len(stripped), begin + len(stripped))
    keyword = stripped[: match.start()].upper()
    start = begin + match.end()
    flags, at, body = _flags(stripped[match.end() :], escape)
    cut = len(body) - len(body.lstrip(SPACE))
    moved = tuple(FlagWord(flag.word, tuple((start + low, start + high) for low, high in flag.spans)) for flag in flags)
    return SplitInstruction(keyword, moved, body.strip(SPACE), start + at + cut, start)


def _flags(body: str, escape: str) -> tuple[tuple[FlagWord, ...], int, str]:
    """The flags at the beginning, the offset where they end, and what follows them."""
    if not body.lstrip(SPACE).startswith("--"):
        return (), 0, body
    raw = body.encode("utf-8", "surrogateescape")
    chars = list(range(len(raw) + 1)) if len(raw) == len(body) else _char_offsets(body)
    flags: list[FlagWord] = []
    at = 0
    while True:
        while at < len(raw) and chr(raw[at]) in SPACE:
            at += 1
        if not raw.startswith(b"--", at):
            break
        word, spans, at = _flag_word(raw, at, escape)
        if word == "--":
            break
        flags.append(FlagWord(word, tuple((chars[low], chars[high]) for low, high in spans)))
    return tuple(flags), chars[at], raw[at:].decode("utf-8", "surrogateescape")


def _char_offsets(text: str) -> list[int]:
    """For each byte offset the offset of the character that it belongs to."""
    offsets: list[int] = []
    for at, char in enumerate(text):
        offsets += [at] * len(char.encode("utf-8", "surrogateescape"))
    return [*offsets, len(text)]


def _flag_word(raw: bytes, at: int, escape: str) -> tuple[str, list[Span], int]:
    """One flag from `at` on, without its quotes and escapes, the byte range of each character, and where it ends."""
    word: list[str] = []
    spans: list[Span] = []
    quote = ""
    while at < len(raw):
        start, char = at, chr(raw[at])
        if not quote and char in SPACE:
            break
        at += 1
        if char == quote:
            quote = ""
            continue
        if not quote and char in "'\"":
            quote = char
            continue
        if char == escape:
            if at == len(raw):
                quote = ""
                continue
            char = chr(raw[at])
            at += 1
        word.append(char)
        spans.append((start, at))
    return "".join(word), spans, at


def quoted_words(rest: str, escape: str) -> tuple[str, ...]:
    """Split at white space outside quotes; quotes and escapes stay in the words (ENV, ARG, LABEL)."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if not quote and char in SPACE:
            if word:
                words.append("".join(word))
            word = []
            continue
        if char == escape and quote != "'":
            if at == len(rest):
                break
            word.append(char)
            char = rest[at]
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        word.append(char)
    if word:
        words.append("".join(word))
    return tuple(words)


class NotStringsError(ValueError):
    """A JSON array with something else than strings in it."""


def json_words(rest: str) -> tuple[tuple[str, ...] | None, bool]:
    """The strings of the JSON form (None: it is the shell form), and whether text follows the array.

    BuildKit before 0.15 takes an array with text behind it for the JSON form, later ones for the shell form.
    Errors: `NotStringsError`.
    """
    try:
        listed, end = _JSON.raw_decode(rest)
    except (ValueError, RecursionError):
        return None, False
    if not isinstance(listed, list):
        return None, False
    trailing = bool(rest[end:].strip(" \t\r\n"))
    if not all(isinstance(word, str) for word in listed):
        if trailing:
            return None, False
        raise NotStringsError
    return tuple(_SURROGATE.sub("\ufffd", word) for word in listed), trailing


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


_JSON: Final[Any] = json.JSONDecoder(parse_constant=_no_constant)
