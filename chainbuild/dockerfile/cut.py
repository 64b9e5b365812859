"""Find an instruction of a Dockerfile by its line, and cut the Dockerfile before it: its last stage is the state there.

Lines above the cut stay as they are, so a builder has them in its cache.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from chainbuild.dockerfile.expansion import SPACE
from chainbuild.dockerfile.grammar import parse
from chainbuild.dockerfile.model import Dockerfile, ImageWordPosition, Instruction, Stage
from chainbuild.dockerfile.rewrite import Edit, apply_edits, image_words
from chainbuild.errors import WrongUseError

STAGE: Final = "chainbuild-debug-stage"
"""The name that a stage without one gets, so that other stages can be based on it."""


class Place(Struct, frozen=True, kw_only=True):
    """An instruction, and the stage that it is in."""

    stage: Stage
    instruction: Instruction


def find_place(dockerfile: Dockerfile, line: int) -> Place:
    """Return the instruction that is on a line, which counts from 1.

    Errors: `WrongUseError` if there is none, or nothing is built before it.
    """
    where = f"{dockerfile.path}:{line}"
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.line <= line <= instruction.end_line:
                return Place(stage=stage, instruction=instruction)
        if stage.head is not None and stage.head.line <= line <= stage.head.end_line:
            raise WrongUseError(
                f"{where}: nothing is built before a FROM", hint="Choose an instruction below it with --at LINE."
            )
    lines = [f"{item.line}" for stage in dockerfile.stages for item in stage.instructions]
    hint = f"Instructions begin on the lines {', '.join(lines)}." if lines else "It has no instruction below a FROM."
    raise WrongUseError(f"{where}: no instruction of a stage is on this line", hint=hint)


def cut_before(raw: bytes, place: Place) -> tuple[bytes, str]:
    """Return the Dockerfile without the instruction and everything after it, and the name of its last stage then."""
    name, edits = place.stage.name, list[Edit]()
    if not name and place.stage.head is not None:
        name = STAGE
        words = image_words(parse(raw, ""))
        end = words[ImageWordPosition(place.stage.head.line)].edits[-1].end
        edits.append(Edit(end, end, f" AS {name}"))
    lines = apply_edits(raw, edits).split(b"\n")[: place.instruction.line - 1]
    return b"\n".join(lines) + b"\n", name


def shell_command(instruction: Instruction) -> str | None:
    """Return what a RUN passes to its shell; None if it starts a program without one, or is no RUN."""
    if instruction.keyword != "RUN" or instruction.json:
        return None
    if not _is_script(instruction):
        return "\n".join((instruction.rest, *(f"{each.content}{each.name}" for each in instruction.heredocs)))
    (script,) = instruction.heredocs
    if script.content.startswith("#!"):
        return None
    lines = script.content.splitlines(keepends=True)
    return "".join(line.lstrip("\t") for line in lines) if script.strip_tabs else script.content


def _is_script(instruction: Instruction) -> bool:
    """Return whether a here-document is the command itself."""
    return len(instruction.heredocs) > 0 and instruction.rest == instruction.heredocs[0].word


def line_of(instruction: Instruction, offset: int, raw: bytes) -> int:
    """Return the line of the Dockerfile `raw` for an offset in the shell command of an instruction."""
    body = sum(each.content.count("\n") + 1 for each in instruction.heredocs)
    if body:
        passed = (shell_command(instruction) or "").count("\n", 0, offset)
        if passed or _is_script(instruction):
            return instruction.end_line - body + passed + _is_script(instruction)
    # The command is the end of the joined text.
    offset += len(instruction.text.rstrip(SPACE)) - len(instruction.rest)
    begin, at = max(piece for piece in instruction.pieces if piece[0] <= offset)
    return raw.decode("utf-8", "surrogateescape").count("\n", 0, at + offset - begin) + 1
