"""The text of a plan."""

from __future__ import annotations

import io
import shlex

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.step_id import StepId
from chainbuild.ui import PlanRow, Terminal, command_line, show_plan

ROWS = (
    PlanRow(step=StepId.parse("amd64/stock/10-toolchain"), action="reuse", reason="nothing changed", image="r/x:1"),
    PlanRow(
        step=StepId.parse("amd64/stock/20-openblas"),
        action="build",
        reason="args changed: BLAS_TARGET_CPU HASWELL → ZEN, and this reason is so long that it has to be wrapped",
        image="r/x:2",
        expected_seconds=247,
        command=("docker", "buildx", "build", "--build-arg", "A=it's b", "."),
    ),
    PlanRow(
        step=StepId.parse("aarch64/stock/20-openblas"),
        action="build",
        reason="not built yet",
        image="r/x:3",
        expected_seconds=2400,
    ),
    PlanRow(
        step=StepId.parse("aarch64/stock/minimize"), action="minimize", reason="its parent is built", image="r/x:4"
    ),
)


def shown(rows: tuple[PlanRow, ...], *, width: int | None = None, verbosity: int = 0) -> str:
    stream = io.StringIO()
    show_plan(rows, Terminal(stream=stream, fixed_width=width), verbosity=verbosity)
    return stream.getvalue()


def test_plan_in_terminal_wraps_reasons():
    assert (
        shown(ROWS, width=80)
        == """\
step            action      takes  why
amd64/stock
  10-toolchain  reuse              nothing changed
  20-openblas   build      ~4m07s  args changed: BLAS_TARGET_CPU HASWELL → ZEN,
                                   and this reason is so long that it has to be
                                   wrapped
aarch64/stock
  20-openblas   build     ~40m00s  not built yet
  minimize      minimize           its parent is built

reuse 1, build 2, minimize 1
expected at least 40m00s, 44m07s in total, platforms in parallel, no known duration for 1 step
"""
    )


def test_stage_row_shows_inherited_and_verbose_arguments():
    row = PlanRow(
        step=StepId.parse("amd64/extras/minimize"),
        action="minimize",
        reason="never built",
        image="r/x:5",
        inherited=("STRIP=1 (from stock)", "ADDITIONAL_FILES=/a\x1b[31m (from graphics)"),
        arguments=("STRIP=1", "ADDITIONAL_FILES=/a /b"),
    )
    lines = [line.split() for line in shown((row,)).splitlines()]
    assert ["inherits", "STRIP=1", "(from", "stock)"] in lines
    assert "\x1b" not in shown((row,))
    assert not any(line[:1] == ["args"] for line in lines)
    verbose = [line.split() for line in shown((row,), verbosity=1).splitlines()]
    assert ["args", "ADDITIONAL_FILES=/a", "/b"] in verbose


def test_plan_in_pipe_prints_one_line_per_step():
    lines = shown(ROWS).splitlines()
    assert lines[3].endswith("so long that it has to be wrapped")


def test_plan_verbose_shows_exact_commands():
    text = shown(ROWS, verbosity=1)
    assert "      image    r/x:2\n" in text
    assert """      command  docker buildx build --build-arg 'A=it'"'"'s b' .\n""" in text


def test_plan_without_builds_says_so():
    assert shown(ROWS[:1]).endswith("\nreuse 1\nnothing to build\n")
    assert shown(()) == "nothing to do: the plan has no steps\n"


def test_plan_in_narrow_terminal_puts_reasons_below():
    text = shown(ROWS, width=44)
    assert max(len(line) for line in text.splitlines()[:-1]) < 44
    assert "      not built yet\n" in text


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])), min_size=1))
def test_command_line_can_be_pasted_into_shell(argv: list[str]):
    line = command_line(argv)
    assert "\n" not in line
    if all(argument.isprintable() for argument in argv):
        assert shlex.split(line) == argv


def test_command_line_escapes_control_characters():
    assert command_line(("a\nb", "it's\x1b[2J", "\\x\ty")) == r"$'a\nb' $'it\'s\033[2J' $'\\x\ty'"
