"""Show a plan as a table: the action for every step, the planner's reason, the expected duration, and the exact commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chainbuild.step_id import StepId
from chainbuild.text import duration, escaped, plural
from chainbuild.ui.styles import Style
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span, Terminal

_COLUMNS: Final = (
    Column(heading="step"),
    Column(heading="action"),
    Column(heading="takes", right=True),
    Column(heading="why"),
)
_QUICK: Final = frozenset({"reuse", "rebase"})
_ACTION_STYLES: Final[dict[str, Style]] = {"reuse": "good", "rebase": "good"}


class PlanRow(Struct, frozen=True, kw_only=True):
    """A step of a plan: `action` as in the plan (`build`, `reuse`, …), `command` the argv to run.

    `inherited` are the arguments that other options requested; `arguments` are all requested arguments of a stage.
    """

    step: StepId
    action: str
    reason: str
    image: str
    expected_seconds: float | None = None
    native: str = ""
    """Whether the step is built with native tools, or why it is emulated; empty where that does not matter."""
    command: tuple[str, ...] | None = None
    inherited: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def show_plan(rows: Sequence[PlanRow], out: Terminal, *, verbosity: int = 0) -> None:
    """Print a plan; with `verbosity` 1 or more also image names and exact command lines."""
    if not rows:
        out.write(["nothing to do: the plan has no steps"])
        return
    shown: list[Sequence[Span] | None] = []
    group = None
    for row in rows:
        if row.step.group != group:
            group = row.step.group
            shown.append((Span(escaped(group) or "steps", "bold"),))
        takes = "" if row.expected_seconds is None or row.action in _QUICK else f"~{duration(row.expected_seconds)}"
        style = _ACTION_STYLES.get(row.action, "busy")
        shown.append(
            (
                Span(f"  {escaped(row.step.short_name)}"),
                Span(row.action, style),
                Span(takes),
                Span(escaped(row.reason)),
            )
        )
        shown += [(Span(f"      {escaped(row.native)}", "dim"),)] if row.native else []
        shown += [(Span("      inherits ", "dim"), Span(escaped(text))) for text in row.inherited]
        if verbosity >= 1:
            shown += [(Span("      args     ", "dim"), Span(escaped(text))) for text in row.arguments]
            shown += [(Span("      image    ", "dim"), Span(escaped(row.image)))]
            if row.command:
                shown.append((Span("      command  ", "dim"), Span(command_line(row.command))))
    out.write([*table(_COLUMNS, shown, out.width), (), *_total(rows)])


def command_line(argv: Sequence[str]) -> str:
    """Format an argv as one line that can be pasted into a POSIX shell.

    An argument with a newline or a control character is written in the `$'...'` form (bash, zsh, ksh, POSIX.1-2024).
    """
    return " ".join(_quoted(argument) for argument in argv)


def _quoted(argument: str) -> str:
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = argument.replace("\\", "\\\\").replace("'", "\\'")
    letters = (letter if letter.isprintable() else _escape(letter) for letter in escaped)
    return f"$'{''.join(letters)}'"


def _escape(letter: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if letter in named:
        return named[letter]
    code = ord(letter)
    return f"\\{code:03o}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _total(rows: Sequence[PlanRow]) -> list[Line]:
    """Return the number of steps per action, and the expected duration (platforms run in parallel)."""
    counts: dict[str, int] = {}
    per_platform: dict[str, float] = {}
    unknown = 0
    for row in rows:
        counts[row.action] = counts.get(row.action, 0) + 1
        if row.action == "reuse":
            continue
        if row.expected_seconds is None:
            unknown += 1
            continue
        platform = row.step.platform
        per_platform[platform] = per_platform.get(platform, 0.0) + row.expected_seconds
    lines: list[Line] = [(Span(", ".join(f"{action} {count}" for action, count in counts.items()), "bold"),)]
    if set(counts) == {"reuse"}:
        return [*lines, (Span("nothing to build"),)]
    longest = max(per_platform.values(), default=0.0)
    parts = []
    if longest:
        parts.append(f"expected {'at least' if unknown else 'about'} {duration(longest)}")
    if len(per_platform) > 1:
        parts.append(f"{duration(sum(per_platform.values()))} in total, platforms in parallel")
    if unknown:
        parts.append(f"no known duration for {plural(unknown, 'step')}")
    return [*lines, (Span(", ".join(parts)),)] if parts else lines
