"""An instruction of a Dockerfile by its line, and the Dockerfile before it."""

from __future__ import annotations

import pytest

from chainbuild.dockerfile import find_facts, parse
from chainbuild.dockerfile.cut import STAGE, Place, cut_before, find_place, line_of, shell_command
from chainbuild.dockerfile.results import ParentConfig
from chainbuild.dockerfile.shell_pieces import split_pieces
from chainbuild.errors import WrongUseError
from chainbuild.references import Platform

AMD64 = Platform.parse("amd64")
RAW = b"""\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} \\
  # a comment
  AS first
RUN echo 1
FROM --platform=$BUILDPLATFORM debian
COPY --from=first /a /b
# about this
RUN --network=none a \\
  && b && \\
# inside
  c

ENV X=y
RUN <<EOF
set -e
one
  two && three
EOF
RUN cat <<A && b <<-B
x
A
	y
	B
RUN ["prog", "arg"]
"""


def place(line: int, raw: bytes = RAW) -> Place:
    return find_place(parse(raw, "20-Dockerfile"), line)


@pytest.mark.parametrize(("line", "first"), [(5, 5), (7, 7), (9, 9), (10, 9), (12, 9), (14, 14), (17, 15), (24, 20)])
def test_place_is_instruction_on_line(line: int, first: int) -> None:
    assert place(line).instruction.line == first


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (2, "before a FROM"),
        (6, "before a FROM"),
        (1, "no instruction"),
        (8, "no instruction"),
        (99, "no instruction"),
    ],
)
def test_line_without_instruction_is_reported(line: int, text: str) -> None:
    with pytest.raises(WrongUseError, match=text) as caught:
        place(line)
    assert f"20-Dockerfile:{line}" in str(caught.value)


def test_cut_keeps_lines_above_instruction_and_names_stage() -> None:
    raw, name = cut_before(RAW, place(10))
    assert name == STAGE
    before = RAW.split(b"\n")[:8]
    before[5] += b" AS " + STAGE.encode()
    assert raw.split(b"\n") == [*before, b""]


def test_cut_in_named_stage_changes_no_line() -> None:
    raw, name = cut_before(RAW, place(5))
    assert name == "first"
    assert raw == b"\n".join(RAW.split(b"\n")[:4]) + b"\n"


def test_shell_command_is_what_builder_passes_to_shell() -> None:
    assert shell_command(place(9).instruction) == "a   && b &&   c"
    assert shell_command(place(15).instruction) == "set -e\none\n  two && three\n"
    assert shell_command(place(20).instruction) == "cat <<A && b <<-B\nx\nA\n\ty\nB"
    assert shell_command(place(25).instruction) is None
    assert shell_command(place(14).instruction) is None
    script = b"FROM x\nRUN <<E\n#!/usr/bin/python3\nprint()\nE\n"
    assert shell_command(place(2, script).instruction) is None


@pytest.mark.parametrize(("line", "lines"), [(9, [9, 10, 12]), (15, [16, 17, 18, 18]), (20, [20, 20])])
def test_pieces_have_lines_of_file(line: int, lines: list[int]) -> None:
    instruction = place(line).instruction
    pieces = split_pieces(shell_command(instruction) or "")
    assert [line_of(instruction, piece.start, RAW) for piece in pieces] == lines


def test_facts_have_variables_at_end_of_cut_file() -> None:
    raw = b"ARG BASE_IMAGE\nARG G=global\nFROM $BASE_IMAGE\nENV A=1 P=$P:x\nARG B=${A}2\nARG G\nARG C\nRUN x\nENV A=3\n"
    cut, _ = cut_before(raw, place(8, raw))
    facts = find_facts(
        parse(cut, ""),
        args={"BASE_IMAGE": "base", "C": "given"},
        target_platform=AMD64,
        build_platform=AMD64,
        parents={("base", "linux/amd64"): ParentConfig(env=("PATH=/bin", "P=p"))},
    )
    assert facts.variables == {"PATH": "/bin", "P": "p:x", "A": "1", "B": "12", "G": "global", "C": "given"}
