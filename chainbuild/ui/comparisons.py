"""What changed between two images, as people read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from chainbuild.comparison.model import Change, Comparison, size_words
from chainbuild.registry.images import RemoteImage
from chainbuild.ui.terminal import Line, Span, Style, Terminal
from chainbuild.wording import escaped

_SHOWN: Final = 20
"""How many files of a part are named before the rest is counted."""
_MARKS: Final[dict[str, tuple[str, Style]]] = {
    "added": ("+", "good"),
    "removed": ("-", "bad"),
    "changed": ("~", "warn"),
}


def show_comparison(found: Comparison, out: Terminal, *, every_file: bool = False) -> None:
    """Print what changed, part by part; `every_file` names all files instead of the first few of each package."""
    lines: list[Line | str] = [
        (Span(f"{_name(found.before)} → {_name(found.after)}", "bold"),),
        f"  {found.after.platform.oci}, {size_words(found)}",
    ]
    for heading, changes in (
        ("packages", found.packages), ("Python distributions", found.python),
        ("configuration", found.configuration), ("steps", found.steps),
    ):  # fmt: skip
        if changes:
            lines += [(), (Span(f"{heading}: {_counts(changes)}", "bold"),), *map(change_line, changes)]
    if found.files:
        lines += [(), (Span(f"files: {_counts(found.files)}", "bold"),), *_file_lines(found.files, every_file)]
    if found.same:
        lines.append("  no difference in packages, distributions, files, configuration and steps")
    out.write(lines)


def _name(image: RemoteImage) -> str:
    place = image.reference
    return f"{place.familiar_name}{f':{place.tag}' if place.tag else ''} ({image.digest.short})"


def change_line(change: Change) -> Line:
    """One change, with a mark that says which kind it is."""
    mark, style = _MARKS[change.kind]
    return (Span("  "), Span(mark, style), Span(f" {escaped(str(change))}"))


def _counts(changes: Sequence[Change]) -> str:
    counts = Counter(change.kind for change in changes)
    return ", ".join(f"{counts[kind]} {kind}" for kind in _MARKS if counts[kind])


def _file_lines(changes: Iterable[Change], every_file: bool) -> list[Line | str]:
    by_owner: dict[str, list[Change]] = {}
    for change in changes:
        by_owner.setdefault(change.owner, []).append(change)
    lines: list[Line | str] = []
    # What is nobody's comes first: a package's files are told by its version already.
    for owner, mine in sorted(by_owner.items()):
        if owner and not every_file:
            lines.append(f"    of {escaped(owner)}: {_counts(mine)}")
            continue
        if owner:
            lines.append(f"    of {escaped(owner)}:")
        shown = mine if every_file else mine[:_SHOWN]
        lines += map(change_line, shown)
        if len(mine) > len(shown):
            lines.append(f"    and {len(mine) - len(shown)} more; --files names all")
    return lines
