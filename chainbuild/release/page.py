"""Render a release plan as one HTML page, for the people who decide and for the users of a release.

The page is self-contained: it loads no script, font or other address. The same plan results in the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from chainbuild.errors import Problem
from chainbuild.references import Platform
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan
from chainbuild.release.rules import OPEN, RELEASE, SKIP
from chainbuild.text import escaped, plural

_FOLDED: Final = 12
"""Lists with at least this many lines are collapsed."""
_DECISIONS: Final = {OPEN: "open", RELEASE: "to be released", SKIP: "not released"}
_STYLE: Final = """
:root{--ground:#fff;--ink:#1c2330;--dim:#5b6575;--rule:#d9dee6;--soft:#f4f6f9;--good:#1d7a50;--bad:#b3261e;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--ground:#14181f;--ink:#e6eaf0;--dim:#98a2b3;--rule:#2c3440;--soft:#1b212a;
--good:#58c08f;--bad:#ff8a80;--warn:#e0ac4e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:1100px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:0;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.1rem 0 .2rem}
p{margin:.3rem 0;color:var(--dim)}
code{font:.86em ui-monospace,"SFMono-Regular","Liberation Mono",Menlo,monospace;overflow-wrap:anywhere}
section{border:1px solid var(--rule);border-radius:.6rem;padding:1rem 1.2rem;margin:1.4rem 0}
header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline;justify-content:space-between}
.badge{border:1px solid currentColor;border-radius:1rem;padding:0 .7rem;font-size:.85rem;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.dim{color:var(--dim)}
.scroll{overflow-x:auto}.scroll code{white-space:nowrap}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.28rem .8rem .28rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--dim);font-weight:600}
ul{margin:.2rem 0 .6rem;padding:0 0 0 1.1rem}
li{overflow-wrap:anywhere}
details{margin:.2rem 0 .6rem}summary{cursor:pointer;color:var(--dim)}
.note{background:var(--soft);border-left:3px solid var(--rule);padding:.4rem .8rem;margin:.7rem 0;color:var(--ink)}
a{color:inherit}
"""


def page(plan: ReleasePlan, left: Sequence[Problem], *, source: str = "") -> str:
    """Return the page of a plan; `left` are the open decisions, `source` the plan's path relative to the page."""
    title = f"Release {escaped(plan.release)}"
    state = (
        f'<span class="badge warn">{plural(len(left), "open decision")}</span>'
        if left
        else '<span class="badge good">ready to apply</span>'
    )
    link = f' <a href="{escape(source)}">View the plan.</a>' if source else ""
    parts = [
        f"<header><h1>{escape(title)}</h1>{state}</header>",
        f"<p>{plural(len(plan.released), 'image')} of {len(plan.images)} to be released.{link}</p>",
        _overview(plan),
        _left(left),
        *(_image(index, image) for index, image in enumerate(plan.images)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _text(text: object) -> str:
    """Escape foreign text for the page."""
    return escape(escaped(str(text)))


def _badge(image: PlannedImage) -> str:
    style = {OPEN: "warn", RELEASE: "good"}.get(image.decision, "dim")
    return f'<span class="badge {style}">{_DECISIONS.get(image.decision, "")}</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _overview(plan: ReleasePlan) -> str:
    rows = (
        (
            f'<a href="#image-{index}">{_text(image.name)}</a>',
            _badge(image),
            ", ".join(_text(platform) for platform in image.digests),
            "<br>".join(f"<code>{_text(name)}</code>" for name in image.to) or '<span class="warn">no name yet</span>',
            _open_points(image),
        )
        for index, image in enumerate(plan.images)
    )
    return _table(("image", "decision", "platforms", "new names", "warnings"), rows)


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
    rows = ((f"<code>{_text(item.where)}</code>", _text(item.message), _text(item.hint)) for item in left)
    return f"<section><h2>Open decisions</h2>{_table(('where', 'what', 'how'), rows)}</section>"


def _image(index: int, image: PlannedImage) -> str:
    parts = [f"<header><h2>{_text(image.name)}</h2>{_badge(image)}</header>"]
    if image.note:
        parts.append(f'<p class="note">{_text(image.note)}</p>')
    parts += [_names(image), _points(image)]
    parts += [_platform(image, platform) for platform in image.digests]
    return f'<section id="image-{index}">{"".join(parts)}</section>'


def _names(image: PlannedImage) -> str:
    rows = []
    for name in image.to:
        before = image.replaces.get(name)
        rows.append((f"<code>{_text(name)}</code>", f"<code>{before.short}</code>" if before else "none (new)"))
    return _table(("new name", "replaces"), rows) if rows else ""


def _points(image: PlannedImage) -> str:
    rows = [f'<li class="bad">{_text(text)}</li>' for text in image.errors]
    for warning in image.warnings:
        text = _text(warning.says)
        if warning.accepted:
            rows.append(f'<li class="dim">{text} <em>Accepted: {_text(warning.accepted)}</em></li>')
        else:
            rows.append(f'<li class="warn">{text}</li>')
    return f"<h3>Errors and warnings</h3><ul>{''.join(rows)}</ul>" if rows else ""


def _platform(image: PlannedImage, platform: Platform) -> str:
    item = image.differences.get(platform.name, Difference())
    parts = [f"<h3>{_text(platform)} <code>{_text(image.digests[platform])}</code></h3>"]
    if item.size:
        parts.append(f"<p>{_text(item.size)}</p>")
    if item.to:
        parts.append(f"<p>Compared with <code>{_text(item.to)}</code></p>")
    parts += [
        _list("packages", item.packages),
        _list("Python distributions", item.python),
        _list("configuration", item.configuration),
        _list("steps", item.steps),
    ]
    if item.files:
        parts.append(f"<p>Files: {_text(item.files)}.</p>")
    parts.append(_list("proofs and tests", image.tests.get(platform.name, ())))
    return "".join(parts)


def _list(heading: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    opened = "" if len(lines) >= _FOLDED else " open"
    return f"<details{opened}><summary>{heading}: {len(lines)}</summary><ul>{items}</ul></details>"
