"""Split the command of a RUN into pieces that can be run one after another, with the same effect as the whole.

A piece begins after an `&&`, or after a `;` if `set -e` is in effect: there the shell goes on only if all pieces before
it succeeded. Nothing is changed in the command. It is run as a whole, with a call of a function before each piece
(`marked`), so that variables, folders and options are those of the one shell, and the last mark names the failing piece.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.shell_scan import Operand, Unreadable, operands_of
from chainbuild.patterns import regex

# Status and arguments of the command before: a mark in between would change them.
_LOOKS_BACK: Final = regex(r"\$\{?[?_!]")
_SETS: Final = regex(r"set(?:[ \t]+\S+)*")
_ENDS_OPTION: Final = regex(r"(?:^|[\s;&|({])set[ \t]+(?:-\S*[ \t]+)*\+")
FUNCTION: Final = "chainbuild_piece"


class Piece(Struct, frozen=True):
    """A piece of a command: its range in the text. `chained`: an `&&` is before it."""

    start: int
    end: int
    chained: bool = False


def split_pieces(command: str, *, errexit: bool = False) -> tuple[Piece, ...]:
    """Return the pieces of a command, in order; a command that cannot be split safely is one piece.

    `errexit`: whether the shell was started with `-e`.
    """
    try:
        operands = operands_of(command)
    except (Unreadable, RecursionError):
        operands = ()
    if not operands or any(operand.before == "&" for operand in operands) or FUNCTION in command:
        return (Piece(0, len(command)),)
    firsts = [*_first_operands(command, operands, errexit=errexit), len(operands)]
    return tuple(
        Piece(operands[first].start, operands[following - 1].end, operands[first].before == "&&")
        for first, following in pairwise(firsts)
    )


def _first_operands(command: str, operands: Sequence[Operand], *, errexit: bool) -> Iterator[int]:
    """Yield the numbers of the operands that begin a piece."""
    lists = _lists(operands)
    keeps = not _ENDS_OPTION.search(command)
    errexit &= keeps
    for index, numbers in enumerate(lists):
        texts = [command[operands[number].start : operands[number].end] for number in numbers]
        begins = index == 0 or (errexit and not _LOOKS_BACK.search(texts[0]))
        errexit |= keeps and _sets_errexit(texts[0])
        last_or = max((place for place, number in enumerate(numbers) if operands[number].before == "||"), default=0)
        for place, number in enumerate(numbers):
            after_and = (
                (errexit or index == len(lists) - 1) and place > last_or and not _LOOKS_BACK.search(texts[place])
            )
            if begins if place == 0 else after_and:
                yield number


def _lists(operands: Sequence[Operand]) -> list[list[int]]:
    """Return the numbers of the operands of each list of `&&` and `||`."""
    lists: list[list[int]] = []
    for number, operand in enumerate(operands):
        if operand.before in {"&&", "||"}:
            lists[-1].append(number)
        else:
            lists.append([number])
    return lists


def _sets_errexit(text: str) -> bool:
    """Return whether a simple command is `set -e`, possibly with other options."""
    if not _SETS.fullmatch(text):
        return False
    words = text.split()[1:]
    for place, word in enumerate(words):
        if not word.startswith("-") or word == "--":
            continue
        if "e" in word or (word.endswith("o") and words[place + 1 : place + 2] == ["errexit"]):
            return True
    return False


def marked(command: str, pieces: Sequence[Piece], labels: Sequence[str], record: str) -> str:
    """Return the command with a mark before each piece, which prints the piece's label and writes its number to `record`.

    The marks succeed always, and print to stderr.
    """
    cases = " ".join(
        f"{number}) printf '%s\\n' {shlex.quote(label)} ;;" for number, label in enumerate(labels, start=1)
    )
    body = f'case "$1" in {cases} esac >&2; printf %s "$1" >| {record}'
    parts = [f"{FUNCTION}() {{ {{ {body}; }} || :; }}; "]
    at = 0
    for number, piece in enumerate(pieces, start=1):
        parts += [command[at : piece.start], f"{FUNCTION} {number} {'&&' if piece.chained else ';'} "]
        at = piece.start
    return "".join((*parts, command[at:]))
