"""From the bytes of a Dockerfile to its stages and instructions, by the rules of BuildKit's own parser.

It never raises: what BuildKit would refuse is a `Problem` with its line, and the rest is read as well as it can be.
Bytes that are not UTF-8 are kept (`surrogateescape`), so that file names survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from chainbuild.dockerfile.expansion import SPACE, ExpansionError, expand
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile, Flag, Heredoc, Instruction, Stage
from chainbuild.errors import Problem
from chainbuild.wording import perhaps_you_meant

KEYWORDS: Final = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_TAKES_HEREDOC: Final = frozenset({"ADD", "COPY", "RUN"})
_TAKES_JSON: Final = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"})

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)")
_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]*)", re.DOTALL)
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(raw: bytes, path: str) -> Dockerfile:
    """Read a Dockerfile; `path` is how it is called in problems. Never raises."""
    read = _parsed(raw)
    problems = tuple(replace(problem, path=path) for problem in read.problems)
    return replace(read, path=path, problems=problems)


# The tree's reader and the readers of step keys read the same files.
@lru_cache(maxsize=8192)
def _parsed(raw: bytes) -> Dockerfile:
    text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    reader = _Reader(path="", lines=text.split("\n"))
    reader.directives()
    instructions = tuple(reader.instructions())
    return _assemble(reader, instructions)


def parse_trigger(text: str, path: str, line: int) -> tuple[Instruction | None, tuple[Problem, ...]]:
    """Read one ONBUILD trigger of an image's config. `path` and `line` are those of the FROM that takes the image."""
    reader = _Reader(path=path, lines=text.split("\n"))
    for found in reader.instructions():
        moved = replace(found, line=line, end_line=line)
        return moved, tuple(Problem(path=path, line=line, message=each.message) for each in reader.problems)
    return None, ()


@dataclass(slots=True)
class _Reader:
    """The state of one reading: lines, the directives, and what is wrong so far."""

    path: str
    lines: Sequence[str]
    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path=self.path, line=line, message=message, hint=hint))

    def directives(self) -> None:
        """Read the parser directives: the comments at the very top, each kind once."""
        seen: set[str] = set()
        shebang = bool(self.lines) and self.lines[0].startswith("#!")
        for number, line in enumerate(self.lines, start=1):
            if number == 1 and shebang:
                continue
            match = _DIRECTIVE.fullmatch(line.strip(SPACE))
            name = match[1].lower() if match else ""
            if not match or name not in {"syntax", "escape", "check"}:
                break
            if name in seen:
                self.wrong(number, f"a second '# {name}=' directive", "BuildKit takes one of each kind.")
                continue
            seen.add(name)
            if name == "syntax":
                self.syntax = match[2].split(" ")[0]
            elif name == "check":
                self.check = match[2]
            elif match[2] in {"\\", "`"}:
                self.escape = match[2]
            else:
                self.wrong(number, f"the escape character {match[2]!r} is neither \\ nor `")
        if not self.syntax:
            self.syntax = self._foreign_syntax()

    def _foreign_syntax(self) -> str:
        """The other two forms in which BuildKit looks for a frontend: `// syntax=…` and a JSON object."""
        match = re.fullmatch(r"//\s*syntax\s*=\s*(\S+).*", self.lines[0].strip(SPACE), re.IGNORECASE | re.DOTALL)
        if match:
            return match[1]
        text = "\n".join(self.lines)
        if text.lstrip(SPACE).startswith("{"):
            try:
                whole = json.loads(text)
            except (ValueError, RecursionError):
                return ""
            if isinstance(whole, dict) and isinstance(whole.get("syntax"), str):
                return _SURROGATE.sub("\ufffd", whole["syntax"])
        return ""

    def instructions(self) -> Iterator[Instruction]:
        """Every instruction, with its continued lines and here-documents."""
        at = 0
        while at < len(self.lines):
            start = at
            joined, at = self._logical_line(at)
            if not joined.strip(SPACE):
                continue
            found = self._instruction(joined, start, at)
            if _may_hold_heredocs(found):
                heredocs, at = self._heredocs(joined, start, at)
                found = _with_heredocs(found, heredocs, at, "\n".join(self.lines[start:at]))
            yield found

    def _logical_line(self, at: int) -> tuple[str, int]:
        """Join what the escape character continues; comments and empty lines inside are left out."""
        line = self.lines[at].rstrip("\r").lstrip(SPACE)
        at += 1
        if line.startswith("#"):
            return "", at
        line, goes_on = self._cut_continuation(line)
        pieces = [line]
        while goes_on and at < len(self.lines):
            line = self.lines[at].rstrip("\r")
            at += 1
            bare = line.lstrip(SPACE)
            if not bare or bare.startswith("#"):
                continue
            line, goes_on = self._cut_continuation(line)
            pieces.append(line)
        return "".join(pieces), at

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False

    def _check_keyword(self, keyword: str, line: int) -> None:
        if keyword not in KEYWORDS:
            hint = perhaps_you_meant(keyword, KEYWORDS, str).rstrip()
            self.wrong(line, f"unknown instruction {keyword[:40]!r}", hint)

    def _instruction(self, text: str, start: int, end: int) -> Instruction:
        """Read the joined line `text`, which stands at the line indexes from `start` up to `end`."""
        keyword, flags, rest = split_instruction(text)
        self._check_keyword(keyword, start + 1)
        is_json = False
        words: tuple[str, ...] = tuple(word for word in _BLANKS.split(rest) if word)
        if keyword in {"ENV", "ARG", "LABEL"}:
            words = quoted_words(rest, self.escape)
        elif keyword in _TAKES_JSON and rest.startswith("["):
            listed = self._json_words(rest, start + 1)
            is_json, words = listed is not None, words if listed is None else listed
        trigger = None
        if keyword == "ONBUILD" and rest:
            inner = split_instruction(rest)[0]
            if inner in {"ONBUILD", "FROM", "MAINTAINER"}:
                self.wrong(start + 1, f"{inner} cannot be an ONBUILD trigger")
            else:
                trigger = self._instruction(rest, start, end)
        return Instruction(
            keyword=keyword, line=start + 1, end_line=end, text=text, original="\n".join(self.lines[start:end]),
            flags=flags, rest=rest, words=words, json=is_json, trigger=trigger,
        )  # fmt: skip

    def _json_words(self, rest: str, line: int) -> tuple[str, ...] | None:
        """The strings of the JSON form; None where it is the shell form after all."""
        try:
            listed = json.loads(rest)
        except (ValueError, RecursionError):
            return None
        if not isinstance(listed, list):
            return None
        if not all(isinstance(word, str) for word in listed):
            self.wrong(line, "the JSON form takes strings only", 'As in ["program", "argument"].')
            return None
        return tuple(_SURROGATE.sub("\ufffd", word) for word in listed)

    def _heredocs(self, text: str, start: int, at: int) -> tuple[tuple[Heredoc, ...], int]:
        """The here-documents that the joined line `text` opens; their bodies start at line index `at`."""
        found: list[Heredoc] = []
        for opened in self._opened(text, start + 1):
            body: list[str] = []
            while at < len(self.lines):
                line = self.lines[at]
                at += 1
                ending = line.rstrip("\r")
                if (ending.lstrip("\t") if opened.strip_tabs else ending) == opened.name:
                    break
                body.append(line)
            else:
                self.wrong(start + 1, f"the here-document {opened.name!r} has no end")
            found.append(
                Heredoc(
                    word=opened.word, name=opened.name, expand=opened.expand, strip_tabs=opened.strip_tabs,
                    content="".join(f"{line}\n" for line in body),
                )
            )  # fmt: skip
        return tuple(found), at

    def _opened(self, text: str, line: int) -> Iterator[Heredoc]:
        if "<<" not in text:
            return
        try:
            words = expand(text, {}, raw_quotes=True, raw_escapes=True, keep_unset=True).words
        except ExpansionError:
            return  # BuildKit sees no words then, and so no here-document
        for word in words:
            try:
                opened = heredoc_word(word)
            except ExpansionError as error:
                self.wrong(line, f"the here-document {word!r}: {error}")
                continue
            if opened:
                yield opened


def heredoc_word(word: str) -> Heredoc | None:
    """The here-document that a word such as `<<-"EOF"` opens, without its content; None for any other word."""
    match = _HEREDOC.fullmatch(word)
    if not match or not match[3]:
        return None
    plain = expand(match[3], {}, keep_unset=True).words
    if len(plain) != 1:
        return None
    quoted = expand(match[3], {}, raw_quotes=True, raw_escapes=True, keep_unset=True).words
    return Heredoc(word=word, name=plain[0], expand=plain == quoted, strip_tabs=match[2] == "-", content="")


def split_instruction(text: str) -> tuple[str, tuple[Flag, ...], str]:
    """Divide a joined line into its keyword (upper case), its flags, and the rest."""
    keyword, *more = _BLANKS.split(text.strip(SPACE), maxsplit=1)
    flags: list[Flag] = []
    rest = more[0] if more else ""
    at = 0
    while True:
        while at < len(rest) and rest[at] in SPACE:
            at += 1
        if not rest.startswith("--", at):
            break
        word, at = _flag_word(rest, at)
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        flags.append(Flag(name=name.lower(), value=value if equals else None))
    return keyword.upper(), tuple(flags), rest[at:].strip(SPACE)


def _flag_word(line: str, at: int) -> tuple[str, int]:
    """One flag from `at` on, without its quotes and escapes, and where it ends."""
    word: list[str] = []
    quote = ""
    while at < len(line):
        char = line[at]
        if not quote and char in SPACE:
            break
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\":
            word.append(line[at : at + 1])
            at += 1
        else:
            word.append(char)
    return "".join(word), at


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


def _may_hold_heredocs(found: Instruction) -> bool:
    inner = found.trigger or found
    return inner.keyword in _TAKES_HEREDOC and not inner.json


def _with_heredocs(found: Instruction, heredocs: tuple[Heredoc, ...], end: int, original: str) -> Instruction:
    if not heredocs:
        return found
    trigger = found.trigger and _with_heredocs(found.trigger, heredocs, end, original)
    return replace(found, end_line=end, original=original, heredocs=heredocs, trigger=trigger)


def declarations(found: Instruction) -> tuple[ArgDeclaration, ...]:
    """The names that an ARG declares."""
    result = []
    for word in found.words:
        name, equals, default = word.partition("=")
        result.append(ArgDeclaration(name=name, default=default if equals else None, line=found.line))
    return tuple(result)


def _assemble(reader: _Reader, instructions: tuple[Instruction, ...]) -> Dockerfile:
    """Divide the instructions into what stands before the first FROM and the stages."""
    global_args: list[ArgDeclaration] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for found in instructions:
        _check_shape(reader, found)
        if found.keyword == "FROM":
            stages.append((found, []))
        elif stages:
            stages[-1][1].append(found)
        elif found.keyword == "ARG":
            global_args.extend(declarations(found))
        elif found.keyword in KEYWORDS:
            reader.wrong(found.line, f"{found.keyword} before the first FROM", "Only ARG may stand there.")
    if not stages:
        reader.wrong(0, "there is no FROM", "A Dockerfile starts from an image, or from 'scratch'.")
    return Dockerfile(
        path=reader.path, syntax=reader.syntax, escape=reader.escape, check=reader.check,
        global_args=tuple(global_args),
        stages=tuple(_stage(index, head, body) for index, (head, body) in enumerate(stages)),
        problems=tuple(reader.problems),
    )  # fmt: skip


def _stage(index: int, head: Instruction, body: list[Instruction]) -> Stage:
    name = head.words[2].lower() if len(head.words) == 3 and head.words[1].lower() == "as" else ""
    return Stage(
        index=index, name=name, base=head.words[0] if head.words else "", platform=head.flag("platform") or "",
        line=head.line, instructions=tuple(body),
    )  # fmt: skip


def _check_shape(reader: _Reader, found: Instruction) -> None:
    """Report what BuildKit refuses by the number and form of the words alone."""
    words = found.words
    if found.keyword == "FROM":
        named = len(words) == 3 and words[1].lower() == "as"
        if len(words) != 1 and not named:
            reader.wrong(found.line, "FROM takes an image, or 'image AS name'")
        elif named and not _STAGE_NAME.fullmatch(words[2].lower()):
            reader.wrong(
                found.line, f"{words[2]!r} cannot name a stage", "A letter, then letters, digits, '-', '_' and '.'."
            )
    elif found.keyword in {"COPY", "ADD"} and len(words) < 2:
        reader.wrong(found.line, f"{found.keyword} needs at least one source, and a destination")
    elif found.keyword == "ENV" and words and "=" not in words[0]:
        if len(_BLANKS.split(found.rest, maxsplit=1)) < 2:
            reader.wrong(found.line, "ENV needs a name and a value")
    elif found.keyword in KEYWORDS and not found.rest and not found.flags and not found.words:
        reader.wrong(found.line, f"{found.keyword} needs an argument")
