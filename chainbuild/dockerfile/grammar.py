"""From the bytes of a Dockerfile to its stages and instructions, by the rules of BuildKit's own parser.

It never raises: what BuildKit would refuse is a `Problem` with its line, and the rest is read as well as it can be.
Bytes that are not UTF-8 are kept (`surrogateescape`), so that file names survive.
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

_HEREDOC = re.compile(r"([0-9]*)<<(-?)([\t\n\f\r ]*)([^<]*)", re.DOTALL)
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def parse(raw: bytes, path: str) -> Dockerfile:
    """Read a Dockerfile; `path` is how it is called in problems. Never raises."""
    read = _parsed(raw)
    problems = tuple(replace(problem, path=path) for problem in read.problems)
    return replace(read, path=path, problems=problems)


# The tree's reader and the readers of step keys read the same files.
@lru_cache(maxsize=8192)
def _parsed(raw: bytes) -> Dockerfile:
    reader = _Reader(path="", lines=Lines(raw.decode("utf-8", "surrogateescape")))
    reader.directives()
    instructions = tuple(reader.instructions())
    return _assemble(reader, instructions)


def parse_trigger(text: str, path: str, line: int) -> tuple[Instruction | None, tuple[Problem, ...]]:
    """Read one ONBUILD trigger of an image's config. `path` and `line` are those of the FROM that takes the image."""
    reader = _Reader(path=path, lines=Lines(text))
    for found in reader.instructions():
        moved = replace(found, line=line, end_line=line, pieces=())
        return moved, tuple(Problem(path=path, line=line, message=each.message) for each in reader.problems)
    return None, ()


class _Reader(Struct):
    """The state of one reading: lines, the directives, and what is wrong so far."""

    path: str
    lines: Lines
    syntax: str = ""
    check: str = ""
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path=self.path, line=line, message=message, hint=hint))

    def directives(self) -> None:
        """Read the parser directives: the comments at the very top, each kind once."""
        seen: set[str] = set()
        for found in parser_directives(self.lines.lines):
            if found.name in seen:
                self.wrong(found.line, f"a second '# {found.name}=' directive", "BuildKit takes one of each kind.")
                continue
            if found.name == "escape" and "check" in seen:
                hint = "Put '# escape=' first."
                self.wrong(found.line, "BuildKit before 0.14 does not read '# escape=' below '# check='", hint)
            seen.add(found.name)
            if found.name == "check":
                self.check = found.value
            elif found.name == "escape":
                if found.value in {"\\", "`"}:
                    self.lines.escape = found.value
                else:
                    self.wrong(found.line, f"the escape character {found.value!r} is neither \\ nor `")
        self.syntax = frontend(self.lines.lines)

    def instructions(self) -> Iterator[Instruction]:
        """Every instruction, with its continued lines and here-documents."""
        for line in self.lines.logical():
            found = self._instruction(line.text, line)
            if _may_hold_heredocs(found):
                heredocs = self._heredocs(line)
                if heredocs and (found.older or (found.trigger and found.trigger.older)):
                    message = "BuildKit before 0.15 sees the JSON form here, and no here-document"
                    self.wrong(found.line, message, "Begin the command with something else than a JSON array.")
                if heredocs:
                    original = "\n".join(self.lines.lines[line.start : self.lines.at])
                    found = _with_heredocs(found, heredocs, self.lines.at, original)
            yield found

    def _instruction(self, text: str, line: LogicalLine) -> Instruction:
        """Read `text`, the joined line or the trigger at its end."""
        escape, number = self.lines.escape, line.start + 1
        split = split_instruction(text, escape)
        keyword, rest = split.keyword, split.rest
        if keyword not in KEYWORDS:
            hint = perhaps_you_meant(keyword, KEYWORDS, str).rstrip()
            self.wrong(number, f"unknown instruction {keyword[:40]!r}", hint)
        elif split.flags and escape != "\\" and keyword in _READS and split_instruction(text) != split:
            message = "BuildKit before 0.21 and later releases read the escapes in this flag differently"
            self.wrong(number, message, "Write the flag without \\ and `.")
        is_json, older = False, False
        words: tuple[str, ...] = tuple(word for word in BLANKS.split(rest) if word)
        if keyword in {"ENV", "ARG", "LABEL"}:
            words = quoted_words(rest, escape)
        elif keyword in _TAKES_JSON and rest.startswith("["):
            try:
                listed, trailing = json_words(rest)
            except NotStringsError:
                self.wrong(number, "the JSON form takes strings only", 'As in ["program", "argument"].')
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
        """The here-documents that the joined line opens; their bodies start at the cursor."""
        found: list[Heredoc] = []
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
                    # `$((1 << 2))`: releases before 0.22 build this, later ones refuse it.
                    self.lines.at = begin
                    continue
                self.wrong(line.start + 1, f"the here-document {opened.name!r} has no end")
            found.append(replace(opened, content="".join(f"{text}\n" for text in body)))
        return tuple(found)

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
            if opened and _is_spaced(word) and _could_be_an_instruction(opened.name):
                message = f"BuildKit before 0.22 sees no here-document in {word!r}"
                self.wrong(line, message, "Write no space behind the <<.")
            if opened:
                yield opened


def heredoc_word(word: str) -> Heredoc | None:
    """The here-document that a word such as `<<-"EOF"` opens, without its content; None for any other word."""
    match = _HEREDOC.fullmatch(word)
    if not match or not match[4]:
        return None
    plain = expand(match[4], {}, keep_unset=True).words
    if len(plain) != 1:
        return None
    quoted = expand(match[4], {}, raw_quotes=True, keep_unset=True).words
    if len(quoted) != 1:
        raise ExpansionError("its name is several words")
    literal = _quotes(plain[0]) != _quotes(quoted[0])
    return Heredoc(word=word, name=plain[0], expand=not literal, strip_tabs=match[2] == "-", content="")


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def _is_spaced(word: str) -> bool:
    match = _HEREDOC.fullmatch(word)
    return bool(match and match[3])


def _could_be_an_instruction(line: str) -> bool:
    """Whether the last line of a here-document could also be a line of the Dockerfile."""
    return line.lstrip().startswith("#") or split_instruction(line).keyword in KEYWORDS


def _may_hold_heredocs(found: Instruction) -> bool:
    inner = found.trigger or found
    return inner.keyword in _TAKES_HEREDOC and not inner.json


def _with_heredocs(found: Instruction, heredocs: tuple[Heredoc, ...], end: int, original: str) -> Instruction:
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
        if len(BLANKS.split(found.rest, maxsplit=1)) < 2:
            reader.wrong(found.line, "ENV needs a name and a value")
    elif found.keyword in KEYWORDS and not found.rest and not found.flags and not found.words:
        reader.wrong(found.line, f"{found.keyword} needs an argument")
