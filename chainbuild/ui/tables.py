"""Tables of aligned columns without frames, readable in terminals and CI logs, and by `cut` and `awk`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chainbuild.text import cells, escaped
from chainbuild.ui.terminal import Line, Span

_GAP: Final = 2
_NARROWEST_NOTE: Final = 24


class Column(Struct, frozen=True, kw_only=True):
    """A column: its heading, and whether values are right-aligned (numbers)."""

    heading: str
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[Span] | Line | None], width: int | None) -> list[Line]:
    """Lay out rows under their headings. The last column is wrapped to the rest of `width`.

    A row of one span covers all columns (a subheading); None is an empty line. Columns without values are omitted. Cells may
    hold foreign names and are escaped before they are measured.
    """
    rows = [row and tuple(Span(escaped(span.text), span.style) for span in row) for row in rows]
    full = [row for row in rows if row is not None and len(row) == len(columns)]
    used = [index for index in range(len(columns)) if any(row[index].text for row in full)]
    widths = {i: max(cells(columns[i].heading), *(cells(row[i].text) for row in full)) for i in used}
    lines = [_one_line([Span(columns[i].heading, "dim") for i in used], used, widths, columns)] if used else []
    for row in rows:
        if row is None:
            lines.append(())
        elif len(row) != len(columns):
            lines.append(tuple(row))
        else:
            lines.extend(_wrapped([row[i] for i in used], used, widths, columns, width))
    return lines


def _wrapped(
    row: list[Span], used: list[int], widths: dict[int, int], columns: Sequence[Column], width: int | None
) -> list[Line]:
    last = row[-1]
    before = sum(widths[i] + _GAP for i in used[:-1])
    if width is None or columns[used[-1]].right or before + cells(last.text) < width:
        return [_one_line(row, used, widths, columns)]
    room = width - before - 1
    indent = before if room >= _NARROWEST_NOTE else 6
    pieces = textwrap.wrap(last.text, max(width - indent - 1, 10), break_on_hyphens=False) or [""]
    if room < _NARROWEST_NOTE:  # too narrow: put the note on the next lines
        lines = [_one_line([*row[:-1], Span("")], used, widths, columns)]
        return lines + [(Span(" " * indent), Span(piece, last.style)) for piece in pieces]
    lines = [_one_line([*row[:-1], Span(pieces[0], last.style)], used, widths, columns)]
    return lines + [(Span(" " * indent), Span(piece, last.style)) for piece in pieces[1:]]


def _one_line(row: Sequence[Span], used: list[int], widths: dict[int, int], columns: Sequence[Column]) -> Line:
    spans: list[Span] = []
    for place, (index, span) in enumerate(zip(used, row, strict=True)):
        padding = " " * (widths[index] - cells(span.text))
        if columns[index].right:
            spans += [Span(padding), span]
        elif place < len(used) - 1:
            spans += [span, Span(padding)]
        else:
            spans.append(span)
        if place < len(used) - 1:
            spans.append(Span(" " * _GAP))
    return tuple(span for span in spans if span.text)
