"""Split an instruction into its keyword, flags and arguments with their positions, and parse comma lists and `from=`.

Flags are lexed byte by byte, as BuildKit does: a byte of a multi-byte character counts as the Latin-1 character of its
value, also for white space (`parser/split_command.go`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, NoReturn

from msgspec import Struct

from chainbuild.dockerfile.expansion import SPACE
from chainbuild.dockerfile.model import ImageWordPosition, Instruction
from chainbuild.patterns import regex


def csv_fields(line: str) -> Iterator[Span]:
    """Yield the ranges of the fields of a comma-separated line, without the quotes around them."""
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
    """Return the fields of a `--mount`: comma-separated `key=value` or bare keys, quoted as CSV; keys in lower case."""
    fields: dict[str, str] = {}
    aliases = {"src": "source", "dst": "target", "destination": "target"}
    for start, end in csv_fields(value):
        key, equals, text = value[start:end].replace('""', '"').partition("=")
        name = key.lower()
        fields[aliases.get(name, name)] = text if equals else ""
    return fields


def froms(
    instruction: Instruction,
) -> tuple[tuple[str, Literal["COPY --from", "RUN --mount"], ImageWordPosition | None], ...]:
    """Return the names that an instruction takes files from, the kind, and their positions (None: in a trigger)."""
    how: Literal["COPY --from", "RUN --mount"] = "COPY --from" if instruction.keyword == "COPY" else "RUN --mount"
    named: list[tuple[str, Literal["COPY --from", "RUN --mount"], ImageWordPosition | None]] = []
    for index, flag in enumerate(instruction.flags if instruction.keyword in {"COPY", "RUN"} else ()):
        name = ""
        if instruction.keyword == "COPY" and flag.name == "from":
            name = flag.value or ""
        elif instruction.keyword == "RUN" and flag.name == "mount":
            name = mount_fields(flag.value or "").get("from", "")
        if name:
            named.append((name, how, ImageWordPosition(instruction.line, index) if instruction.pieces else None))
    return tuple(named)


Span = tuple[int, int]
"""A half-open range of offsets into an instruction's joined text."""

BLANKS: Final = regex(r"[\t\v\f\r ]+")
_WORD: Final = regex(r"[^\t\v\f\r ]+")
_SURROGATE: Final = regex("[\ud800-\udfff]")


class FlagWord(Struct, frozen=True):
    """A flag as it is written: `word` without quotes and escapes, and the range in the text of each of its characters."""

    word: str
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        """The flag's name, without the dashes."""
        return self.word[2:].partition("=")[0]

    @property
    def value(self) -> str | None:
        """The text after the `=`, None if there is no `=`."""
        _, equals, value = self.word.partition("=")
        return value if equals else None

    def value_spans(self) -> tuple[Span, ...]:
        """Return the ranges of the characters of the value."""
        return self.spans[self.word.find("=") + 1 :]


class SplitInstruction(Struct, frozen=True):
    """The parts of an instruction. `rest` is the text after the flags, at `start`; the flags begin at `flags_start`."""

    keyword: str
    flags: tuple[FlagWord, ...]
    rest: str
    start: int
    flags_start: int

    def rest_words(self) -> Iterator[Span]:
        """Yield the ranges of the words of the rest, split at white space."""
        for match in _WORD.finditer(self.rest):
            yield self.start + match.start(), self.start + match.end()


def split_instruction(text: str, escape: str = "\\") -> SplitInstruction:
    """Split a joined line into its keyword (upper case), its flags, and the rest."""
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
    """Return the flags at the beginning, the offset after them, and the rest."""
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
    """Return for each byte offset the offset of its character."""
    offsets: list[int] = []
    for at, char in enumerate(text):
        offsets += [at] * len(char.encode("utf-8", "surrogateescape"))
    return [*offsets, len(text)]


def _flag_word(raw: bytes, at: int, escape: str) -> tuple[str, list[Span], int]:
    """Return the flag at `at` without quotes and escapes, the byte range of each character, and the offset after it."""
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
    """Split at white space outside of quotes; keep quotes and escapes in the words (ENV, ARG, LABEL)."""
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
    """Raised for a JSON array with items that are not strings."""


def json_words(rest: str) -> tuple[tuple[str, ...] | None, bool]:
    """Return the strings of the JSON form (None: it is the shell form), and whether text follows the array.

    An array with text after it is the JSON form in BuildKit before 0.15, and the shell form in later releases.
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


_ADDRESSES: Final = ("http://", "https://", "git://", "ssh://", "github.com/")


def may_become_remote(word: str) -> bool:
    """Return whether a word with unknown variables may expand to an address, by the text before its first `$`."""
    first = word.partition("$")[0].lower().lstrip("\"'")
    return "@" in first or any(start.startswith(first) or first.startswith(start) for start in _ADDRESSES)
