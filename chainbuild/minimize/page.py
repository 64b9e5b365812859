"""Render the report of a pack job as an HTML page: both images drawn to the same scale, by package and by step, and tables.

The drawings are squarified treemaps (Bruls, Huizing, van Wijk: "Squarified Treemaps", 2000): sizes as rectangles that
are close to squares. The page is self-contained: it loads no script, font or URL. The same report always gives the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from chainbuild.minimize.explain import size_in_words
from chainbuild.minimize.notices import texts
from chainbuild.minimize.root import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle: its upper left corner and its sides."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Return a rectangle in `box` for each of `sizes` (positive, largest first), with proportional areas."""
    total = sum(sizes)
    if total <= 0:
        return []
    scale = box.width * box.height / total
    areas = [size * scale for size in sizes]
    result: list[Box] = []
    at = 0
    while at < len(areas):
        side = min(box.width, box.height)
        if side <= 0:
            result += [Box(x=box.x, y=box.y, width=0, height=0)] * (len(areas) - at)
            break
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row, box = _lay_out_row(areas[at:end], box)
        result += row
        at = end
    return result


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest aspect ratio in a row along `side`."""
    total = sum(row)
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))


def _lay_out_row(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Return the rectangles of a row along the shorter side of `box`, and the rest of the box."""
    total = sum(row)
    laid: list[Box] = []
    if box.width >= box.height:
        width = total / box.height
        y = box.y
        for area in row:
            laid.append(Box(x=box.x, y=y, width=width, height=area / width))
            y += area / width
        return laid, Box(x=box.x + width, y=box.y, width=max(box.width - width, 0), height=box.height)
    height = total / box.width
    x = box.x
    for area in row:
        laid.append(Box(x=x, y=box.y, width=area / height, height=height))
        x += area / height
    return laid, Box(x=box.x, y=box.y + height, width=box.width, height=max(box.height - height, 0))


def split(sizes: Sequence[float], box: Box) -> list[Box]:
    """Cut `box` across its longer side into parts proportional to `sizes`."""
    total = sum(sizes)
    parts: list[Box] = []
    at = 0.0
    for size in sizes:
        share = size / total if total else 0.0
        if box.width >= box.height:
            parts.append(Box(x=box.x + at * box.width, y=box.y, width=share * box.width, height=box.height))
        else:
            parts.append(Box(x=box.x, y=box.y + at * box.height, width=box.width, height=share * box.height))
        at += share
    return parts


_WIDTH, _HEIGHT = 1160.0, 520.0
_MOST_BOXES = 90
_HEAD, _LEAST_HEADED = 20.0, 60.0
"""The height of the name above a group, and the minimum width of a group that has a name."""
_PRODUCTION = "production image"
_STATES = (
    ("kept", "kept, in the minimized layer"),
    ("production", "from the production image"),
    ("trimmed", "trimmed on request"),
    ("left", "left out"),
)
_STYLE = """
:root{--ground:#fff;--ink:#1c2330;--dim:#5b6575;--rule:#d9dee6;--kept:#2f9e6b;--production:#3f7fc4;--trimmed:#d99a2b;
--left:#c3c9d2;--on:#fff;--onleft:#2b3341}
@media(prefers-color-scheme:dark){:root{--ground:#14181f;--ink:#e6eaf0;--dim:#98a2b3;--rule:#2c3440;--kept:#2b8a5e;
--production:#356fae;--trimmed:#b67f1f;--left:#3d4654;--onleft:#d5dbe5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:1208px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.2rem 0 .5rem}
p{margin:.3rem 0;color:var(--dim)}
p.big{font-size:1.15rem;color:var(--ink)}
svg{display:block;width:100%;height:auto}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;pointer-events:none}
rect.frame{fill:none;stroke:var(--ground);stroke-width:2}
rect.step{fill:none;stroke:var(--ground);stroke-width:6}
text.head{fill:var(--ink);font-weight:600}
.kept{fill:var(--kept)}.production{fill:var(--production)}.trimmed{fill:var(--trimmed)}.left{fill:var(--left)}
text.light{fill:var(--on)}text.dark{fill:var(--onleft)}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;margin:.6rem 0;color:var(--dim)}
.key svg{width:.85rem;height:.85rem;display:inline-block;vertical-align:-1px;margin-right:.4rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.28rem .8rem .28rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--dim);font-weight:600}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.p{overflow-wrap:anywhere}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--dim)}
"""


def page(report: Mapping[str, Any], title: str = "Minimized image", steps: Sequence[Mapping[str, Any]] = ()) -> str:
    """Render the page of `report` (`chainbuild.minimize/2` or `/1`).

    `steps` has a row for each package and step of the chain, in order: `step`, `package`, `bytes` by state.
    """
    sizes = report["sizes"]
    after = sizes["production"] + sizes["minimized"]
    share = f"{100 * after / sizes['chain']:.0f} % of" if sizes["chain"] else "against"
    words = (
        f"The production image is {size_in_words(after)}, {share} the chain's {size_in_words(sizes['chain'])}:"
        f" {size_in_words(sizes['production'])} in its base image, {size_in_words(sizes['minimized'])} kept in"
        f" {sizes['files']} files."
    )
    before_map, before_box = _before(report)
    after_map = _after(report, before_box, sizes["chain"])
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="big">{escape(words)}</p>',
        f'<div class="key">{"".join(_key(state, text) for state, text in _STATES)}</div>',
        f"<h2>Before: the chain's image, {size_in_words(sizes['chain'])}</h2>{before_map}",
        f"<h2>After: the production image, {size_in_words(after)}, to the same scale</h2>{after_map}",
        _by_step(report, steps),
        _saved(report),
        _libraries(report),
        _packages(report),
        _lines("Warnings", texts(report["warnings"])),
        _lines("Errors", texts(report["errors"])),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _key(state: str, text: str) -> str:
    return f'<span><svg viewBox="0 0 10 10"><rect class="{state}" width="10" height="10" rx="2"/></svg>{text}</span>'


_Row = tuple[str, dict[str, int]]


def _before(report: Mapping[str, Any]) -> tuple[str, Box]:
    box = Box(x=0, y=0, width=_WIDTH, height=_HEIGHT)
    rows = [(row["package"], {state: row["bytes"][state] for state, _ in _STATES}) for row in report["packages"]]
    return _picture(_draw(rows, box, _MOST_BOXES), box, "the chain's image by package"), box


def _after(report: Mapping[str, Any], before: Box, chain: int) -> str:
    sums: dict[str, dict[str, int]] = {}
    for row in report["production_packages"]:
        sums.setdefault(row["package"], {})["production"] = row["bytes"]
    for row in report["packages"]:
        if row["bytes"]["kept"]:
            sums.setdefault(row["package"], {})["kept"] = row["bytes"]["kept"]
    box = _scale(before, sum(sum(states.values()) for states in sums.values()), chain)
    return _picture(_draw(sums.items(), box, _MOST_BOXES), box, "the production image by package")


def _scale(before: Box, total: int, chain: int) -> Box:
    """Return a box for `total` bytes to the scale of `before`, which has `chain` bytes."""
    scale = math.sqrt(min(total / chain, 1.0)) if chain else 1.0
    return Box(x=0, y=0, width=before.width * scale, height=before.height * scale)


def _by_step(report: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    """Render both images by step: a box for each step, which contains the packages whose files it added."""
    if not steps:
        return ""
    before: dict[str, list[_Row]] = {}
    after: dict[str, list[_Row]] = {}
    for row in steps:
        before.setdefault(row["step"], []).append((row["package"], dict(row["bytes"])))
        if row["bytes"]["kept"]:
            after.setdefault(row["step"], []).append((row["package"], {"kept": row["bytes"]["kept"]}))
    production = [(row["package"], {"production": row["bytes"]}) for row in report["production_packages"]]
    after[_PRODUCTION] = production
    box = Box(x=0, y=0, width=_WIDTH, height=_HEIGHT)
    chain, total = (sum(_bytes(rows) for rows in groups.values()) for groups in (before, after))
    return (
        "<h2>Before, by step</h2>"
        "<p>Each box is a step of the chain and contains the packages whose files it added.</p>"
        f"{_picture(_draw_groups(before, box), box, 'the chain by step')}"
        "<h2>After, by step, to the same scale</h2>"
        f"{_picture(_draw_groups(after, _scale(box, total, chain)), _scale(box, total, chain), 'the result by step')}"
        f"<h2>By step: {len(before)}</h2>{_step_table(before)}"
    )


def _bytes(rows: Iterable[_Row]) -> int:
    return sum(sum(states.values()) for _, states in rows)


def _draw_groups(groups: Mapping[str, list[_Row]], box: Box) -> str:
    """Draw the groups as boxes with their names on top, largest first, each with the boxes of its rows."""
    sized = sorted(((_bytes(rows), name) for name, rows in groups.items()), key=lambda row: (-row[0], row[1]))
    sized = [row for row in sized if row[0] > 0]
    shapes = []
    for (size, name), where in zip(sized, squarify([row[0] for row in sized], box), strict=True):
        inner = where
        if where.width >= _LEAST_HEADED and where.height >= 2 * _HEAD:
            inner = Box(x=where.x, y=where.y + _HEAD, width=where.width, height=where.height - _HEAD)
        # Divide the number of boxes of the whole picture among the groups.
        most = max(3, round(_MOST_BOXES * where.width * where.height / (_WIDTH * _HEIGHT)))
        shapes.append(f"<g>{_draw(groups[name], inner, most, name)}</g>")
        shapes.append(f'<rect class="step" {_sides(where)}/>')
        if inner is not where:
            shapes.append(_head(f"{name}, {size_in_words(size)}", where))
    return "".join(shapes)


def _head(text: str, where: Box) -> str:
    room = int((where.width - 8) / 6.6)
    text = text if len(text) <= room else text[: room - 1] + "…"
    return f'<text class="head" x="{_number(where.x + 4)}" y="{_number(where.y + 14)}">{escape(shown(text))}</text>'


def _step_table(steps: Mapping[str, list[_Row]]) -> str:
    rows = []
    for name, packages in steps.items():
        sums = [sum(states.get(state, 0) for _, states in packages) for state, _ in _STATES]
        rows.append((shown(name), *(_amount(size) for size in (sum(sums), *sums))))
    heads = ("step", "added", "kept", "in production", "trimmed", "left out")
    return _table(heads, rows, 5)


def _draw(rows: Iterable[_Row], box: Box, most: int, group: str = "") -> str:
    """Draw a box for each row; if there are more than `most`, combine the smallest into one."""
    sized = sorted(((sum(states.values()), name, states) for name, states in rows), key=lambda row: (-row[0], row[1]))
    sized = [row for row in sized if row[0] > 0]
    if len(sized) > most:
        rest: dict[str, int] = {}
        for _, _, states in sized[most:]:
            for state, size in states.items():
                rest[state] = rest.get(state, 0) + size
        others = (sum(rest.values()), f"{len(sized) - most} others", rest)
        sized = sorted([*sized[:most], others], key=lambda row: (-row[0], row[1]))
    boxes = squarify([row[0] for row in sized], box)
    return "".join(
        _box(name, size, states, where, group) for (size, name, states), where in zip(sized, boxes, strict=True)
    )


def _picture(shapes: str, box: Box, label: str) -> str:
    view = f"0 0 {_number(_WIDTH)} {_number(max(box.height, 1))}"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(label)}">{shapes}</svg>'


def _box(name: str, size: int, states: dict[str, int], where: Box, group: str = "") -> str:
    present = [(state, states[state], words) for state, words in _STATES if states.get(state)]
    summary = "\n".join(f"{words}: {size_in_words(amount)}" for _, amount, words in present)
    of = f" of {shown(group)}" if group else ""
    shapes = [f"<title>{escape(shown(name) + of)}, {size_in_words(size)}\n{escape(summary)}</title>"]
    parts = split([amount for _, amount, _ in present], where)
    for (state, _, _), part in zip(present, parts, strict=True):
        shapes.append(f'<rect class="{state}" {_sides(part)}/>')
    shapes.append(f'<rect class="frame" {_sides(where)}/>')
    # The text is in the upper left corner: use the colours of the part behind most of its first letters.
    ground = next(
        (state for (state, _, _), part in zip(present, parts, strict=True) if _has(part, where.x + 20, where.y + 11)),
        present[0][0],
    )
    shapes.append(_label(name, size, ground, where))
    return f"<g>{''.join(shapes)}</g>"


def _has(box: Box, x: float, y: float) -> bool:
    return box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height


def _label(name: str, size: int, state: str, where: Box) -> str:
    """Draw the name and the size, if they fit, on the background of `state`."""
    room = int((where.width - 10) / 6.2)
    plain = shown(name.partition(":")[2] or name)
    plain = plain.rpartition(":")[0] if name.startswith(("deb:", "apk:")) and ":" in plain else plain
    if room < 4 or where.height < 18 or (len(plain) > room and room < 7):
        return ""
    shade = "dark" if state == "left" else "light"
    text = plain if len(plain) <= room else plain[: room - 1] + "…"
    x, y = _number(where.x + 6), _number(where.y + 15)
    lines = f'<text class="{shade}" x="{x}" y="{y}">{escape(text)}</text>'
    amount = size_in_words(size)
    if where.height >= 34 and len(amount) <= room:
        lines += f'<text class="{shade}" x="{x}" y="{_number(where.y + 29)}">{amount}</text>'
    return lines


def _sides(box: Box) -> str:
    return f'x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}"'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: int) -> str:
    """Render a table whose last `numbers` columns are amounts."""
    first = len(heads) - numbers

    def cell(tag: str, index: int, text: str) -> str:
        kind = "n" if index >= first else "p"
        return f'<{tag} class="{kind}">{escape(text)}</{tag}>'

    lines = ["".join(cell("th", index, text) for index, text in enumerate(heads))]
    lines += ["".join(cell("td", index, text) for index, text in enumerate(row)) for row in rows]
    return f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _saved(report: Mapping[str, Any]) -> str:
    rows = [(name, str(row["files"]), size_in_words(row["bytes"])) for name, row in report["saved"].items()]
    return f"<h2>Trimmed</h2>{_table(('switch', 'files', 'saved'), rows, 2)}" if rows else ""


def _libraries(report: Mapping[str, Any]) -> str:
    rows = [
        (shown(row["path"]), shown(row["needed_by"]), shown(row["reason"]), size_in_words(row["bytes"]))
        for row in report["libraries"]
    ]
    head = f"<h2>Libraries added: {len(rows)}</h2>"
    return head + _table(("library", "needed by", "why", "size"), rows, 1) if rows else ""


def _packages(report: Mapping[str, Any]) -> str:
    def size(row: dict[str, Any]) -> int:
        return sum(row["bytes"].values())

    rows = [
        (shown(row["package"]), shown(row["version"]), *(_amount(row["bytes"][state]) for state, _ in _STATES))
        for row in sorted(report["packages"], key=lambda row: (-size(row), row["package"]))
        if size(row)
    ]
    heads = ("package", "version", "kept", "in production", "trimmed", "left out")
    shown_first = f"<h2>By package: {len(rows)}</h2>{_table(heads, rows[:25], 4)}"
    if len(rows) <= 25:
        return shown_first
    return f"{shown_first}<details><summary>{len(rows) - 25} more</summary>{_table(heads, rows[25:], 4)}</details>"


def _amount(size: int) -> str:
    return size_in_words(size) if size else "–"


def _lines(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    rows = [(shown(line),) for line in lines]
    return f"<h2>{title}: {len(lines)}</h2>{_table(('',), rows, 0)}"
