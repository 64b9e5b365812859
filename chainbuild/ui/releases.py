"""A release plan, and what applying it moves, as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chainbuild.errors import Problem
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan
from chainbuild.release.promotions import Move
from chainbuild.release.rules import OPEN, RELEASE
from chainbuild.text import escaped, plural
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span, Style, Terminal

_STYLES: dict[str, Style] = {OPEN: "warn", RELEASE: "good"}


def show_plan(plan: ReleasePlan, left: Sequence[Problem], out: Terminal) -> None:
    """Print the plan, image by image, and at its end what is left to decide."""
    lines: list[Line | str] = [(Span(f"release {escaped(plan.release)}", "bold"), Span(f"  {plan.shown}", "dim"))]
    for image in plan.images:
        lines += ["", *_image_lines(image)]
    lines.append("")
    if left:
        lines.append((Span(f"{plural(len(left), 'thing')} to decide before it can be applied:", "warn"),))
        lines += [f"  {problem.where}: {escaped(problem.message)}" for problem in left]
    else:
        lines.append((Span("everything in it is decided", "good"),))
    out.write(lines)


def _image_lines(image: PlannedImage) -> Iterable[Line | str]:
    yield (
        Span(str(image.name), "bold"),
        Span("  "),
        Span(image.decision, _STYLES.get(image.decision, "dim")),
    )
    for name in image.to:
        before = image.replaces.get(name)
        yield f"  → {name}" + (f", which is {before.short}" if before else ", which is new")
    if not image.to:
        yield (Span("  → no name yet", "warn"),)
    if image.note:
        yield f"  {escaped(image.note)}"
    for platform, digest in image.digests.items():
        yield f"  {platform} {digest.short}"
        yield from _difference_lines(image.differences.get(platform.name, Difference()))
        yield from (f"      {escaped(line)}" for line in image.tests.get(platform.name, ()))
    yield from ((Span("  error  ", "bad"), Span(escaped(text))) for text in image.errors)
    for warning in image.warnings:
        said = f" (accepted: {escaped(warning.accepted)})" if warning.accepted else ""
        style: Style = "dim" if warning.accepted else "warn"
        yield (Span("  warning  ", style), Span(escaped(warning.says) + said))


def _difference_lines(one: Difference) -> Iterable[Line | str]:
    if one.size:
        yield f"    {escaped(one.size)}"
    for heading, lines in (
        ("packages", one.packages),
        ("Python distributions", one.python),
        ("configuration", one.configuration),
        ("steps", one.steps),
    ):
        if lines:
            yield f"    {heading}"
            yield from (f"      {escaped(line)}" for line in lines)
    if one.files:
        yield f"    files: {escaped(one.files)}"


def show_moves(moves: Sequence[Move], out: Terminal, *, only_planned: bool = False) -> None:
    """Print which names moved from what to what; `only_planned`: which would."""
    move_word = "" if only_planned else "moved"
    columns = (Column(heading="name"), Column(heading="from"), Column(heading="to"), Column(heading=""))
    rows = [
        (
            Span(str(move.name)),
            Span(move.before.short if move.before else "nothing"),
            Span(move.after.short),
            Span("there already" if move.done else move_word, "dim" if move.done else "good"),
        )
        for move in moves
    ]
    left = sum(not move.done for move in moves)
    if only_planned:
        told = f"{plural(left, 'name')} to move; nothing was moved" if left else "every name is there already"
    else:
        told = f"{plural(left, 'name')} moved" if left else "every name was there already"
    out.write([*table(columns, rows, out.width), told])
