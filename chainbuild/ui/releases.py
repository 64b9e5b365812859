"""Show a release plan, and the tags that applying it moves, in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chainbuild.errors import Problem
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan
from chainbuild.release.promotions import Move
from chainbuild.release.rules import OPEN, RELEASE
from chainbuild.text import escaped, plural
from chainbuild.ui.styles import Style
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span, Terminal

_STYLES: dict[str, Style] = {OPEN: "warn", RELEASE: "good"}


def show_plan(plan: ReleasePlan, left: Sequence[Problem], out: Terminal) -> None:
    """Print the plan, image by image, and its open decisions at the end."""
    lines: list[Line | str] = [(Span(f"release {escaped(plan.release)}", "bold"), Span(f"  {plan.shown}", "dim"))]
    for image in plan.images:
        lines += ["", *_image_lines(image)]
    lines.append("")
    if left:
        lines.append((Span(f"{plural(len(left), 'open decision')}; the plan cannot be applied yet:", "warn"),))
        lines += [f"  {problem.where}: {escaped(problem.message)}" for problem in left]
    else:
        lines.append((Span("no open decisions", "good"),))
    out.write(lines)


def _image_lines(image: PlannedImage) -> Iterable[Line | str]:
    yield (
        Span(str(image.name), "bold"),
        Span("  "),
        Span(image.decision, _STYLES.get(image.decision, "dim")),
    )
    for name in image.to:
        before = image.replaces.get(name)
        yield f"  → {name}" + (f", now {before.short}" if before else ", new")
    if not image.to:
        yield (Span("  → no destination yet", "warn"),)
    if image.note:
        yield f"  {escaped(image.note)}"
    for platform, digest in image.digests.items():
        yield f"  {platform} {digest.short}"
        yield from _difference_lines(image.differences.get(platform.name, Difference()))
        yield from (f"      {escaped(line)}" for line in image.tests.get(platform.name, ()))
    yield from ((Span("  error  ", "bad"), Span(escaped(text))) for text in image.errors)
    for warning in image.warnings:
        accepted = f" (accepted: {escaped(warning.accepted)})" if warning.accepted else ""
        style: Style = "dim" if warning.accepted else "warn"
        yield (Span("  warning  ", style), Span(escaped(warning.says) + accepted))


def _difference_lines(difference: Difference) -> Iterable[Line | str]:
    if difference.size:
        yield f"    {escaped(difference.size)}"
    for heading, lines in (
        ("packages", difference.packages),
        ("Python distributions", difference.python),
        ("configuration", difference.configuration),
        ("steps", difference.steps),
    ):
        if lines:
            yield f"    {heading}"
            yield from (f"      {escaped(line)}" for line in lines)
    if difference.files:
        yield f"    files: {escaped(difference.files)}"


def show_moves(moves: Sequence[Move], out: Terminal, *, only_planned: bool = False) -> None:
    """Print the tags that moved, or that would move if `only_planned`."""
    state = "" if only_planned else "moved"
    columns = (Column(heading="name"), Column(heading="from"), Column(heading="to"), Column(heading=""))
    rows = [
        (
            Span(str(move.name)),
            Span(move.before.short if move.before else "nothing"),
            Span(move.after.short),
            Span("already up to date" if move.done else state, "dim" if move.done else "good"),
        )
        for move in moves
    ]
    left = sum(not move.done for move in moves)
    if only_planned:
        summary = f"{plural(left, 'tag')} would move" if left else "Nothing to move."
    else:
        summary = f"{plural(left, 'tag')} moved" if left else "Nothing to move."
    out.write([*table(columns, rows, out.width), summary])
