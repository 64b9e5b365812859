"""The commands that the pages of the documentation show.

| block | what is typed |
| --- | --- |
| ```` ```shell ```` | every line |
| ```` ```console ````, and a block without a language that has lines with `$ ` | those lines; the others are output |

In a session, the lines after `chainbuild shell IMAGE` are typed in that shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

_FENCE: Final = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_PROMPT: Final = "$ "
_HERE_DOCUMENT: Final = re.compile(r"<<-?'?\"?(\w+)'?\"?")
_OPENS_SHELL: Final = re.compile(r"chainbuild shell [^-|<>]\S*$")
_OPERATORS: Final = frozenset("|&;<>()")
_DESCRIPTION: Final = re.compile(r"\s{4,}.*")
"""What stands beside a command in a list of commands."""
_ALTERNATIVES: Final = re.compile(r"\w\|\w")
OMITTED: Final = "…"


class Block(Struct, frozen=True):
    """A block of a page: its language, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int

    @property
    def is_typed(self) -> bool:
        """Return whether every line is typed, or (in a session) those with a prompt."""
        return self.language == "shell" or self.is_session

    @property
    def is_session(self) -> bool:
        """Return whether the block has what was typed and what was printed."""
        has_prompt = any(line.startswith(_PROMPT) for line in self.text.splitlines())
        return self.language == "console" or (not self.language and has_prompt)

    def script(self) -> str:
        """Return what is typed, as a script."""
        if not self.is_session:
            return self.text
        lines = self.text.splitlines()
        typed, continues = [], False
        for line in lines:
            if line.startswith(_PROMPT) or continues:
                typed.append(line.removeprefix(_PROMPT))
                continues = line.endswith("\\")
        for index, line in enumerate(typed):
            if _OPENS_SHELL.fullmatch(line):
                inside = "\n".join(typed[index + 1 :])
                return "\n".join([*typed[:index], f"{line} <<'END OF SHELL'", inside, "END OF SHELL", ""])
        return "\n".join([*typed, ""])


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    for found in _FENCE.finditer(page):
        yield Block(found[1], found[2], page.count("\n", 0, found.start()) + 1)


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one. Errors: `AssertionError` if the page has no such heading."""
    # A `#` in a block is a comment.
    outside = _FENCE.sub(lambda block: re.sub(r"^#", " ", block[0], flags=re.MULTILINE), page)
    headings = list(_HEADING.finditer(outside))
    for found, following in zip(headings, [*headings[1:], None], strict=True):
        if found[1] == heading:
            return page[found.end() : following.start() if following else len(page)]
    raise AssertionError(f"no section {heading!r}")


def commands(block: Block) -> Iterator[tuple[int, str]]:
    """Yield every line of a block that calls chainbuild, with its line in the page; continued lines are joined."""
    ending, number, lines = "", block.line, iter(block.text.splitlines())
    for line in lines:
        number += 1
        if ending:
            ending = "" if line == ending else ending
            continue
        text, first = line.removeprefix(_PROMPT), number
        while text.endswith("\\"):
            number += 1
            text = text.removesuffix("\\").rstrip() + " " + next(lines, "").lstrip()
        if document := _HERE_DOCUMENT.search(text):
            ending = document[1]
        if "chainbuild " in text or text == "chainbuild":
            yield first, text


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of chainbuild in a command line."""
    if _ALTERNATIVES.search(line):
        return
    lexer = shlex.shlex(_DESCRIPTION.sub("", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and not set(word) <= _OPERATORS:
            words.append(word)
            continue
        if words and words[0] == "chainbuild":
            yield words[1:]
        words = []


def all_pages(root: Path) -> dict[str, str]:
    """Return the text of README and of every page, by path."""
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    generated = root / "docs" / "reference.md"
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths if path != generated}
