"""Parse the bytes of a Dockerfile into stages and instructions, by the rules of BuildKit's parser.

Never raises: what BuildKit would reject becomes a `Problem` with its line, and the rest is parsed as far as possible.
Bytes that are not UTF-8 are kept (`surrogateescape`), so that file names stay intact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.lines import Lines, LogicalLine, frontend, parser_directives
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile, Flag, Heredoc, Instruction, Stage
from chainbuild.dockerfile.words import BLANKS, NotStringsError, json_words, quoted_words, split_instruction
from chainbuild.errors import Problem
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

KEYWORDS: Final = (
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)
_TAKES_HEREDOC: Final = frozenset({"ADD", "COPY", "RUN"})
_TAKES_JSON: Final = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"})
_READS: Final = frozenset({"ADD", "COPY", "FROM", "RUN"})

_HEREDOC = regex(r"([0-9]*)<<(-?)([\t\n\f\r ]*)([^<]*)", re.DOTALL)
_STAGE_NAME = regex(r"[a-z][a-z0-9_.-]*")


def parse(raw: bytes, path: str) -> Dockerfile:
    """Parse a Dockerfile; `path` is its name in problems. Never raises."""
    read = _parsed(raw)
    problems = tuple(replace(problem, path=path) for problem in read.problems)
    return replace(read, path=path, problems=problems)


# Cached, because the layouts and the step keys read the same files.
@lru_cache(maxsize=8192)
def _parsed(raw: bytes) -> Dockerfile:
    reader = _Reader(path="", lines=Lines(raw.decode("utf-8", "surrogateescape")))
    reader.directives()
    instructions = tuple(reader.instructions())
    return _assemble(reader, instructions)


def parse_trigger(text: str, path: str, line: int) -> tuple[Instruction | None, tuple[Problem, ...]]:
    """Parse an ONBUILD trigger of an image's config. `path` and `line` are those of the FROM that uses the image."""
    reader = _Reader(path=path, lines=Lines(text))
    for result in reader.instructions():
        moved = replace(result, line=line, end_line=line, pieces=())
        return moved, tuple(Problem(path=path, line=line, message=each.message) for each in reader.problems)
    return None, ()


class _Reader(Struct):
    """The state of a parser: lines, directives, and problems."""

    path: str
    lines: Lines
    syntax: str = ""
    check: str = ""
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path=self.path, line=line, message=message, hint=hint))

    def directives(self) -> None:
        """Read the parser directives: the comments at the very top, each at most once."""
        seen: set[str] = set()
        for result in parser_directives(self.lines.lines):
            if result.name in seen:
                self.wrong(result.line, f"duplicate '# {result.name}=' directive", "Remove one of them.")
                continue
            if result.name == "escape" and "check" in seen:
                hint = "Write '# escape=' first."
                self.wrong(result.line, "BuildKit before 0.14 ignores '# escape=' below '# check='", hint)
            seen.add(result.name)
            if result.name == "check":
                self.check = result.value
            elif result.name == "escape":
                if result.value in {"\\", "`"}:
                    self.lines.escape = result.value
                else:
                    self.wrong(result.line, f"invalid escape character {result.value!r}", "Use \\ or `.")
        self.syntax = frontend(self.lines.lines)

    def instructions(self) -> Iterator[Instruction]:
        """Yield every instruction, with its continued lines and here-documents."""
        for line in self.lines.logical():
            result = self._instruction(line.text, line)
            if _may_hold_heredocs(result):
                heredocs = self._heredocs(line)
                if heredocs and (result.older or (result.trigger and result.trigger.older)):
                    message = "BuildKit before 0.15 reads this as the JSON form and ignores the here-document"
                    self.wrong(result.line, message, "Do not begin the command with a JSON array.")
                if heredocs:
                    original = "\n".join(self.lines.lines[line.start : self.lines.at])
                    result = _with_heredocs(result, heredocs, self.lines.at, original)
            yield result

    def _instruction(self, text: str, line: LogicalLine) -> Instruction:
        """Parse `text`, which is the joined line or the trigger at its end."""
        escape, number = self.lines.escape, line.start + 1
        split = split_instruction(text, escape)
        keyword, rest = split.keyword, split.rest
        if keyword not in KEYWORDS:
            hint = perhaps_you_meant(keyword, KEYWORDS, str).rstrip()
            self.wrong(number, f"unknown instruction {keyword[:40]!r}", hint)
        elif split.flags and escape != "\\" and keyword in _READS and split_instruction(text) != split:
            message = "releases of BuildKit before and since 0.21 read the escapes in this flag differently"
            self.wrong(number, message, "Write the flag without \\ and `.")
        is_json, older = False, False
        words: tuple[str, ...] = tuple(word for word in BLANKS.split(rest) if word)
        if keyword in {"ENV", "ARG", "LABEL"}:
            words = quoted_words(rest, escape)
        elif keyword in _TAKES_JSON and rest.startswith("["):
            try:
                listed, trailing = json_words(rest)
            except NotStringsError:
                self.wrong(number, "the JSON form must have strings only", 'For example ["program", "argument"].')
                listed, trailing = None, False
            if listed is not None:
                is_json, older, words = not trailing, trailing, words if trailing else listed
        trigger = None
        if keyword == "ONBUILD" and rest:
            inner = split_instruction(rest, escape).keyword
            if inner in {"ONBUILD", "FROM", "MAINTAINER"}:
                self.wrong(number, f"{inner} cannot be an ONBUILD trigger")
            else:
                trigger = replace(self._instruction(rest, line), pieces=())
        return Instruction(
            keyword=keyword,
            line=number,
            end_line=line.end,
            text=text,
            original="\n".join(self.lines.lines[line.start : line.end]),
            flags=tuple(Flag(name=flag.name, value=flag.value) for flag in split.flags),
            rest=rest,
            words=words,
            json=is_json,
            trigger=trigger,
            pieces=line.pieces,
            older=older,
        )

    def _heredocs(self, line: LogicalLine) -> tuple[Heredoc, ...]:
        """Return the here-documents that the joined line opens; their bodies begin at the cursor."""
        results: list[Heredoc] = []
        for opened in self._opened(line.text, line.start + 1):
            begin = self.lines.at
            body: list[str] = []
            while self.lines.at < len(self.lines.lines):
                text = self.lines.lines[self.lines.at]
                self.lines.at += 1
                ending = text.rstrip("\r")
                if (ending.lstrip("\t") if opened.strip_tabs else ending) == opened.name:
                    break
                body.append(text)
            else:
                if _is_spaced(opened.word):
                    # `$((1 << 2))`: BuildKit before 0.22 builds this, later releases reject it.
                    self.lines.at = begin
                    continue
                self.wrong(
                    line.start + 1,
                    f"unterminated here-document {opened.name!r}",
                    f"Add a line with only {opened.name}.",
                )
            results.append(replace(opened, content="".join(f"{text}\n" for text in body)))
        return tuple(results)

    def _opened(self, text: str, line: int) -> Iterator[Heredoc]:
        if "<<" not in text:
            return
        try:
            words = expand(text, {}, raw_quotes=True, raw_escapes=True, keep_unset=True).words
        except ExpansionError:
            return  # BuildKit cannot split such a line, so it has no here-document
        for word in words:
            try:
                opened = heredoc_word(word)
            except ExpansionError as error:
                self.wrong(line, f"the here-document {word!r}: {error}")
                continue
            if opened and _is_spaced(word) and _could_be_an_instruction(opened.name):
                message = f"BuildKit before 0.22 does not read {word!r} as a here-document"
                self.wrong(line, message, "Remove the space after <<.")
            if opened:
                yield opened


def heredoc_word(word: str) -> Heredoc | None:
    """Parse a word such as `<<-"EOF"` that opens a here-document, without its content; return None for any other word."""
    match = _HEREDOC.fullmatch(word)
    if not match or not match[4]:
        return None
    plain = expand(match[4], {}, keep_unset=True).words
    if len(plain) != 1:
        return None
    quoted = expand(match[4], {}, raw_quotes=True, keep_unset=True).words
    if len(quoted) != 1:
        raise ExpansionError("its name has several words")
    literal = _quotes(plain[0]) != _quotes(quoted[0])
    return Heredoc(word=word, name=plain[0], expand=not literal, strip_tabs=match[2] == "-", content="")


def is_heredoc(word: str) -> bool:
    """Return whether a word opens a here-document."""
    try:
        return heredoc_word(word) is not None
    except ExpansionError:
        return False


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def _is_spaced(word: str) -> bool:
    match = _HEREDOC.fullmatch(word)
    return bool(match and match[3])


def _could_be_an_instruction(line: str) -> bool:
    """Return whether the last line of a here-document could also be an instruction or comment of the Dockerfile."""
    return line.lstrip().startswith("#") or split_instruction(line).keyword in KEYWORDS


def _may_hold_heredocs(result: Instruction) -> bool:
    inner = result.trigger or result
    return inner.keyword in _TAKES_HEREDOC and not inner.json


def _with_heredocs(result: Instruction, heredocs: tuple[Heredoc, ...], end: int, original: str) -> Instruction:
    trigger = result.trigger and _with_heredocs(result.trigger, heredocs, end, original)
    return replace(result, end_line=end, original=original, heredocs=heredocs, trigger=trigger)


def declarations(instruction: Instruction) -> tuple[ArgDeclaration, ...]:
    """Return the names that an ARG instruction declares."""
    result = []
    for word in instruction.words:
        name, equals, default = word.partition("=")
        result.append(ArgDeclaration(name=name, default=default if equals else None, line=instruction.line))
    return tuple(result)


def _assemble(reader: _Reader, instructions: tuple[Instruction, ...]) -> Dockerfile:
    """Split the instructions into the part before the first FROM and the stages."""
    global_args: list[ArgDeclaration] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for result in instructions:
        _check_shape(reader, result)
        if result.keyword == "FROM":
            stages.append((result, []))
        elif stages:
            stages[-1][1].append(result)
        elif result.keyword == "ARG":
            global_args.extend(declarations(result))
        elif result.keyword in KEYWORDS:
            reader.wrong(result.line, f"{result.keyword} before the first FROM", "Only ARG is allowed there.")
    if not stages:
        reader.wrong(0, "no FROM instruction", "Add FROM with a base image, or FROM scratch.")
    return Dockerfile(
        path=reader.path,
        syntax=reader.syntax,
        escape=reader.lines.escape,
        check=reader.check,
        global_args=tuple(global_args),
        stages=tuple(_stage(index, head, body) for index, (head, body) in enumerate(stages)),
        problems=tuple(reader.problems),
    )


def _stage(index: int, head: Instruction, body: list[Instruction]) -> Stage:
    name = head.words[2].lower() if len(head.words) == 3 and head.words[1].lower() == "as" else ""
    return Stage(
        index=index,
        name=name,
        base=head.words[0] if head.words else "",
        platform=head.flag("platform") or "",
        line=head.line,
        instructions=tuple(body),
        head=head,
    )


def _check_shape(reader: _Reader, result: Instruction) -> None:
    """Report instructions that BuildKit rejects for the number and form of their words."""
    words = result.words
    if result.keyword == "FROM":
        named = len(words) == 3 and words[1].lower() == "as"
        if len(words) != 1 and not named:
            reader.wrong(result.line, "FROM needs one image, or 'image AS name'")
        elif named and not _STAGE_NAME.fullmatch(words[2].lower()):
            reader.wrong(
                result.line,
                f"invalid stage name {words[2]!r}",
                "Use a letter, then letters, digits, '-', '_' and '.'.",
            )
    elif result.keyword in {"COPY", "ADD"} and len(words) < 2:
        reader.wrong(result.line, f"{result.keyword} needs at least one source and a destination")
    elif result.keyword == "ENV" and words and "=" not in words[0]:
        if len(BLANKS.split(result.rest, maxsplit=1)) < 2:
            reader.wrong(result.line, "ENV needs a name and a value")
    elif result.keyword in KEYWORDS and not result.rest and not result.flags and not result.words:
        reader.wrong(result.line, f"{result.keyword} needs an argument")
