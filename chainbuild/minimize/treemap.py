"""A squarified treemap (Bruls, Huizing, van Wijk: "Squarified Treemaps", 2000): areas as rectangles near to squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle: its upper left corner and its sides."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """A rectangle in ``box`` for each of ``sizes`` (positive, largest first), with areas in their proportion."""
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
        row, box = _laid(areas[at:end], box)
        result += row
        at = end
    return result


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides in a row along ``side``."""
    total = sum(row)
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))


def _laid(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """The rectangles of a row along the shorter side of ``box``, and what is left of it."""
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
    """``box`` cut across its longer side into parts in the proportion of ``sizes``."""
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
