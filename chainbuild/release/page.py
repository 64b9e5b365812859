"""Render a release plan as one HTML page, for the people who decide and for the users of a release.

The page is self-contained: it loads no script, font or other address. The same plan results in the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from chainbuild.errors import Problem
from chainbuild.html_page import document, table, text
from chainbuild.references import Platform
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan
from chainbuild.release.rules import OPEN, RELEASE, SKIP
from chainbuild.text import plural

_FOLDED: Final = 12
"""Lists with at least this many lines are collapsed."""
_DECISIONS: Final = {OPEN: "open", RELEASE: "to be released", SKIP: "not released"}
_STYLE: Final = """
section{border:1px solid var(--rule);border-radius:.6rem;padding:1rem 1.2rem;margin:1.4rem 0}
.note{background:var(--soft);border-left:3px solid var(--rule);padding:.4rem .8rem;margin:.7rem 0;color:var(--ink)}
"""


def page(plan: ReleasePlan, left: Sequence[Problem], *, source: str = "") -> str:
    """Return the page of a plan; `left` are the open decisions, `source` the plan's path relative to the page."""
    title = f"Release {plan.release}"
    state = (
        f'<span class="badge warn">{plural(len(left), "open decision")}</span>'
        if left
        else '<span class="badge good">ready to apply</span>'
    )
    link = f' <a href="{escape(source)}">View the plan.</a>' if source else ""
    parts = [
        f"<header><h1>{text(title)}</h1>{state}</header>",
        f"<p>{plural(len(plan.released), 'image')} of {len(plan.images)} to be released.{link}</p>",
        _overview(plan),
        _left(left),
        *(_image(index, image) for index, image in enumerate(plan.images)),
    ]
    return document(title, parts, style=_STYLE)


def _badge(image: PlannedImage) -> str:
    style = {OPEN: "warn", RELEASE: "good"}.get(image.decision, "dim")
    return f'<span class="badge {style}">{_DECISIONS.get(image.decision, "")}</span>'


def _overview(plan: ReleasePlan) -> str:
    rows = (
        (
            f'<a href="#image-{index}">{text(image.name)}</a>',
            _badge(image),
            ", ".join(text(platform) for platform in image.digests),
            "<br>".join(f"<code>{text(name)}</code>" for name in image.to) or '<span class="warn">no name yet</span>',
            _open_points(image),
        )
        for index, image in enumerate(plan.images)
    )
    return table(("image", "decision", "platforms", "new names", "warnings"), rows)


def _open_points(image: PlannedImage) -> str:
    waiting = sum(1 for warning in image.warnings if not warning.accepted)
    points = [f'<span class="bad">{plural(len(image.errors), "error")}</span>'] if image.errors else []
    points += [f'<span class="warn">{plural(waiting, "warning")}</span>'] if waiting else []
    accepted = len(image.warnings) - waiting
    points += [f'<span class="dim">{accepted} accepted</span>'] if accepted else []
    return ", ".join(points) or '<span class="good">none</span>'


def _left(left: Sequence[Problem]) -> str:
    if not left:
        return ""
    rows = ((f"<code>{text(item.where)}</code>", text(item.message), text(item.hint)) for item in left)
    return f"<section><h2>Open decisions</h2>{table(('where', 'what', 'how'), rows)}</section>"


def _image(index: int, image: PlannedImage) -> str:
    parts = [f"<header><h2>{text(image.name)}</h2>{_badge(image)}</header>"]
    if image.note:
        parts.append(f'<p class="note">{text(image.note)}</p>')
    parts += [_names(image), _points(image)]
    parts += [_platform(image, platform) for platform in image.digests]
    return f'<section id="image-{index}">{"".join(parts)}</section>'


def _names(image: PlannedImage) -> str:
    rows = []
    for name in image.to:
        before = image.replaces.get(name)
        rows.append((f"<code>{text(name)}</code>", f"<code>{before.short}</code>" if before else "none (new)"))
    return table(("new name", "replaces"), rows) if rows else ""


def _points(image: PlannedImage) -> str:
    rows = [f'<li class="bad">{text(error)}</li>' for error in image.errors]
    for warning in image.warnings:
        says = text(warning.says)
        if warning.accepted:
            rows.append(f'<li class="dim">{says} <em>Accepted: {text(warning.accepted)}</em></li>')
        else:
            rows.append(f'<li class="warn">{says}</li>')
    return f"<h3>Errors and warnings</h3><ul>{''.join(rows)}</ul>" if rows else ""


def _platform(image: PlannedImage, platform: Platform) -> str:
    item = image.differences.get(platform.name, Difference())
    parts = [f"<h3>{text(platform)} <code>{text(image.digests[platform])}</code></h3>"]
    if item.size:
        parts.append(f"<p>{text(item.size)}</p>")
    if item.to:
        parts.append(f"<p>Compared with <code>{text(item.to)}</code></p>")
    parts += [
        _list("packages", item.packages),
        _list("Python distributions", item.python),
        _list("configuration", item.configuration),
        _list("steps", item.steps),
    ]
    if item.files:
        parts.append(f"<p>Files: {text(item.files)}.</p>")
    parts.append(_list("proofs and tests", image.tests.get(platform.name, ())))
    return "".join(parts)


def _list(heading: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    opened = "" if len(lines) >= _FOLDED else " open"
    return f"<details{opened}><summary>{heading}: {len(lines)}</summary><ul>{items}</ul></details>"
